"""Where a walk starts, and with which relevance."""

import dataclasses
from typing import TypeAlias

from keras import ops

from keras_shapley.layers.linear_maps import linear_map
from keras_shapley.models.graph import Call, Value
from keras_shapley.models.model_end import ModelEnd
from keras_shapley.utils.targets import is_weights
from keras_shapley.utils.typing import Tensor

# What is explained of each sample, and what it is compared with: indices of outputs `(batch,)` or weights of them
# `(batch, *output)`. A target that is None is the largest output; a versus that is None compares with nothing.
TargetPair: TypeAlias = tuple[Tensor | None, Tensor | None]


@dataclasses.dataclass
class Start:
    """The relevance with which a walk starts at one end of the model. Tensors have a leading batch axis.

    Attributes:
        value: the place in the graph that has the relevance.
        relevance: relevance of the tensor there, in its shape.
        stderr: standard error of `relevance`, same shape; 0 where it is exact, NaN where it is unknown.
        total: what is explained, shape `(batch,)`; conservation gaps are relative to it.
        baseline: what is explained without any player, shape `(batch,)`; zeros for a linear head without a baseline.
        missed: what the head's Shapley values missed of the total, shape `(batch,)`; zeros where there are none.
        n_paths: number of random paths, an int scalar; 0 where none were needed.
        gap_call: the call whose gap is the difference between `total` and the sum of `relevance`; None if they are
            equal by definition.
        multiplier: relevance per unit of the difference from the baseline, in the shape of the relevance; None where
            it is the quotient of both.
    """

    value: Value
    relevance: Tensor
    stderr: Tensor
    total: Tensor
    baseline: Tensor
    missed: Tensor
    n_paths: Tensor
    gap_call: Call | None
    multiplier: Tensor | None = None

    def minus(self, other: "Start") -> "Start":
        """The start of the difference. Its standard error is a bound, as both are sampled on the same paths."""
        return dataclasses.replace(
            self,
            relevance=self.relevance - other.relevance,
            stderr=self.stderr + other.stderr,
            total=self.total - other.total,
            baseline=self.baseline - other.baseline,
            missed=self.missed - other.missed,
            n_paths=ops.maximum(self.n_paths, other.n_paths),
            multiplier=None if self.multiplier is None else self.multiplier - other.multiplier,
        )

    def times(self, share: float) -> "Start":
        """The start of a positive share of what is explained."""
        if share == 1:
            return self
        return dataclasses.replace(
            self,
            relevance=share * self.relevance,
            stderr=share * self.stderr,
            total=share * self.total,
            baseline=share * self.baseline,
            missed=share * self.missed,
            multiplier=None if self.multiplier is None else share * self.multiplier,
        )


def resolved(target: Tensor | None, output: Tensor) -> Tensor:
    """The target of each sample: the index of the largest output in place of None, else what is given."""
    if target is None:
        return ops.cast(ops.argmax(flat(output), axis=1), "int32")
    return target


def as_weights(target: Tensor, n_outputs: int, dtype: str) -> Tensor:
    """Weights of all outputs, shape `(batch, outputs)`."""
    if is_weights(target):
        return ops.cast(flat(target), dtype)
    return ops.one_hot(target, n_outputs, dtype=dtype)


def logits_tensor(end: ModelEnd, tensors: dict[Value, Tensor], dtype: str) -> Tensor:
    """The logits of an end, which a layer with the link as its activation does not give."""
    call = end.linear_call
    if call is None or call is not end.link_call:
        return ops.cast(tensors[end.logits], dtype)
    return linear_map(call.op).preactivation(ops.cast(tensors[call.inputs[0]], dtype))


def flat(x: Tensor) -> Tensor:
    """A tensor as rows, shape `(batch, elements)`."""
    return ops.reshape(x, (x.shape[0], -1))
