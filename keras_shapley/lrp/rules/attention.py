"""Rules for attention, and for the softmaxes and products of tensors in it, after AttnLRP (Achtibat et al., 2024).

What a rule is, `keras_shapley.rules` says.
"""

import math

from keras import ops

from keras_shapley.layers.linear_maps import linear_map
from keras_shapley.lrp.rules.base import in_proportion
from keras_shapley.lrp.rules.linear import Shapley
from keras_shapley.models.graph import Call, Value


class Bilinear:
    """Products of `n` tensors, such as matrix products: `1/n` of the relevance each, dealt in proportion.

    `r_ji = sum_p A_ji V_ip / (2 O_jp) r_jp` for `O = A V`, Achtibat et al. (2024), proposition 3.3. A constant is no
    player: the other factor gets everything.

    Args:
        epsilon: stabiliser of the denominator, in units of the output.
    """

    def __init__(self, epsilon=1e-9):
        self.epsilon = epsilon

    def __call__(self, call, inputs, relevance):
        if getattr(call.op, "normalize", False):
            raise ValueError(f"Rule Bilinear is for products. Received: {call.description} with normalize=True.")
        return [part / len(inputs) for part in in_proportion(call.at_full_precision, inputs, relevance, self.epsilon)]


class SoftmaxTaylor:
    """Softmax inside a network: `r_i = x_i (r_i - s_i sum_j r_j)`, Achtibat et al. (2024), proposition 3.1.

    The constant term of that Taylor expansion is lost to the inputs and shows as a gap.
    """

    def __call__(self, call, inputs, relevance):
        (x,) = inputs
        # an Activation has no axis
        axis = getattr(call.op, "axis", -1)
        return [_through_softmax(x, call.at_full_precision(x), relevance, axis)]


class Attention:
    """MultiHeadAttention: `Bilinear` and `SoftmaxTaylor` between its four dense layers.

    Args:
        rule: of the dense layers, for query, key, value and output.
        epsilon: stabiliser of the denominators of the two products.

    Raises:
        ValueError: if the layer has a gate, the model uses the attention scores, or inputs are not of shape
            `(batch, length, features)`.
    """

    def __init__(self, rule=None, epsilon=1e-9):
        self.rule = Shapley() if rule is None else rule
        self.epsilon = epsilon

    def __call__(self, call, inputs, relevance):
        layer = call.op
        if len(call.outputs) > 1 or layer.get_config()["use_gate"] or any(len(x.shape) != 3 for x in inputs[:2]):
            raise ValueError(
                "Rule Attention is for inputs of shape (batch, length, features), without a gate and without the "
                f"scores as an output. Received: {call.description} with {len(call.outputs)} outputs and inputs of "
                f"shape {[tuple(x.shape) for x in inputs]}."
            )
        # who is what, and where among the inputs: one tensor may be query, key and value, a constant may be any
        named, places = call.named(inputs), call.named(range(len(inputs)))
        names = ["query", "value" if named.get("key") is None else "key", "value"]
        denses = [layer.query_dense, layer.key_dense, layer.value_dense]
        tensors = [ops.cast(named[name], relevance.dtype) for name in names]
        q, k, v = (linear_map(dense).preactivation(x) for dense, x in zip(denses, tensors))
        weights = _weights(call, inputs)

        def scores(q, k):
            return ops.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(layer.key_dim)

        def mixed(weights, v):
            return ops.einsum("bhqk,bkhd->bqhd", weights, v)

        (r_mixed,) = self.rule(_use(call, layer.output_dense), [mixed(weights, v)], relevance)
        r_weights, r_v = in_proportion(mixed, [weights, v], r_mixed / 2, self.epsilon)
        r_scores = _through_softmax(scores(q, k), weights, r_weights, axis=-1)
        r_q, r_k = in_proportion(scores, [q, k], r_scores / 2, self.epsilon)

        parts = [ops.zeros_like(x) for x in inputs]
        for name, dense, x, r in zip(names, denses, tensors, (r_q, r_k, r_v)):
            if isinstance(call.named(call.inputs)[name], Value):
                parts[places[name]] = parts[places[name]] + self.rule(_use(call, dense), [x], r)[0]
        return parts


def _through_softmax(x, s, relevance, axis):
    return x * (relevance - s * ops.sum(relevance, axis=axis, keepdims=True))


def _use(call, dense):
    """The call of a dense layer inside an attention layer."""
    return Call(f"{call.name}/{dense.name}", dense, ((Value(),), {}))


def _weights(call, inputs):
    """The attention weights, masks and all, shape `(batch, heads, queries, keys)`."""
    named = call.named(inputs)
    # the layer itself reads this one from its tensors, which are copies here
    query_mask = named.pop("query_mask", None)
    if query_mask is not None:
        rows = ops.cast(query_mask, "bool")[:, :, None]
        given = named.get("attention_mask")
        named["attention_mask"] = rows if given is None else ops.logical_and(rows, ops.cast(given, "bool"))
    _, weights = call.op.call(**{**named, "return_attention_scores": True, "training": False})
    return ops.cast(weights, inputs[0].dtype)
