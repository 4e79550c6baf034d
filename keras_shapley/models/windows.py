"""Windows of pooling layers, and elements of an input that padding put there."""

import math
from collections.abc import Sequence

import keras
from keras import layers, ops

from keras_shapley.models.graph import Call
from keras_shapley.models.layer_types import ZERO_PADDING
from keras_shapley.utils.typing import Tensor


def real_elements(call: Call, x: Tensor) -> Tensor:
    """Ones where the input `x` of a call is computed, zeros where ZeroPadding layers in front padded it.

    Returns:
        Tensor in the shape of `x`, with a batch of one.
    """
    padding = []
    value = call.inputs[0]
    while value.producer is not None and isinstance(value.producer.op, ZERO_PADDING):
        padding.append(value.producer)
        value = value.producer.inputs[0]
    if not padding:
        return ops.ones_like(x[:1])
    margins = [sum(axis) for axis in zip(*(_margins(pad.op) for pad in padding))]
    inside = [1] + [size - margin for size, margin in zip(x.shape[1:], margins[1:])]
    ones = ops.ones(inside, x.dtype)
    for pad in reversed(padding):
        ones = pad.at_full_precision(ones)
    return ones


def _margins(layer: layers.Layer) -> list[int]:
    """How many elements a ZeroPadding layer adds to each axis, on both sides together."""
    padding = layer.padding if isinstance(layer.padding[0], tuple) else (layer.padding,)
    spatial = [sum(pair) for pair in padding]
    first = getattr(layer, "data_format", "channels_last") == "channels_first"
    return [0, 0, *spatial] if first else [0, *spatial, 0]


def pooling_windows(layer: layers.Layer, x: Tensor) -> Tensor:
    """The elements of `x` behind each output of a pooling layer; 0 where `same` padding adds a tap.

    Args:
        layer: a max or average pooling layer, local or global, or the operation.
        x: its input, shape `(batch, ...)`.

    Returns:
        Tensor of shape `(taps, batch, ...)`, with the shape of the layer's output after the taps.
    """
    rank = len(x.shape) - 2
    data_format = layer.data_format or keras.config.image_data_format()
    axes = range(2, rank + 2) if data_format == "channels_first" else range(1, rank + 1)
    if not hasattr(layer, "pool_size"):  # global pooling: one window
        x = ops.moveaxis(x, list(axes), list(range(rank)))
        return ops.reshape(x, (math.prod(x.shape[:rank]), *x.shape[rank:]))

    margins = [(0, 0)] * len(x.shape)
    counts, sizes = [], _for_each(layer.pool_size, axes)
    # an operation may have no strides, or one for all axes
    strides = sizes if layer.strides is None else _for_each(layer.strides, axes)
    for axis, size, stride in zip(axes, sizes, strides):
        length = x.shape[axis]
        if layer.padding == "same":
            count = -(-length // stride)
            missing = max((count - 1) * stride + size - length, 0)
            margins[axis] = (missing // 2, missing - missing // 2)
        else:
            count = (length - size) // stride + 1
        counts.append(count)
    x = ops.pad(x, margins)

    windows = [(slice(None),) * axes[0]]
    for size, stride, count in zip(sizes, strides, counts):
        starts = range(size)
        windows = [
            (*window, slice(start, start + (count - 1) * stride + 1, stride)) for window in windows for start in starts
        ]
    return ops.stack([x[window] for window in windows], axis=0)


def _for_each(sizes: int | Sequence[int], axes: range) -> tuple[int, ...]:
    """A size for each of the axes."""
    return (sizes,) * len(axes) if isinstance(sizes, int) else tuple(sizes)
