"""Masked inputs, whose passes through a model show how its neurons' sums vary with the players that are present."""

from typing import Any

import numpy as np

from keras_shapley.shapley.players import Players
from keras_shapley.utils.validation import integer


class MaskedPasses:
    """Random coalitions of players, in pairs of opposite ones.

    The share `t` of players that are present is spread evenly over [0, 1], as it is over random orders.

    Args:
        n: even number of masks.
        players: as in `exact_shapley_values`; None for patches of an image, a grid of 7 x 7, and for elements of other
            inputs.
        seed: of the masks.

    Raises:
        ValueError: if `n` is no even number of 2 or more.
    """

    def __init__(self, n: str | int, players: Any, seed: int) -> None:
        if isinstance(n, str) or integer("gates", n, 2) % 2:
            raise ValueError(f"`gates` must be 'normal' or an even number of masked passes. Received: gates={n!r}")
        self.n = int(n)
        self._players = players
        self._seed = seed

    def masks(self, shape: tuple[int, ...]) -> np.ndarray:
        """Which elements of an input of this shape are present, bool `(n, *shape)`."""
        players = "patches" if self._players is None and len(shape) == 3 else self._players
        table = Players(players, shape)
        rng = np.random.default_rng(self._seed)
        pairs = self.n // 2
        t = (rng.permutation(pairs) + rng.uniform(size=pairs)) / self.n
        present = rng.uniform(size=(pairs, table.n)) < t[:, None]
        return np.stack([present, ~present], axis=1).reshape(self.n, -1)[:, table.numbers]
