"""Which rule of Shapley propagation a call follows."""

from collections.abc import Callable

import keras
from keras import layers

from keras_shapley.layers.linear_maps import LINEAR_TYPES
from keras_shapley.lrp.propagation.attention import Attention
from keras_shapley.lrp.propagation.extremes import Extreme, MaxPooling, PairExtreme
from keras_shapley.lrp.propagation.inner_model import InnerModel
from keras_shapley.lrp.propagation.neurons import Activation, Linear
from keras_shapley.lrp.propagation.normalization import Normalization, Spread
from keras_shapley.lrp.propagation.products import Bilinear, LogSoftmax, Product, Quotient, Softmax
from keras_shapley.lrp.propagation.recurrent import Recurrent
from keras_shapley.lrp.propagation.rule import DifferenceRule
from keras_shapley.lrp.propagation.steps import AlongPath, EachStep
from keras_shapley.lrp.propagation.sums import (
    Addition,
    Affine,
    ConstantFactor,
    Encoding,
    Lookup,
    Move,
    Rounded,
    Transpose,
)
from keras_shapley.lrp.rules.moving import is_from_data
from keras_shapley.models.graph import Call
from keras_shapley.models.keras_internals import (
    AFFINE_OPERATIONS,
    CAST_OPERATION,
    DIVISION_OPERATIONS,
    EXTREME_OPERATIONS,
    STOP_GRADIENT_OPERATIONS,
    is_transparent,
)
from keras_shapley.models.layer_types import (
    ADDITION,
    ATTENTION,
    AVERAGE_POOLING,
    BILINEAR,
    ELEMENTWISE,
    EMBEDDING,
    ENCODING,
    EXTREME,
    LOG_SOFTMAX,
    LOOKUP,
    MAX_POOLING,
    MOVING,
    NORMALIZATION,
    ONE_OPERAND,
    PAIR_EXTREME,
    PRODUCT,
    RECURRENT,
    RESIZING,
    SCALING,
    SOFTMAX,
    SPREAD,
    WITHOUT_EFFECT,
    activation_of,
    has_known_activation,
)
from keras_shapley.models.recurrent import check_recurrent
from keras_shapley.models.tracing import trace

# the first entry that fits counts
_RULES: tuple[tuple[tuple[type, ...], Callable[[], DifferenceRule]], ...] = (
    (ADDITION, Addition),
    (PRODUCT, Product),
    (DIVISION_OPERATIONS, Quotient),
    (AVERAGE_POOLING, Transpose),
    (RESIZING, Transpose),
    (MAX_POOLING, MaxPooling),
    (EXTREME_OPERATIONS, Extreme),
    (EXTREME, AlongPath),
    (PAIR_EXTREME, PairExtreme),
    (NORMALIZATION, Normalization),
    (ATTENTION, Attention),
    (BILINEAR, Bilinear),
    (SOFTMAX, Softmax),
    (LOG_SOFTMAX, LogSoftmax),
    (SPREAD, Spread),
    (EMBEDDING, Lookup),
    (ENCODING, Encoding),
    (LOOKUP, Move),
    (MOVING, Move),
)


def difference_rule(call: Call, kind: str, *, at_head: bool = False) -> DifferenceRule | None:
    """The rule of a call, None if there is none.

    Args:
        call: the call.
        kind: of the neurons, as in `Activation`.
        at_head: as in `Linear`.
    """
    if call.is_a(LINEAR_TYPES):
        return Linear(kind, at_head=at_head)
    if call.is_a((layers.TimeDistributed,)):
        step = Call(f"{call.name}/{call.op.layer.name}", call.op.layer, ((call.data_inputs[0],), {}))
        _check_activation(step)
        rule = difference_rule(step, kind)
        return None if rule is None else EachStep(step, rule)
    if is_transparent(call.op):
        graph = trace(call.op)
        rules = {inner: _required(inner, kind) for inner in graph.calls if inner.data_inputs}
        return InnerModel(graph, rules)
    if call.is_a(RECURRENT):
        check_recurrent(call)
        return Recurrent(kind)
    if call.is_a(STOP_GRADIENT_OPERATIONS):
        return Addition()
    if len(call.data_inputs) == 1:
        if call.is_a((CAST_OPERATION,)) and not keras.backend.is_float_dtype(call.op.dtype):
            return Rounded()
        if _is_affine(call):
            return Affine()
        if call.is_a(BILINEAR) and not getattr(call.op, "normalize", False):
            return ConstantFactor()
        if call.is_a(LOOKUP) and not is_from_data(call):
            return Lookup()
        if call.is_a((*ELEMENTWISE, *ONE_OPERAND)):
            return Activation(kind)
    if call.is_a(BILINEAR) and len(call.data_inputs) > 2:
        return AlongPath()
    return next((make() for types, make in _RULES if call.is_a(types)), None)


def _required(call: Call, kind: str) -> DifferenceRule:
    """The rule of a call inside another; raises a `ValueError` if there is none."""
    rule = difference_rule(call, kind)
    if rule is None:
        raise ValueError(
            f"{call.description} cannot be measured from a baseline: Shapley propagation has no rule for it. Give "
            "it one, a function: LRP(model, rules=[(type, rule)], baseline=0.0), or use ks.shapley_values(model, x), "
            "which takes any model."
        )
    _check_activation(call)
    rule.check(call)
    return rule


def _check_activation(call: Call) -> None:
    """Raises a `ValueError` if the activation of a call inside another is not known."""
    if not has_known_activation(call.op):
        activation = activation_of(call.op)
        raise ValueError(
            f"Layer {call.description} has the activation {getattr(activation, '__name__', activation)!r}, which is "
            "not known to act on each element alone. Use one of keras.activations, or ks.shapley_values(model, x), "
            "which takes any model."
        )


def _is_affine(call: Call) -> bool:
    """Whether a call of one tensor multiplies each element by a number and adds one."""
    is_linear = call.is_a((layers.Activation,)) and activation_of(call.op) is keras.activations.linear
    is_multiple = call.is_a(PRODUCT) or (call.is_a(DIVISION_OPERATIONS) and call.arguments[0][0] in call.data_inputs)
    return is_linear or is_multiple or call.is_a((*SCALING, *WITHOUT_EFFECT, *AFFINE_OPERATIONS))
