"""Operations whose derivative is written out, so that less is computed and kept than by the backend's own."""

import functools
from collections.abc import Callable, Sequence

from keras import ops

from keras_shapley.backend import with_derivative
from keras_shapley.utils.typing import Tensor, TensorFunction


def elementwise(function: TensorFunction, slopes: Callable[..., Sequence[Tensor | None]]) -> TensorFunction:
    """`function(*operands)` of tensors that broadcast to the shape of the first, with the derivatives `slopes`.

    Args:
        function: of the operands; returns a tensor of the first one's shape.
        slopes: of the operands; returns the derivative by each of them, None where it is zero.

    Returns:
        A function of tensors, differentiable in forward and reverse mode, and again. Make it once, not at each call:
        JAX would trace it anew.
    """

    def pushforward(operands: Sequence[Tensor], tangents: Sequence[Tensor | None]) -> Tensor:
        pairs = zip(slopes(*operands), tangents)
        products = [slope * tangent for slope, tangent in pairs if slope is not None and tangent is not None]
        return sum(products, start=ops.zeros_like(operands[0]))

    def pullback(operands: Sequence[Tensor], cotangent: Tensor) -> list[Tensor | None]:
        pairs = zip(slopes(*operands), operands)
        return [None if slope is None else _sum_to(cotangent * slope, operand) for slope, operand in pairs]

    return with_derivative(function, pushforward, pullback)


def sum_of_squares(x: Tensor, axis: int | tuple[int, ...]) -> Tensor:
    """Sum of `x**2` over one or more axes, which stay with size 1."""
    return _sum_of_squares(axis)(x)


@functools.cache
def _sum_of_squares(axis: int | tuple[int, ...]) -> TensorFunction:
    return with_derivative(
        lambda x: ops.sum(ops.square(x), axis=axis, keepdims=True),
        lambda operands, tangents: 2 * ops.sum(operands[0] * tangents[0], axis=axis, keepdims=True),
        lambda operands, cotangent: [operands[0] * (2 * cotangent)],
    )


def _sum_to(x: Tensor, operand: Tensor) -> Tensor:
    """Sums `x` over the axes along which `operand` was broadcast."""
    missing = len(x.shape) - len(operand.shape)
    ones = [missing + axis for axis, size in enumerate(operand.shape) if size == 1 != x.shape[missing + axis]]
    x = ops.sum(x, axis=ones, keepdims=True) if ones else x
    return ops.sum(x, axis=list(range(missing))) if missing else x
