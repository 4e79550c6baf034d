"""The walk of LRP: forward through the calls of a model, and back with relevance."""

import dataclasses

from keras import ops, tree

from keras_shapley.backend import vjp
from keras_shapley.layers.base import ShapleyLayer
from keras_shapley.layers.linear_maps import LINEAR_TYPES, linear_map
from keras_shapley.lrp.rules.linear import Epsilon
from keras_shapley.models.graph import copy_mask


class Walk:
    """Carries relevance from a head to the inputs of a graph.

    Args:
        inputs: `Value`s of the model's inputs.
        calls: those that the explained output depends on, in an order in which they can run.
        head: the `Head`.
        rules: by call, of all that relevance can meet.
        merges: by linear call, the `Merge` with the normalisations beside it.
        dtype: of the relevance.
    """

    def __init__(self, inputs, calls, head, rules, merges, dtype):
        self.inputs, self.calls, self.head, self.rules, self.merges = inputs, calls, head, rules, merges
        self.dtype = dtype

    def relevance(self, tensors, target, versus):
        """Relevance of each of `tensors`, the model's inputs; the targets are of shape `(batch,)`, or None."""
        values, uses = self._forward(tensors)
        relevance = self._back(values, uses, self._start(values, target, versus))
        return self._of_inputs(relevance, tensors)

    def report(self, tensors, target, versus):
        """As `relevance`, and everything else that an `Explanation` holds: a dict of tensors."""
        values, uses = self._forward(tensors)
        start = self._start(values, target, versus)
        signed, scale, amplification = {}, {}, {}
        if start.call is not None:
            signed[start.call.name] = start.total - _total(start.relevance)
            scale[start.call.name] = ops.abs(start.total)

        def note(call, outputs, parts):
            before, after = (sum(_total(ops.abs(part)) for part in side) for side in (outputs, parts))
            signed[call.name] = signed.get(call.name, 0) + sum(map(_total, outputs)) - sum(map(_total, parts))
            scale.setdefault(call.name, before)
            amplification[call.name] = _ratio(after, before)

        relevance = self._back(values, uses, start, note)
        by_call = {call.name: [relevance[v] for v in call.outputs if v in relevance] for call in self.calls}
        found = {
            "input": self._of_inputs(relevance, tensors),
            "layers": {name: parts[0] if len(parts) == 1 else parts for name, parts in by_call.items() if parts},
            "output": ops.cast(values[self.head.output], self.dtype),
            "probability": self.head.probability(values[self.head.output]),
            "target": start.target,
            "head": start.relevance,
            "head_stderr": start.stderr,
            "head_total": start.total,
            "head_baseline": start.baseline,
            "head_paths": start.n_paths,
            "signed": signed,
            "relative": {name: _ratio(ops.abs(gap), scale[name]) for name, gap in signed.items()},
            "amplification": amplification,
        }
        return found if versus is None else {**found, "versus": versus}

    def _forward(self, tensors):
        """Every tensor by `Value`, and the calls as they were made: with masks, merged maps and preactivations."""
        values, uses = dict(zip(self.inputs, tensors)), []
        for call in self.calls:
            inputs = [values[value] for value in call.inputs]
            use = call.bound(inputs)
            if self._wants_preactivation(call):
                preactivation = vjp(linear_map(call.op).preactivation, ops.cast(inputs[0], self.dtype))
                use = dataclasses.replace(use, preactivation=preactivation)
                outputs = [call.op.activation(preactivation[0])]
                if call.op.supports_masking:
                    copy_mask(inputs[0], outputs[0])
            else:
                outputs = tree.flatten(call(*inputs))
            if call in self.merges:
                (source,) = self._sources(call)
                linear = self.merges[call](linear_map(call.op), ops.cast(values[source], self.dtype))
                use = dataclasses.replace(use, arguments=((source,), {}), linear=linear)
            values.update(zip(call.outputs, outputs))
            uses.append(use)
        return values, uses

    def _wants_preactivation(self, call):
        """Whether a call's rule has as its denominators what the layer's output is made of."""
        rule = self.rules.get(call)
        return (
            isinstance(rule, Epsilon)
            and (rule.bias != "ignore" or call.op.bias is None)
            and call not in self.merges
            and call.is_a(LINEAR_TYPES)
            and not isinstance(call.op, ShapleyLayer)
            and call.op.compute_dtype == self.dtype
        )

    def _sources(self, call):
        """The `Value`s that a call's rule sees as its inputs."""
        merge = self.merges.get(call)
        return merge.before.data_inputs if merge is not None and merge.before is not None else call.data_inputs

    def _start(self, values, target, versus):
        start = self.head.start(values, target, self.dtype)
        return start if versus is None else start.minus(self.head.start(values, versus, self.dtype))

    def _back(self, values, uses, start, note=None):
        """Relevance by `Value`; `note(call, outputs, parts)` hears what each call was given and dealt out."""
        relevance = {start.players: start.relevance}
        for call, use in zip(reversed(self.calls), reversed(uses)):
            outputs = [relevance.get(value) for value in call.outputs]
            if all(output is None for output in outputs):
                continue
            outputs = [
                ops.zeros(values[value].shape, self.dtype) if output is None else output
                for value, output in zip(call.outputs, outputs)
            ]
            inputs = [ops.cast(values[value], self.dtype) for value in self._sources(call)]
            # a call of masks and indices alone keeps what it got
            parts = self.rules[call](use, inputs, outputs[0] if len(outputs) == 1 else outputs) if inputs else []
            _check_parts(call, inputs, parts)
            for value, part in zip(call.data_inputs, parts):
                relevance[value] = relevance[value] + part if value in relevance else part
            if note is not None:
                note(call, outputs, parts)
        return relevance

    def _of_inputs(self, relevance, tensors):
        return [
            relevance[value] if value in relevance else ops.zeros(tensor.shape, self.dtype)
            for value, tensor in zip(self.inputs, tensors)
        ]


def _total(relevance):
    """Sum over everything but the batch."""
    return ops.sum(ops.reshape(relevance, (relevance.shape[0], -1)), axis=1)


def _ratio(numerator, denominator):
    return numerator / ops.where(denominator > 0, denominator, 1)


def _check_parts(call, inputs, parts):
    """What a rule returns must fit: a part too few would be lost without a word."""
    if not isinstance(parts, (list, tuple)) or [tuple(part.shape) for part in parts] != [
        tuple(x.shape) for x in inputs
    ]:
        received = [tuple(part.shape) for part in parts] if isinstance(parts, (list, tuple)) else type(parts).__name__
        raise ValueError(
            f"The rule of {call.description} must return a list with the relevance of each input, of shapes "
            f"{[tuple(x.shape) for x in inputs]}. Received: {received}"
        )
