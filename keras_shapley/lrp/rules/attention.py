"""Rules for attention, and for the softmaxes and products of tensors in it, after AttnLRP (Achtibat et al., 2024)."""

from typing import ClassVar

import keras
from keras import layers, ops

from keras_shapley.backend import vjp
from keras_shapley.layers.linear_maps import linear_map
from keras_shapley.lrp.rules.base import CallRecord, Rule, in_proportion
from keras_shapley.lrp.rules.linear import Shapley
from keras_shapley.models.attention import (
    Projection,
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
from keras_shapley.models.keras_internals import CONVOLUTION_OPERATIONS
from keras_shapley.models.layer_types import ATTENTION, BILINEAR, SOFTMAX
from keras_shapley.utils.typing import Operation, Tensor, TensorFunction

__all__ = ["Attention", "WithSoftmax", "Bilinear", "SoftmaxTaylor"]


class Bilinear:
    """Products of `n` tensors, such as matrix products: `1/n` of the relevance each, in proportion to the addends.

    For `O = A V` it is `r_ji = sum_p A_ji V_ip / (2 O_jp) r_jp`, Achtibat et al. (2024), proposition 3.3. A constant
    receives nothing: the other factor receives all relevance. The lengths by which `Dot(normalize=True)` divides are
    held constant, as the standard deviation is in `CentredScale`.

    Args:
        epsilon: stabiliser of the denominators.

    Examples:
        >>> a, b = keras.Input((2,)), keras.Input((2,))
        >>> model = keras.Model([a, b], keras.layers.Dot(axes=1)([a, b]))
        >>> explainer = ks.LRP(model, rules=[(keras.layers.Dot, ks.rules.Bilinear())])
        >>> r_a, r_b = explainer.explain([np.array([[1.0, 2.0]]), np.array([[4.0, 3.0]])]).input
        >>> print(r_a.round(2), r_b.round(2))
        [[2. 3.]] [[2. 3.]]
    """

    fits: ClassVar[tuple[type, ...]] = BILINEAR

    def __init__(self, epsilon: float = 1e-9) -> None:
        self.epsilon = epsilon

    def check(self, call: Call) -> None:
        """Raises a `ValueError` for a call that this rule is not for."""
        check_product(call)

    def __call__(self, call: CallRecord, inputs: list[Tensor], relevance: Tensor) -> list[Tensor]:
        function = call.at_full_precision
        if getattr(call.op, "normalize", False):
            function, axes = unnormalized(call.op, [len(x.shape) for x in inputs])
            inputs = [keras.utils.normalize(x, axis) for x, axis in zip(inputs, axes)]
        shares = in_proportion(function, inputs, relevance, self.epsilon)
        return [share / len(inputs) for share in shares]


class SoftmaxTaylor:
    """Softmax inside a network: `r_i = x_i (r_i - s_i sum_j r_j)`, Achtibat et al. (2024), proposition 3.1.

    The constant term of this Taylor expansion goes to no input and appears as a gap.

    Examples:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Softmax(name="inner"), keras.layers.Dense(2)])
        >>> explanation = ks.LRP(model, rules=[(keras.layers.Softmax, ks.rules.SoftmaxTaylor())]).explain(np.eye(3))
        >>> explanation.input.shape, explanation.conservation_gap.signed["inner"].shape
        ((3, 3), (3,))
    """

    fits: ClassVar[tuple[type, ...]] = (*SOFTMAX, layers.Activation)

    def __call__(self, call: CallRecord, inputs: list[Tensor], relevance: Tensor) -> list[Tensor]:
        (x,) = inputs
        # an Activation has no axis
        axis = getattr(call.op, "axis", -1)
        return [_softmax_relevance(x, call.at_full_precision(x), relevance, axis)]


class Attention:
    """Attention layers: `Bilinear` and `SoftmaxTaylor` between their dense layers, Achtibat et al. (2024).

    Attention and AdditiveAttention have no dense layers. The scores `sum_d w_d tanh(q_d + k_d)` of the latter pass
    relevance on in proportion to their addends, and each addend in proportion to `q_d` and `k_d`.

    `LRP` raises a `ValueError` if the layer has a gate, if it returns its scores, or if inputs are not of shape
    `(batch, length, features)`.

    Args:
        rule: rule of the dense layers for query, key, value and output; `Shapley()` by default.
        epsilon: stabiliser of the denominators of the two products.

    Examples:
        >>> x = keras.Input((4, 6))
        >>> y = keras.layers.MultiHeadAttention(num_heads=2, key_dim=3)(x, x)
        >>> model = keras.Model(x, keras.layers.Dense(2)(keras.layers.Flatten()(y)))
        >>> rule = ks.rules.Attention(ks.rules.Epsilon())
        >>> explainer = ks.LRP(model, rules=[(keras.layers.MultiHeadAttention, rule)])
        >>> explainer.explain(np.ones((1, 4, 6))).input.shape
        (1, 4, 6)
    """

    fits: ClassVar[tuple[type, ...]] = ATTENTION

    def __init__(self, rule: Rule | None = None, epsilon: float = 1e-9) -> None:
        self.rule = Shapley() if rule is None else rule
        self.epsilon = epsilon

    def check(self, call: Call) -> None:
        """Raises a `ValueError` for a call that this rule is not for."""
        check_attention(call)

    def __call__(self, call: CallRecord, inputs: list[Tensor], relevance: Tensor) -> list[Tensor]:
        relevance = open_queries(call, relevance)
        parts = attention_parts(call.op, relevance.dtype)
        # one tensor may be query, key and value, and each of them may be a constant
        values = attention_operands(call.named(call.inputs))
        places = attention_operands(call.named(range(len(inputs))))
        operands = [ops.cast(x, relevance.dtype) for x in attention_operands(call.named(inputs))]
        q, k, v = (projection(x) for projection, x in zip(parts.projections, operands))
        weights = attention_weights(call, inputs)

        if parts.output is None:
            r_mixture = relevance[:, :, None]
        else:
            (r_mixture,) = self.rule(_inner_call(call, parts.output), [attention_mixture(weights, v)], relevance)
        r_weights, r_v = in_proportion(attention_mixture, [weights, v], r_mixture / 2, self.epsilon)
        r_scores = _softmax_relevance(parts.scores(q, k), weights, r_weights, axis=-1)
        r_q, r_k = self._of_scores(parts.scores, q, k, r_scores)

        shares = [ops.zeros_like(x) for x in inputs]
        for value, place, projection, x, r in zip(values, places, parts.projections, operands, (r_q, r_k, r_v)):
            if isinstance(value, Value):
                shares[place] = shares[place] + self._of_operand(call, projection, x, r)
        return shares

    def _of_scores(self, scores: Scores, q: Tensor, k: Tensor, relevance: Tensor) -> list[Tensor]:
        """Relevance of the heads of queries and keys."""
        if not isinstance(scores, TanhScores):
            return in_proportion(scores, [q, k], relevance / 2, self.epsilon)
        addends = scores.weight * scores.tanh(scores.pairs(q, k))
        # the relevance passes tanh unchanged
        (relevance,) = in_proportion(scores.total, [addends], relevance, self.epsilon)
        return in_proportion(scores.pairs, [q, k], relevance, self.epsilon)

    def _of_operand(self, call: CallRecord, projection: Projection, x: Tensor, relevance: Tensor) -> Tensor:
        """Relevance of an operand from that of its heads."""
        if projection.dense is None:
            return relevance[:, :, 0]
        dense = _inner_call(call, projection.dense)
        _, pullback = vjp(projection.copied, linear_map(projection.dense).sums(x))
        return self.rule(dense, [x], pullback(relevance)[0])[0]


def _softmax_relevance(x: Tensor, s: Tensor, relevance: Tensor, axis: int) -> Tensor:
    """Relevance of the logits `x` of a softmax `s`, proposition 3.1."""
    return x * (relevance - s * ops.sum(relevance, axis=axis, keepdims=True))


def _inner_call(call: CallRecord, dense: Operation) -> CallRecord:
    """The call of a dense layer inside an attention layer."""
    return CallRecord(f"{call.name}/{dense.name}", dense, ((Value(),), {}))


class WithSoftmax:
    """A linear layer with a softmax as its activation: `SoftmaxTaylor`, then the rule of the layer.

    `LRP` makes it from that rule.

    Args:
        rule: of the linear layer.

    Examples:
        >>> dense = keras.layers.Dense
        >>> model = keras.Sequential([keras.Input((3,)), dense(4, "softmax", name="weights"), dense(2)])
        >>> layer, rule = ks.LRP(model, rules="epsilon").rules["weights"]
        >>> type(rule).__name__, type(rule.rule).__name__
        ('WithSoftmax', 'Epsilon')
    """

    def __init__(self, rule: Rule) -> None:
        self.rule = rule

    def __call__(self, call: CallRecord, inputs: list[Tensor], relevance: Tensor) -> list[Tensor]:
        assert call.linear_map is not None, "the rule table makes this rule for layers with a linear map"
        z = call.linear_map.preactivation(*inputs)
        return list(self.rule(call, inputs, _softmax_relevance(z, ops.softmax(z), relevance, axis=-1)))


def check_product(call: Call) -> None:
    """Raises a `ValueError` for a kernel made of data, which all samples share, and for a cosine with a constant."""
    if isinstance(call.op, CONVOLUTION_OPERATIONS) and call.data_inputs != call.inputs[:1]:
        raise ValueError(
            "Relevance passes convolutions with a constant kernel. Received: "
            f"{call.description}, whose kernel depends on the model's input. Use ks.shapley_values(model, x), which "
            "takes any model."
        )
    if getattr(call.op, "normalize", False) and len(call.data_inputs) != 2:
        raise ValueError(
            f"Relevance passes Dot(normalize=True) of two tensors. Received: {call.description} of "
            f"{len(call.data_inputs)} tensor. Use UnitNormalization and a Dense layer without a bias."
        )


def unnormalized(layer: layers.Dot, ranks: list[int]) -> tuple[TensorFunction, list[int]]:
    """A `Dot(normalize=True)` without the division by lengths, and the axis of each operand along which they are."""
    axes = [layer.axes] * 2 if isinstance(layer.axes, int) else layer.axes
    product = layers.Dot(layer.axes)
    return lambda a, b: product.call([a, b]), [axis % rank for axis, rank in zip(axes, ranks)]
