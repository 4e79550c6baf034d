"""Rules for operations that move, copy or look up elements."""

from typing import ClassVar

from keras import ops

from keras_shapley.backend import maximum
from keras_shapley.lrp.rules.base import CallRecord, Rule, transposed
from keras_shapley.lrp.rules.sums import Proportional
from keras_shapley.models.graph import Call, Value
from keras_shapley.models.layer_types import EMBEDDING, ENCODING, EXTREME, LOOKUP, MAX_POOLING, MOVING, RESIZING
from keras_shapley.utils.typing import Operation, Structure, Tensor

__all__ = ["EachStep", "Encoding", "Gather", "Lookup", "Move", "Resize"]


class Move:
    """Operations that move elements to other places, such as Reshape and Concatenate: relevance moves back with them.

    Relevance on places that no input element fills, such as the margin of ZeroPadding, is lost and appears as a gap.

    Examples:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Reshape((3, 1)), keras.layers.Cropping1D((1, 0))])
        >>> model.add(keras.layers.GlobalAveragePooling1D())
        >>> explainer = ks.LRP(model, rules=[(keras.layers.Cropping1D, ks.rules.Move())])
        >>> print(explainer.explain(np.array([[1.0, 2.0, 4.0]])).input.round(2))
        [[0. 1. 2.]]
    """

    fits: ClassVar[tuple[type, ...]] = (*MOVING, *MAX_POOLING, *EXTREME, *RESIZING)

    def __call__(self, call: CallRecord, inputs: list[Tensor], relevance: Structure) -> list[Tensor]:
        return transposed(call, inputs, relevance)


class Resize(Proportional):
    """UpSampling and Resizing: an element receives the relevance of its copies.

    An interpolated element is a sum of several, which receive its relevance in proportion to their addends, eq. (2).

    Args:
        epsilon: stabiliser of the denominators.

    Examples:
        >>> model = keras.Sequential([keras.Input((2, 1)), keras.layers.UpSampling1D(3), keras.layers.Flatten()])
        >>> model.add(keras.layers.Dense(1, kernel_initializer="ones"))
        >>> explainer = ks.LRP(model, rules=[(keras.layers.UpSampling1D, ks.rules.Resize())])
        >>> print(explainer.explain(np.array([[[1.0], [2.0]]])).input[0, :, 0].round(2))
        [3. 6.]
    """

    fits = RESIZING

    def __call__(self, call: CallRecord, inputs: list[Tensor], relevance: Tensor) -> list[Tensor]:
        if getattr(call.op, "interpolation", "nearest") == "nearest":
            return Move()(call, inputs, relevance)
        return super().__call__(call, inputs, relevance)


class Lookup:
    """Embedding: a token receives the relevance of its vector, and the walk ends there.

    Examples:
        >>> model = keras.Sequential([keras.Input((3,), dtype="int32"), keras.layers.Embedding(9, 4)])
        >>> model.add(keras.layers.GlobalAveragePooling1D())
        >>> explainer = ks.LRP(model, rules=[(keras.layers.Embedding, ks.rules.Lookup())])
        >>> explainer.explain(np.array([[1, 5, 7]])).input.shape
        (1, 3)
    """

    fits: ClassVar[tuple[type, ...]] = EMBEDDING

    def __call__(self, call: CallRecord, inputs: list[Tensor], relevance: Tensor) -> list[Tensor]:
        return [ops.sum(relevance, axis=-1)]


class Encoding:
    """CategoryEncoding and `keras.ops.one_hot`: a token receives the relevance of its column, and the walk ends there.

    Tokens of the same column share its relevance equally. In one-hot vectors, which each belong to one token, a token
    receives that of all columns, as in `Lookup`. `LRP` raises a `ValueError` for sparse or weighted ones.

    Examples:
        >>> model = keras.Sequential([keras.Input((3,), dtype="int32"), keras.layers.CategoryEncoding(6)])
        >>> model.add(keras.layers.Dense(1, kernel_initializer="ones"))
        >>> print(ks.LRP(model, rules="paper").explain(np.array([[1, 5, 5]])).input.round(2))
        [[1.  0.5 0.5]]
    """

    fits: ClassVar[tuple[type, ...]] = ENCODING

    def check(self, call: Call) -> None:
        """Raises a `ValueError` for a call that this rule is not for."""
        check_encoding(call)

    def __call__(self, call: CallRecord, inputs: list[Tensor], relevance: Tensor) -> list[Tensor]:
        (tokens,) = inputs
        if is_one_hot(call.op):
            return [ops.reshape(ops.sum(relevance, axis=class_axis(call.op)), tokens.shape)]
        columns = columns_of(call.op, tokens)
        shares = columns / maximum(ops.sum(columns, axis=-2, keepdims=True), 1)
        return [ops.sum(shares * relevance[..., None, :], axis=-1)]


def check_encoding(call: Call) -> None:
    """Raises a `ValueError` for a sparse encoding, or one with weights."""
    if call.op.sparse or len(call.inputs) > 1:
        raise ValueError(
            "Relevance passes encodings of tokens that are dense and not weighted. Received: "
            f"{call.description} with {'sparse=True' if call.op.sparse else 'count_weights'}. Use sparse=False, or "
            "multiply the counts by weights in a layer of its own."
        )


def is_one_hot(op: Operation) -> bool:
    """Whether each token has a vector of its own."""
    return getattr(op, "output_mode", "one_hot") == "one_hot"


def class_axis(op: Operation) -> int:
    """The axis of an encoding's columns."""
    return getattr(op, "axis", -1)


def columns_of(op: Operation, tokens: Tensor) -> Tensor:
    """1 in the column of each token of a CategoryEncoding, shape `(..., tokens, columns)`."""
    return ops.one_hot(ops.cast(tokens, "int32"), op.num_tokens, dtype=tokens.dtype)


class Gather(Move):
    """`keras.ops.take`: relevance moves back to the elements that were taken.

    Where rows of a constant table are taken, an index receives the relevance of its row, as in `Lookup`. A call raises
    a `ValueError` if the table is constant and the axis is not its first.

    Examples:
        >>> x = keras.Input((3,))
        >>> model = keras.Model(x, keras.ops.take(x, [2], axis=1))
        >>> print(ks.LRP(model, rules="paper").explain(np.array([[1.0, 2.0, 4.0]])).input)
        [[0. 0. 4.]]
    """

    fits = (*LOOKUP, *MOVING)

    def check(self, call: Call) -> None:
        """Raises a `ValueError` for a call that this rule is not for."""
        if not is_from_data(call):
            check_rows(call)

    def __call__(self, call: CallRecord, inputs: list[Tensor], relevance: Tensor) -> list[Tensor]:
        if is_from_data(call):
            return super().__call__(call, inputs, relevance)
        rank = len(inputs[0].shape)
        return [ops.sum(relevance, axis=tuple(range(rank, len(relevance.shape))))]


def is_from_data(call: Call) -> bool:
    """Whether `take` takes from a tensor of the model, and not from a constant table."""
    table = call.named(call.inputs)["x"]
    return isinstance(table, Value) and not table.constant


def check_rows(call: Call) -> None:
    """Raises a `ValueError` if what is taken from a constant table are not its rows."""
    if call.op.axis not in (0, None):
        raise ValueError(
            f"Relevance passes rows that are taken from a constant table. Received: {call.description} with "
            f"axis={call.op.axis}. Transpose the table, and take with axis=0."
        )


class EachStep:
    """TimeDistributed: the rule of the wrapped layer, on every step by itself. `LRP` makes it from that rule.

    Args:
        call: the call of the wrapped layer.
        rule: its rule.

    Examples:
        >>> model = keras.Sequential([keras.Input((3, 2))])
        >>> model.add(keras.layers.TimeDistributed(keras.layers.Dense(4), name="steps"))
        >>> model.add(keras.layers.GlobalAveragePooling1D())
        >>> layer, rule = ks.LRP(model, rules="epsilon").rules["steps"]
        >>> type(rule).__name__, type(rule.rule).__name__
        ('EachStep', 'Epsilon')
    """

    def __init__(self, call: Call, rule: Rule) -> None:
        self.call = call
        self.rule = rule

    def __call__(self, call: CallRecord, inputs: list[Tensor], relevance: Tensor) -> list[Tensor]:
        (x,) = inputs
        # a step's input is nobody's output: what pads the sequence does not pad the step
        step = CallRecord(self.call.name, self.call.op, ((Value(),), {}))
        (step_relevance,) = self.rule(step, [as_steps(x)], as_steps(relevance))
        return [ops.reshape(step_relevance, x.shape)]


def as_steps(x: Tensor) -> Tensor:
    """A batch of sequences as one batch of steps."""
    return ops.reshape(x, (x.shape[0] * x.shape[1], *x.shape[2:]))
