"""Shapley propagation through linear layers, and through activations behind them."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_shapley.backend import in_blocks
from keras_shapley.layers.base import ShapleyLayer
from keras_shapley.lrp.propagation.gates import Measured, coefficients, moments_of, slope
from keras_shapley.lrp.propagation.products import log_softmax_multiplier, softmax_multiplier
from keras_shapley.lrp.propagation.rule import DifferenceRecord, OneOutput
from keras_shapley.lrp.propagation.variation import Multiplier, Variation
from keras_shapley.lrp.rules.base import unbroadcast
from keras_shapley.models.graph import Call, Value
from keras_shapley.models.layer_types import MIXING_ACTIVATIONS, activation_function, activation_of
from keras_shapley.models.mean_slope import mean_slope
from keras_shapley.utils.typing import Operation, Tensor, TensorFunction
from keras_shapley.utils.validation import one_of

KINDS = ("shapley", "first_order", "rescale")


class Activation(OneOutput):
    """An activation of a sum that linear layers made.

    Args:
        kind: what a contribution `a` receives of the output's difference `dy`. `"shapley"`: `G a + H a**2`.
            `"first_order"`: `G a`. `"rescale"`: `a dy/u`.
    """

    def __init__(self, kind: str = "shapley") -> None:
        self.kind = one_of("kind", kind, KINDS)

    def of_output(
        self, call: DifferenceRecord, inputs: Sequence[Variation], output: Variation, multiplier: Multiplier
    ) -> list[Multiplier]:
        (z,) = inputs
        if z.has_shape_of(output):
            return [self.before(call, call.at_full_precision, z, output, multiplier)]
        # a constant, such as an exponent, spreads each element over several
        part = self.before(call, call.at_full_precision, _spread(z, output), output, multiplier)
        u, q = (None if m is None else unbroadcast(m, z.value) for m in (part.u, part.q))
        return [Multiplier(u, q)]

    def has_gate(self, call: Call) -> bool:
        """Whether the mean slope of the call's activation is taken over random orders."""
        return self.kind != "rescale" and activation_of(call.op) not in MIXING_ACTIVATIONS

    def sums(self, call: DifferenceRecord, variations: Mapping[Value, Variation]) -> Variation:
        """What the activation of a call is a function of."""
        return variations[call.data_inputs[0]]

    def before(
        self, call: DifferenceRecord, function: TensorFunction, z: Variation, y: Variation, multiplier: Multiplier
    ) -> Multiplier:
        """The multiplier of `z`, in front of the activation `y = function(z)`."""
        if self.has_gate(call) and not z.is_player:
            return self._gated(call, function, z, y, multiplier)
        activation = activation_of(call.op)
        m = multiplier.of_player(y.difference)
        if activation is keras.activations.softmax:
            return Multiplier(softmax_multiplier(z, y, m, axis=-1))
        if activation is keras.activations.log_softmax:
            return Multiplier(log_softmax_multiplier(z, m, axis=-1))
        return Multiplier(m * slope(function, z, y.difference))

    def _gated(
        self, call: DifferenceRecord, function: TensorFunction, z: Variation, y: Variation, multiplier: Multiplier
    ) -> Multiplier:
        """The multiplier of a sum, by the mean slope over random orders."""
        measured = call.measured
        moments = (None, None) if measured is None else (measured.mean, measured.square)

        def gated(
            z: Tensor, z0: Tensor, q: Tensor, y: Tensor, y0: Tensor, u: Tensor, of_squares: Any, mean: Any, square: Any
        ) -> list[Tensor]:
            part, difference = Variation(z, z0, lambda: q), y - y0
            m = Multiplier(u, of_squares).of_player(difference)
            moments = None if measured is None else Measured(mean, square, measured.n)
            g = mean_slope(call.op, function, moments_of(part, moments))
            if self.kind == "first_order":
                return [m * g]
            g, h = coefficients(g, part, difference)
            return [m * g, m * h]

        tensors = z.value, z.baseline, z.q, y.value, y.baseline, multiplier.u, multiplier.q, *moments
        return Multiplier(*(gated(*tensors) if call.holds_tensors else in_blocks(gated, *tensors)))


def _spread(z: Variation, y: Variation) -> Variation:
    """A sum in the shape of `y`, to which it can be broadcast."""
    zeros = ops.zeros_like(y.value)
    squares = None if z.is_player else lambda: z.q + zeros
    return Variation(z.value + zeros, z.baseline + ops.zeros_like(y.baseline), squares)


class Linear(Activation):
    """A layer with a linear map, and its activation: the paper's neuron.

    Args:
        kind: as in `Activation`.
        at_head: whether the head of the model takes care of the activation, so that multipliers are those of the sums.
    """

    def __init__(self, kind: str = "shapley", *, at_head: bool = False) -> None:
        super().__init__(kind)
        self.at_head = at_head

    def has_gate(self, call: Call) -> bool:
        return has_activation(call.op) and not self.at_head and super().has_gate(call)

    def sums(self, call: DifferenceRecord, variations: Mapping[Value, Variation]) -> Variation:
        sums, squares = call.preactivation, call.squares
        assert sums is not None and squares is not None, "the walk saves both for a layer with a linear map"
        return Variation(sums.value, call.baseline_preactivation, lambda: squares.value)

    def variations(
        self, call: DifferenceRecord, inputs: Sequence[Variation], outputs: list[Variation]
    ) -> list[Variation]:
        if has_activation(call.op) and not self.at_head:
            return outputs
        return [self.sums(call, {})]

    def of_output(
        self, call: DifferenceRecord, inputs: Sequence[Variation], output: Variation, multiplier: Multiplier
    ) -> list[Multiplier]:
        (x,) = inputs
        sums, squares = call.preactivation, call.squares
        assert sums is not None and squares is not None, "the walk saves both for a layer with a linear map"
        if has_activation(call.op) and not self.at_head:
            function = activation_function(call.op)
            assert function is not None, "the layer has an activation"
            multiplier = self.before(call, function, self.sums(call, {}), output, multiplier)
        (m,) = sums.pullback(multiplier.u)
        if multiplier.q is not None:
            m = m + x.difference * squares.pullback(multiplier.q)
        return [Multiplier(m)]


def has_activation(op: Operation) -> bool:
    """Whether a layer ends with an activation that is not the identity."""
    return isinstance(op, ShapleyLayer) or activation_of(op) not in (None, keras.activations.linear)
