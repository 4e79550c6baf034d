"""The players of an input's game: its elements, or groups of them."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import tree

from keras_shapley.utils.channels import channel_axis, without_channels
from keras_shapley.utils.structures import filled, matched
from keras_shapley.utils.typing import Structure

WORDS = ("patches", "tokens", "inputs")
# rows and columns of the patches of an image
GRID = 7


class Players:
    """The players of one input, checked.

    Args:
        players: as in `keras_shapley.exact_shapley_values`.
        shapes: of the arrays of one input, without the batch; a single shape for a single array.
        skeleton: how the arrays are nested, see `utils.structures`.

    Attributes:
        n: number of players.
        parts: for each array of an input the number of each element's player, ints in the shape of the array.
        are_groups: whether players are groups that the user gave; else each element is a player, in order.

    Raises:
        ValueError: if the players do not partition the input.
    """

    def __init__(
        self, players: Any, shapes: tuple[int, ...] | Sequence[tuple[int, ...]], skeleton: Structure = 0
    ) -> None:
        each: Any = [shapes] if _is_shape(shapes) else shapes
        is_one_for_all = players is None or isinstance(players, str) or _is_int(players)
        entries = [players] * len(each) if is_one_for_all else matched("players", players, skeleton)
        self.skeleton = skeleton
        self.are_groups = any(entry is not None for entry in entries)
        self.parts = _numbered(entries, each)
        self._flat = np.concatenate([part.ravel() for part in self.parts])
        self.n = int(self._flat.max()) + 1
        self._by_player = np.argsort(self._flat, kind="stable")
        self._starts = np.searchsorted(self._flat[self._by_player], np.arange(self.n))

    @property
    def numbers(self) -> Structure:
        """The number of each element's player, in the structure and shape of an input."""
        return filled(self.skeleton, self.parts)

    def spread(self, values: np.ndarray) -> list[np.ndarray]:
        """The value of each element's player: one array `(..., *shape)` for each of an input, from `(..., players)`."""
        return [values[..., part] for part in self.parts]

    def sums(self, values: Sequence[np.ndarray], axes: int) -> np.ndarray:
        """The sum of each player's elements, `(..., players)`.

        Args:
            values: of the elements, an array `(..., *shape)` for each of an input.
            axes: number of the axes in front.
        """
        flat = np.concatenate([part.reshape(*part.shape[:axes], -1) for part in values], axis=-1)
        return np.add.reduceat(flat[..., self._by_player], self._starts, axis=-1) if self.are_groups else flat


def spread_equally(values: np.ndarray, numbers: Structure) -> Structure:
    """Attributions of the elements of inputs, from those of their players.

    Each element receives the value of its player over the number of the player's elements.

    Args:
        values: of players, `(..., players)`.
        numbers: number of the player of each element, ints in the structure and shape of an input.

    Returns:
        Arrays `(..., *shape)` in the structure of an input, with the same sums.
    """
    counts = np.bincount(np.concatenate([np.ravel(part) for part in tree.flatten(numbers)]))
    shares = values / counts
    return tree.map_structure(lambda part: shares[..., part], numbers)


def is_image(shape: tuple[int, ...]) -> bool:
    """Whether an array of this shape, without the batch, can be an image: with channels, or without."""
    return len(shape) in (2, 3)


def image_axes(shape: tuple[int, ...]) -> tuple[int, int]:
    """The axes of an image's rows and columns."""
    return (1, 2) if len(shape) == 3 and channel_axis(3) == 0 else (0, 1)


def image_grid(shape: tuple[int, ...], n: int) -> np.ndarray:
    """The number of the patch of each element of an image, in n rows and columns; fewer where it has fewer pixels."""
    places = []
    for axis in image_axes(shape):
        size = shape[axis]
        cells = np.arange(size) * min(size, n) // size
        places.append(cells.reshape([-1 if other == axis else 1 for other in range(len(shape))]))
    rows, columns = places
    return np.broadcast_to(rows * (columns.max() + 1) + columns, shape)


def _numbered(entries: list[Any], shapes: list[tuple[int, ...]]) -> list[np.ndarray]:
    """The number of each element's player, for each array of an input.

    Players that the user numbered keep their numbers; those of other arrays follow them.
    """
    given = {i: _given(entry, shapes[i]) for i, entry in enumerate(entries) if not _is_named(entry)}
    start = 0
    if given:
        n_masks = max((len(entries[i]) for i in given if _are_masks(entries[i], shapes[i])), default=0)
        distinct = np.unique(np.concatenate([numbers.ravel() for numbers in given.values()]))
        start = int(distinct[-1]) + 1
        # a last mask that is empty has no number
        if distinct[0] != 0 or len(distinct) != start or n_masks > start:
            raise ValueError(
                "`players` must be numbered from 0 without a gap, and no mask be empty. Received: numbers from "
                f"{distinct[0]} to {distinct[-1]}, {len(distinct)} different ones"
            )
    parts = []
    for i, (entry, shape) in enumerate(zip(entries, shapes)):
        if i in given:
            parts.append(given[i])
            continue
        numbers = start + _named(entry, shape)
        start = int(numbers.max()) + 1
        parts.append(numbers)
    return parts


def _named(entry: Any, shape: tuple[int, ...]) -> np.ndarray:
    """The numbers that None, a word or the size of a grid means."""
    if entry is None:
        return np.arange(math.prod(shape)).reshape(shape)
    if entry == "inputs":
        return np.zeros(shape, int)
    if entry == "tokens":
        if not shape:
            raise ValueError("players='tokens' needs sequences of shape (batch, steps, ...). Received: shape (batch,)")
        return np.broadcast_to(np.arange(shape[0]).reshape(-1, *(1 for _ in shape[1:])), shape)
    if isinstance(entry, str) and entry != "patches":
        words = ", ".join(map(repr, WORDS))
        raise ValueError(
            f"`players` must be None, one of {words}, the size of a grid, or the number of each element's player. "
            f"Received: players={entry!r}"
        )
    if not is_image(shape):
        raise ValueError(
            f"players={entry!r} is a grid over an image of shape (height, width) or with channels. Received: an input "
            f"of shape {shape}. Give integers in that shape, or one entry of `players` for each input, "
            "None for elements."
        )
    sides = [shape[axis] for axis in image_axes(shape)]
    if entry == "patches":
        return image_grid(shape, GRID)
    if not 1 <= entry <= min(sides):
        raise ValueError(
            f"`players` must be a grid of 1 to {min(sides)} rows and columns for an image of {sides[0]} x {sides[1]} "
            f"pixels. Received: players={entry!r}"
        )
    return image_grid(shape, int(entry))


def _given(players: Any, shape: tuple[int, ...]) -> np.ndarray:
    """The numbers of an array that the user gave, as numbers or as masks."""
    numbers = np.asarray(players)
    if _are_masks(numbers, shape):
        numbers = _numbers_from_masks(numbers)
    if len(shape) > 1 and numbers.shape == without_channels(shape):
        numbers = np.broadcast_to(np.expand_dims(numbers, channel_axis(len(shape))), shape)
    if numbers.shape != shape or not np.issubdtype(numbers.dtype, np.integer):
        raise ValueError(
            f"`players` must be integers of shape {shape}, of it without the channels, or a mask of such a shape for "
            f"each player. Received: {numbers.dtype} of shape {numbers.shape}"
        )
    return numbers


def _are_masks(players: Any, shape: tuple[int, ...]) -> bool:
    """Whether an entry has a mask for each player, of the shape or of it without the channels."""
    array = np.asarray(players)
    return array.dtype == bool and array.ndim > max(len(shape) - 1, 1)


def _numbers_from_masks(masks: np.ndarray) -> np.ndarray:
    """The number of each element's mask, for masks of shape `(players, ...)`."""
    counts = masks.sum(axis=0)
    if not (counts == 1).all():
        raise ValueError(
            "`players` must be masks that partition the input: each element in one mask. Received: "
            f"{(counts == 0).sum()} elements in none, {(counts > 1).sum()} in several"
        )
    return masks.argmax(axis=0)


def _is_named(entry: Any) -> bool:
    return entry is None or isinstance(entry, str) or _is_int(entry)


def _is_int(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.bool_))


def _is_shape(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(size, (int, np.integer)) for size in value)
