"""Masked inputs, whose passes through a model show how its neurons' sums vary with the players that are present."""

import keras
import numpy as np
from numpy.typing import ArrayLike

from keras_shapley.shapley.players import Players
from keras_shapley.utils.validation import integer

# rows and columns of the patches of an image that are masked together by default
_GRID = 7


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

    def __init__(self, n: str | int, players: ArrayLike | None, seed: int) -> None:
        if isinstance(n, str) or integer("gates", n, 2) % 2:
            raise ValueError(f"`gates` must be 'normal' or an even number of masked passes. Received: gates={n!r}")
        self.n = int(n)
        self._players = players
        self._seed = seed

    def masks(self, shape: tuple[int, ...]) -> np.ndarray:
        """Which elements of an input of this shape are present, bool `(n, *shape)`."""
        players = self._players
        if players is None and len(shape) == 3:
            players = _image_patches(shape)
        numbers = Players(players, shape).numbers
        rng = np.random.default_rng(self._seed)
        pairs = self.n // 2
        t = (rng.permutation(pairs) + rng.uniform(size=pairs)) / self.n
        present = rng.uniform(size=(pairs, numbers.max() + 1)) < t[:, None]
        return np.stack([present, ~present], axis=1).reshape(self.n, -1)[:, numbers]


def _image_patches(shape: tuple[int, ...]) -> np.ndarray:
    """The number of the patch of each element of an image, in up to 7 rows and columns."""
    is_first = keras.config.image_data_format() == "channels_first"
    height, width = shape[1:] if is_first else shape[:2]
    n_rows, n_columns = min(height, _GRID), min(width, _GRID)
    numbers = (np.arange(height) * n_rows // height)[:, None] * n_columns + np.arange(width) * n_columns // width
    return np.broadcast_to(numbers if is_first else numbers[..., None], shape)
