"""Shapley propagation through normalisation layers: the product of the centred input and of one over its size."""

import math
from collections.abc import Sequence

from keras import layers, ops

from keras_shapley.backend import maximum, vjp
from keras_shapley.lrp.propagation.rule import DifferenceRecord, OnePlayer
from keras_shapley.lrp.propagation.variation import Variation
from keras_shapley.lrp.rules.normalization import check_spread, deviations, kept_shape, layout, mean
from keras_shapley.models.graph import Call
from keras_shapley.models.keras_internals import VARIANCE_OPERATION
from keras_shapley.models.layer_types import UNCENTRED
from keras_shapley.utils.typing import Tensor

# the least sum of squares of UnitNormalization
_LEAST_SQUARES = 1e-24


class Normalization(OnePlayer):
    """LayerNormalization, GroupNormalization, RMSNormalization and UnitNormalization.

    With `c` the centred input and `v` its mean square plus epsilon, the output is `gamma c s + beta`,
    `s = 1/sqrt(v)`. The difference of `c s` is `dc h + ds (c s + c' s')/(s + s')` with the harmonic mean `h` of `s` and
    `s'`, which stays small where the input is constant at the baseline. `ds = -dv (s s')**2/(s + s')`, and
    `d(c**2) = (c + c') dc`. A LayerNormalization with `rms_scaling` divides the input itself by `sqrt(v)`.
    """

    def of_inputs(
        self, call: DifferenceRecord, inputs: Sequence[Variation], output: Variation, m: Tensor
    ) -> list[Tensor]:
        (x,) = inputs
        layer = call.op
        shape, axes, gamma_axes = layout(layer, x.value)
        is_centred = not isinstance(layer, UNCENTRED)
        is_unit = isinstance(layer, layers.UnitNormalization)

        def grouped(x: Tensor) -> Tensor:
            return ops.reshape(x, (x.shape[0], *shape[1:]))

        def centred(x: Tensor) -> Tensor:
            c = grouped(x)
            return c - mean(c, axes) if is_centred else c

        def scale(c: Tensor) -> Tensor:
            if is_unit:
                # divides by the root of the sum of squares, the others by that of their mean
                return ops.rsqrt(maximum(ops.sum(ops.square(c), axis=axes, keepdims=True), _LEAST_SQUARES))
            return ops.rsqrt(mean(ops.square(c), axes) + layer.epsilon)

        c, pullback = vjp(centred, x.value)
        c0 = centred(x.baseline)
        s, s0 = scale(c), scale(c0)
        divides_input = getattr(layer, "rms_scaling", False)
        divided, divided0 = (grouped(x.value), grouped(x.baseline)) if divides_input else (c, c0)

        m = ops.reshape(m * _gamma(layer, x.value, gamma_axes), c.shape)
        m_s = ops.sum(m * (divided * s + divided0 * s0), axis=axes, keepdims=True) / (s + s0)
        m_v = -m_s * ops.square(s * s0) / (s + s0)
        m_divided = m * 2 * s * s0 / (s + s0)
        m_c = m_v * (c + c0) / (1 if is_unit else math.prod(c.shape[axis] for axis in axes))
        if divides_input:
            (of_c,) = pullback(m_c)
            return [of_c + ops.reshape(m_divided, x.value.shape)]
        return list(pullback(m_divided + m_c))


class Spread(OnePlayer):
    """`var`, `std` and `norm`: `d(c**2) = (c + c') dc`, and `dv/(s + s')` for the root `s` of `v`."""

    def check(self, call: Call) -> None:
        check_spread(call)

    def of_inputs(
        self, call: DifferenceRecord, inputs: Sequence[Variation], output: Variation, m: Tensor
    ) -> list[Tensor]:
        (x,) = inputs
        c, pullback = vjp(lambda x: deviations(call.op, x), x.value)
        c0 = deviations(call.op, x.baseline)
        m = ops.reshape(m, kept_shape(call.op, x.value.shape))
        if not isinstance(call.op, VARIANCE_OPERATION):
            total = ops.reshape(output.value + output.baseline, m.shape)
            m = ops.where(total > 0, m / ops.where(total > 0, total, 1), 0)
        return list(pullback(m * (c + c0)))


def _gamma(layer: layers.Layer, x: Tensor, axes: list[int]) -> Tensor | float:
    """The factors of a normalisation layer, 1 if it has none. RMSNormalization calls them `scale`."""
    gamma = layer.scale if isinstance(layer, layers.RMSNormalization) else getattr(layer, "gamma", None)
    if gamma is None:
        return 1.0
    sizes = [size if axis in axes else 1 for axis, size in enumerate(x.shape)]
    return ops.reshape(ops.cast(gamma, x.dtype), sizes)
