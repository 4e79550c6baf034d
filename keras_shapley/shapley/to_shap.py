"""Shapley values as a `shap.Explanation`, for the plots of the package shap."""

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import tree

from keras_shapley.shapley.players import is_image, spread_equally
from keras_shapley.utils.structures import leaves
from keras_shapley.utils.targets import is_weights
from keras_shapley.utils.validation import one_of

if TYPE_CHECKING:
    from keras_shapley.shapley.result import ShapleyValues


def explanation(result: "ShapleyValues", by: str = "auto") -> Any:
    """`ShapleyValues.to_shap`, which documents it."""
    one_of("by", by, ("auto", "players", "elements"))
    try:
        import shap
    except ImportError as error:
        raise ImportError("`to_shap` needs the package shap: pip install shap.") from error

    n_inputs, n_players = result.values.shape[:2]
    values = result.values.reshape(n_inputs, n_players, -1)
    base = np.broadcast_to(result.baseline_value, result.total.shape).reshape(n_inputs, -1)
    if result.total.ndim == 1:
        values, base = values[..., 0], base[:, 0]
    if by == "elements" or (by == "auto" and _shows_image(result)):
        spread, data = _of_elements(result, values)
        return shap.Explanation(spread, base, data, output_names=_output_names(result))
    names = result.feature_names or _player_names(result)
    return shap.Explanation(values, base, _player_data(result), feature_names=names, output_names=_output_names(result))


def _shows_image(result: "ShapleyValues") -> bool:
    """Whether the input is an image, rather than a sequence whose steps are the players."""
    if not isinstance(result.x, np.ndarray) or not is_image(result.x.shape[1:]):
        return False
    are_rows = result.x.ndim == 3 and bool((result.players == result.players[:, :1]).all())
    return not are_rows


def _of_elements(result: "ShapleyValues", values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values `(batch, *shape)`, or `(batch, *shape, outputs)`, and the elements; images have their channels last."""
    if not isinstance(result.x, np.ndarray):
        raise ValueError("by='elements' needs a single input. These are values of several: take by='players'.")
    has_outputs = values.ndim == 3
    spread = spread_equally(np.moveaxis(values, 2, 1) if has_outputs else values, result.players)
    data = result.x
    if data.ndim == 4 and keras.config.image_data_format() == "channels_first":
        data, spread = np.moveaxis(data, 1, -1), np.moveaxis(spread, -3, -1)
    return np.moveaxis(spread, 1, -1) if has_outputs else spread, data


def _player_data(result: "ShapleyValues") -> np.ndarray:
    """What each player is in each input, `(batch, players)`: its element, or the mean of its elements."""
    n = len(result.values)
    numbers = _flat(result.players)
    data = np.concatenate([part.reshape(n, -1) for part in leaves(result.x)], axis=1).astype("float64")
    by_player = np.argsort(numbers, kind="stable")
    counts = np.bincount(numbers)
    return np.add.reduceat(data[:, by_player], np.cumsum(counts) - counts, axis=1) / counts


def _player_names(result: "ShapleyValues") -> list[str]:
    """A name for each player: of its input, if it is all of one, or of its element; else its number."""
    names = [f"player {k}" for k in range(result.values.shape[1])]
    counts = np.bincount(_flat(result.players))
    for path, part in tree.flatten_with_path(result.players):
        name = ".".join(str(key) if isinstance(key, str) else f"input {key}" for key in path)
        owners, sizes = np.unique(part, return_counts=True)
        if name and len(owners) == 1 and counts[owners[0]] == sizes[0]:
            names[owners[0]] = name
            continue
        for place in np.ndindex(part.shape) if (counts[owners] == 1).any() else ():
            if counts[part[place]] == 1:
                index = str(place[0]) if len(place) == 1 else str(place)
                names[part[place]] = f"{name or 'feature'} {index}"
    return names


def _flat(players: Any) -> np.ndarray:
    return np.concatenate([np.ravel(part) for part in leaves(players)])


def _output_names(result: "ShapleyValues") -> list[str] | None:
    """Names of the outputs, where they are the same for all inputs; None for a single target."""
    if result.total.ndim == 1:
        return None
    if result.target is None:
        return [f"output {k}" for k in range(result.total[0].size)]
    is_same = not is_weights(result.target) and bool((result.target == result.target[0]).all())
    return [f"output {k}" for k in result.target[0]] if is_same else None
