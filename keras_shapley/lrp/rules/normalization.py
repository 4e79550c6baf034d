"""The rule for normalisation layers."""

import math
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import keras
from keras import ops

from keras_shapley.lrp.rules.base import CallRecord, in_proportion
from keras_shapley.models.layer_types import NORMALIZATION, UNCENTRED
from keras_shapley.utils.typing import Operation, Tensor

__all__ = ["CentredScale"]


class CentredScale:
    """LayerNormalization and GroupNormalization with the standard deviation held constant, after Ali et al. (2022).

    What remains is linear, `y = gamma (x - mean(x))/std + beta`. The relevance of an output is distributed in
    proportion to the addends of `y - beta`, so `beta` receives nothing. Where nothing is centred (RMSNormalization,
    UnitNormalization, `rms_scaling`) each output has one input, and relevance passes unchanged.

    Args:
        epsilon: stabiliser of the denominators.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.LayerNormalization(), keras.layers.Dense(2)])
        >>> explainer = ks.LRP(model, rules=[(keras.layers.LayerNormalization, ks.rules.CentredScale())])
        >>> explanation = explainer.explain(np.array([[1.0, 2.0, 4.0, 8.0]]), target=0)
        >>> bool(np.isclose(explanation.input.sum(), explanation.head_total[0], rtol=1e-3))
        True
    """

    fits: ClassVar[tuple[type, ...]] = NORMALIZATION

    def __init__(self, epsilon: float = 1e-9) -> None:
        self.epsilon = epsilon

    def __call__(self, call: CallRecord, inputs: list[Tensor], relevance: Tensor) -> list[Tensor]:
        layer = call.op
        (x,) = inputs
        if getattr(layer, "rms_scaling", isinstance(layer, UNCENTRED)):
            return [relevance]
        shape, axes, gamma_axes = layout(layer, x)
        grouped = ops.reshape(x, shape)
        scale = ops.rsqrt(mean(ops.square(grouped - mean(grouped, axes)), axes) + layer.epsilon)
        gamma = 1.0
        if layer.gamma is not None:
            sizes = [size if axis in gamma_axes else 1 for axis, size in enumerate(x.shape)]
            gamma = ops.reshape(ops.cast(layer.gamma, x.dtype), sizes)

        def centred(x: Tensor) -> Tensor:
            grouped = ops.reshape(x, shape)
            return gamma * ops.reshape(scale * (grouped - mean(grouped, axes)), x.shape)

        return in_proportion(centred, [x], relevance, self.epsilon)


def mean(x: Tensor, axes: list[int]) -> Tensor:
    """Mean over axes, which stay with size 1. That of Keras computes in float32, whatever the dtype."""
    return ops.sum(x, axis=axes, keepdims=True) / math.prod(x.shape[axis] for axis in axes)


class _Layout(NamedTuple):
    """How a layer normalises.

    Attributes:
        shape: the shape in which it looks at its input, with an axis for groups.
        axes: the axes of a mean in that shape.
        gamma_axes: the axes of the input along which `gamma` varies.
    """

    shape: Sequence[int]
    axes: list[int]
    gamma_axes: list[int]


def layout(layer: Operation, x: Tensor) -> _Layout:
    rank = len(x.shape)
    if isinstance(layer, keras.layers.GroupNormalization):
        axis = layer.axis % rank
        shape = (*x.shape[:axis], layer.groups, x.shape[axis] // layer.groups, *x.shape[axis + 1 :])
        return _Layout(shape, [i for i in range(1, rank + 1) if i != axis], [axis])
    given = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    axes = [axis % rank for axis in given]
    return _Layout(x.shape, axes, axes)
