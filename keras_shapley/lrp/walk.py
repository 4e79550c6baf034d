"""The walk of LRP: forward through the calls of a model, and back with relevance."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import keras
from keras import ops, tree

from keras_shapley.backend import each, maximum, vjp
from keras_shapley.layers.base import ShapleyLayer
from keras_shapley.layers.linear_maps import LINEAR_TYPES, LinearMap, linear_map
from keras_shapley.lrp.head import Head
from keras_shapley.lrp.rules import LinearRule
from keras_shapley.lrp.rules.base import CallRecord, Preactivation, Rule
from keras_shapley.lrp.start import Start, TargetPair, resolved
from keras_shapley.models.batch_norm import Merge
from keras_shapley.models.graph import Call, Value
from keras_shapley.models.keras_internals import attach_mask, attached_mask
from keras_shapley.utils.typing import Operation, Tensor

Key = TypeVar("Key")

# every tensor of the model, by its place in the graph
Tensors: TypeAlias = dict[Value, Tensor]
Observer: TypeAlias = Callable[[Call, Sequence[Tensor], Sequence[Tensor]], None]


@dataclasses.dataclass
class Forward:
    """What a walk found on the way forward.

    Attributes:
        tensors: every tensor of the model.
        records: the record of each call.
        baselines: every tensor at the baseline; None for a walk without one.
    """

    tensors: Tensors
    records: Sequence[CallRecord]
    baselines: Tensors | None


class Passage:
    """Carries tensors forward through the calls of a graph, and relevance back.

    Args:
        inputs: the graph's inputs.
        calls: calls, in an order in which they can run.
        rules: the rule of each call that relevance can reach.
        merges: by linear call, the `Merge` with the BatchNormalization beside it.
        dtype: dtype of the relevance.
    """

    def __init__(
        self,
        inputs: Sequence[Value],
        calls: Sequence[Call],
        rules: Mapping[Call, Rule],
        merges: Mapping[Call, Merge],
        dtype: str,
    ) -> None:
        self.inputs = inputs
        self.calls = calls
        self.rules = rules
        self.merges = merges
        self.dtype = dtype

    def forward(self, x: list[Tensor]) -> Forward:
        """Every tensor of the model, and the record of each call."""
        tensors = dict(zip(self.inputs, x))
        records = []
        for call in self.calls:
            inputs = [tensors[value] for value in call.inputs]
            record = self._record(call, inputs, tensors)
            saved = record.preactivation
            outputs = tree.flatten(call(*inputs)) if saved is None else activated(call.op, saved.value, inputs[0])
            tensors.update(zip(call.outputs, outputs))
            records.append(record)
        return Forward(tensors, records, None)

    def _record(self, call: Call, inputs: list[Tensor], tensors: Tensors) -> CallRecord:
        """The record of a call, with the linear map that its rule should use and a pre-activation worth saving."""
        if call in self.merges:
            (source,) = self._sources(call)
            merged = self.merges[call](linear_map(call.op), ops.cast(tensors[source], self.dtype))
            return CallRecord(call.name, call.op, ((source,), {}), call.outputs, linear_map=merged)
        record = CallRecord.of(call, inputs)
        linear = record.linear_map
        if linear is not None and self._saves_preactivation(call, linear):
            value, pullback = vjp(linear.preactivation, ops.cast(inputs[0], self.dtype))
            record.preactivation = Preactivation(value, pullback)
        return record

    def _saves_preactivation(self, call: Call, linear: LinearMap) -> bool:
        """Whether the denominators of a call's rule are what its layer computes anyway, in the relevance's dtype."""
        rule = self.rules.get(call)
        return (
            isinstance(rule, LinearRule)
            and call.is_a(LINEAR_TYPES)
            and not isinstance(call.op, ShapleyLayer)
            and call.op.compute_dtype == self.dtype
            and rule.divides_by_preactivation(linear)
        )

    def _sources(self, call: Call) -> list[Value]:
        """The inputs that a call's rule sees: its own, or those of a BatchNormalization that is merged into it."""
        merge = self.merges.get(call)
        return merge.before.data_inputs if merge is not None and merge.before is not None else call.data_inputs

    def carried(self, forward: Forward, relevance: Tensors, observe: Observer | None = None) -> Tensors:
        """Relevance by `Value`, from that where it starts.

        `observe(call, outputs, inputs)` gets the relevance on both sides of each call.
        """
        tensors, records = forward.tensors, forward.records
        relevance = dict(relevance)
        for call, record in zip(reversed(self.calls), reversed(records)):
            if not any(value in relevance for value in call.outputs):
                continue
            outputs = [
                relevance[value] if value in relevance else ops.zeros(tensors[value].shape, self.dtype)
                for value in call.outputs
            ]
            inputs = [ops.cast(tensors[value], self.dtype) for value in self._sources(call)]
            # a call whose inputs are all masks, indices or constants passes nothing on
            shares = self.rules[call](record, inputs, outputs[0] if len(outputs) == 1 else outputs) if inputs else []
            _check_shares(call, inputs, shares)
            for value, share in zip(call.data_inputs, shares):
                add(relevance, value, share)
            if observe is not None:
                observe(call, outputs, shares)
        return relevance


class Walk(Passage):
    """Carries relevance from a head to the inputs of a graph.

    Args:
        inputs: the model's inputs.
        calls: the calls that the explained output depends on, in an order in which they can run.
        head: what is explained.
        rules: the rule of each call that relevance can reach.
        merges: by linear call, the `Merge` with the BatchNormalization beside it.
        dtype: dtype of the relevance.
    """

    def __init__(
        self,
        inputs: Sequence[Value],
        calls: Sequence[Call],
        head: Head,
        rules: Mapping[Call, Rule],
        merges: Mapping[Call, Merge],
        dtype: str,
    ) -> None:
        super().__init__(inputs, calls, rules, merges, dtype)
        self.head = head

    def relevance(self, x: list[Tensor], pairs: Sequence[TargetPair]) -> list[tuple[list[Tensor], dict[str, Tensor]]]:
        """Relevance of the model's inputs, and its sums at both ends, for each of several targets.

        Args:
            x: the inputs.
            pairs: for each target `(target, versus)`.

        Returns:
            For each pair the relevance of each input, in its shape, and the `ends` of `report`.
        """
        return each(functools.partial(self._relevance, x, self.forward(x)), pairs)

    def report(self, x: list[Tensor], pairs: Sequence[TargetPair]) -> list[dict[str, Any]]:
        """For each pair everything that an `Explanation` holds, as tensors; the arguments are those of `relevance`."""
        return each(functools.partial(self._report, x, self.forward(x)), pairs)

    def _relevance(
        self, x: list[Tensor], forward: Forward, target: Tensor | None, versus: Tensor | None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        starts = self._starts(forward, resolved(target, forward.tensors[self.head.output]), versus)
        relevance = self._backward(forward, starts)
        of_inputs = self._input_relevance(relevance, x)
        return of_inputs, self._ends(starts, relevance, of_inputs)

    def _report(
        self, x: list[Tensor], forward: Forward, target: Tensor | None, versus: Tensor | None
    ) -> dict[str, Any]:
        output = ops.cast(forward.tensors[self.head.output], self.dtype)
        target = resolved(target, output)
        starts = self._starts(forward, target, versus)
        balance = _Balance(starts)
        relevance = self._backward(forward, starts, balance.add)
        layers = {call.name: [relevance[value] for value in call.outputs if value in relevance] for call in self.calls}
        of_inputs = self._input_relevance(relevance, x)
        report = {
            "input": of_inputs,
            "layers": {name: parts[0] if len(parts) == 1 else parts for name, parts in layers.items() if parts},
            "output": output,
            "target": target,
            "head": [start.relevance for start in starts],
            "head_stderr": [start.stderr for start in starts],
            "head_total": sum(start.total for start in starts),
            "head_baseline": sum(start.baseline for start in starts),
            "head_missed": sum(start.missed for start in starts),
            "head_paths": functools.reduce(ops.maximum, [start.n_paths for start in starts]),
            "signed": balance.signed,
            "relative": balance.relative(),
            "amplification": balance.amplification,
            "ends": self._ends(starts, relevance, of_inputs),
        }
        if self.head.link is not None:
            report["probability"] = self.head.probability(output)
        return report if versus is None else {**report, "versus": versus}

    def _ends(
        self, starts: Sequence[Start], relevance: Mapping[Value, Tensor], of_inputs: list[Tensor]
    ) -> dict[str, Tensor]:
        """Sums of the head's and of the input's relevance, of its absolute values, and the baseline; all `(batch,)`."""
        head_size = sum(_total(ops.abs(start.relevance)) for start in starts)
        if self.head.kind in ("linear", "relu"):
            # an output near zero may be the sum of large terms, or one large number less another
            head_size = maximum(head_size, ops.abs(sum(start.baseline for start in starts)))
            producers = [start.value.producer for start in starts if start.value.producer is not None]
            calls = self.head.linear_calls or producers
            terms = dict.fromkeys(value for call in calls for value in call.data_inputs if value in relevance)
            if terms:
                head_size = maximum(head_size, sum(_total(ops.abs(relevance[value])) for value in terms))
        return {
            "head": sum(_total(start.relevance) for start in starts),
            "head_size": head_size,
            "baseline": sum(start.baseline for start in starts),
            "input": sum(map(_total, of_inputs)),
            "input_size": sum(_total(ops.abs(part)) for part in of_inputs),
        }

    def _starts(self, forward: Forward, target: Tensor, versus: Tensor | None) -> list[Start]:
        """The starts of the target, or of its difference from what it is compared with."""
        starts = self.head.starts(forward.tensors, target, self.dtype, forward.baselines)
        if versus is None:
            return starts
        others = self.head.starts(forward.tensors, versus, self.dtype, forward.baselines)
        return [start.minus(other) for start, other in zip(starts, others)]

    def _backward(
        self,
        forward: Forward,
        starts: Sequence[Start],
        observe: Observer | None = None,
    ) -> Mapping[Value, Tensor]:
        """Relevance by `Value`; `observe(call, outputs, inputs)` gets the relevance on both sides of each call."""
        relevance: Tensors = {}
        for start in starts:
            add(relevance, start.value, start.relevance)
        return self.carried(forward, relevance, observe)

    def _input_relevance(self, relevance: Mapping[Value, Tensor], x: list[Tensor]) -> list[Tensor]:
        """The relevance of the model's inputs, zeros where none arrived."""
        return [
            relevance[value] if value in relevance else ops.zeros(tensor.shape, self.dtype)
            for value, tensor in zip(self.inputs, x)
        ]


def relevance_dtype(calls: Sequence[Call]) -> str:
    """The dtype of the relevance: float64 for a model of float64, else float32.

    Raises:
        ValueError: if the model has layers of float64 and of another dtype.
    """
    dtypes = {call.op.compute_dtype: call for call in calls if isinstance(call.op, keras.layers.Layer)}
    if "float64" not in dtypes:
        return "float32"
    for dtype, call in dtypes.items():
        if dtype != "float64":
            raise ValueError(
                f"Layers of float64 cannot be walked beside others. Received: {dtypes['float64'].description} of "
                f"float64 and {call.description} of {dtype}."
            )
    return "float64"


class _Balance:
    """The relevance that each call received and passed on, per image.

    Attributes:
        signed: by call, what it received less what it passed on, shape `(batch,)`.
        amplification: by call, the sum of the absolute relevance that it passed on over that of what it received.
    """

    def __init__(self, starts: Sequence[Start]) -> None:
        self.signed: dict[str, Tensor] = {}
        self.amplification: dict[str, Tensor] = {}
        self._scale: dict[str, Tensor] = {}
        for start in starts:
            if start.gap_call is not None:
                add(self.signed, start.gap_call.name, start.total - _total(start.relevance))
                add(self._scale, start.gap_call.name, ops.abs(start.total))

    def add(self, call: Call, outputs: Sequence[Tensor], inputs: Sequence[Tensor]) -> None:
        """Notes the relevance of a call's outputs and of its inputs."""
        received = sum(_total(ops.abs(part)) for part in outputs)
        passed_on = sum(_total(ops.abs(part)) for part in inputs)
        add(self.signed, call.name, sum(map(_total, outputs)) - sum(map(_total, inputs)))
        self._scale.setdefault(call.name, received)
        self.amplification[call.name] = _ratio(passed_on, received)

    def relative(self) -> dict[str, Tensor]:
        """By call, the absolute gap over the sum of the absolute relevance that it received."""
        return {name: _ratio(ops.abs(gap), self._scale[name]) for name, gap in self.signed.items()}


def add(sums: dict[Key, Tensor], key: Key, addend: Tensor) -> None:
    """Adds to one of several sums."""
    sums[key] = sums[key] + addend if key in sums else addend


def activated(layer: Operation, preactivation: Tensor, x: Tensor) -> list[Tensor]:
    """The output of a linear layer from its pre-activation, with the mask of its input `x`."""
    output = layer.activation(preactivation)
    if layer.supports_masking:
        attach_mask(output, attached_mask(x))
    return [output]


def _total(relevance: Tensor) -> Tensor:
    """Sum over everything but the batch."""
    return ops.sum(ops.reshape(relevance, (relevance.shape[0], -1)), axis=1)


def _ratio(numerator: Any, denominator: Tensor) -> Tensor:
    return numerator / ops.where(denominator > 0, denominator, 1)


def _check_shares(call: Call, inputs: list[Tensor], shares: Any) -> None:
    """Raises a `ValueError` unless a rule returned one tensor for each input: a missing one would go unnoticed."""
    expected = [tuple(x.shape) for x in inputs]
    is_list = isinstance(shares, (list, tuple))
    received = [tuple(share.shape) for share in shares] if is_list else type(shares).__name__
    if received != expected:
        raise ValueError(
            f"The rule of {call.description} must return a list with the relevance of each input, of shapes "
            f"{expected}. Received: {received}"
        )
