"""What a rule of Shapley propagation receives and returns."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

from keras import ops, tree

from keras_shapley.backend import vjp
from keras_shapley.layers.linear_maps import LinearMap
from keras_shapley.lrp.propagation.gates import Measured
from keras_shapley.lrp.propagation.variation import Multiplier, Variation
from keras_shapley.lrp.rules.base import CallRecord, Preactivation
from keras_shapley.models.graph import Call
from keras_shapley.utils.typing import Tensor

Pullback = Callable[[Tensor], tuple[Tensor, ...]]


@dataclasses.dataclass(eq=False, kw_only=True)
class DifferenceRecord(CallRecord):
    """One call in one propagation.

    Attributes:
        measured: moments of the call's sum by masked passes; None to take those of eq. (1).
        baseline_preactivation: what a linear layer computes before its activation at the baseline.
        squares: sum of the squared contributions to a linear layer, and its pullback.
    """

    measured: Measured | None = None
    baseline_preactivation: Tensor | None = None
    squares: "Squares | None" = None

    @property
    def holds_tensors(self) -> bool:
        """Whether tensors, such as masks, are among the arguments: they may have a row for each sample."""
        return any(map(ops.is_tensor, tree.flatten(self.arguments)))

    def save(self, inputs: Sequence[Variation]) -> None:
        """Saves what the rule of a layer with a linear map uses again."""
        linear = self.linear_map
        if linear is not None:
            (x,) = inputs
            self.preactivation = Preactivation(*vjp(linear.preactivation, x.value))
            self.baseline_preactivation = linear.preactivation(x.baseline)
            self.squares = Squares(linear, x)


class Squares:
    """`q`, the sum of `(w_k (x_k - x'_k))**2` of a linear layer, computed when it is first asked for.

    Args:
        linear: the layer's linear map.
        x: the layer's input.
    """

    def __init__(self, linear: LinearMap, x: Variation) -> None:
        self._linear = linear
        self._x = x

    @functools.cached_property
    def _vjp(self) -> tuple[Tensor, Pullback]:
        kernel = ops.square(ops.cast(self._linear.kernel, self._x.value.dtype))
        return vjp(lambda squares: self._linear(squares, kernel), ops.square(self._x.difference))

    @property
    def value(self) -> Tensor:
        return self._vjp[0]

    def pullback(self, cotangent: Tensor) -> Tensor:
        """The transpose of the map of the squares."""
        return self._vjp[1](cotangent)[0]


class DifferenceRule:
    """How multipliers pass a call, from its outputs to its inputs."""

    def check(self, call: Call) -> None:
        """Raises a `ValueError` if this call cannot follow the rule, although its type may."""

    def variations(
        self, call: DifferenceRecord, inputs: Sequence[Variation], outputs: list[Variation]
    ) -> list[Variation]:
        """The outputs, as players. A rule for calls behind which contributions stay apart says how squares add up."""
        return outputs

    def at_baseline(self, call: DifferenceRecord, inputs: Sequence[Variation]) -> list[Tensor] | None:
        """The outputs at the baseline, if masks that are made inside of the call are those of its input; else None."""
        return None

    def multipliers(
        self,
        call: DifferenceRecord,
        inputs: Sequence[Variation],
        outputs: Sequence[Variation],
        multipliers: Sequence[Multiplier],
    ) -> list[Multiplier]:
        """The multipliers of the inputs.

        Args:
            call: the call.
            inputs: its data inputs.
            outputs: its outputs.
            multipliers: of the outputs.
        """
        raise TypeError(f"{type(self).__name__} does not define `multipliers`.")


class OneOutput(DifferenceRule):
    """A rule for calls with one output."""

    def multipliers(
        self,
        call: DifferenceRecord,
        inputs: Sequence[Variation],
        outputs: Sequence[Variation],
        multipliers: Sequence[Multiplier],
    ) -> list[Multiplier]:
        (output,), (multiplier,) = outputs, multipliers
        return self.of_output(call, inputs, output, multiplier)

    def of_output(
        self, call: DifferenceRecord, inputs: Sequence[Variation], output: Variation, multiplier: Multiplier
    ) -> list[Multiplier]:
        """The multipliers of the inputs, from that of the output."""
        raise TypeError(f"{type(self).__name__} does not define `of_output`.")


class OnePlayer(OneOutput):
    """A rule for calls with one output, which is a player."""

    def of_output(
        self, call: DifferenceRecord, inputs: Sequence[Variation], output: Variation, multiplier: Multiplier
    ) -> list[Multiplier]:
        return [Multiplier(m) for m in self.of_inputs(call, inputs, output, multiplier.of_player(output.difference))]

    def of_inputs(
        self, call: DifferenceRecord, inputs: Sequence[Variation], output: Variation, m: Tensor
    ) -> list[Tensor]:
        """The multipliers of the inputs, from the multiplier `m` of the output."""
        raise TypeError(f"{type(self).__name__} does not define `of_inputs`.")
