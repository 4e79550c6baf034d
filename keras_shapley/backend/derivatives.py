"""Operations whose derivative is written out, so that less is computed and kept than by the backend's own."""

import functools
from collections.abc import Callable, Sequence

from keras import ops

from keras_shapley.backend import product, square_of_product, with_derivative
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


def square(x: Tensor, scale: Tensor | None = None) -> Tensor:
    """`(scale * x)**2`; `scale` broadcasts against `x`, and no gradient flows into it."""
    return ops.square(x) if scale is None else _SQUARE(x, scale)


def sum_of_squares(x: Tensor, axis: int | tuple[int, ...], scale: Tensor | None = None) -> Tensor:
    """Sum of `(scale * x)**2` over one or more axes, which stay with size 1; `scale` as in `square`."""
    return _sum_of_squares(axis)(x, 1.0 if scale is None else scale)


_SQUARE = with_derivative(
    lambda x, scale: square_of_product(x, scale),
    lambda operands, tangents: 2 * product(*operands, tangents[0], operands[1]),
    lambda operands, cotangent: [product(*operands, cotangent, 2 * operands[1]), None],
)


@functools.cache
def _sum_of_squares(axis: int | tuple[int, ...]) -> TensorFunction:
    def pushforward(operands: Sequence[Tensor], tangents: Sequence[Tensor | None]) -> Tensor:
        return 2 * ops.sum(product(*operands, tangents[0], operands[1]), axis=axis, keepdims=True)

    return with_derivative(
        lambda x, scale: ops.sum(square_of_product(x, scale), axis=axis, keepdims=True),
        pushforward,
        lambda operands, cotangent: [product(*operands, 2 * cotangent * operands[1]), None],
    )


def _sum_to(x: Tensor, operand: Tensor) -> Tensor:
    """Sums `x` over the axes along which `operand` was broadcast."""
    missing = len(x.shape) - len(operand.shape)
    ones = [missing + axis for axis, size in enumerate(operand.shape) if size == 1 != x.shape[missing + axis]]
    x = ops.sum(x, axis=ones, keepdims=True) if ones else x
    return ops.sum(x, axis=list(range(missing))) if missing else x
