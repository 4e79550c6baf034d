"""Shapley propagation through what is linear without weights: sums, means, elements that move."""

from collections.abc import Sequence
from typing import Any

from keras import layers, ops, tree

from keras_shapley.backend import vjp
from keras_shapley.lrp.propagation.rule import DifferenceRecord, DifferenceRule, OneOutput, OnePlayer
from keras_shapley.lrp.propagation.variation import Multiplier, Variation, per_unit
from keras_shapley.lrp.rules.attention import check_product
from keras_shapley.lrp.rules.base import transposed, unbroadcast
from keras_shapley.lrp.rules.moving import check_encoding, check_rows, class_axis, columns_of, is_one_hot
from keras_shapley.models.graph import Call, Value
from keras_shapley.models.keras_internals import SCALED_ADDITION, SUBTRACT_OPERATION
from keras_shapley.models.layer_types import LOOKUP
from keras_shapley.utils.typing import Tensor


class Affine(OneOutput):
    """Each element times a number, plus a number, as in BatchNormalization.

    Contributions stay apart, unless the numbers spread an element over several.
    """

    def variations(
        self, call: DifferenceRecord, inputs: Sequence[Variation], outputs: list[Variation]
    ) -> list[Variation]:
        (x,), (y,) = inputs, outputs
        if x.is_player or not x.has_shape_of(y):
            return outputs

        return [Variation(y.value, y.baseline, lambda: ops.square(_factor(call, x)) * x.q)]

    def of_output(
        self, call: DifferenceRecord, inputs: Sequence[Variation], output: Variation, multiplier: Multiplier
    ) -> list[Multiplier]:
        (x,) = inputs
        if not x.has_shape_of(output):
            _, pullback = vjp(call.at_full_precision, x.value)
            return [Multiplier(*pullback(multiplier.of_player(output.difference)))]
        factor = _factor(call, x)
        return [Multiplier(factor * multiplier.u, None if multiplier.q is None else ops.square(factor) * multiplier.q)]


def _factor(call: DifferenceRecord, x: Variation) -> Tensor:
    """The factor of each element, of a batch of one where all samples have the same."""
    y, pullback = vjp(call.at_full_precision, x.value if call.holds_tensors else x.value[:1])
    if not call.holds_tensors and y.shape[0] != 1:
        # a constant with a row for each sample
        y, pullback = vjp(call.at_full_precision, x.value)
    return pullback(ops.ones_like(y))[0]


class Addition(OneOutput):
    """A sum of tensors. A neuron behind it has the contributions of all of them."""

    def variations(
        self, call: DifferenceRecord, inputs: Sequence[Variation], outputs: list[Variation]
    ) -> list[Variation]:
        (y,) = outputs
        factors = _factors(call)
        if len(inputs) == 1 and inputs[0].is_player and inputs[0].has_shape_of(y):
            # an element plus a number is as much a player as the element
            return outputs

        def q() -> Tensor:
            parts = [_times(factor**2, x.q) for factor, x in zip(factors, inputs)]
            # a constant may spread the addends
            return ops.broadcast_to(sum(parts[1:], start=parts[0]), y.value.shape)

        return [Variation(y.value, y.baseline, q)]

    def of_output(
        self, call: DifferenceRecord, inputs: Sequence[Variation], output: Variation, multiplier: Multiplier
    ) -> list[Multiplier]:
        parts = []
        for factor, x in zip(_factors(call), inputs):
            u = unbroadcast(_times(factor, multiplier.u), x.value)
            q = None if multiplier.q is None else unbroadcast(_times(factor**2, multiplier.q), x.value)
            parts.append(Multiplier(u, q))
        return parts


def _times(factor: float, x: Tensor) -> Tensor:
    """A product that takes no pass over memory where the factor is 1."""
    return x if factor == 1 else factor * x


def _factors(call: DifferenceRecord) -> list[float]:
    """The factor of each addend that carries data."""
    addends = call.operands
    factors = [1.0] * len(addends)
    if isinstance(call.op, layers.Average):
        factors = [1 / len(addends)] * len(addends)
    if isinstance(call.op, SCALED_ADDITION):
        factors = [1.0, call.op.scale]
    if isinstance(call.op, (layers.Subtract, SUBTRACT_OPERATION)):
        factors = [1.0, -1.0]
    return [
        factor for addend, factor in zip(addends, factors) if isinstance(addend, Value) and addend in call.data_inputs
    ]


class Transpose(DifferenceRule):
    """Any other linear operation, such as average pooling: multipliers go back by its transpose."""

    def multipliers(
        self,
        call: DifferenceRecord,
        inputs: Sequence[Variation],
        outputs: Sequence[Variation],
        multipliers: Sequence[Multiplier],
    ) -> list[Multiplier]:
        of_outputs = [multiplier.of_player(y.difference) for y, multiplier in zip(outputs, multipliers)]
        return [Multiplier(part) for part in _transpose(call, inputs, of_outputs)]


class Move(DifferenceRule):
    """Elements move to other places. Multipliers move back, and contributions stay apart."""

    def variations(
        self, call: DifferenceRecord, inputs: Sequence[Variation], outputs: list[Variation]
    ) -> list[Variation]:
        if all(x.is_player for x in inputs):
            return outputs

        def q(i: int) -> Tensor:
            moved, constants = (
                tree.flatten(call.at_full_precision(*parts))[i]
                for parts in ([x.q for x in inputs], [ops.zeros_like(x.value) for x in inputs])
            )
            return moved - constants

        return [Variation(y.value, y.baseline, lambda i=i: q(i)) for i, y in enumerate(outputs)]

    def multipliers(
        self,
        call: DifferenceRecord,
        inputs: Sequence[Variation],
        outputs: Sequence[Variation],
        multipliers: Sequence[Multiplier],
    ) -> list[Multiplier]:
        us = _transpose(call, inputs, [multiplier.u for multiplier in multipliers])
        if all(multiplier.q is None for multiplier in multipliers):
            return [Multiplier(u) for u in us]
        squares = [ops.zeros_like(part.u) if part.q is None else part.q for part in multipliers]
        return [Multiplier(u, q) for u, q in zip(us, _transpose(call, inputs, squares))]


def _transpose(call: DifferenceRecord, inputs: Sequence[Variation], multipliers: Sequence[Tensor]) -> list[Tensor]:
    """The transpose of an affine operation, applied to multipliers of the outputs."""
    return transposed(call, [x.value for x in inputs], multipliers)


class ConstantFactor(OneOutput):
    """A product of a tensor and constants, as `ops.matmul` and `ops.conv`: the sum of a neuron that is no layer."""

    def check(self, call: Call) -> None:
        check_product(call)

    def variations(
        self, call: DifferenceRecord, inputs: Sequence[Variation], outputs: list[Variation]
    ) -> list[Variation]:
        (x,), (y,) = inputs, outputs
        squared = _squared(call)
        return [Variation(y.value, y.baseline, lambda: squared.at_full_precision(ops.square(x.difference)))]

    def of_output(
        self, call: DifferenceRecord, inputs: Sequence[Variation], output: Variation, multiplier: Multiplier
    ) -> list[Multiplier]:
        (x,) = inputs
        _, pullback = vjp(call.at_full_precision, x.value)
        (m,) = pullback(multiplier.u)
        if multiplier.q is not None:
            _, pullback = vjp(_squared(call).at_full_precision, ops.square(x.difference))
            m = m + x.difference * pullback(multiplier.q)[0]
        return [Multiplier(m)]


def _squared(call: DifferenceRecord) -> Call:
    """The call with the squares of its constants."""

    def squared(leaf: Any) -> Any:
        return leaf if leaf is None or isinstance(leaf, Value) else ops.square(leaf)

    return Call(call.name, call.op, tree.map_structure(squared, call.arguments))


class Encoding(OnePlayer):
    """CategoryEncoding and `one_hot`: a token receives the relevance of its own column, less that at the baseline."""

    def check(self, call: Call) -> None:
        check_encoding(call)

    def of_inputs(
        self, call: DifferenceRecord, inputs: Sequence[Variation], output: Variation, m: Tensor
    ) -> list[Tensor]:
        (token,) = inputs
        if is_one_hot(call.op):
            relevance = ops.reshape(ops.sum(m * output.difference, axis=class_axis(call.op)), token.value.shape)
            return [per_unit(relevance, token.difference)]
        columns, columns0 = (columns_of(call.op, x) for x in (token.value, token.baseline))
        # with several tokens in one column, or none, its difference goes to them in equal parts
        counts = ops.sum(columns, axis=-2) - ops.sum(columns0, axis=-2)
        m = m * per_unit(output.difference, counts)
        relevance = ops.sum((columns - columns0) * m[..., None, :], axis=-1)
        return [per_unit(relevance, token.difference)]


class Rounded(OnePlayer):
    """A cast to whole numbers, which has no slope: what an element adds to its rounded value is its own."""

    def of_inputs(
        self, call: DifferenceRecord, inputs: Sequence[Variation], output: Variation, m: Tensor
    ) -> list[Tensor]:
        (x,) = inputs
        return [m * per_unit(output.difference, x.difference)]


class Lookup(OnePlayer):
    """Embedding, and rows of a constant table: a token receives the relevance of its vector."""

    def check(self, call: Call) -> None:
        if call.is_a(LOOKUP):
            check_rows(call)

    def of_inputs(
        self, call: DifferenceRecord, inputs: Sequence[Variation], output: Variation, m: Tensor
    ) -> list[Tensor]:
        (token,) = inputs
        relevance = ops.sum(m * output.difference, axis=tuple(range(len(token.value.shape), len(m.shape))))
        return [per_unit(relevance, token.difference)]
