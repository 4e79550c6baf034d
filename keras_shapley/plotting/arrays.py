"""Relevance arrays to pictures. Matplotlib is imported when something is drawn, and no window is ever opened."""

import math

import numpy as np
from keras import config, ops

from keras_shapley.utils.validation import finite


def display_images(images):
    """Images as they are shown: floats in [0, 1], channels last.

    Args:
        images: array of shape `(n, h, w)`, `(n, h, w, 1)` or `(n, h, w, 3)`, as in `plot_heatmaps`.

    Returns:
        Array of shape `(n, h, w)` or `(n, h, w, 3)`.

    Raises:
        ValueError: on another shape, on NaN or infinity.
    """
    images = _numbers("images", images)
    shown = _channels_last(images)
    if shown.ndim not in (3, 4) or (shown.ndim == 4 and shown.shape[-1] not in (1, 3)) or 0 in shown.shape:
        raise ValueError(
            f"`images` must have shape {_shape('n', 'h', 'w')}, {_shape('n', 'h', 'w', '1')} or "
            f"{_shape('n', 'h', 'w', '3')}, image_data_format being {config.image_data_format()!r}. "
            f"Received shape: {images.shape}"
        )
    if shown.ndim == 4 and shown.shape[-1] == 1:
        shown = shown[..., 0]
    if shown.dtype == np.uint8:
        return shown / 255
    shown = shown.astype("float64")
    low, high = shown.min(), shown.max()
    if low >= 0 and high <= 1:
        return shown
    return (shown - low) / (high - low) if high > low else np.full_like(shown, 0.5)


def relevance_maps(relevance, images=None):
    """Relevance as it is drawn: one number a pixel.

    Args:
        relevance, images: as in `plot_heatmaps`.

    Returns:
        Dict of float64 arrays of shape `(n, h, w)`; its only key is `""` where `relevance` is an array.

    Raises:
        ValueError: on another shape, on NaN or infinity, on sizes that differ from those of the images.
    """
    if not isinstance(relevance, dict):
        return {"": _relevance_map("relevance", relevance, images)}
    if not relevance:
        raise ValueError("`relevance` must hold at least one array. Received an empty dict.")
    maps = {label: _relevance_map(f"relevance[{label!r}]", r, images) for label, r in relevance.items()}
    shapes = {label: r.shape for label, r in maps.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"The arrays of `relevance` must have one shape (n, h, w). Received shapes: {shapes}")
    return maps


def _relevance_map(name, relevance, images):
    r = _numbers(name, relevance).astype("float64")
    received = r.shape
    if r.ndim == 2 and images is not None:
        layout = np.shape(images)
        if len(layout) == 4 and r[0].size != math.prod(layout[1:]):
            # one number for each pixel, whatever the image's channels
            layout = layout[:1] + height_and_width(layout)
        if r[0].size != math.prod(layout[1:]):
            raise ValueError(
                f"`{name}` of shape {received} does not fit `images` of shape {np.shape(images)}: it must have "
                f"{math.prod(layout[1:])} features."
            )
        r = r.reshape(r.shape[:1] + layout[1:])
    if r.ndim == 2:
        raise ValueError(
            f"`{name}` of shape {received} says nothing of rows and columns: pass `images=`, an array of shape "
            f"{_shape('n', 'h', 'w')} or {_shape('n', 'h', 'w', 'channels')}, to give the layout."
        )
    if r.ndim not in (3, 4) or 0 in r.shape:
        raise ValueError(
            f"`{name}` must have shape {_shape('n', 'h', 'w')}, {_shape('n', 'h', 'w', 'channels')}, or (n, features) "
            f"with `images`. Received shape: {received}"
        )
    if r.ndim == 4:
        r = _channels_last(r).sum(axis=-1)
    if images is not None and r.shape != np.shape(images)[:1] + height_and_width(np.shape(images)):
        raise ValueError(
            f"`{name}` and `images` must agree in their number and in height and width. Received shapes: "
            f"{received} and {np.shape(images)}"
        )
    return r


def _numbers(name, values):
    array = np.asarray(ops.convert_to_numpy(values))
    if array.dtype.kind in "OSUMmc":
        raise ValueError(f"`{name}` must be an array of real numbers. Received dtype: {array.dtype}")
    return finite(name, array)


def _channels_last(array):
    first = array.ndim == 4 and config.image_data_format() == "channels_first"
    return np.moveaxis(array, 1, -1) if first else array


def height_and_width(shape):
    """Height and width out of the shape of a batch of images, whichever their data format."""
    first = len(shape) == 4 and config.image_data_format() == "channels_first"
    return tuple(shape[2:]) if first else tuple(shape[1:3])


def _shape(n, h, w, channels=None):
    if channels is None:
        return f"({n}, {h}, {w})"
    first = config.image_data_format() == "channels_first"
    return f"({n}, {channels}, {h}, {w})" if first else f"({n}, {h}, {w}, {channels})"
