"""Rules for calls without weights: sums, pooling, elementwise operations, and those that move elements.

What a rule is, `keras_shapley.rules` says.
"""

import math

from keras import ops

from keras_shapley.models.layer_types import ZERO_PADDING


def real_elements(call, x):
    """Ones of the shape of `x`, the call's input, with one image; zeros where ZeroPadding layers in front put zeros."""
    padding, value = [], call.inputs[0]
    while value.producer is not None and isinstance(value.producer.op, ZERO_PADDING):
        padding.append(value.producer)
        value = value.producer.inputs[0]
    if not padding:
        return ops.ones_like(x[:1])
    margins = [sum(axis) for axis in zip(*(_margins(pad.op, len(x.shape)) for pad in padding))]
    inside = [1] + [size - margin for size, margin in zip(x.shape[1:], margins[1:])]
    ones = ops.ones(inside, x.dtype)
    for pad in reversed(padding):
        ones = pad.at_full_precision(ones)
    return ones


def _margins(layer, rank):
    """What a ZeroPadding layer adds to each axis, in all."""
    padding = layer.padding if isinstance(layer.padding[0], tuple) else (layer.padding,)
    spatial = [sum(pair) for pair in padding]
    first = getattr(layer, "data_format", "channels_last") == "channels_first"
    return [0, 0, *spatial] if first else [0, *spatial, 0]


def pooling_windows(layer, x):
    """Elements behind each output of a pooling layer, `(taps, batch, ...)`; 0 where `same` padding adds a tap."""
    rank = len(x.shape) - 2
    axes = range(2, rank + 2) if layer.data_format == "channels_first" else range(1, rank + 1)
    if not hasattr(layer, "pool_size"):  # global pooling: one window
        x = ops.moveaxis(x, list(axes), list(range(rank)))
        return ops.reshape(x, (math.prod(x.shape[:rank]), *x.shape[rank:]))

    margins, counts = [(0, 0)] * len(x.shape), []
    for axis, size, stride in zip(axes, layer.pool_size, layer.strides):
        length = x.shape[axis]
        if layer.padding == "same":
            count = -(-length // stride)
            missing = max((count - 1) * stride + size - length, 0)
            margins[axis] = (missing // 2, missing - missing // 2)
        else:
            count = (length - size) // stride + 1
        counts.append(count)
    x = ops.pad(x, margins)

    slices = [(slice(None),) * (axes[0])]
    for size, stride, count in zip(layer.pool_size, layer.strides, counts):
        slices = [
            (*rest, slice(start, start + (count - 1) * stride + 1, stride)) for rest in slices for start in range(size)
        ]
    return ops.stack([x[window] for window in slices], axis=0)
