"""Shapley propagation through maxima and minima, as a tournament of pairs.

The Shapley values of a maximum of two have a closed form, and their multipliers lie between 0 and 1. The maximum of a
window is that of two winners, and so on.
"""

import math
from collections.abc import Sequence

from keras import ops

from keras_shapley.backend import maximum, vjp
from keras_shapley.lrp.propagation.rule import DifferenceRecord, OnePlayer
from keras_shapley.lrp.propagation.variation import Variation
from keras_shapley.lrp.rules.base import unbroadcast
from keras_shapley.models.layer_types import MINIMA
from keras_shapley.models.windows import pooling_windows
from keras_shapley.utils.typing import Tensor

# stands for minus infinity on places that padding adds
_NEVER = -1e30
# below this a difference is rounding
_ROUNDING = 1e-7


class PairExtreme(OnePlayer):
    """`maximum` or `minimum` of tensors and constants.

    The layers take no part of a tensor where a mask closes it.
    """

    def of_inputs(
        self, call: DifferenceRecord, inputs: Sequence[Variation], output: Variation, m: Tensor
    ) -> list[Tensor]:
        sign = _sign(call)
        values, baselines = [sign * x.value for x in inputs], [sign * x.baseline for x in inputs]
        constants = []
        if call.constants:
            # they are what is left of the output far from all tensors
            constants.append(sign * call.at_full_precision(*(ops.full_like(x, sign * _NEVER) for x in values)))
        if len(inputs) + len(constants) > 2:
            if call.masks:
                raise ValueError(
                    "Relevance passes maxima and minima of at most two masked tensors. Received: "
                    f"{call.description} of {len(call.operands)}. Give it a rule of your own, or use "
                    "shapley_values(model, x), which takes any model."
                )
            shape = output.value.shape
            stacks = [
                ops.stack([ops.broadcast_to(x, shape) for x in (*part, *constants)]) for part in (values, baselines)
            ]
            parts = tournament(stacks[0], stacks[1], m)
            return [unbroadcast(parts[i], x.value) for i, x in enumerate(inputs)]
        if constants:
            shares = (_slope(values[0], baselines[0], constants[0]),)
        else:
            shares = _pair_slopes(values[0], values[1], baselines[0], baselines[1])
        shares = _where_open(shares, call.are_open)
        return [unbroadcast(m * share, x.value) for share, x in zip(shares, inputs)]


def _where_open(shares: Sequence[Tensor], are_open: Sequence[Tensor | None]) -> list[Tensor]:
    """The slopes of one tensor or two: all is the other's where one is closed, and the first's where both are."""
    # the last mask has the last word: what is closed in both is the first tensor
    for own, is_open in enumerate(are_open):
        if is_open is not None:
            shares = [ops.where(is_open, share, 0 if k == own else 1) for k, share in enumerate(shares)]
    return list(shares)


class MaxPooling(OnePlayer):
    """Max pooling, local or global."""

    def of_inputs(
        self, call: DifferenceRecord, inputs: Sequence[Variation], output: Variation, m: Tensor
    ) -> list[Tensor]:
        (x,) = inputs
        windows, pullback = vjp(lambda x: pooling_windows(call.op, x), x.value)
        inside = pooling_windows(call.op, ops.ones_like(x.value[:1])) > 0
        value = ops.where(inside, windows, _NEVER)
        baseline = ops.where(inside, pooling_windows(call.op, x.baseline), _NEVER)
        return list(pullback(tournament(value, baseline, ops.reshape(m, value.shape[1:]))))


class Extreme(OnePlayer):
    """`max` and `min` over axes."""

    def of_inputs(
        self, call: DifferenceRecord, inputs: Sequence[Variation], output: Variation, m: Tensor
    ) -> list[Tensor]:
        (x,) = inputs
        rank = len(x.value.shape)
        given = range(rank) if call.op.axis is None else call.op.axis
        axes = sorted(axis % rank for axis in ([given] if isinstance(given, int) else given))

        def candidates(x: Tensor) -> Tensor:
            x = ops.moveaxis(x, axes, list(range(len(axes))))
            return ops.reshape(x, (math.prod(x.shape[: len(axes)]), *x.shape[len(axes) :]))

        value, pullback = vjp(candidates, x.value)
        n, sign = value.shape[0], _sign(call)
        value, baseline = sign * value, sign * candidates(x.baseline)
        initial = getattr(call.op, "initial", None)
        if initial is not None:
            # one more candidate, which is a constant
            value, baseline = (
                ops.concatenate([part, ops.full_like(part[:1], sign * initial)], axis=0) for part in (value, baseline)
            )
        return list(pullback(tournament(value, baseline, ops.reshape(m, value.shape[1:]))[:n]))


def _sign(call: DifferenceRecord) -> float:
    """1 for a maximum, -1 for a minimum, which is the maximum of the opposite."""
    return -1.0 if isinstance(call.op, MINIMA) else 1.0


def tournament(value: Tensor, baseline: Tensor, m: Tensor) -> Tensor:
    """Multipliers of the candidates of a maximum.

    Args:
        value: candidates, shape `(candidates, ...)`.
        baseline: the same at the baseline, of a shape that broadcasts to it.
        m: multiplier of the maximum, shape `(...)`.

    Returns:
        The shape of `value`.
    """
    n = value.shape[0]
    if n == 1:
        return m[None] + ops.zeros_like(value)
    half = n // 2
    first, second, rest = value[:half], value[half : 2 * half], value[2 * half :]
    first0, second0, rest0 = baseline[:half], baseline[half : 2 * half], baseline[2 * half :]
    # who has met nobody goes first in the next round, so that nobody has two rounds without a meeting
    winners = ops.concatenate([rest, maximum(first, second)], axis=0)
    winners0 = ops.concatenate([rest0, maximum(first0, second0)], axis=0)
    m_winners = tournament(winners, winners0, m)
    n_rest = n - 2 * half
    pair = m_winners[n_rest:]
    share, other = _pair_slopes(first, second, first0, second0)
    return ops.concatenate([pair * share, pair * other, m_winners[:n_rest]], axis=0)


def _pair_slopes(a: Tensor, b: Tensor, a0: Tensor, b0: Tensor) -> tuple[Tensor, Tensor]:
    """The Shapley values of a maximum of two, over the differences of both."""
    return (_slope(a, a0, b0) + _slope(a, a0, b)) / 2, (_slope(b, b0, a0) + _slope(b, b0, a)) / 2


def _slope(a: Tensor, a0: Tensor, other: Tensor) -> Tensor:
    """`(max(a, other) - max(a0, other))/(a - a0)`, between 0 and 1."""
    u = a - a0
    is_real = ops.abs(u) > _ROUNDING * (ops.abs(a) + ops.abs(a0)) + 1e-30
    dy = maximum(a, other) - maximum(a0, other)
    tie = ops.cast(a > other, u.dtype) + ops.cast(ops.equal(a, other), u.dtype) / 2
    return ops.where(is_real, dy / ops.where(is_real, u, 1), tie)
