"""Rules for normalisation layers, and for the sizes by which they divide."""

import math
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import keras
from keras import ops

from keras_shapley.lrp.rules.base import CallRecord, in_proportion
from keras_shapley.models.graph import Call
from keras_shapley.models.keras_internals import NORM_OPERATION, first_input_shape
from keras_shapley.models.layer_types import NORMALIZATION, SPREAD, UNCENTRED
from keras_shapley.utils.typing import Operation, Tensor

__all__ = ["CentredScale", "Spread"]


class CentredScale:
    """LayerNormalization and GroupNormalization with the standard deviation held constant, after Ali et al. (2022).

    What remains is linear, `y = gamma (x - mean(x))/std + beta`. The relevance of an output is distributed in
    proportion to the addends of `y - beta`, so `beta` receives nothing. Where nothing is centred (RMSNormalization,
    UnitNormalization, `rms_scaling`) each output has one input, and relevance passes unchanged.

    Args:
        epsilon: stabiliser of the denominators.

    Examples:
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


class Spread:
    """`keras.ops.var`, `std` and `norm`: in proportion to `x_k dv/dx_k`, which sum to `2 v`, for the squared size `v`.

    These are the shares of eq. (2) where squares and the root pass relevance unchanged, and centring and the sum pass
    it on in proportion to the addends. `LRP` raises a `ValueError` for an `axis` that is None or that of the batch.

    Args:
        epsilon: stabiliser of the denominators.

    Examples:
        >>> x = keras.Input((2,))
        >>> explainer = ks.LRP(keras.Model(x, keras.ops.norm(x, axis=1, keepdims=True)), rules="paper")
        >>> print(explainer.explain(np.array([[3.0, 4.0]])).input.round(2))
        [[1.8 3.2]]
    """

    fits: ClassVar[tuple[type, ...]] = SPREAD

    def __init__(self, epsilon: float = 1e-9) -> None:
        self.epsilon = epsilon

    def check(self, call: Call) -> None:
        """Raises a `ValueError` for a call that this rule is not for."""
        check_spread(call)

    def __call__(self, call: CallRecord, inputs: list[Tensor], relevance: Tensor) -> list[Tensor]:
        (x,) = inputs
        relevance = ops.reshape(relevance, kept_shape(call.op, x.shape))

        def sum_of_squares(x: Tensor) -> Tensor:
            return ops.sum(ops.square(deviations(call.op, x)), axis=tuple(call.op.axis), keepdims=True)

        return in_proportion(sum_of_squares, [x], relevance / 2, self.epsilon)


def check_spread(call: Call) -> None:
    """Raises a `ValueError` for a variance, deviation or norm over the batch, or for a norm of another kind."""
    shape = first_input_shape(call.op)
    axes = range(len(shape or ())) if call.op.axis is None else call.op.axis
    if any(axis % len(shape or (1,)) == 0 for axis in axes):
        raise ValueError(
            f"Relevance passes var, std and norm of each sample on its own. Received: {call.description} with "
            f"axis={call.op.axis}, which includes the batch. Give `axis` without 0."
        )
    order = getattr(call.op, "ord", None)
    if order not in (None, "fro") and (order != 2 or len(axes) > 1):
        raise ValueError(
            f"Relevance passes the Euclidean norm. Received: {call.description} with ord={order!r}. Write it with "
            "ops.abs, ops.sum and ops.max, or use shapley_values(model, x), which takes any model."
        )


def deviations(op: Operation, x: Tensor) -> Tensor:
    """What `var`, `std` and `norm` add up the squares of; for `var`, over the root of their number."""
    axes = list(op.axis)
    if isinstance(op, NORM_OPERATION):
        return x
    return (x - mean(x, axes)) / math.sqrt(math.prod(x.shape[axis] for axis in axes))


def kept_shape(op: Operation, shape: Sequence[int]) -> list[int]:
    """The shape of an output of `var`, `std` or `norm` if its axes were kept."""
    axes = [axis % len(shape) for axis in op.axis]
    return [1 if axis in axes else size for axis, size in enumerate(shape)]


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
