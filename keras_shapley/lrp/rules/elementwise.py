"""Rules for calls without weights: sums, pooling, elementwise operations, and those that move elements.

What a rule is, `keras_shapley.rules` says.
"""

from keras_shapley.lrp.rules.base import gathered


class Pass:
    """Elementwise operations have one input an output (n = 1 in eq. (2)): the relevance passes unchanged.

    Raises:
        ValueError: if input and output differ in shape.
    """

    def __call__(self, call, inputs, relevance):
        if len(inputs) != 1 or tuple(inputs[0].shape) != tuple(relevance.shape):
            raise ValueError(
                f"Rule Pass is for operations on one input that keep its shape. Received: {call.description} with "
                f"inputs of shape {[tuple(x.shape) for x in inputs]} and output {tuple(relevance.shape)}."
            )
        return [relevance]


class OneOperand:
    """An operation on one tensor and constants (`x / 255`, `x ** 2`) has n = 1: the relevance passes unchanged.

    Raises:
        ValueError: if more than one operand is a tensor of the model.
    """

    def __call__(self, call, inputs, relevance):
        if len(inputs) != 1:
            raise ValueError(
                f"Rule OneOperand is for one tensor and constants. Received: {call.description} of {len(inputs)} "
                f"tensors. Give it a rule of its own: LRP(model, rules=[({call.op.name!r}, rule)])."
            )
        return [gathered(relevance, inputs[0])]
