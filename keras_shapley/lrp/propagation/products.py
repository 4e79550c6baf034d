"""Shapley propagation through products: of tensors, of matrices, of an exponential and a reciprocal as in a softmax.

The difference of a product is `da (b + b')/2 + db (a + a')/2`, the Shapley values of its two factors. For a reciprocal
`b` the mean is the harmonic one, so that a small denominator at the baseline does no harm. Either way relevance is
conserved exactly.
"""

import functools
from collections.abc import Sequence

from keras import ops

from keras_shapley.backend import maximum, vjp
from keras_shapley.layers.linear_maps import linear_map
from keras_shapley.lrp.propagation.rule import DifferenceRecord, OnePlayer
from keras_shapley.lrp.propagation.variation import Variation
from keras_shapley.lrp.rules.attention import (
    attention_mixture,
    attention_operands,
    attention_scores,
    attention_weights,
)
from keras_shapley.lrp.rules.base import unbroadcast
from keras_shapley.models.graph import Value
from keras_shapley.utils.typing import Tensor, TensorFunction

# stands for minus infinity
_NEVER = -1e30
# below this difference the slope of the exponential is a series
_SMALL = 1e-2


def softmax_multiplier(z: Variation, y: Variation, m: Tensor, axis: int) -> Tensor:
    """The multiplier of the logits of a softmax: the product of exponentials and the reciprocal of their sum.

    Args:
        z: logits.
        y: probabilities. Where they are zero, at the input and at the baseline, logits are masked.
        m: multiplier of `y`, in its shape.
        axis: along which probabilities sum to 1.
    """
    is_open = y.value + y.baseline > 0
    value = ops.where(is_open, z.value, _NEVER)
    baseline = ops.where(is_open, z.baseline, _NEVER)
    # one shift for both, so that it cancels
    top = ops.max(maximum(value, baseline), axis=axis, keepdims=True)
    e, e0 = ops.exp(value - top), ops.exp(baseline - top)
    total, total0 = (ops.sum(part, axis=axis, keepdims=True) for part in (e, e0))
    # a difference in logits of 80 leaves nothing of the smaller sum in float32
    total, total0 = maximum(total, 1e-30), maximum(total0, 1e-30)
    m_total = -ops.sum(m * (e / total + e0 / total0), axis=axis, keepdims=True)
    return (2 * m + m_total) / (total + total0) * _exponential_slope(value - baseline, e, e0)


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


class Product(OnePlayer):
    """Products of tensors, element by element: one factor after the other joins the product of those before."""

    def of_inputs(
        self, call: DifferenceRecord, inputs: Sequence[Variation], output: Variation, m: Tensor
    ) -> list[Tensor]:
        products = [inputs[0]]
        for factor in inputs[1:-1]:
            before = products[-1]
            products.append(Variation(before.value * factor.value, before.baseline * factor.baseline))
        parts = []
        for factor, before in zip(reversed(inputs[1:]), reversed(products)):
            parts.append(m * (before.value + before.baseline) / 2)
            m = m * (factor.value + factor.baseline) / 2
        parts.append(m)
        return [unbroadcast(part, factor.value) for part, factor in zip(reversed(parts), inputs)]


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

    def of_inputs(
        self, call: DifferenceRecord, inputs: Sequence[Variation], output: Variation, m: Tensor
    ) -> list[Tensor]:
        if getattr(call.op, "normalize", False):
            raise ValueError(f"Products are propagated without normalize=True. Received: {call.description}.")
        return halves(call.at_full_precision, inputs, m)


class Attention(OnePlayer):
    """MultiHeadAttention: four dense layers, a softmax, and two products of matrices."""

    def of_inputs(
        self, call: DifferenceRecord, inputs: Sequence[Variation], output: Variation, m: Tensor
    ) -> list[Tensor]:
        layer = call.op
        if layer.get_config()["use_gate"] or any(len(x.value.shape) != 3 for x in inputs[:2]):
            raise ValueError(
                "Attention is propagated for inputs of shape (batch, length, features), and without a gate. Received: "
                f"{call.description} with inputs of shape {[tuple(x.value.shape) for x in inputs]}."
            )
        named, places = call.named(inputs), call.named(range(len(inputs)))
        names = attention_operands(named)
        maps = [linear_map(dense) for dense in (layer.query_dense, layer.key_dense, layer.value_dense)]
        operands = [_as_variation(named[name], m.dtype) for name in names]
        q, k, v = (
            Variation(linear.preactivation(x.value), linear.preactivation(x.baseline))
            for linear, x in zip(maps, operands)
        )
        # masks are those of every input of the batch
        baselines = [ops.broadcast_to(x.baseline, x.value.shape) for x in inputs]
        weights = Variation(attention_weights(call, [x.value for x in inputs]), attention_weights(call, baselines))

        scores = functools.partial(attention_scores, key_dim=layer.key_dim)
        _, pullback = vjp(linear_map(layer.output_dense).sums, attention_mixture(weights.value, v.value))
        m_weights, m_v = halves(attention_mixture, [weights, v], pullback(m)[0])
        z = Variation(scores(q.value, k.value), scores(q.baseline, k.baseline))
        m_q, m_k = halves(scores, [q, k], softmax_multiplier(z, weights, m_weights, axis=-1))

        parts = [ops.zeros_like(x.value) for x in inputs]
        values = call.named(call.inputs)
        for name, linear, x, m_sums in zip(names, maps, operands, (m_q, m_k, m_v)):
            if isinstance(values[name], Value):
                _, pullback = vjp(linear.sums, x.value)
                parts[places[name]] = parts[places[name]] + pullback(m_sums)[0]
        return parts


def _as_variation(operand: Variation | Tensor, dtype: str) -> Variation:
    """An operand of attention, which may be a constant."""
    if isinstance(operand, Variation):
        return operand
    constant = ops.cast(operand, dtype)
    return Variation(constant, constant)
