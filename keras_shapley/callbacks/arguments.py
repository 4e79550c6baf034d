"""What users give `LRPHeatmaps`, checked when it is made."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_shapley.plotting.arrays import display_images, height_and_width, relevance_maps, unflattened
from keras_shapley.utils.structures import arrays_of, filled, is_nested, leaves, skeleton_of
from keras_shapley.utils.targets import class_labels
from keras_shapley.utils.typing import Structure, Tensor
from keras_shapley.utils.validation import finite, one_of


def finite_inputs(name: str, x: Structure) -> Structure:
    """Inputs as finite NumPy arrays, in their structure."""
    arrays = [finite(name, ops.convert_to_numpy(part)) for part in arrays_of(x)]
    lengths = {len(array) for array in arrays}
    if len(lengths) > 1:
        raise ValueError(f"`{name}` must be inputs of one length. Received lengths: {sorted(lengths)}")
    return filled(skeleton_of(x), arrays)


def shown_input(shown: str | int | None, x: Structure) -> int:
    """Which of the inputs is drawn, as a place among their `leaves`: by name or index, or the only one of images."""
    if not is_nested(x):
        if shown is not None:
            raise ValueError(f"`shown` is for models with several inputs. Received: shown={shown!r}")
        return 0
    names: list[str | int] = list(x) if isinstance(x, dict) else list(range(len(x)))
    if shown is not None:
        return names.index(one_of("shown", shown, names))
    of_images = [place for place, array in enumerate(leaves(x)) if _can_be_shown(array)]
    if len(of_images) != 1:
        raise ValueError(
            f"`shown` must be the input that is drawn, one of {names}, of which {len(of_images)} are images"
        )
    return of_images[0]


def _can_be_shown(array: np.ndarray) -> bool:
    try:
        display_images(array)
    except ValueError:
        return False
    return True


def of_rows(x: Structure, rows: np.ndarray) -> Structure:
    """Some of the rows of inputs, in their structure."""
    return filled(skeleton_of(x), [array[rows] for array in arrays_of(x)])


def by_input(name: str, x: Structure) -> dict[str, np.ndarray]:
    """Arrays by the name they are saved as: `name`, or for several inputs `name.KEY` of each."""
    if not is_nested(x):
        return {name: x}
    return {f"{name}.{key}": part for key, part in (x.items() if isinstance(x, dict) else enumerate(x))}


def checked_labels(y: Tensor, n: int) -> np.ndarray:
    """`y` as an array of `n` rows of finite numbers."""
    y = np.asarray(ops.convert_to_numpy(y))
    y = y.astype("int32") if y.dtype == bool else y
    if not np.issubdtype(y.dtype, np.number) or y.shape[:1] != (n,):
        raise ValueError(
            f"`y` must be numbers of shape ({n}, ...), the labels of the explained output for each image of `x`. "
            f"Received: {y.dtype} of shape {y.shape}"
        )
    return finite("y", y)


def checked_target(target: Any, y: np.ndarray | None) -> str | int | np.ndarray | None:
    """`"true"`, `"predicted"`, an int, weights as an array, or None for the default."""
    if target is None:
        return None
    if isinstance(target, str):
        one_of("target", target, ("true", "predicted"))
        if target == "true" and y is None:
            raise ValueError("target='true' needs the true classes `y`. Received: y=None")
        return target
    array = np.asarray(ops.convert_to_numpy(target))
    if array.ndim == 0 and np.issubdtype(array.dtype, np.integer):
        return int(array)
    if array.ndim == 0 or not (array.dtype == bool or np.issubdtype(array.dtype, np.floating)):
        raise ValueError(
            "`target` must be 'true', 'predicted', the index of an output, or weights, bools or floats of the shape of "
            f"one output. Received: target={target!r}"
        )
    return array


def checked_images(images: Tensor | None, x: np.ndarray) -> np.ndarray:
    """The images that are shown beside the relevance of `x`."""
    shown = x if images is None else ops.convert_to_numpy(images)
    if len(shown) != len(x):
        raise ValueError(f"`images` must be {len(x)}, as many as `x`. Received shape: {shown.shape}")
    try:
        display_images(shown)
    except ValueError as error:
        if images is not None:
            raise
        raise ValueError(f"`x` cannot be shown as it is, so `images=` must say what to show: {error}") from None
    relevance_maps(in_layout(np.zeros(x.shape), shown), shown)
    return shown


def checked_names(class_names: Sequence[str] | None) -> list[str] | None:
    if isinstance(class_names, str):
        raise ValueError(f"`class_names` must be a list of strings. Received: class_names={class_names!r}")
    return None if class_names is None else [str(name) for name in class_names]


def checked_class_means(
    class_means: Structure | tuple[Structure, Tensor], like: Structure
) -> tuple[Structure, np.ndarray | None]:
    """Images and their class numbers, or None without these."""
    has_classes = isinstance(class_means, tuple) and len(class_means) == 2
    x, y = class_means if has_classes else (class_means, None)
    x = finite_inputs("class_means", x)
    shapes, expected = ([part.shape[1:] for part in leaves(each)] for each in (x, like))
    n = len(leaves(x)[0])
    if skeleton_of(x) != skeleton_of(like) or shapes != expected or not n:
        raise ValueError(
            f"`class_means` must be images of shape {expected[0]}, as `x`. Received: shape {(n, *shapes[0])}"
        )
    return x, None if y is None else class_labels("class_means", y, n)


def in_layout(relevance: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Relevance in the layout of the images, if the model takes them in another."""
    has_pixels = relevance.ndim in (3, 4) and height_and_width(relevance.shape) == height_and_width(images.shape)
    return relevance if has_pixels else unflattened("x", relevance.reshape(len(relevance), -1), images.shape)
