"""The walk of Shapley propagation: forward with the input and with the baseline, and back with multipliers."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from keras import ops, tree

from keras_shapley.layers.base import ShapleyLayer
from keras_shapley.lrp.head import Head
from keras_shapley.lrp.propagation.gates import Measured
from keras_shapley.lrp.propagation.neurons import Activation
from keras_shapley.lrp.propagation.rule import DifferenceRecord, DifferenceRule
from keras_shapley.lrp.propagation.variation import Multiplier, Variation, per_unit
from keras_shapley.lrp.start import Start
from keras_shapley.lrp.walk import Forward, Observer, Passage, Tensors, Walk, activated, add
from keras_shapley.models.graph import Call, Value
from keras_shapley.utils.typing import Tensor


@dataclasses.dataclass
class DifferenceForward(Forward):
    """What a propagation found on the way forward.

    Attributes:
        records: the record of each call.
        baselines: every tensor at the baseline.
        variations: every tensor, and how it differs from the baseline.
    """

    records: list[DifferenceRecord]
    baselines: Tensors
    variations: dict[Value, Variation]


class DifferencePassage(Passage):
    """Carries tensors forward through the calls of a graph, with the input and with the baseline, and multipliers back.

    Args:
        inputs: the graph's inputs.
        calls: calls, in an order in which they can run.
        rules: the rule of each call that relevance can reach.
        dtype: dtype of the relevance.
    """

    def __init__(
        self, inputs: Sequence[Value], calls: Sequence[Call], rules: Mapping[Call, DifferenceRule], dtype: str
    ) -> None:
        Passage.__init__(self, inputs, calls, {}, {}, dtype)
        self.difference_rules = rules
        activations = {call: rule for call, rule in rules.items() if isinstance(rule, Activation)}
        self._gated = {call: rule for call, rule in activations.items() if rule.has_gate(call)}

    def forward(self, x: list[Tensor]) -> DifferenceForward:
        """Every tensor of the graph, for inputs as those of `Propagation.relevance`."""
        n = len(self.inputs)
        measured = dict(zip(self._gated, zip(*[iter(x[2 * n :])] * 3)))
        tensors, baselines = dict(zip(self.inputs, x[:n])), dict(zip(self.inputs, x[n : 2 * n]))
        variations = {value: self._variation(tensors[value], baselines[value]) for value in self.inputs}
        records = []
        for call in self.calls:
            inputs = [tensors[value] for value in call.inputs]
            # masks and indices are those of the input, also at the baseline
            record = DifferenceRecord.of(call, inputs)
            of_inputs = [variations[value] for value in record.data_inputs]
            rule = self.difference_rules.get(call)
            if call in measured:
                record.measured = Measured(*measured[call])
            if rule is not None:
                record.save(of_inputs)
            sums = record.preactivation
            outputs = self._outputs(call, None if sums is None else sums.value, inputs)
            given = [baselines[value] for value in record.inputs]
            if record.masks or record.holds_tensors:
                # a mask is that of every input of the batch
                given = [ops.broadcast_to(x, tensors[value].shape) for x, value in zip(given, record.inputs)]
            at_baseline = None if rule is None else rule.at_baseline(record, of_inputs)
            if at_baseline is None:
                at_baseline = self._outputs(record, record.baseline_preactivation, given)
            tensors.update(zip(call.outputs, outputs))
            baselines.update(zip(call.outputs, at_baseline))
            of_outputs = [self._variation(*pair) for pair in zip(outputs, at_baseline)]
            if rule is not None:
                of_outputs = rule.variations(record, of_inputs, of_outputs)
            variations.update(zip(call.outputs, of_outputs))
            records.append(record)
        return DifferenceForward(tensors, records, baselines, variations)

    def _variation(self, value: Tensor, baseline: Tensor) -> Variation:
        return Variation(ops.cast(value, self.dtype), ops.cast(baseline, self.dtype))

    def _outputs(self, call: Call, preactivation: Tensor | None, inputs: list[Tensor]) -> list[Tensor]:
        """The outputs of a call; those of a linear layer from the pre-activation that its rule uses anyway."""
        is_saved = preactivation is not None and not isinstance(call.op, ShapleyLayer)
        if is_saved and call.op.compute_dtype == self.dtype:
            return activated(call.op, preactivation, inputs[0])
        return tree.flatten(call(*inputs))

    def multipliers(
        self, forward: DifferenceForward, multipliers: Mapping[Value, Multiplier], observe: Observer | None = None
    ) -> dict[Value, Multiplier]:
        """Multipliers by `Value`, from those where they start; `observe` as in `Passage.carried`."""
        variations = forward.variations
        multipliers = dict(multipliers)
        for call, record in zip(reversed(self.calls), reversed(forward.records)):
            if call not in self.difference_rules or not any(value in multipliers for value in call.outputs):
                continue
            inputs = [variations[value] for value in record.data_inputs]
            outputs = [variations[value] for value in call.outputs]
            of_outputs = [
                multipliers[value] if value in multipliers else Multiplier(ops.zeros_like(output.value))
                for value, output in zip(call.outputs, outputs)
            ]
            parts = self.difference_rules[call].multipliers(record, inputs, outputs, of_outputs) if inputs else []
            for value, part in zip(record.data_inputs, parts):
                add(multipliers, value, part)
            if observe is not None:
                received = [output.relevance(part) for output, part in zip(outputs, of_outputs)]
                observe(call, received, [x.relevance(part) for x, part in zip(inputs, parts)])
        return multipliers


class Propagation(DifferencePassage, Walk):
    """Carries multipliers from a head to the inputs of a graph.

    The inputs of `relevance` and `report` are those of the model, behind them those of the baseline, which are a batch
    of one or as many as the inputs, and behind these what `deviations` measured, if gates are measured.

    Args:
        inputs: the model's inputs.
        calls: the calls that the explained output depends on, in an order in which they can run.
        head: what is explained.
        rules: the rule of each call that relevance can reach.
        dtype: dtype of the relevance.
    """

    def __init__(
        self,
        inputs: Sequence[Value],
        calls: Sequence[Call],
        head: Head,
        rules: Mapping[Call, DifferenceRule],
        dtype: str,
    ) -> None:
        super().__init__(inputs, calls, rules, dtype)
        self.head = head

    def deviations(self, x: list[Tensor]) -> list[Tensor]:
        """The sum in front of each activation less that at the baseline, for inputs as those of `relevance`."""
        forward = self.forward(x)
        records = dict(zip(self.calls, forward.records))
        return [rule.sums(records[call], forward.variations).difference for call, rule in self._gated.items()]

    def _backward(
        self, forward: DifferenceForward, starts: Sequence[Start], observe: Observer | None = None
    ) -> Mapping[Value, Tensor]:
        variations = forward.variations
        multipliers: dict[Value, Multiplier] = {}
        for start in starts:
            add(multipliers, start.value, Multiplier(_start_multiplier(start, variations[start.value])))
        multipliers = self.multipliers(forward, multipliers, observe)
        return _Relevance(variations, multipliers)


class _Relevance(Mapping[Value, Tensor]):
    """Relevance by `Value`, computed when it is asked for: that of few values is needed."""

    def __init__(self, variations: Mapping[Value, Variation], multipliers: Mapping[Value, Multiplier]) -> None:
        self._variations = variations
        self._multipliers = multipliers

    def __getitem__(self, value: Value) -> Tensor:
        return self._variations[value].relevance(self._multipliers[value])

    def __contains__(self, value: object) -> bool:
        return value in self._multipliers

    def __iter__(self) -> Iterator[Value]:
        return iter(self._multipliers)

    def __len__(self) -> int:
        return len(self._multipliers)


def _start_multiplier(start: Start, variation: Variation) -> Tensor:
    """The multiplier of the value where a propagation starts."""
    if start.multiplier is not None:
        return start.multiplier
    return per_unit(start.relevance, variation.difference)
