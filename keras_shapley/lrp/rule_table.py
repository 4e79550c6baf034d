"""Which rule a call follows: the user's table first, then the paper's."""

import keras
from keras import layers

from keras_shapley.layers.linear_maps import LINEAR_TYPES
from keras_shapley.lrp import presets, rules
from keras_shapley.models.graph import Call
from keras_shapley.models.layer_types import (
    ADDITION,
    AVERAGE_POOLING,
    BILINEAR,
    EXTREME,
    LOOKUP,
    MAX_POOLING,
    MOVING,
    NORMALIZATION,
    ONE_OPERAND,
    PAIR_EXTREME,
    PRODUCT,
    RESIZING,
    SOFTMAX,
    is_elementwise,
)
from keras_shapley.utils.validation import one_of

# where each rule of a structure may stand, among the types that the paper's table knows
FITTING = {
    rules.AbsoluteSum: ADDITION,
    rules.Airport: MAX_POOLING,
    rules.Attention: (layers.MultiHeadAttention,),
    rules.Bilinear: BILINEAR,
    rules.CentredScale: NORMALIZATION,
    rules.EqualSplit: PRODUCT,
    rules.Gather: (*LOOKUP, *MOVING),
    rules.LargerOperand: PAIR_EXTREME,
    rules.Lookup: (layers.Embedding,),
    rules.Move: (*MOVING, *MAX_POOLING, *EXTREME, *RESIZING),
    rules.OneOperand: ONE_OPERAND,
    rules.Proportional: (*AVERAGE_POOLING, *ADDITION, *RESIZING),
    rules.Resize: RESIZING,
    rules.SoftmaxTaylor: (*SOFTMAX, layers.Activation),
    rules.Sum: ADDITION,
    rules.WinnerTakesAll: (*MAX_POOLING, *EXTREME, *PAIR_EXTREME),
}
_KNOWN = tuple({cls for types, _ in presets.paper() for cls in types})


class RuleTable:
    """An ordered table of `(key, rule)`; the first key that fits a call counts.

    Args:
        user: None, the name of a preset, or entries `(key, rule)`; those of `presets.paper()` come after them.
        calls: of the model, whose names a key may be.

    Raises:
        ValueError: on an unknown preset, rule or name, or a malformed entry.
    """

    def __init__(self, user, calls):
        self.entries = [*_entries(user), *presets.paper()]
        names = {name for call in calls for name in (call.name, call.op.name)}
        for key, _ in self.entries:
            if isinstance(key, str):
                one_of("rules", key, sorted(names))

    def rule(self, call, head=False):
        """The rule of a call. At the head, the activation is the head's business.

        Raises:
            ValueError: if there is none, or it is not for such a layer.
        """
        rule = next((rule for key, rule in self.entries if _fits(key, call)), None)
        name = type(call.op).__name__
        modes = {getattr(layer, "quantization_mode", None) for layer in _with_sublayers(call.op)} - {None}
        if modes:
            raise ValueError(
                f"Layer {call.description} is quantized ({', '.join(sorted(modes))}), and relevance needs its float "
                "kernel: explain the model as it was before."
            )
        if rule is None and call.is_a((layers.TimeDistributed,)):
            step = Call(f"{call.name}/{call.op.layer.name}", call.op.layer, ((call.data_inputs[0],), {}))
            return rules.EachStep(step, self.rule(step))
        if rule is None:
            # layers beside layers, operations beside operations
            kind = isinstance(call.op, layers.Layer)
            types = {
                cls.__name__ for key, _ in self.entries for cls in _types(key) if issubclass(cls, layers.Layer) is kind
            }
            raise ValueError(
                f"Layer {call.description} has no LRP rule. Give it one: LRP(model, rules=[(({name},), rule)]), or "
                f"explain a model that begins above it. Types with rules: {', '.join(sorted(types))}."
            )
        if isinstance(rule, rules.Pass) and not head and _function(call) is keras.activations.softmax:
            return rules.SoftmaxTaylor()
        _check_type(rule, call)
        if not head:
            _check_activation(rule, call)
        return rule


def _check_type(rule, call):
    """Raises a `ValueError` where a rule is not for the type of a call."""
    if isinstance(rule, rules.LinearRule) and not isinstance(call.op, LINEAR_TYPES):
        raise ValueError(
            f"Rule {type(rule).__name__} is for layers with a linear map, and {call.description} has none. Types "
            f"with one: {', '.join(cls.__name__ for cls in LINEAR_TYPES)}."
        )
    for cls, types in FITTING.items():
        if type(rule) is cls and call.is_a(_KNOWN) and not call.is_a(types):
            raise ValueError(
                f"Rule {cls.__name__} is not for {call.description}. Types with it: "
                f"{', '.join(sorted({fitting.__name__ for fitting in types}))}."
            )


def _check_activation(rule, call):
    """Raises a `ValueError` where relevance would pass an activation that may mix elements."""
    function = _function(call)
    passes = isinstance(rule, (rules.LinearRule, rules.Pass))
    if passes and function is not None and not is_elementwise(function):
        raise ValueError(
            f"Layer {call.description} has the activation {getattr(function, '__name__', function)!r}, which is not "
            "known to act on each element alone, so relevance cannot pass it unchanged. Give the layer a rule of its "
            f"own, a function: LRP(model, rules=[(({type(call.op).__name__},), rule)])."
        )


def _function(call):
    return getattr(call.op, "activation", None)


def _entries(user):
    """The user's table: a preset's, or entries with checked keys and with rules for their names."""
    if user is None:
        return []
    if isinstance(user, str):
        return presets.PRESETS[one_of("rules", user, tuple(presets.PRESETS))]()
    entries = []
    for entry in user:
        if not isinstance(entry, (tuple, list)) or len(entry) != 2:
            raise ValueError(f"`rules` must be entries (key, rule). Received: {entry!r}")
        key, rule = entry
        if not isinstance(key, str) and (not _types(key) or not all(isinstance(cls, type) for cls in _types(key))):
            raise ValueError(
                "A key in `rules` must be a layer type, a tuple of them, presets.First(types) or a layer's name. "
                f"Received: {key!r}"
            )
        entries.append((key, rules.get(rule)))
    return entries


def _types(key):
    """The layer types of a key, none for a name."""
    if isinstance(key, str):
        return ()
    types = key.types if isinstance(key, presets.First) else key
    return tuple(types) if isinstance(types, (tuple, list)) else (types,)


def _fits(key, call):
    if isinstance(key, str):
        return key in (call.name, call.op.name)
    if not call.is_a(_types(key)):
        return False
    return not isinstance(key, presets.First) or not any(_has_weights_that_mix(c) for c in call.ancestors())


def _has_weights_that_mix(call):
    """Whether a call is, or has inside, a linear layer."""
    if call.is_a((layers.TimeDistributed,)):
        return isinstance(call.op.layer, LINEAR_TYPES)
    return call.is_a((*LINEAR_TYPES, layers.MultiHeadAttention))


def _with_sublayers(op):
    return [op, *op._flatten_layers()] if isinstance(op, layers.Layer) else [op]
