"""Which rule a call follows: the user's table first, then the paper's."""

import keras
from keras import layers, ops

from keras_shapley import presets, rules
from keras_shapley._graph import Call, Value
from keras_shapley._validation import one_of
from keras_shapley.linear import LINEAR_TYPES

_ELEMENTWISE_FUNCTIONS = {
    getattr(module, name, None)
    for module in (keras.activations, ops)
    for name in (
        "celu elu exponential gelu hard_shrink hard_sigmoid hard_silu hard_tanh leaky_relu linear log_sigmoid mish "
        "relu relu6 selu sigmoid silu soft_shrink softplus softsign sparse_plus sparse_sigmoid squareplus tanh "
        "tanh_shrink threshold"
    ).split()
}


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
        if getattr(call.op, "quantization_mode", None) is not None:
            raise ValueError(
                f"Layer {call.description} is quantized ({call.op.quantization_mode}), and relevance needs its float "
                "kernel: explain the model as it was before."
            )
        if rule is None and call.is_a((layers.TimeDistributed,)):
            step = Call(f"{call.name}/{call.op.layer.name}", call.op.layer, ((Value(),), {}))
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
        if isinstance(rule, rules.LinearRule) and not isinstance(call.op, LINEAR_TYPES):
            raise ValueError(
                f"Rule {type(rule).__name__} is for layers with a linear map, and {call.description} has none. Types "
                f"with one: {', '.join(cls.__name__ for cls in LINEAR_TYPES)}."
            )
        function = getattr(call.op, "activation", None)
        passes = isinstance(rule, (rules.LinearRule, rules.Pass))
        if passes and not head and function is not None and not _is_elementwise(function):
            raise ValueError(
                f"Layer {call.description} has the activation {getattr(function, '__name__', function)!r}, which is "
                f"not known to act on each element alone, so relevance cannot pass it unchanged. Give the layer a rule "
                f"of its own, a function: LRP(model, rules=[(({name},), rule)])."
            )
        return rule


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
    return not isinstance(key, presets.First) or not any(c.is_a(LINEAR_TYPES) for c in call.ancestors())


def _is_elementwise(function):
    if isinstance(function, layers.Layer):
        return isinstance(function, presets.ELEMENTWISE)
    return function in _ELEMENTWISE_FUNCTIONS
