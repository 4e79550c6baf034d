"""Images and relevance as `plot_heatmaps` takes them, checked and turned into the arrays that are drawn."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import config

from keras_shapley.plotting.attributions import Attributions, attributions_of, check_same_shapes, real_numbers
from keras_shapley.utils.typing import Tensor

OTHER_PLOTS = (
    "A series is drawn by `ks.plot_series(relevance, x)`, a text by `ks.plot_tokens(relevance, tokens)`, a table by "
    "`ks.plot_bars(relevance)`."
)


def display_images(images: Tensor) -> np.ndarray:
    """Images as they are drawn: floats in [0, 1] of shape `(n, h, w)` or `(n, h, w, 3)`.

    Args:
        images: array of shape `(n, h, w)`, `(n, h, w, 1)` or `(n, h, w, 3)`, scaled as `plot_heatmaps` says.

    Raises:
        ValueError: if the shape is another one or a pixel is NaN or infinite.
    """
    array = real_numbers("images", images)
    pixels = _channels_last(array)
    if pixels.ndim not in (3, 4) or (pixels.ndim == 4 and pixels.shape[-1] not in (1, 3)) or 0 in pixels.shape:
        raise ValueError(
            f"`images` must have shape {_shape_text()}, {_shape_text('1')} or {_shape_text('3')}, as image_data_format "
            f"is {config.image_data_format()!r}. Received shape: {array.shape}. {OTHER_PLOTS}"
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


def relevance_maps(relevance: Any, images: np.ndarray | None = None) -> list[Attributions]:
    """Relevance as it is drawn, one number a pixel: `values` of shape `(n, h, w)`.

    Args:
        relevance: in one of the forms of `plot_heatmaps`.
        images: the images beside it, which give the layout of flat relevance.

    Raises:
        ValueError: if a shape is another one or differs from the images', or a number is NaN or infinite.
    """
    parts = attributions_of(relevance)
    maps = [dataclasses.replace(part, values=_relevance_map(part, images)) for part in parts]
    check_same_shapes(maps, "(n, h, w)")
    return maps


def with_patches(maps: Sequence[Attributions], size: int) -> list[Attributions]:
    """Maps `(n, h, w)`, and behind each the sums over patches of `size` rows and columns.

    Maps of groups of pixels stand alone: each pixel of a group has the value of the group.
    """
    result = []
    for pixels in maps:
        if pixels.groups is not None:
            result.append(pixels)
            continue
        patches = pixels.relabelled(lambda label: f"{label}, patches" if label else "patches")
        result.append(pixels.relabelled(lambda label: label or "pixels"))
        result.append(dataclasses.replace(patches, values=_patch_sums(pixels.values, size)))
    return result


def _patch_sums(values: np.ndarray, size: int) -> np.ndarray:
    """The sum of each pixel's patch, `(n, h, w)`; patches at the right and lower border may be smaller."""
    for axis in (1, 2):
        length = values.shape[axis]
        starts = np.arange(0, length, size)
        sums = np.add.reduceat(values, starts, axis=axis)
        values = np.repeat(sums, np.diff([*starts, length]), axis=axis)
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


def _relevance_map(part: Attributions, images: np.ndarray | None) -> np.ndarray:
    """Relevance of shape `(n, h, w)`, summed over channels."""
    name, received = part.name, part.values.shape
    if part.values.ndim == 2:
        if images is None:
            raise ValueError(
                f"`{name}` of shape {received} has no rows and columns of pixels: pass `images=`, an array of shape "
                f"{_shape_text()} or {_shape_text('channels')}, to give the layout. {OTHER_PLOTS}"
            )
        part = part.rearranged(lambda array: unflattened(name, array, images.shape))
    if part.values.ndim not in (3, 4) or 0 in part.values.shape:
        raise ValueError(
            f"`{name}` must have shape {_shape_text()}, {_shape_text('channels')}, or (n, features) with `images`. "
            f"Received shape: {received}"
        )
    values = part.rearranged(_channels_last).of_positions() if part.values.ndim == 4 else part.of_elements()
    if images is not None and values.shape != (len(images), *height_and_width(images.shape)):
        raise ValueError(
            f"`{name}` and `images` must have the same number, height and width. Received shapes: {received} and "
            f"{images.shape}"
        )
    return values


def _is_channels_first(rank: int) -> bool:
    return rank == 4 and config.image_data_format() == "channels_first"


def _channels_last(array: np.ndarray) -> np.ndarray:
    return np.moveaxis(array, 1, -1) if _is_channels_first(array.ndim) else array


def _shape_text(channels: str | None = None) -> str:
    """The shape of a batch of images in Keras's data format, for an error message."""
    if channels is None:
        return "(n, h, w)"
    return f"(n, {channels}, h, w)" if _is_channels_first(4) else f"(n, h, w, {channels})"
