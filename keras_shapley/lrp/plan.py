"""How an explainer walks: which calls, with which rules, and whether from a baseline."""

from collections.abc import Mapping

from keras_shapley.lrp.head import Head, HeadFunction
from keras_shapley.lrp.probability_head import ShapleyOptions
from keras_shapley.lrp.propagation.measured import Measured
from keras_shapley.lrp.propagation.neurons import Activation
from keras_shapley.lrp.propagation.rule import DifferenceRule
from keras_shapley.lrp.propagation.table import difference_rule
from keras_shapley.lrp.propagation.walk import Propagation
from keras_shapley.lrp.rule_table import RuleTable
from keras_shapley.lrp.rules import AbsoluteSum, Elementwise, LinearRule, Proportional, ShapleyPropagation
from keras_shapley.lrp.rules.base import Rule
from keras_shapley.lrp.walk import Walk, relevance_dtype
from keras_shapley.models.batch_norm import merges
from keras_shapley.models.graph import Call, Graph, Value, ancestors

_RULES_MODULE = ShapleyPropagation.__module__.rpartition(".")[0]


def classic_walk(
    graph: Graph, output: Value, table: RuleTable, head: str | HeadFunction, options: ShapleyOptions, merge: bool
) -> tuple[Walk, Mapping[Call, Rule]]:
    """The walk of relevance as its rules were published, and the rule of each call.

    Raises:
        ValueError: if a call has no rule, or no relevance can reach an input.
    """
    calls = _needed(graph, output)
    model_head = Head(output, head, options)
    _check_reached(graph, calls, model_head)
    reachable = model_head.calls_below
    rule_by_call = {call: table.rule(call) for call in calls if call in reachable and call.data_inputs}
    for call in model_head.linear_calls:
        if call not in reachable:
            rule_by_call[call] = table.rule(call, at_head=True)
    linear_calls = {call for call, rule in rule_by_call.items() if isinstance(rule, LinearRule)}
    merge_by_call = merges(rule_by_call, linear_calls) if merge else {}
    walk = Walk(graph.inputs, calls, model_head, rule_by_call, merge_by_call, relevance_dtype(calls))
    return walk, rule_by_call


def propagation(
    graph: Graph, output: Value, table: RuleTable, head: str | HeadFunction, options: ShapleyOptions
) -> tuple[Walk, Mapping[Call, DifferenceRule]]:
    """The walk of multipliers from a baseline, and the rule of each call.

    Raises:
        ValueError: if a call has no rule, or no relevance can reach an input.
    """
    calls = _needed(graph, output)
    model_head = Head(output, head, options._replace(conserves=True), from_baseline=True)
    _check_reached(graph, calls, model_head)
    heads = [call for call in model_head.linear_calls if call not in model_head.calls_below]
    walked = [call for call in calls if call.data_inputs and (call in model_head.calls_below or call in heads)]
    rule_by_call = {call: _difference_rule(table, call, at_head=call in heads) for call in walked}
    dtype = relevance_dtype(calls)
    return Propagation(graph.inputs, calls, model_head, rule_by_call, dtype), rule_by_call


def _needed(graph: Graph, output: Value) -> list[Call]:
    """The calls that an output depends on, in their order."""
    needed = ancestors([output])
    return [call for call in graph.calls if call in needed]


def _check_reached(graph: Graph, calls: list[Call], head: Head) -> None:
    """Raises a `ValueError` if no data of the model's inputs reach the head."""
    if not head.values_below.isdisjoint(graph.inputs):
        return
    cuts = [call.description for call in calls if call.outputs[0].constant and not all(v.constant for v in call.inputs)]
    raise ValueError(
        "No relevance can reach the model's input: every path from the explained output is cut"
        f"{' at ' + ', '.join(cuts) if cuts else ''}, whose result is a comparison, an index or a constant. Explain an "
        "output in front of it, or use sampled_shapley_values, which takes any model."
    )


def _difference_rule(table: RuleTable, call: Call, at_head: bool) -> DifferenceRule:
    """The user's rule of a call, measured from the baseline, or that of Shapley propagation.

    The package's own rules for pooling, products, softmaxes, normalisation and attention say nothing of differences:
    Shapley propagation's rules take their place.
    """
    rule = table.user_rule(call)
    if isinstance(rule, Elementwise):
        return Activation()
    is_own = type(rule).__module__.startswith(_RULES_MODULE)
    if isinstance(rule, (LinearRule, Proportional, AbsoluteSum)) or not (rule is None or is_own):
        return Measured(rule, at_head=at_head)
    table.check_none_inside(call)
    if not at_head and not table.is_vouched(call):
        table.check_activation(call)
    kind = rule.kind if isinstance(rule, ShapleyPropagation) else "shapley"
    found = difference_rule(call, kind, at_head=at_head)
    if found is None:
        raise table.no_rule(call)
    found.check(call)
    return found
