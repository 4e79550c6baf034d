"""Images and relevance as `plot_heatmaps` takes them, checked and turned into the arrays that are drawn."""

import math
from typing import Any

import numpy as np
from keras import config, ops

from keras_shapley.utils.attributions import as_array
from keras_shapley.utils.typing import Tensor
from keras_shapley.utils.validation import finite


def display_images(images: Tensor) -> np.ndarray:
    """Images as they are drawn: floats in [0, 1] of shape `(n, h, w)` or `(n, h, w, 3)`.

    Args:
        images: array of shape `(n, h, w)`, `(n, h, w, 1)` or `(n, h, w, 3)`, scaled as `plot_heatmaps` says.

    Raises:
        ValueError: if the shape is another one or a pixel is NaN or infinite.
    """
    array = _real_numbers("images", images)
    pixels = _channels_last(array)
    if pixels.ndim not in (3, 4) or (pixels.ndim == 4 and pixels.shape[-1] not in (1, 3)) or 0 in pixels.shape:
        raise ValueError(
            f"`images` must have shape {_shape_text()}, {_shape_text('1')} or {_shape_text('3')}, as image_data_format "
            f"is {config.image_data_format()!r}. Received shape: {array.shape}"
        )
    if pixels.ndim == 4 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    if pixels.dtype == np.uint8:
        return pixels / 255
    pixels = pixels.astype("float64")
    low, high = pixels.min(), pixels.max()
    if low >= 0 and high <= 1:
        return pixels
    return (pixels - low) / (high - low) if high > low else np.full_like(pixels, 0.5)


def relevance_maps(relevance: Tensor | dict[str, Any], images: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Relevance as it is drawn, one number a pixel: by label, float64 arrays of shape `(n, h, w)`.

    Args:
        relevance: an array, whose only label is `""`, or a dict of arrays or explanation objects, in one of the shapes
            of `plot_heatmaps`.
        images: the images beside it, which give the layout of flat relevance.

    Raises:
        ValueError: if a shape is another one or differs from the images', or a number is NaN or infinite.
    """
    if not isinstance(relevance, dict):
        return {"": _relevance_map("relevance", relevance, images)}
    if not relevance:
        raise ValueError("`relevance` must hold at least one array. Received an empty dict.")
    maps = {label: _relevance_map(f"relevance[{label!r}]", array, images) for label, array in relevance.items()}
    shapes = {label: array.shape for label, array in maps.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"The arrays of `relevance` must have one shape (n, h, w). Received shapes: {shapes}")
    return maps


def with_patches(maps: dict[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
    """Maps `(n, h, w)` by label, and behind each the mean over patches of `size` rows and columns."""
    result = {}
    for label, values in maps.items():
        result[label or "pixels"] = values
        result[f"{label}, patches" if label else "patches"] = _patch_means(values, size)
    return result


def _patch_means(values: np.ndarray, size: int) -> np.ndarray:
    """The mean of each pixel's patch, `(n, h, w)`; patches at the right and lower border may be smaller."""
    for axis in (1, 2):
        length = values.shape[axis]
        starts = np.arange(0, length, size)
        counts = np.diff([*starts, length])
        sums = np.add.reduceat(values, starts, axis=axis)
        means = np.moveaxis(np.moveaxis(sums, axis, -1) / counts, -1, axis)
        values = np.repeat(means, counts, axis=axis)
    return values


def height_and_width(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Height and width from the shape of a batch of images in Keras's data format."""
    return tuple(shape[2:]) if _is_channels_first(len(shape)) else tuple(shape[1:3])


def unflattened(name: str, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Relevance of shape `(n, features)` in the layout of images of `shape`, with their channels or without.

    Raises:
        ValueError: if the number of features is another one.
    """
    n_features = values.shape[1]
    for layout in (shape[1:], height_and_width(shape)):
        if math.prod(layout) == n_features:
            return values.reshape(len(values), *layout)
    sizes = sorted({math.prod(shape[1:]), math.prod(height_and_width(shape))})
    raise ValueError(
        f"`{name}` of shape {values.shape} does not fit `images` of shape {shape}: it must have "
        f"{' or '.join(map(str, sizes))} features."
    )


def _relevance_map(name: str, relevance: Tensor, images: np.ndarray | None) -> np.ndarray:
    """Relevance of shape `(n, h, w)`, summed over channels."""
    values = _real_numbers(name, as_array(relevance)).astype("float64")
    received = values.shape
    if values.ndim == 2 and images is None:
        raise ValueError(
            f"`{name}` of shape {received} has no rows and columns of pixels: pass `images=`, an array of shape "
            f"{_shape_text()} or {_shape_text('channels')}, to give the layout."
        )
    if values.ndim == 2 and images is not None:
        values = unflattened(name, values, images.shape)
    if values.ndim not in (3, 4) or 0 in values.shape:
        raise ValueError(
            f"`{name}` must have shape {_shape_text()}, {_shape_text('channels')}, or (n, features) with `images`. "
            f"Received shape: {received}"
        )
    if values.ndim == 4:
        values = _channels_last(values).sum(axis=-1)
    if images is not None and values.shape != (len(images), *height_and_width(images.shape)):
        raise ValueError(
            f"`{name}` and `images` must have the same number, height and width. Received shapes: {received} and "
            f"{images.shape}"
        )
    return values


def _real_numbers(name: str, values: Tensor) -> np.ndarray:
    array = np.asarray(ops.convert_to_numpy(values))
    if array.dtype.kind in "OSUMmc":
        raise ValueError(f"`{name}` must be an array of real numbers. Received dtype: {array.dtype}")
    return finite(name, array)


def _is_channels_first(rank: int) -> bool:
    return rank == 4 and config.image_data_format() == "channels_first"


def _channels_last(array: np.ndarray) -> np.ndarray:
    return np.moveaxis(array, 1, -1) if _is_channels_first(array.ndim) else array


def _shape_text(channels: str | None = None) -> str:
    """The shape of a batch of images in Keras's data format, for an error message."""
    if channels is None:
        return "(n, h, w)"
    return f"(n, {channels}, h, w)" if _is_channels_first(4) else f"(n, h, w, {channels})"
