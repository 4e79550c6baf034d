"""Rules for attention, and for the softmaxes and products of tensors in it, after AttnLRP (Achtibat et al., 2024)."""

import functools
import math
from collections.abc import Mapping
from typing import Any, ClassVar

from keras import layers, ops

from keras_shapley.layers.linear_maps import linear_map
from keras_shapley.lrp.rules.base import CallRecord, Rule, in_proportion
from keras_shapley.lrp.rules.linear import Shapley
from keras_shapley.models.graph import Value
from keras_shapley.models.layer_types import ATTENTION, BILINEAR, SOFTMAX
from keras_shapley.utils.typing import Operation, Structure, Tensor

__all__ = ["Attention", "Bilinear", "SoftmaxTaylor"]


class Bilinear:
    """Products of `n` tensors, such as matrix products: `1/n` of the relevance each, in proportion to the addends.

    For `O = A V` it is `r_ji = sum_p A_ji V_ip / (2 O_jp) r_jp`, Achtibat et al. (2024), proposition 3.3. A constant
    receives nothing: the other factor receives all relevance. A call raises a `ValueError` for a Dot with
    `normalize=True`.

    Args:
        epsilon: stabiliser of the denominators.

    Example:
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

    def __call__(self, call: CallRecord, inputs: list[Tensor], relevance: Tensor) -> list[Tensor]:
        if getattr(call.op, "normalize", False):
            raise ValueError(f"Rule Bilinear is for products. Received: {call.description} with normalize=True.")
        shares = in_proportion(call.at_full_precision, inputs, relevance, self.epsilon)
        return [share / len(inputs) for share in shares]


class SoftmaxTaylor:
    """Softmax inside a network: `r_i = x_i (r_i - s_i sum_j r_j)`, Achtibat et al. (2024), proposition 3.1.

    The constant term of this Taylor expansion goes to no input and appears as a gap.

    Example:
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
    """MultiHeadAttention: `Bilinear` and `SoftmaxTaylor` between its four dense layers, Achtibat et al. (2024).

    A call raises a `ValueError` if the layer has a gate, the model uses the attention scores, or inputs are not of
    shape `(batch, length, features)`.

    Args:
        rule: rule of the dense layers for query, key, value and output; `Shapley()` by default.
        epsilon: stabiliser of the denominators of the two products.

    Example:
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

    def __call__(self, call: CallRecord, inputs: list[Tensor], relevance: Structure) -> list[Tensor]:
        layer = call.op
        if len(call.outputs) > 1 or layer.get_config()["use_gate"] or any(len(x.shape) != 3 for x in inputs[:2]):
            raise ValueError(
                "Rule Attention is for inputs of shape (batch, length, features), without a gate and without the "
                f"scores as an output. Received: {call.description} with {len(call.outputs)} outputs and inputs of "
                f"shape {[tuple(x.shape) for x in inputs]}."
            )
        # one tensor may be query, key and value, and each of them may be a constant
        tensors = call.named(inputs)
        values = call.named(call.inputs)
        places = call.named(range(len(inputs)))
        names = attention_operands(tensors)
        denses = [layer.query_dense, layer.key_dense, layer.value_dense]
        operands = [ops.cast(tensors[name], relevance.dtype) for name in names]
        q, k, v = (linear_map(dense).preactivation(x) for dense, x in zip(denses, operands))
        weights = attention_weights(call, inputs)

        scores = functools.partial(attention_scores, key_dim=layer.key_dim)
        (r_mixture,) = self.rule(_inner_call(call, layer.output_dense), [attention_mixture(weights, v)], relevance)
        r_weights, r_v = in_proportion(attention_mixture, [weights, v], r_mixture / 2, self.epsilon)
        r_scores = _softmax_relevance(scores(q, k), weights, r_weights, axis=-1)
        r_q, r_k = in_proportion(scores, [q, k], r_scores / 2, self.epsilon)

        shares = [ops.zeros_like(x) for x in inputs]
        for name, dense, x, r in zip(names, denses, operands, (r_q, r_k, r_v)):
            if isinstance(values[name], Value):
                (share,) = self.rule(_inner_call(call, dense), [x], r)
                shares[places[name]] = shares[places[name]] + share
        return shares


def _softmax_relevance(x: Tensor, s: Tensor, relevance: Tensor, axis: int) -> Tensor:
    """Relevance of the logits `x` of a softmax `s`, proposition 3.1."""
    return x * (relevance - s * ops.sum(relevance, axis=axis, keepdims=True))


def _inner_call(call: CallRecord, dense: Operation) -> CallRecord:
    """The call of a dense layer inside an attention layer."""
    return CallRecord(f"{call.name}/{dense.name}", dense, ((Value(),), {}))


def attention_operands(named: Mapping[str, Any]) -> list[str]:
    """The arguments that the three dense layers of an attention layer are given: the value may be the key, too."""
    return ["query", "value" if named.get("key") is None else "key", "value"]


def attention_scores(q: Tensor, k: Tensor, key_dim: int) -> Tensor:
    """Scores `(batch, heads, queries, keys)`, before masks and the softmax."""
    return ops.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(key_dim)


def attention_mixture(weights: Tensor, v: Tensor) -> Tensor:
    """What attention weights make of the values `(batch, keys, heads, features)`."""
    return ops.einsum("bhqk,bkhd->bqhd", weights, v)


def attention_weights(call: CallRecord, inputs: list[Tensor]) -> Tensor:
    """The attention weights, with all masks applied, shape `(batch, heads, queries, keys)`."""
    arguments = call.named(inputs)
    # the layer reads this mask from the query that Keras attached it to, and `inputs` are copies
    query_mask = arguments.pop("query_mask", None)
    if query_mask is not None:
        rows = ops.cast(query_mask, "bool")[:, :, None]
        mask = arguments.get("attention_mask")
        arguments["attention_mask"] = rows if mask is None else ops.logical_and(rows, ops.cast(mask, "bool"))
    _, weights = call.op.call(**{**arguments, "return_attention_scores": True, "training": False})
    return ops.cast(weights, inputs[0].dtype)
