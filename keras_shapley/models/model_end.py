"""How a model ends: its logits, and the softmax, sigmoid or ReLU behind them."""

import numbers
from typing import NamedTuple

import keras
from keras import layers

from keras_shapley.layers.linear_maps import LINEAR_TYPES
from keras_shapley.layers.sa import ShapleyActivation
from keras_shapley.layers.shaplu import ShapleyLinearUnit
from keras_shapley.models.graph import Call, Value
from keras_shapley.models.keras_internals import (
    ADD_OPERATION,
    CAST_OPERATION,
    DIVISION_OPERATIONS,
    MEAN_OPERATIONS,
    RELU_OPERATIONS,
    RESHAPING_OPERATIONS,
    SIGMOID_OPERATION,
    STACK_OPERATION,
)
from keras_shapley.models.layer_types import ORDER_KEEPING, PRODUCT, SOFTMAX, activation_name, activation_of
from keras_shapley.utils.typing import Operation

# calls that end a model with a function of its logits
_LINK_TYPES = (layers.Activation, layers.ReLU, *SOFTMAX, SIGMOID_OPERATION, *RELU_OPERATIONS)
# is no function of the logits alone, and counts as a part of the network
MASKED_SOFTMAX = "masked softmax"
_LINKS = {
    keras.activations.softmax: "softmax",
    keras.activations.sigmoid: "sigmoid",
    keras.activations.relu: "relu",
    keras.activations.linear: "linear",
}


class ModelEnd(NamedTuple):
    """How a model ends.

    Attributes:
        logits: the place of the logits: what comes before the link.
        link: name of the last function, `"softmax"`, `"sigmoid"`, `"relu"`, or `"linear"` where there is none;
            `MASKED_SOFTMAX` where the logits are the output of such a softmax.
        axis: axis of the link's output over which a softmax is taken; -1 for other links.
        link_call: the call with that function, possibly the linear layer itself; None if there is none.
        linear_call: the call of the linear layer that computes the logits, if the link alone stands between.
        share: what the end contributes to an average; 1 where it is the output.
    """

    logits: Value
    link: str = "linear"
    axis: int = -1
    link_call: Call | None = None
    linear_call: Call | None = None
    share: float = 1.0

    @property
    def is_probability(self) -> bool:
        return self.link in ("softmax", "sigmoid")


def model_ends(output: Value) -> list[ModelEnd]:
    """How a model with this output ends: one end, or those of the softmaxes or sigmoids of which it is the average."""
    shares = _addends(output)
    if len(shares) > 1 and abs(sum(share for share, _ in shares) - 1) < 1e-6:
        ends = [_model_end(value)._replace(share=share) for share, value in shares]
        if ends[0].is_probability and {(end.link, end.axis) for end in ends} == {(ends[0].link, ends[0].axis)}:
            return ends
    return [_model_end(output)]


def _model_end(output: Value) -> ModelEnd:
    """How a model with this output ends. An output of another kind is its own logits."""
    without_link = ModelEnd(output)
    last = before_reshapes(output)
    call = last.producer
    if call is None:
        return without_link
    if call.is_a(_LINK_TYPES):
        if len(call.operands) > 1:
            return without_link._replace(link=MASKED_SOFTMAX) if call.is_a(SOFTMAX) else without_link
        logits = before_reshapes(call.inputs[0])
        link, link_call = _link(call.op), call
    elif call.is_a(LINEAR_TYPES):
        logits = last
        link = _link(call.op)
        link_call = None if link == "linear" else call
    else:
        return without_link
    linear_call = _linear_call(logits, link_call)
    if link == "other" or (link == "relu" and linear_call is None):
        return without_link
    axis = getattr(call.op, "axis", -1) if link == "softmax" and call.is_a(SOFTMAX) else -1
    return ModelEnd(logits, link, axis, link_call, linear_call)


def _addends(value: Value, share: float = 1.0) -> list[tuple[float, Value]]:
    """The values of which a value is a weighted sum, each with its positive weight; itself if it is no such sum."""
    itself = [(share, value)]
    call = value.producer
    if call is None:
        return itself
    factor = 1.0
    terms = call.operands
    if call.is_a((layers.Average,)):
        factor = 1 / len(terms)
    elif call.is_a(MEAN_OPERATIONS):
        stack = call.inputs[0].producer
        if stack is None or not stack.is_a((STACK_OPERATION,)) or call.op.axis not in (stack.op.axis, [stack.op.axis]):
            return itself
        terms = stack.operands
        factor = 1 / len(terms)
    elif call.is_a((*PRODUCT, *DIVISION_OPERATIONS)):
        factor, terms = _constant_factor(call), call.inputs
        if factor is None:
            return itself
    elif not call.is_a((layers.Add, ADD_OPERATION)):
        return itself
    if not all(isinstance(term, Value) and not term.constant for term in terms):
        return itself
    return [addend for term in terms for addend in _addends(term, share * factor)]


def _constant_factor(call: Call) -> float | None:
    """The positive number by which a call multiplies its one tensor; None if there is none."""
    constants = [leaf for leaf in call.arguments[0] if isinstance(leaf, numbers.Real) and float(leaf) > 0]
    if len(call.inputs) != 1 or len(constants) != 1:
        return None
    constant = float(constants[0])
    if call.is_a(PRODUCT):
        return constant
    return 1 / constant if call.arguments[0][0] is call.inputs[0] else None


def before_reshapes(value: Value) -> Value:
    """The value before all layers that keep its numbers and their order."""
    while value.producer is not None and _keeps_order(value.producer):
        value = value.producer.inputs[0]
    return value


def _keeps_order(call: Call) -> bool:
    # a linear Activation may cast
    is_linear_activation = call.is_a((layers.Activation,)) and activation_of(call.op) is keras.activations.linear
    return is_linear_activation or call.is_a((*ORDER_KEEPING, *RESHAPING_OPERATIONS, CAST_OPERATION))


def _linear_call(logits: Value, link_call: Call | None) -> Call | None:
    """The call of the linear layer that computes the logits, if no activation but the link is between."""
    call = logits.producer
    if call is None or not call.is_a(LINEAR_TYPES):
        return None
    return call if call is link_call or _link(call.op) == "linear" else None


def _link(op: Operation) -> str:
    """Name of the function with which a call ends: softmax, sigmoid, relu, linear or other."""
    if isinstance(op, ShapleyLinearUnit):
        return "relu"
    if isinstance(op, ShapleyActivation):
        return "other"
    if isinstance(op, SOFTMAX):
        return "softmax" if isinstance(op.axis, int) else "other"
    if isinstance(op, SIGMOID_OPERATION):
        return "sigmoid"
    if isinstance(op, (layers.ReLU, *RELU_OPERATIONS)):
        return "relu" if activation_name(op) == "relu" else "other"
    return _LINKS.get(activation_of(op), "other")
