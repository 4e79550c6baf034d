"""Rules of relevance propagation, measured from a baseline: on differences, and without the bias."""

from collections.abc import Sequence

from keras_shapley.lrp.propagation.rule import DifferenceRecord, OnePlayer
from keras_shapley.lrp.propagation.variation import Variation, per_unit
from keras_shapley.lrp.rules.base import CallRecord, Rule
from keras_shapley.models.batch_norm import OtherWeights
from keras_shapley.utils.typing import Tensor


class Measured(OnePlayer):
    """A rule that distributes the difference of a call's output among the differences of its inputs.

    Behind it an activation is a function of one number, so that its difference is rescaled.

    Args:
        rule: a rule of relevance propagation.
        at_head: whether the head of the model takes care of the call's activation.
    """

    def __init__(self, rule: Rule, *, at_head: bool = False) -> None:
        self.rule = rule
        self.at_head = at_head

    def variations(
        self, call: DifferenceRecord, inputs: Sequence[Variation], outputs: list[Variation]
    ) -> list[Variation]:
        if not self.at_head or call.preactivation is None:
            return outputs
        return [Variation(call.preactivation.value, call.baseline_preactivation)]

    def of_inputs(
        self, call: DifferenceRecord, inputs: Sequence[Variation], output: Variation, m: Tensor
    ) -> list[Tensor]:
        differences = [x.difference for x in inputs]
        record = CallRecord(call.name, call.op, call.arguments, call.outputs)
        if record.linear_map is not None:
            record.linear_map = OtherWeights(record.linear_map, record.linear_map.kernel, None)
        shares = self.rule(record, differences, m * output.difference)
        return [per_unit(share, difference) for share, difference in zip(shares, differences)]
