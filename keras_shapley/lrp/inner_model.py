"""The rule of a model that a TimeDistributed layer calls on every step: the rules of its layers."""

from collections.abc import Callable

import keras
from keras import ops, tree

from keras_shapley.lrp.rules.base import CallRecord, Rule
from keras_shapley.lrp.walk import Passage
from keras_shapley.models.graph import Call
from keras_shapley.models.tracing import trace
from keras_shapley.utils.typing import Structure, Tensor


class InnerModel:
    """A whole model as one call: relevance walks back through its layers.

    Args:
        call: the call of the model.
        rule: function that returns the rule of a call inside it.

    Attributes:
        rules: by name of a call inside, `(layer or operation, rule)`.
    """

    def __init__(self, call: Call, rule: Callable[[Call], Rule]) -> None:
        self._graph = trace(call.op)
        self._rules = {inner: rule(inner) for inner in self._graph.calls if inner.data_inputs}
        self.rules = {inner.name: (inner.op, rule) for inner, rule in self._rules.items()}

    def __call__(self, call: CallRecord, inputs: list[Tensor], relevance: Structure) -> list[Tensor]:
        graph = self._graph
        passage = Passage(graph.inputs, graph.calls, self._rules, {}, keras.backend.standardize_dtype(inputs[0].dtype))
        start = dict(zip(graph.outputs, tree.flatten(relevance)))
        carried = passage.carried(passage.forward(inputs), start)
        return [carried.get(value, ops.zeros_like(x)) for value, x in zip(graph.inputs, inputs)]
