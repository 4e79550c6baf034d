"""Rules for operations on each element alone, which have `n = 1` input for each output in eq. (2)."""

from collections.abc import Callable
from typing import ClassVar

import numpy as np
from keras import ops

from keras_shapley.layers.linear_maps import LINEAR_TYPES
from keras_shapley.lrp.rules.base import CallRecord, unbroadcast
from keras_shapley.models.graph import Call
from keras_shapley.models.keras_internals import DIVISION_OPERATIONS, first_input_shape, first_output_shape
from keras_shapley.models.layer_types import ONE_OPERAND, activation_function
from keras_shapley.utils.typing import Tensor

__all__ = ["Elementwise", "OneOperand", "Pass"]

# stands for an axis whose length is not known
_LENGTH = 4


class Pass:
    """Elementwise layers and operations: the relevance passes unchanged, eq. (2) with n = 1.

    A call raises a `ValueError` if input and output differ in shape.

    Examples:
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


class Elementwise(Pass):
    """You vouch that a layer of your own, a Lambda, or an activation acts on each element alone.

    It is then treated as ReLU is: Shapley propagation takes the mean slope of the function, as of any activation, and
    rules without a baseline pass the relevance unchanged. For a layer with weights such as Dense, it vouches for the
    activation, and the layer follows the rule that it would have without this one.

    A table of such entries alone leaves Shapley propagation the default; `[("own", Elementwise()), *presets.paper()]`
    is eq. (2). `LRP` tries the function on random numbers, and raises a `ValueError` if an output depends on another
    element.

    Examples:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Lambda(lambda x: x**3, name="cube")])
        >>> model.add(keras.layers.Dense(1, activation=lambda x: keras.ops.exp(-x * x), name="bump"))
        >>> explainer = ks.LRP(model, rules=[("cube", ks.rules.Elementwise()), ("bump", ks.rules.Elementwise())])
        >>> explanation = explainer.explain(np.ones((1, 3)))
        >>> bool(np.isclose(explanation.input.sum(), explanation.head_total[0], rtol=1e-3))
        True
    """

    def check(self, call: Call) -> None:
        """Raises a `ValueError` for a call that this rule is not for."""
        is_linear = call.is_a(LINEAR_TYPES)
        if not is_linear and (len(call.data_inputs) != 1 or len(call.outputs) > 1):
            raise ValueError(
                f"Rule Elementwise is for one tensor and one output. Received: {call.description} of "
                f"{len(call.data_inputs)} tensors, with {len(call.outputs)} outputs."
            )
        shape = first_output_shape(call.op) if is_linear else first_input_shape(call.op)
        if shape is None or len(call.inputs) > 1:
            return
        function = activation_function(call.op) if is_linear else call
        if function is not None and _mixes(function, (2, *(size or _LENGTH for size in shape[1:]))):
            raise ValueError(
                "Rule Elementwise is for what acts on each element alone and keeps the shape. Received: "
                f"{call.description}, whose outputs depend on other elements. Give it a rule of your own, a function "
                f"rule(call, inputs, relevance): LRP(model, rules=[({call.name!r}, rule)]), or use "
                "shapley_values(model, x), which takes any model."
            )


def _mixes(function: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> bool:
    """Whether an output changes when other elements do, or has another shape."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, shape).astype("float32")
    is_kept = rng.uniform(size=shape) < 0.5
    changed = np.where(is_kept, x, rng.normal(1, 1, shape)).astype("float32")
    y, other = (ops.convert_to_numpy(function(ops.convert_to_tensor(part))) for part in (x, changed))
    return y.shape != shape or not np.allclose(y[is_kept], other[is_kept], rtol=1e-3, atol=1e-5, equal_nan=True)


class OneOperand:
    """An operation on one tensor and constants, such as `x / 255`: the relevance passes unchanged, eq. (2) with n = 1.

    Of a quotient of two tensors the numerator receives all relevance. The denominator is a scale that is held constant,
    as the standard deviation is in `CentredScale`. `LRP` raises a `ValueError` for other operations on several tensors.

    Examples:
        >>> x = keras.Input((1,))
        >>> explainer = ks.LRP(keras.Model(x, x / 4.0), rules="paper")
        >>> print(explainer.explain(np.array([[2.0]])).input)
        [[0.5]]
    """

    fits: ClassVar[tuple[type, ...]] = ONE_OPERAND

    def check(self, call: Call) -> None:
        """Raises a `ValueError` for a call that this rule is not for."""
        if len(call.data_inputs) != 1 and not isinstance(call.op, DIVISION_OPERATIONS):
            raise ValueError(
                f"Rule OneOperand is for one tensor and constants. Received: {call.description} of "
                f"{len(call.data_inputs)} tensors. Give it a rule of its own: LRP(model, "
                f"rules=[({call.op.name!r}, rule)]), or use shapley_values(model, x), which takes any model."
            )

    def __call__(self, call: CallRecord, inputs: list[Tensor], relevance: Tensor) -> list[Tensor]:
        return [unbroadcast(relevance, inputs[0]), *map(ops.zeros_like, inputs[1:])]
