"""Rules for operations on each element alone, which have `n = 1` input for each output in eq. (2)."""

from typing import ClassVar

from keras_shapley.lrp.rules.base import CallRecord, unbroadcast
from keras_shapley.models.layer_types import ONE_OPERAND
from keras_shapley.utils.typing import Tensor

__all__ = ["OneOperand", "Pass"]


class Pass:
    """Elementwise layers and operations: the relevance passes unchanged, eq. (2) with n = 1.

    A call raises a `ValueError` if input and output differ in shape.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.ReLU(name="relu"), keras.layers.Dense(3)])
        >>> layer, rule = ks.LRP(model, rules="paper").rules["relu"]
        >>> type(rule).__name__
        'Pass'
    """

    def __call__(self, call: CallRecord, inputs: list[Tensor], relevance: Tensor) -> list[Tensor]:
        if len(inputs) != 1 or tuple(inputs[0].shape) != tuple(relevance.shape):
            raise ValueError(
                f"Rule Pass is for operations on one input that keep its shape. Received: {call.description} with "
                f"inputs of shape {[tuple(x.shape) for x in inputs]} and output {tuple(relevance.shape)}."
            )
        return [relevance]


class OneOperand:
    """An operation on one tensor and constants, such as `x / 255`: the relevance passes unchanged, eq. (2) with n = 1.

    A call raises a `ValueError` if more than one operand is a tensor of the model.

    Example:
        >>> x = keras.Input((1,))
        >>> explainer = ks.LRP(keras.Model(x, x / 4.0), rules="paper")
        >>> print(explainer.explain(np.array([[2.0]])).input)
        [[0.5]]
    """

    fits: ClassVar[tuple[type, ...]] = ONE_OPERAND

    def __call__(self, call: CallRecord, inputs: list[Tensor], relevance: Tensor) -> list[Tensor]:
        if len(inputs) != 1:
            raise ValueError(
                f"Rule OneOperand is for one tensor and constants. Received: {call.description} of {len(inputs)} "
                f"tensors. Give it a rule of its own: LRP(model, rules=[({call.op.name!r}, rule)])."
            )
        return [unbroadcast(relevance, inputs[0])]
