"""Shapley propagation through a model that a TimeDistributed layer calls on every step."""

from collections.abc import Mapping, Sequence

import keras
from keras import layers, ops

from keras_shapley.lrp.propagation.rule import DifferenceRecord, DifferenceRule
from keras_shapley.lrp.propagation.variation import Multiplier, Variation
from keras_shapley.lrp.propagation.walk import DifferenceForward, DifferencePassage
from keras_shapley.models.graph import Call, Graph
from keras_shapley.utils.typing import Tensor


class InnerModel(DifferenceRule):
    """A whole model as one call: multipliers walk back through its layers.

    Args:
        graph: of the model.
        rules: the rule of each call inside it.
    """

    def __init__(self, graph: Graph, rules: Mapping[Call, DifferenceRule]) -> None:
        self._graph = graph
        self._rules = rules
        ops_inside = [call.op for call in graph.calls]
        self._makes_masks = any(isinstance(op, layers.Masking) or getattr(op, "mask_zero", False) for op in ops_inside)

    def at_baseline(self, call: DifferenceRecord, inputs: Sequence[Variation]) -> list[Tensor] | None:
        if not self._makes_masks:
            return None
        _, forward = self._forward(inputs)
        return [forward.baselines[value] for value in self._graph.outputs]

    def multipliers(
        self,
        call: DifferenceRecord,
        inputs: Sequence[Variation],
        outputs: Sequence[Variation],
        multipliers: Sequence[Multiplier],
    ) -> list[Multiplier]:
        graph = self._graph
        passage, forward = self._forward(inputs)
        of_values = passage.multipliers(forward, dict(zip(graph.outputs, multipliers)))
        nothing = [Multiplier(ops.zeros_like(x.value)) for x in inputs]
        return [of_values.get(value, zero) for value, zero in zip(graph.inputs, nothing)]

    def _forward(self, inputs: Sequence[Variation]) -> tuple[DifferencePassage, DifferenceForward]:
        dtype = keras.backend.standardize_dtype(inputs[0].value.dtype)
        passage = DifferencePassage(self._graph.inputs, self._graph.calls, self._rules, dtype)
        return passage, passage.forward([*(x.value for x in inputs), *(x.baseline for x in inputs)])
