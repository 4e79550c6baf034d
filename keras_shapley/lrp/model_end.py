"""How a model ends: its logits, and the softmax, sigmoid or ReLU behind them."""

from typing import NamedTuple

import keras
from keras import layers

from keras_shapley.layers.linear_maps import LINEAR_TYPES
from keras_shapley.layers.sa import ShapleyActivation
from keras_shapley.layers.shaplu import ShapleyLinearUnit
from keras_shapley.models.graph import Call, Value
from keras_shapley.models.layer_types import ORDER_KEEPING, activation_name, activation_of
from keras_shapley.utils.typing import Operation

# layers that end a model with an activation of their own
_ACTIVATION_LAYERS = (layers.Activation, layers.Softmax, layers.ReLU)
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
        link: name of the last function, `"softmax"`, `"sigmoid"`, `"relu"`, or `"linear"` where there is none.
        link_call: the call with that function, possibly the linear layer itself; None if there is none.
        linear_call: the call of the linear layer that computes the logits, if the link alone stands between.
    """

    logits: Value
    link: str
    link_call: Call | None
    linear_call: Call | None


def model_end(output: Value) -> ModelEnd:
    """How a model with this output ends. An output of another kind is its own logits."""
    without_link = ModelEnd(output, "linear", None, None)
    last = _before_reshapes(output)
    call = last.producer
    if call is None:
        return without_link
    if call.is_a(_ACTIVATION_LAYERS):
        logits = _before_reshapes(call.inputs[0])
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
    return ModelEnd(logits, link, link_call, linear_call)


def _before_reshapes(value: Value) -> Value:
    """The value before all layers that keep its numbers and their order."""
    while value.producer is not None and _keeps_order(value.producer):
        value = value.producer.inputs[0]
    return value


def _keeps_order(call: Call) -> bool:
    # a linear Activation may cast
    is_linear_activation = call.is_a((layers.Activation,)) and activation_of(call.op) is keras.activations.linear
    return is_linear_activation or call.is_a(ORDER_KEEPING)


def _linear_call(logits: Value, link_call: Call | None) -> Call | None:
    """The call of the linear layer that computes the logits, if no activation but the link is between."""
    call = logits.producer
    if call is None or not call.is_a(LINEAR_TYPES):
        return None
    return call if call is link_call or _link(call.op) == "linear" else None


def _link(op: Operation) -> str:
    """Name of the function with which a layer ends: softmax, sigmoid, relu, linear or other."""
    if isinstance(op, ShapleyLinearUnit):
        return "relu"
    if isinstance(op, ShapleyActivation):
        return "other"
    if isinstance(op, layers.Softmax):
        return "softmax" if op.axis in (-1, 1) else "other"
    if isinstance(op, layers.ReLU):
        return "relu" if activation_name(op) == "relu" else "other"
    return _LINKS.get(op.activation, "other")
