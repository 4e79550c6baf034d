"""What a rule works with: the record of a call, a stabilised division, and relevance in proportion to addends."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

from keras import ops, tree

from keras_shapley.backend import signed, vjp
from keras_shapley.layers.linear_maps import LINEAR_TYPES, LinearMap, linear_map
from keras_shapley.models.graph import Arguments, Call, Value
from keras_shapley.models.keras_internals import attach_mask, attached_mask
from keras_shapley.models.layer_types import MERGED_WHERE_OPEN
from keras_shapley.utils.typing import Structure, Tensor, TensorFunction

__all__ = ["stabilize"]

Record = TypeVar("Record", bound="CallRecord")


class Preactivation(NamedTuple):
    """What a linear layer computes before its activation.

    Attributes:
        value: `u + b`, in the shape of the layer's output.
        pullback: takes a cotangent of `value` and returns a tuple with the cotangent of the layer's input.
    """

    value: Tensor
    pullback: Callable[[Tensor], tuple[Tensor, ...]]


@dataclasses.dataclass(eq=False, kw_only=True)
class CallRecord(Call):
    """One call in one walk: the first argument of a rule.

    Masks and indices are bound to their tensors, so `inputs` holds the inputs that carry data.

    Attributes:
        linear_map: the linear map of the layer, including a merged BatchNormalization; None for a call without one.
        preactivation: what the layer computed on the way forward; None if the walk did not save it.
        masks: for a layer that merges tensors where their masks are open, the Keras mask of each input; None for an
            input without one.
    """

    linear_map: LinearMap | None = None
    preactivation: Preactivation | None = None
    masks: Sequence[Tensor | None] = ()

    @classmethod
    def of(cls: type[Record], call: Call, tensors: Sequence[Tensor]) -> Record:
        """The record of a call that is given `tensors`, one for each of its inputs."""
        masks = _merged_masks(call, tensors)
        return cls(call.name, call.op, call.bind_controls(tensors), call.outputs, masks=masks)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.linear_map is None and self.is_a(LINEAR_TYPES):
            self.linear_map = linear_map(self.op)

    def fill(self, tensors: Iterable[Any]) -> Arguments:
        """The arguments with one of `tensors`, and its mask, for each of `inputs`."""
        return super().fill(map(_with_mask, tensors, self.masks) if self.masks else tensors)

    @property
    def are_open(self) -> list[Tensor | None]:
        """Where the layer takes each input: bool of a shape that broadcasts to it, or None for everywhere."""
        masks = self.masks or [None] * len(self.inputs)
        return [None if mask is None else ops.cast(mask, "bool")[..., None] for mask in masks]


# `rule(call, inputs, relevance)`; the relevance is a list for a call with several outputs
Rule: TypeAlias = Callable[[CallRecord, list[Tensor], Any], Sequence[Tensor]]


def stabilize(x: Tensor, epsilon: float) -> Tensor:
    """`x + epsilon sign(x)` with sign(0) = +1, the denominator of eq. (2).

    Args:
        x: denominators, of any shape.
        epsilon: size of the stabiliser.

    Returns:
        Tensor of the shape of `x`. No element is closer to zero than `epsilon`.

    Examples:
        >>> x = keras.ops.convert_to_tensor([-1.0, 0.0, 2.0])
        >>> print(keras.ops.convert_to_numpy(ks.rules.stabilize(x, 0.5)))
        [-1.5  0.5  2.5]
    """
    return x + signed(epsilon, x)


def _merged_masks(call: Call, tensors: Sequence[Tensor]) -> list[Tensor | None]:
    """`CallRecord.masks` for the tensors of all inputs of a call; empty if no mask has an effect."""
    if not isinstance(call.op, MERGED_WHERE_OPEN):
        return []
    masks = [attached_mask(x) for value, x in zip(call.inputs, tensors) if value in call.data_inputs]
    return masks if any(mask is not None for mask in masks) else []


def _with_mask(x: Any, mask: Tensor | None) -> Any:
    """A tensor with a mask of its own; the tensor itself may be used elsewhere without."""
    if mask is None or isinstance(x, Value):
        return x
    x = x + ops.zeros_like(x)
    attach_mask(x, mask)
    return x


def in_proportion(
    function: TensorFunction, inputs: Sequence[Tensor], relevance: Tensor, epsilon: float
) -> list[Tensor]:
    """Relevance of the inputs of a function that is linear in each of them: `x df/dx` over the value of `f`."""
    y, pullback = vjp(function, *inputs)
    cotangents = pullback(relevance / stabilize(y, epsilon))
    return [x * cotangent for x, cotangent in zip(inputs, cotangents)]


def unbroadcast(relevance: Tensor, x: Tensor) -> Tensor:
    """Relevance in the shape to which `x` was broadcast, summed back to the shape of `x`."""
    _, pullback = vjp(lambda x: ops.broadcast_to(x, relevance.shape), x)
    return pullback(relevance)[0]


def transposed(call: Call, inputs: Sequence[Tensor], outputs: Structure) -> list[Tensor]:
    """The transpose of an affine operation of several inputs and outputs at `inputs`, applied to `outputs`."""
    _, pullback = vjp(lambda *inputs: _flat(call.at_full_precision(*inputs)), *inputs)
    return list(pullback(_flat(outputs)))


def _flat(tensors: Structure) -> Tensor:
    """All elements of a tensor or of several in one vector."""
    return ops.concatenate([ops.reshape(tensor, (-1,)) for tensor in tree.flatten(tensors)], axis=0)
