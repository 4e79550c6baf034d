"""Approximate values that a user gives, such as a control variate or a prior, by player."""

from typing import Any

import numpy as np

from keras_shapley.shapley.explained import Explained
from keras_shapley.shapley.game import Game
from keras_shapley.shapley.result import ShapleyValues
from keras_shapley.utils.attributions import as_array, has_targets
from keras_shapley.utils.structures import is_nested, matched
from keras_shapley.utils.validation import numpy_of


def values_by_player(name: str, given: Any, game: Game, explained: Explained) -> np.ndarray:
    """Approximate values of each player, `(batch, players, 1 or values)`, scaled so that absolute values sum to 1.

    Args:
        name: of the argument, for an error message.
        given: an explanation object, or an array in the shape of `x`, of `(batch, players)` or of the values returned.
        game: the game.
        explained: what is explained of it.

    Raises:
        ValueError: if the values are of another shape, or not finite.
    """
    by_player = (len(game), game.players.n)
    # values of the same players need not be spread and summed up again
    is_of_players = isinstance(given, ShapleyValues) and given.values.shape[:2] == by_player
    structure = given.values if is_of_players else as_array(given)
    parts = matched(name, structure, game.inputs.skeleton) if is_nested(structure) else [structure]
    arrays = [_numbers(name, part) for part in parts]
    shapes = [array.shape for array in arrays]
    has_axis = not is_of_players and has_targets(given)
    # of an explanation of several targets these are the second axis
    elements = [array.shape[:1] + explained.shape * has_axis + array.shape[1:] for array in game.inputs.arrays]
    is_of_elements = shapes == elements
    allowed = (by_player, (*by_player, *explained.shape))
    is_known = is_of_elements or (len(arrays) == 1 and shapes[0] in allowed)
    if not is_known or not all(np.isfinite(array).all() for array in arrays):
        names = ", ".join(map(str, dict.fromkeys([*(array.shape for array in game.inputs.arrays), *allowed])))
        received = "NaN or infinity" if is_known else f"shape {', '.join(map(str, shapes))}"
        raise ValueError(f"`{name}` must be finite, of one of the shapes {names}. Received: {received}")
    values = game.players.sums(arrays, 1 + has_axis) if is_of_elements else arrays[0]
    if is_of_elements and has_axis:
        values = np.moveaxis(values, 1, 2)
    values = values.reshape(*by_player, -1)
    size = np.abs(values).sum(axis=1, keepdims=True)
    return values / np.where(size > 0, size, 1)


def _numbers(name: str, values: Any) -> np.ndarray:
    array = numpy_of(values)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"`{name}` must be numbers, or an explanation. Received: {values!r}")
    return array.astype("float64")
