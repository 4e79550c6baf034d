"""Shapley propagation through layers that act on every step, and through what has no closed form."""

from collections.abc import Sequence

import numpy as np
from keras import ops

from keras_shapley.backend import vjp
from keras_shapley.lrp.propagation.rule import DifferenceRecord, DifferenceRule, OneOutput, OnePlayer
from keras_shapley.lrp.propagation.variation import Multiplier, Variation
from keras_shapley.lrp.rules.moving import as_steps
from keras_shapley.models.graph import Call, Value
from keras_shapley.utils.typing import Tensor

# Gauss-Legendre nodes between the baseline and the input
_NODES = 16


class EachStep(OneOutput):
    """TimeDistributed: the rule of the wrapped layer, on every step by itself.

    Args:
        call: the call of the wrapped layer.
        rule: its rule.
    """

    def __init__(self, call: Call, rule: DifferenceRule) -> None:
        self.call = call
        self.rule = rule

    def at_baseline(self, call: DifferenceRecord, inputs: Sequence[Variation]) -> list[Tensor] | None:
        (x,) = inputs
        results = self.rule.at_baseline(self._record(), [_steps(x)])
        return None if results is None else [ops.reshape(y, (*x.value.shape[:2], *y.shape[1:])) for y in results]

    def of_output(
        self, call: DifferenceRecord, inputs: Sequence[Variation], output: Variation, multiplier: Multiplier
    ) -> list[Multiplier]:
        (x,) = inputs
        steps, results = _steps(x), _steps(output)
        record = self._record()
        record.save([steps])
        m = as_steps(multiplier.of_player(output.difference))
        (part,) = self.rule.multipliers(record, [steps], [results], [Multiplier(m)])
        return [Multiplier(ops.reshape(part.of_player(steps.difference), x.value.shape))]

    def _record(self) -> DifferenceRecord:
        return DifferenceRecord(self.call.name, self.call.op, ((Value(),), {}))


def _steps(x: Variation) -> Variation:
    """A batch of sequences as one batch of steps."""
    return Variation(as_steps(x.value), as_steps(ops.broadcast_to(x.baseline, x.value.shape)))


class AlongPath(OnePlayer):
    """The mean gradient on the way from the baseline to the input, for operations without a closed form.

    These are the values of Aumann and Shapley (1974). The error of the quadrature appears as a gap.
    """

    def of_inputs(
        self, call: DifferenceRecord, inputs: Sequence[Variation], output: Variation, m: Tensor
    ) -> list[Tensor]:
        nodes, weights = np.polynomial.legendre.leggauss(_NODES)
        totals = [ops.zeros_like(x.value) for x in inputs]
        for t, weight in zip(((nodes + 1) / 2).tolist(), (weights / 2).tolist()):
            _, pullback = vjp(call.at_full_precision, *(x.baseline + t * x.difference for x in inputs))
            totals = [total + weight * part for total, part in zip(totals, pullback(m))]
        return totals
