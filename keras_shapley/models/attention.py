"""The steps of attention layers that relevance passes: heads, scores, weights, and a mixture of values."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from keras import layers, ops

from keras_shapley.layers.linear_maps import linear_map
from keras_shapley.models.graph import Call
from keras_shapley.models.keras_internals import attention_denses, first_input_shape
from keras_shapley.utils.typing import Operation, Tensor

_MULTI_HEAD = (layers.MultiHeadAttention, layers.GroupQueryAttention)


class Projection(NamedTuple):
    """What makes heads of a query, key or value.

    Attributes:
        dense: a dense layer; None if the operand is its own single head.
        copies: how many heads share one of the dense layer.
    """

    dense: Operation | None = None
    copies: int = 1

    def __call__(self, x: Tensor) -> Tensor:
        """The heads `(batch, length, heads, features)` of `x`, shape `(batch, length, inputs)`."""
        return x[:, :, None] if self.dense is None else self.copied(linear_map(self.dense).preactivation(x))

    def sums(self, x: Tensor) -> Tensor:
        """The heads without the bias, which are linear in `x`."""
        return x[:, :, None] if self.dense is None else self.copied(linear_map(self.dense).sums(x))

    def copied(self, heads: Tensor) -> Tensor:
        """The heads of the dense layer, each as often as it is used."""
        return ops.repeat(heads, self.copies, axis=2) if self.copies > 1 else heads


class Scores:
    """The scores of queries and keys by their products.

    Args:
        scale: factor of the products.
    """

    def __init__(self, scale: Tensor | float) -> None:
        self.scale = scale

    def __call__(self, q: Tensor, k: Tensor) -> Tensor:
        """Scores `(batch, heads, queries, keys)` of heads, before masks and the softmax."""
        return ops.einsum("bqhd,bkhd->bhqk", q, k) * self.scale


class TanhScores(Scores):
    """The scores of Bahdanau et al. (2015), `sum_d weight_d tanh(scale (q_d + k_d))`.

    Args:
        weight: of each feature, or a number.
        scale: of the sums.
    """

    def __init__(self, weight: Tensor | float, scale: Tensor | float) -> None:
        super().__init__(scale)
        self.weight = weight

    def __call__(self, q: Tensor, k: Tensor) -> Tensor:
        return self.total(self.weight * self.tanh(self.pairs(q, k)))

    def tanh(self, pairs: Tensor) -> Tensor:
        return ops.tanh(self.scale * pairs)

    @staticmethod
    def pairs(q: Tensor, k: Tensor) -> Tensor:
        """The sum of each query and each key, shape `(batch, heads, queries, keys, features)`."""
        q, k = (ops.swapaxes(part, 1, 2) for part in (q, k))
        return q[:, :, :, None] + k[:, :, None]

    @staticmethod
    def total(addends: Tensor) -> Tensor:
        return ops.sum(addends, axis=-1)


class AttentionParts(NamedTuple):
    """The steps of an attention layer.

    Attributes:
        projections: of query, key and value.
        scores: of queries and keys.
        output: the dense layer behind the mixture of values; None if there is none.
    """

    projections: tuple[Projection, Projection, Projection]
    scores: Scores
    output: Operation | None


def attention_parts(layer: Operation, dtype: str) -> AttentionParts:
    """The steps of an attention layer, with its numbers in a dtype."""
    if isinstance(layer, _MULTI_HEAD):
        query, key, value, output = attention_denses(layer)
        is_grouped = isinstance(layer, layers.GroupQueryAttention)
        copies = layer.num_repeats if is_grouped else 1
        scale = 1 / math.sqrt(layer.head_dim if is_grouped else layer.key_dim)
        return AttentionParts(
            (Projection(query), Projection(key, copies), Projection(value, copies)), Scores(scale), output
        )
    scale = 1.0 if layer.scale is None else ops.cast(layer.scale, dtype)
    if isinstance(layer, layers.AdditiveAttention):
        scores: Scores = TanhScores(scale, 1.0)
    elif layer.score_mode == "concat":
        scores = TanhScores(ops.cast(layer.concat_score_weight, dtype), scale)
    else:
        scores = Scores(scale)
    return AttentionParts((Projection(), Projection(), Projection()), scores, None)


def check_attention(call: Call) -> None:
    """Raises a `ValueError` for a call of an attention layer that has other steps than `AttentionParts`."""
    shape = first_input_shape(call.op)
    gate = call.op.get_config().get("use_gate", False)
    if len(call.outputs) > 1 or gate or (shape is not None and len(shape) != 3):
        raise ValueError(
            "Relevance passes attention layers on inputs of shape (batch, length, features), without a gate and "
            f"without the scores as an output. Received: {call.description} with {len(call.outputs)} outputs"
            f"{', with a gate' if gate else ''}, on inputs of shape {shape}. Give it a rule of your own, or use "
            "shapley_values(model, x), which takes any model."
        )


def attention_operands(named: Mapping[str, Any]) -> list[Any]:
    """Query, key and value among the arguments of an attention layer. The value may be the key, too."""
    if "inputs" in named:
        query, value, *key = named["inputs"]
        return [query, key[0] if key else value, value]
    return [named["query"], named["value"] if named.get("key") is None else named["key"], named["value"]]


def attention_mixture(weights: Tensor, v: Tensor) -> Tensor:
    """What attention weights make of the values `(batch, keys, heads, features)`."""
    return ops.einsum("bhqk,bkhd->bqhd", weights, v)


def attention_weights(call: Call, inputs: list[Tensor]) -> Tensor:
    """The attention weights, with all masks applied, shape `(batch, heads, queries, keys)`."""
    arguments = call.named(inputs)
    # the layer reads this mask from the query that Keras attached it to, and `inputs` are copies
    query_mask = arguments.pop("query_mask", None)
    if query_mask is not None:
        rows = ops.cast(query_mask, "bool")[:, :, None]
        mask = arguments.get("attention_mask")
        arguments["attention_mask"] = rows if mask is None else ops.logical_and(rows, ops.cast(mask, "bool"))
    _, weights = call.op.call(**{**arguments, "return_attention_scores": True, "training": False})
    weights = ops.cast(weights, inputs[0].dtype)
    dropout = getattr(call.op, "_dropout", getattr(call.op, "dropout", None))
    if isinstance(call.op, _MULTI_HEAD) and not dropout:
        # unless it returns the weights, the layer gives the mean of all values where a mask closes all keys of a query
        is_closed = ops.sum(weights, axis=-1, keepdims=True) < 0.5
        weights = ops.where(is_closed, ops.softmax(ops.zeros_like(weights)), weights)
    return weights[:, None] if len(weights.shape) == 3 else weights


def open_queries(call: Call, relevance: Tensor) -> Tensor:
    """What arrives at an attention layer, without the queries that a mask of its own sets to zero."""
    mask = call.named(call.inputs).get("mask")
    query_mask = None if mask is None else mask[0]
    return relevance if query_mask is None else relevance * ops.cast(query_mask, relevance.dtype)[:, :, None]
