"""Rules for calls without weights: sums, pooling, elementwise operations, and those that move elements.

What a rule is, `keras_shapley.rules` says.
"""

import keras
from keras import ops

from keras_shapley.lrp.rules.base import in_proportion
from keras_shapley.models.layer_types import UNCENTRED


class CentredScale:
    """LayerNormalization and GroupNormalization with their standard deviation held constant, after Ali et al. (2022).

    What is left is linear, `y = gamma (x - mean(x))/std + beta`: `beta` is dealt as by n = 1, the rest in proportion.
    Where nothing is centred (RMSNormalization, UnitNormalization, `rms_scaling`) that is n = 1, and relevance passes.

    Args:
        epsilon: stabiliser of the denominator.
    """

    def __init__(self, epsilon=1e-9):
        self.epsilon = epsilon

    def __call__(self, call, inputs, relevance):
        (x,), layer = inputs, call.op
        if getattr(layer, "rms_scaling", isinstance(layer, UNCENTRED)):
            return [relevance]
        shape, axes, features = _normalized(layer, x)
        scale = ops.rsqrt(ops.var(ops.reshape(x, shape), axis=axes, keepdims=True) + layer.epsilon)
        gamma = 1.0
        if layer.gamma is not None:
            sizes = [size if axis in features else 1 for axis, size in enumerate(x.shape)]
            gamma = ops.reshape(ops.cast(layer.gamma, x.dtype), sizes)

        def centred(x):
            parts = ops.reshape(x, shape)
            return gamma * ops.reshape(scale * (parts - ops.mean(parts, axis=axes, keepdims=True)), x.shape)

        return in_proportion(centred, [x], relevance, self.epsilon)


def _normalized(layer, x):
    """How a layer normalises: the shape in which it looks at `x`, the axes of a mean there, and those of `gamma`."""
    rank = len(x.shape)
    if isinstance(layer, keras.layers.GroupNormalization):
        axis, channels = layer.axis % rank, x.shape[layer.axis]
        shape = (*x.shape[:axis], layer.groups, channels // layer.groups, *x.shape[axis + 1 :])
        return shape, [i for i in range(1, rank + 1) if i != axis], [axis]
    axes = [axis % rank for axis in (layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis])]
    return x.shape, axes, axes
