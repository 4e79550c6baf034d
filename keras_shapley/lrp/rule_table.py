"""Which rule a call follows: the user's table first, then the paper's."""

import copy
import functools
from collections.abc import Iterable
from typing import Any

import keras
from keras import layers

from keras_shapley.layers.linear_maps import LINEAR_TYPES
from keras_shapley.lrp import presets, rules
from keras_shapley.lrp.inner_model import InnerModel
from keras_shapley.lrp.presets import Key, Table
from keras_shapley.lrp.rules.base import Rule
from keras_shapley.models.graph import Call
from keras_shapley.models.keras_internals import is_transparent, sublayers
from keras_shapley.models.layer_types import ATTENTION, RECURRENT, activation_of, has_known_activation
from keras_shapley.utils.validation import one_of


class RuleTable:
    """An ordered table of `(key, rule)`. The first key that fits a call counts.

    Args:
        user: None, the name of a preset, or entries `(key, rule)`; those of `presets.paper()` come after them.
        calls: the model's calls, whose names a key may be.

    Raises:
        ValueError: on an unknown preset, rule or name, a malformed entry, or entries of which none fits a call.
    """

    def __init__(self, user: str | Iterable[tuple[Key, str | Rule]] | None, calls: Iterable[Call]) -> None:
        calls = list(calls)
        self._user = _entries(user)
        # what stands behind an entry that an error suggests
        self._rest = f", *ks.presets.{user}()" if isinstance(user, str) else ", ..." if self._user else ""
        self.entries = [*self._user, *presets.paper()]
        if self._user and not isinstance(user, str):
            _check_used(self._user, calls)
        names = {name for call in calls for name in (call.name, call.op.name)}
        for key, _ in self.entries:
            if isinstance(key, str):
                one_of("rules", key, sorted(names))

    @property
    def needs_baseline(self) -> bool:
        """Whether an entry of the user's own table measures from a baseline, or none says how relevance passes."""
        chosen = [rule for _, rule in self._user if not isinstance(rule, rules.Elementwise)]
        return bool(self._user) and not chosen or any(isinstance(rule, rules.ShapleyPropagation) for rule in chosen)

    def user_rule(self, call: Call) -> Rule | None:
        """The rule of a call in the user's own table, None if it has no entry for it."""
        _check_not_quantized(call)
        rule = _first(self._user, call)
        _check_call(rule, call)
        return rule

    def is_vouched(self, call: Call) -> bool:
        """Whether the user vouches for the activation of a call, by `Elementwise`.

        Raises:
            ValueError: if the user is wrong.
        """
        vouchers = [rule for key, rule in self._user if isinstance(rule, rules.Elementwise) and _fits(key, call)]
        for voucher in vouchers:
            voucher.check(call)
        return bool(vouchers)

    def rule(self, call: Call, *, at_head: bool = False, preceded: bool = False) -> Rule:
        """The rule of a call.

        Args:
            call: the call.
            at_head: whether the head of the model takes care of the call's activation.
            preceded: whether a linear layer precedes the model that the call is inside of.

        Raises:
            ValueError: if there is no rule, or the first that fits is not for such a layer.
        """
        _check_not_quantized(call)
        entries = [entry for entry in self.entries if not (preceded and isinstance(entry[0], presets.First))]
        rule = _first(entries, call)
        if rule is None and call.is_a((layers.TimeDistributed,)):
            step = Call(f"{call.name}/{call.op.layer.name}", call.op.layer, ((call.data_inputs[0],), {}))
            return rules.EachStep(step, self.rule(step, preceded=preceded))
        if rule is None and is_transparent(call.op):
            preceded = preceded or any(map(_has_linear_layer, call.ancestors()))
            return InnerModel(call, functools.partial(self.rule, preceded=preceded))
        if rule is None:
            raise self.no_rule(call)
        _check_type(rule, call)
        _check_call(rule, call)
        if at_head or not isinstance(rule, (rules.LinearRule, rules.Pass)) or self.is_vouched(call):
            return rule
        self.check_activation(call)
        if activation_of(call.op) is not keras.activations.softmax:
            return rule
        return rules.SoftmaxTaylor() if isinstance(rule, rules.Pass) else rules.WithSoftmax(rule)

    def check_none_inside(self, call: Call) -> None:
        """Raises a `ValueError` if a rule is for a layer inside TimeDistributed, where a baseline knows none."""
        if not call.is_a((layers.TimeDistributed,)):
            return
        types = tuple({cls for key, _ in self._user for cls in _types(key)})
        inside = [layer for layer in sublayers(call.op.layer) if isinstance(layer, types)]
        if inside:
            raise ValueError(
                f"From a baseline `rules` cannot be set for layers inside {call.description}, such as "
                f"{type(inside[0]).__name__}. Leave `baseline` out, with rules=[..., *ks.presets.paper()], or give a "
                f"rule for {call.name!r} itself."
            )

    def check_activation(self, call: Call) -> None:
        """Raises a `ValueError` if the activation of a call is not known."""
        if has_known_activation(call.op):
            return
        activation = activation_of(call.op)
        raise ValueError(
            f"Layer {call.description} has the activation {getattr(activation, '__name__', activation)!r}, which is "
            f"not known to act on each element alone. {self._remedies(call, 'If it does')}"
        )

    def no_rule(self, call: Call) -> ValueError:
        """The error for a call without a rule."""
        remedies = self._remedies(call, "If it acts on each element alone")
        return ValueError(f"Layer {call.description} has no LRP rule. {remedies}")

    def _remedies(self, call: Call, if_elementwise: str) -> str:
        """What works for a layer that is not known: the simplest first."""
        entry = f"({call.name!r}, ks.rules.Elementwise()){self._rest}"
        say_so = f"{if_elementwise}, say so: LRP(model, rules=[{entry}]). If not, give"
        is_made_of_layers = call.is_a((*RECURRENT, layers.TimeDistributed)) or isinstance(call.op, keras.Model)
        may_be = len(call.data_inputs) == 1 and not is_made_of_layers
        return (
            f"{say_so if may_be else 'Give'} it a rule of your own in this place, a function "
            "rule(call, inputs, relevance) that returns a list with the relevance of each input; or use "
            "ks.shapley_values(model, x), which takes any model."
        )


def _first(table: Table, call: Call) -> Rule | None:
    """The first rule that fits a call. `Elementwise` says of a linear layer no more than that its activation is so."""
    skipped = rules.Elementwise if call.is_a(LINEAR_TYPES) else ()
    fitting = (rule for key, rule in table if _fits(key, call) and not isinstance(rule, skipped))
    rule = next(fitting, None)
    return None if rule is None else _of_signal(rule, call)


def _entries(user: str | Iterable[tuple[Key, str | Rule]] | None) -> Table:
    """The user's table: a preset's, or entries with checked keys and with rules for their names."""
    if user is None:
        return []
    if isinstance(user, str):
        return presets.PRESETS[one_of("rules", user, ("auto", *presets.PRESETS))]()
    if not isinstance(user, Iterable):
        raise ValueError(f"`rules` must be a preset's name or entries (key, rule). Received: {user!r}")
    return [_entry(entry) for entry in user]


def _entry(entry: Any) -> tuple[Key, Rule]:
    if not isinstance(entry, (tuple, list)) or len(entry) != 2:
        raise ValueError(f"`rules` must be entries (key, rule). Received: {entry!r}")
    key, rule = entry
    types = _types(key)
    if not isinstance(key, str) and (not types or not all(isinstance(cls, type) for cls in types)):
        raise ValueError(
            "A key in `rules` must be a layer type, a tuple of them, presets.First(types) or a layer's name. "
            f"Received: {key!r}"
        )
    rule = rules.get(rule)
    # what the user does to a rule afterwards is not for explainers that were made, which may share what they compile
    return key, copy.deepcopy(rule) if is_own_rule(rule) else rule


def is_own_rule(rule: Any) -> bool:
    """Whether an object is a rule of this package, whose attributes are all that it depends on."""
    return type(rule).__module__.startswith(f"{rules.__name__}.")


def _types(key: Key) -> tuple[type, ...]:
    """The layer types of a key, none for a name."""
    if isinstance(key, str):
        return ()
    types = key.types if isinstance(key, presets.First) else key
    return tuple(types) if isinstance(types, (tuple, list)) else (types,)


def _fits(key: Key, call: Call) -> bool:
    """Whether a key of the table is for a call."""
    if isinstance(key, str):
        return key in (call.name, call.op.name)
    if not call.is_a(_types(key)):
        return False
    return not isinstance(key, presets.First) or not any(map(_has_linear_layer, call.ancestors()))


def _of_signal(rule: Rule, call: Call) -> Rule:
    """The rule, or for a rule of weights on a recurrent layer the rule of such layers with these weights."""
    is_of_weights = isinstance(rule, rules.LinearRule) and call.is_a(RECURRENT)
    return rules.Recurrent(rule, rule.epsilon) if is_of_weights else rule


def _check_used(table: Table, calls: list[Call]) -> None:
    """Raises a `ValueError` if no entry fits a call, so that the rules would change nothing."""
    is_name = any(isinstance(key, str) for key, _ in table)
    if is_name or any(call.is_a((layers.TimeDistributed,)) for call in calls):
        return
    if not any(_fits(key, call) for key, _ in table for call in calls):
        keys = _names({cls for key, _ in table for cls in _types(key)})
        raise ValueError(
            f"No entry of `rules` fits a layer of the model. Keys: {keys}. Types of its layers and operations: "
            f"{_names({type(call.op) for call in calls})}. A key is for its own type, not for subclasses that compute "
            "something else."
        )


def _has_linear_layer(call: Call) -> bool:
    """Whether a call is of a linear layer, or of a layer with one inside."""
    if call.is_a((layers.TimeDistributed,)):
        return any(isinstance(layer, (*LINEAR_TYPES, *ATTENTION, *RECURRENT)) for layer in sublayers(call.op.layer))
    return call.is_a((*LINEAR_TYPES, *ATTENTION, *RECURRENT))


def _check_not_quantized(call: Call) -> None:
    """Raises a `ValueError` for a layer that is quantized, or has one inside."""
    modes = {mode for layer in sublayers(call.op) if (mode := getattr(layer, "quantization_mode", None))}
    if modes:
        raise ValueError(
            f"Layer {call.description} is quantized ({', '.join(sorted(modes))}), and relevance needs its float "
            "kernel: explain the model as it was before."
        )


_TYPES_WITH_RULES = tuple({cls for key, _ in presets.paper() for cls in _types(key)})


def _check_type(rule: Rule, call: Call) -> None:
    """Raises a `ValueError` if a rule is not for the type of a call."""
    name = type(rule).__name__
    if isinstance(rule, rules.LinearRule) and not call.is_a(LINEAR_TYPES):
        raise ValueError(
            f"Rule {name} is for layers with a linear map, as Dense and Conv2D are, and {call.description} has none. "
            "Remove the entry: the layer then follows the rule of its type."
        )
    # a user's subclass may be for other types than its parent, and a user's layer may follow any rule
    types = vars(type(rule)).get("fits")
    if isinstance(types, tuple) and call.is_a(_TYPES_WITH_RULES) and not call.is_a(types):
        raise ValueError(f"Rule {name} is for {_names(types)}, and not for {call.description}.")


def _check_call(rule: Rule | None, call: Call) -> None:
    """Raises a `ValueError` if a rule is for the type of a call, and not for this call."""
    check = getattr(rule, "check", None)
    if check is not None:
        check(call)


def _names(types: Iterable[type]) -> str:
    return ", ".join(sorted({cls.__name__ for cls in types}))
