"""The loops of recurrent layers: forward with every state, and back with relevance or multipliers."""

from collections.abc import Callable, Sequence
from typing import Any

from keras import ops, tree

from keras_shapley.backend import RETURNS_INITIAL_STATE
from keras_shapley.models.graph import Call, Value
from keras_shapley.models.recurrent import directions, step_of
from keras_shapley.utils.typing import Structure, Tensor

# takes the parts of a step and what its states carry, returns what its input and the states before carry
StepBack = Callable[[Any, list[Tensor]], tuple[Tensor, list[Tensor]]]


class Loop:
    """The loop of one recurrent layer. Its tensors have the steps first, in the order of the loop.

    Args:
        layer: the layer, not Bidirectional.
        x: sequences, shape `(batch, steps, features)`.
        states: initial states, zeros if empty.
        mask: shape `(batch, steps)`; at a False the loop keeps its states. None for no mask.

    Attributes:
        step: the layer's step.
        x: shape `(steps, batch, features)`.
        before: each state before every step, shape `(steps, batch, units)`.
        parts: what every step computes.
        after: each state after every step.
    """

    def __init__(self, layer: Any, x: Tensor, states: Sequence[Tensor], mask: Tensor | None) -> None:
        self.layer = layer
        self.step = step_of(layer.cell, x.dtype)
        self.x = self._in_order(x)
        self._n = self.x.shape[0]
        initial = list(states) or [
            ops.zeros((x.shape[0], layer.cell.units), x.dtype) for _ in range(self.step.n_states)
        ]
        self._mask = None if mask is None else self._in_order(mask[..., None])
        self._shown = self._outputs_shown()
        added = self.step.of_input(self.x)
        self.after = self._run(added, initial)
        self.before = [ops.concatenate([first[None], state[:-1]]) for first, state in zip(initial, self.after)]
        self.parts = self.step.parts(added, self.before)

    def outputs(self) -> list[Tensor]:
        """What the layer returns: its output, and each state after the last step."""
        h = self.after[0] if self._shown is None else ops.where(self._shown, self.after[0], 0)
        # a layer that goes backwards returns its outputs backwards
        output = ops.swapaxes(h, 0, 1) if self.layer.return_sequences else h[-1]
        return [output, *(state[-1] for state in self.after)]

    def back(
        self, output: Tensor, states: Sequence[Tensor], parts: Structure, step_back: StepBack
    ) -> tuple[Tensor, list[Tensor]]:
        """Carries relevance, or multipliers, from what the layer returns to its inputs and initial states.

        Args:
            output: of the layer's output, in its shape.
            states: of the states after the last step; none if they are zeros.
            parts: what `step_back` needs of the steps, tensors whose first axis is the steps.
            step_back: the way back through one step, and through all steps at once. At a masked step it is not asked.

        Returns:
            That of the sequences `(batch, steps, features)`, and of the initial states.
        """
        if self.layer.return_sequences:
            of_h = ops.swapaxes(output, 0, 1)
        else:
            of_h = ops.concatenate([ops.zeros((self._n - 1, *output.shape), output.dtype), output[None]])
        if self._shown is not None:
            of_h = ops.where(self._shown, of_h, 0)
        steps = {"parts": parts, "of_h": of_h}
        if self._mask is not None:
            steps["mask"] = self._mask
        last = list(states) or [ops.zeros_like(of_h[0]) for _ in range(self.step.n_states)]

        def body(carried: list[Tensor], at: dict[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
            carried = [carried[0] + at["of_h"], *carried[1:]]
            if "mask" not in at:
                return step_back(at["parts"], carried)[1], carried
            computed = [ops.where(at["mask"], state, 0) for state in carried]
            before = step_back(at["parts"], computed)[1]
            return [ops.where(at["mask"], new, old) for new, old in zip(before, carried)], computed

        initial, of_states = ops.scan(body, last, steps, length=self._n, reverse=True)
        of_states = [ops.reshape(state, of_h.shape) for state in of_states]
        of_x, _ = step_back(parts, of_states)
        return self._in_order(ops.swapaxes(of_x, 0, 1), back=True), list(initial)

    def _run(self, added: Tensor, initial: list[Tensor]) -> list[Tensor]:
        """Each state after every step."""
        steps = {"added": added} if self._mask is None else {"added": added, "mask": self._mask}

        def body(states: list[Tensor], at: dict[str, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
            new = self.step.states(self.step.parts(at["added"], states))
            if "mask" in at:
                new = [ops.where(at["mask"], after, before) for after, before in zip(new, states)]
            return new, new

        _, after = ops.scan(body, initial, steps, length=self._n)
        return [ops.reshape(state, (self._n, *first.shape)) for state, first in zip(after, initial)]

    def _in_order(self, sequences: Tensor, *, back: bool = False) -> Tensor:
        """The steps of sequences as the first axis, in the order of the loop; `back` for sequences from steps."""
        if self.layer.go_backwards:
            sequences = ops.flip(sequences, axis=1)
        return sequences if back else ops.swapaxes(sequences, 0, 1)

    def _outputs_shown(self) -> Tensor | None:
        """Where the layer's output is its state, elsewhere it is 0; None for everywhere."""
        if self._mask is None or self.layer.zero_output_for_mask:
            return self._mask
        if RETURNS_INITIAL_STATE and not self.layer.unroll:
            return None
        return ops.cumsum(ops.cast(self._mask, "int32"), axis=0) > 0


class Loops:
    """The loops of a call of a recurrent layer: one, or the two of a Bidirectional layer.

    Args:
        call: of the layer, whose mask is bound to its tensor.
        inputs: its data inputs: sequences, and initial states if it is given any.

    Attributes:
        loops: the `Loop`s.
        outputs: the output of each, where a Bidirectional layer merges it.
    """

    def __init__(self, call: Call, inputs: Sequence[Tensor]) -> None:
        self._layer = call.op
        self._inputs = inputs
        x, *states = _operands(call.named(inputs))
        values, places = _operands(call.named(call.inputs)), _operands(call.named(range(len(inputs))))
        # a constant has no place among the inputs
        self._places = [place if isinstance(value, Value) else None for value, place in zip(values, places)]
        n, dtype = x.shape[0], x.dtype
        states = [ops.broadcast_to(ops.cast(state, dtype), (n, state.shape[-1])) for state in states]
        mask = next(iter(_leaves(call.named(inputs).get("mask"))), None)
        mask = None if mask is None else ops.cast(mask, "bool")
        loops = directions(call.op)
        self.loops = [Loop(layer, x, part, mask) for layer, part in zip(loops, _by_loop(states, len(loops)))]
        self.outputs = self._aligned([loop.outputs()[0] for loop in self.loops])

    @property
    def merge_mode(self) -> str | None:
        """What a Bidirectional layer does with its two outputs, None if nothing."""
        return getattr(self._layer, "merge_mode", None)

    def back(
        self,
        of_outputs: Sequence[Tensor],
        split: Callable[[Tensor, Sequence[Tensor]], Sequence[Tensor]],
        steps: Sequence[tuple[Structure, StepBack]],
    ) -> list[Tensor]:
        """Carries relevance, or multipliers, back to the data inputs.

        Args:
            of_outputs: of the call's outputs.
            split: takes that of a merged output, returns those of the two outputs that were merged.
            steps: by loop, what `Loop.back` needs.

        Returns:
            Those of the data inputs, in their shapes.
        """
        n = len(self.loops)
        is_merged = n == 2 and self.merge_mode is not None
        n_outputs = 1 if is_merged else n
        outputs = split(of_outputs[0], self.outputs) if is_merged else of_outputs[:n_outputs]
        outputs = self._aligned(outputs)
        of_states = _by_loop(of_outputs[n_outputs:], n)
        shares = [ops.zeros_like(x) for x in self._inputs]
        places = _by_loop(self._places[1:], n)
        for loop, output, states, given, (parts, step_back) in zip(self.loops, outputs, of_states, places, steps):
            of_x, of_initial = loop.back(output, states, parts, step_back)
            for place, share in zip([self._places[0], *given], [of_x, *of_initial]):
                if place is not None:
                    shares[place] = shares[place] + share
        return shares

    def _aligned(self, outputs: Sequence[Tensor]) -> list[Tensor]:
        """The outputs of the loops with their steps in one order, or back in their own: the second is turned."""
        if len(outputs) == 2 and self._layer.return_sequences:
            return [outputs[0], ops.flip(outputs[1], axis=1)]
        return list(outputs)


def _operands(named: dict[str, Any]) -> list[Any]:
    """The sequences, and the initial states if there are any."""
    return [named["sequences"], *_leaves(named.get("initial_state"))]


def _leaves(structure: Structure) -> list[Any]:
    """The leaves of a structure that are not None."""
    return [leaf for leaf in tree.flatten(structure) if leaf is not None]


def _by_loop(states: Sequence[Any], n: int) -> list[Sequence[Any]]:
    """What is said of all states, by loop."""
    size = len(states) // n
    return [states[i * size : (i + 1) * size] for i in range(n)]
