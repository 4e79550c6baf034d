"""The players of an input's game: its elements, or groups of them."""

import math

import numpy as np
from numpy.typing import ArrayLike


class Players:
    """The players of an input, checked.

    Args:
        players: as in `keras_shapley.exact_shapley_values`.
        shape: of one input.

    Attributes:
        n: number of players.
        numbers: number of the player of each element, ints in the shape of an input.
        are_groups: whether players are groups that the user gave; else each element is a player.
        shape: of an array with a value for each player: `(n,)` for groups, else the shape of an input.

    Raises:
        ValueError: if the players do not partition the input.
    """

    def __init__(self, players: ArrayLike | None, shape: tuple[int, ...]) -> None:
        self.numbers = _player_numbers(players, shape)
        self.n = int(self.numbers.max()) + 1
        self.are_groups = players is not None
        self.shape = (self.n,) if self.are_groups else shape

    def spread(self, values: np.ndarray) -> np.ndarray:
        """The value of each element's player, `(..., *shape of an input)`, for `values` of shape `(..., *shape)`."""
        return values[..., self.numbers] if self.are_groups else values


def spread_equally(values: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Attributions of the elements of inputs, from those of their players.

    Each element receives the value of its player over the number of the player's elements.

    Args:
        values: of players, `(batch, players)`.
        numbers: number of the player of each element, ints in the shape of an input.

    Returns:
        Shape `(batch, *shape of an input)`, with the same sums.
    """
    return (values / np.bincount(numbers.ravel()))[:, numbers]


def _player_numbers(players: ArrayLike | None, shape: tuple[int, ...]) -> np.ndarray:
    """The number of the player of each element, ints in the shape of an input."""
    if players is None:
        return np.arange(math.prod(shape)).reshape(shape)
    numbers = np.asarray(players)
    if numbers.dtype == bool and numbers.ndim > 1:
        numbers = _numbers_from_masks(numbers)
    if numbers.shape == shape[:-1] and shape[:-1]:
        numbers = np.broadcast_to(numbers[..., None], shape)
    if numbers.shape != shape or not np.issubdtype(numbers.dtype, np.integer):
        raise ValueError(
            f"`players` must be integers of shape {shape}, of it without the channels, or a mask of such a shape for "
            f"each player. Received: {numbers.dtype} of shape {numbers.shape}"
        )
    distinct = len(np.unique(numbers))
    if numbers.min() != 0 or distinct != numbers.max() + 1:
        raise ValueError(
            "`players` must be numbered from 0 without a gap. Received: numbers from "
            f"{numbers.min()} to {numbers.max()}, {distinct} different ones"
        )
    return numbers


def _numbers_from_masks(masks: np.ndarray) -> np.ndarray:
    """The number of each element's mask, for masks of shape `(players, ...)`."""
    counts = masks.sum(axis=0)
    is_partition = (counts == 1).all()
    has_empty_mask = not masks.reshape(len(masks), -1).any(axis=1).all()
    if not is_partition or has_empty_mask:
        raise ValueError(
            "`players` must be masks that partition the input: each element in one mask, no mask empty. Received: "
            f"{(counts == 0).sum()} elements in none, {(counts > 1).sum()} in several"
        )
    return masks.argmax(axis=0)
