"""Shapley propagation through products: of tensors, of matrices, of an exponential and a reciprocal as in a softmax.

The difference of a product is `da (b + b')/2 + db (a + a')/2`, the Shapley values of its two factors. For a reciprocal
`b` the mean is the harmonic one, so that a small denominator at the baseline does no harm. Either way relevance is
conserved exactly.
"""

from collections.abc import Sequence

from keras import layers, ops

from keras_shapley.backend import maximum, vjp
from keras_shapley.lrp.propagation.gates import slope
from keras_shapley.lrp.propagation.normalization import Normalization
from keras_shapley.lrp.propagation.rule import DifferenceRecord, OnePlayer
from keras_shapley.lrp.propagation.variation import Variation
from keras_shapley.lrp.rules.attention import check_product, unnormalized
from keras_shapley.lrp.rules.base import unbroadcast
from keras_shapley.models.graph import Call, Value
from keras_shapley.utils.typing import Tensor, TensorFunction

# stands for minus infinity
_NEVER = -1e30
# logits that change by numbers that differ by less have the same softmax in float32
_SHIFT = 1e-4
# below this difference the slope of the exponential is a series
_SMALL = 1e-2


def softmax_multiplier(z: Variation, y: Variation, m: Tensor, axis: int) -> Tensor:
    """The multiplier of the logits of a softmax: the product of exponentials and the reciprocal of their sum.

    Args:
        z: logits.
        y: probabilities. Where they are zero, at the input and at the baseline, logits are masked. Where a mask closes
            all logits of a row, probabilities are those of the baseline, whatever the logits.
        m: multiplier of `y`, in its shape.
        axis: along which probabilities sum to 1.
    """
    is_open = y.value + y.baseline > 0
    value = ops.where(is_open, z.value, _NEVER)
    baseline = ops.where(is_open, z.baseline, _NEVER)
    # one shift for both, so that it cancels
    top = ops.max(maximum(value, baseline), axis=axis, keepdims=True)
    e, e0 = ops.exp(value - top), ops.exp(baseline - top)
    # of both sums one is 1 or more; of the other float32 leaves nothing where logits differ by 90
    total = ops.sum(e + e0, axis=axis, keepdims=True)
    m_total = -ops.sum(m * (y.value + y.baseline), axis=axis, keepdims=True)
    multiplier = (2 * m + m_total) / total * _exponential_slope(value - baseline, e, e0)
    changes = ops.any(ops.not_equal(y.value, y.baseline), axis=axis, keepdims=True)
    return ops.where(ops.logical_or(changes, _are_shifted(value - baseline, is_open, axis)), multiplier, 0)


def _are_shifted(u: Tensor, is_open: Tensor, axis: int) -> Tensor:
    """Whether the open logits of a row, one or more, differ from the baseline by one number, which changes nothing."""
    largest = ops.max(ops.where(is_open, u, _NEVER), axis=axis, keepdims=True)
    smallest = ops.min(ops.where(is_open, u, -_NEVER), axis=axis, keepdims=True)
    return ops.logical_and(largest - smallest < _SHIFT, largest > _NEVER)


def log_softmax_multiplier(z: Variation, m: Tensor, axis: int) -> Tensor:
    """The multiplier of the logits of a log-softmax: less the logarithm of the sum of their exponentials.

    Args:
        z: logits.
        m: multiplier of the logarithms of the probabilities, in the shape of `z`.
        axis: along which probabilities sum to 1.
    """
    top = ops.max(maximum(z.value, z.baseline), axis=axis, keepdims=True)
    e, e0 = ops.exp(z.value - top), ops.exp(z.baseline - top)
    sums = Variation(*(ops.sum(part, axis=axis, keepdims=True) for part in (e, e0)))
    # each with a shift of its own, as a sum that is far smaller than the other is 0 in float32
    change = ops.logsumexp(z.value, axis=axis, keepdims=True) - ops.logsumexp(z.baseline, axis=axis, keepdims=True)
    m_total = -ops.sum(m, axis=axis, keepdims=True) * slope(ops.log, sums, change)
    return m + m_total * _exponential_slope(z.difference, e, e0)


def _exponential_slope(u: Tensor, e: Tensor, e0: Tensor) -> Tensor:
    """`(exp(a) - exp(b))/(a - b)`, for `u = a - b`."""
    is_real = ops.abs(u) > _SMALL
    return ops.where(is_real, (e - e0) / ops.where(is_real, u, 1), (e + e0) / 2 * (1 - ops.square(u) / 12))


def halves(function: TensorFunction, factors: Sequence[Variation], m: Tensor) -> list[Tensor]:
    """Multipliers of two factors: the transpose of the product with the mean of the other factor and its baseline."""
    _, pullback = vjp(function, *((factor.value + factor.baseline) / 2 for factor in factors))
    return list(pullback(m))


class Softmax(OnePlayer):
    """Softmax inside a network."""

    def of_inputs(
        self, call: DifferenceRecord, inputs: Sequence[Variation], output: Variation, m: Tensor
    ) -> list[Tensor]:
        return [softmax_multiplier(inputs[0], output, m, getattr(call.op, "axis", -1))]


class LogSoftmax(OnePlayer):
    """Log-softmax inside a network."""

    def of_inputs(
        self, call: DifferenceRecord, inputs: Sequence[Variation], output: Variation, m: Tensor
    ) -> list[Tensor]:
        return [log_softmax_multiplier(inputs[0], m, call.op.axis)]


class Product(OnePlayer):
    """Products of tensors, element by element: one factor after the other joins the product of those before.

    The layer has 1 for a factor where a mask closes it.
    """

    def of_inputs(
        self, call: DifferenceRecord, inputs: Sequence[Variation], output: Variation, m: Tensor
    ) -> list[Tensor]:
        are_open = call.are_open
        inputs = [x if is_open is None else _where_open(is_open, x) for is_open, x in zip(are_open, inputs)]
        for constant in call.constants:
            m = m * ops.cast(constant, m.dtype)
        products = [inputs[0]]
        for factor in inputs[1:-1]:
            before = products[-1]
            products.append(Variation(before.value * factor.value, before.baseline * factor.baseline))
        parts = []
        for factor, before in zip(reversed(inputs[1:]), reversed(products)):
            parts.append(m * (before.value + before.baseline) / 2)
            m = m * (factor.value + factor.baseline) / 2
        parts.append(m)
        parts.reverse()
        parts = [part if is_open is None else ops.where(is_open, part, 0) for is_open, part in zip(are_open, parts)]
        return [unbroadcast(part, factor.value) for part, factor in zip(parts, inputs)]


def _where_open(is_open: Tensor, x: Variation) -> Variation:
    """A factor that is 1 where its mask closes it."""
    return Variation(ops.where(is_open, x.value, 1), ops.where(is_open, x.baseline, 1))


class Quotient(OnePlayer):
    """A quotient of two tensors, `da 2/(|b| + |b'|)` and what the second adds, for `b` and `b'` of one sign.

    With the mean of `1/b` and `1/b'` a denominator near zero at the baseline would make both large and opposite.
    """

    def of_inputs(
        self, call: DifferenceRecord, inputs: Sequence[Variation], output: Variation, m: Tensor
    ) -> list[Tensor]:
        a, b = inputs
        size, size0 = ops.abs(b.value), ops.abs(b.baseline)
        total = size + size0
        m_a = m * (ops.sign(b.value) + ops.sign(b.baseline)) / total
        m_b = -m * (size * a.baseline + size0 * a.value) / total / (b.value * b.baseline)
        return [unbroadcast(m_a, a.value), unbroadcast(m_b, b.value)]


class Bilinear(OnePlayer):
    """Products of matrices and the like, linear in each of two tensors."""

    def check(self, call: Call) -> None:
        check_product(call)

    def of_inputs(
        self, call: DifferenceRecord, inputs: Sequence[Variation], output: Variation, m: Tensor
    ) -> list[Tensor]:
        if not getattr(call.op, "normalize", False):
            return halves(call.at_full_precision, inputs, m)
        # each operand is divided by its length before
        product, axes = unnormalized(call.op, [len(x.value.shape) for x in inputs])
        divisions = [_division_by_length(call, axis) for axis in axes]
        units = [
            Variation(division.at_full_precision(x.value), division.at_full_precision(x.baseline))
            for division, x in zip(divisions, inputs)
        ]
        parts = zip(divisions, inputs, units, halves(product, units, m))
        return [Normalization().of_inputs(division, [x], unit, m)[0] for division, x, unit, m in parts]


def _division_by_length(call: DifferenceRecord, axis: int) -> DifferenceRecord:
    return DifferenceRecord(call.name, layers.UnitNormalization(axis), ((Value(),), {}))
