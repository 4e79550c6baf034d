"""Shapley propagation through attention layers: dense layers, a softmax, and two products of matrices."""

from collections.abc import Sequence

from keras import ops

from keras_shapley.backend import vjp
from keras_shapley.layers.linear_maps import linear_map
from keras_shapley.lrp.propagation.gates import coefficients, moments_of
from keras_shapley.lrp.propagation.products import halves, softmax_multiplier
from keras_shapley.lrp.propagation.rule import DifferenceRecord, OnePlayer
from keras_shapley.lrp.propagation.variation import Variation
from keras_shapley.models.attention import (
    Scores,
    TanhScores,
    attention_mixture,
    attention_operands,
    attention_parts,
    attention_weights,
    check_attention,
    open_queries,
)
from keras_shapley.models.graph import Call, Value
from keras_shapley.models.mean_slope import mean_slope
from keras_shapley.utils.typing import Tensor


class Attention(OnePlayer):
    """Attention layers, with dense layers for their heads or without."""

    def check(self, call: Call) -> None:
        check_attention(call)

    def of_inputs(
        self, call: DifferenceRecord, inputs: Sequence[Variation], output: Variation, m: Tensor
    ) -> list[Tensor]:
        m = open_queries(call, m)
        layer = attention_parts(call.op, m.dtype)
        values = attention_operands(call.named(call.inputs))
        places = attention_operands(call.named(range(len(inputs))))
        operands = [_as_variation(x, m.dtype) for x in attention_operands(call.named(inputs))]
        q, k, v = (
            Variation(projection(x.value), projection(x.baseline)) for projection, x in zip(layer.projections, operands)
        )
        # masks are those of every input of the batch
        baselines = [ops.broadcast_to(x.baseline, x.value.shape) for x in inputs]
        weights = Variation(attention_weights(call, [x.value for x in inputs]), attention_weights(call, baselines))

        if layer.output is None:
            m_mixture = m[:, :, None]
        else:
            _, pullback = vjp(linear_map(layer.output).sums, attention_mixture(weights.value, v.value))
            (m_mixture,) = pullback(m)
        m_weights, m_v = halves(attention_mixture, [weights, v], m_mixture)
        z = Variation(layer.scores(q.value, k.value), layer.scores(q.baseline, k.baseline))
        m_q, m_k = _of_scores(call, layer.scores, q, k, softmax_multiplier(z, weights, m_weights, axis=-1))

        parts = [ops.zeros_like(x.value) for x in inputs]
        for value, place, projection, x, m_sums in zip(values, places, layer.projections, operands, (m_q, m_k, m_v)):
            if isinstance(value, Value):
                _, pullback = vjp(projection.sums, x.value)
                parts[place] = parts[place] + pullback(m_sums)[0]
        return parts


def _of_scores(call: DifferenceRecord, scores: Scores, q: Variation, k: Variation, m: Tensor) -> list[Tensor]:
    """Multipliers of the heads of queries and keys."""
    if not isinstance(scores, TanhScores):
        return halves(scores, [q, k], m)
    pairs, pullback = vjp(scores.pairs, q.value, k.value)
    # each tanh is a neuron of two inputs
    z = Variation(pairs, scores.pairs(q.baseline, k.baseline), lambda: scores.pairs(q.q, k.q))
    g = mean_slope(call.op, scores.tanh, moments_of(z, None))
    g, h = coefficients(g, z, scores.tanh(z.value) - scores.tanh(z.baseline))
    m = m[..., None] * scores.weight
    return [u + part.difference * square for part, u, square in zip((q, k), pullback(m * g), pullback(m * h))]


def _as_variation(operand: Variation | Tensor, dtype: str) -> Variation:
    """An operand of attention, which may be a constant."""
    if isinstance(operand, Variation):
        return operand
    constant = ops.cast(operand, dtype)
    return Variation(constant, constant)
