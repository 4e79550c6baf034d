"""Derivatives and compiled functions on PyTorch. `jax.py` documents the functions."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import torch

from keras_shapley.backend.common import as_tensors, without_side_effects

COMPILES = False
COMPILES_ANY_SIZE = True
RETURNS_INITIAL_STATE = False

# elements of a tensor that a processor's cache holds several of
_BLOCK = 2**17


def erfc(x: Any) -> Any:
    """As on JAX."""
    # float32 has 0 beyond, for which PyTorch needs six times as long as for other values
    return torch.special.erfc(torch.clamp_max(x, 10.05) if x.dtype == torch.float32 else x)


def exp(x: Any) -> Any:
    """As `keras.ops.exp`, but 0 where float32 has no normal number: PyTorch needs ten times as long for others."""
    if x.dtype != torch.float32 or _is_exporting():
        return torch.exp(x)
    return torch.threshold(torch.exp(torch.clamp_min(x, -87.3)), 1.3e-38, 0.0)


def vjp(fn: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """As on JAX."""
    with torch.enable_grad():
        primals = tuple(primal.detach().requires_grad_() for primal in primals)
        output = fn(*primals)

    def pullback(cotangent: Any) -> tuple[Any, ...]:
        gradients = torch.autograd.grad(output, primals, cotangent, retain_graph=True, allow_unused=True)
        return tuple(
            torch.zeros_like(primal) if gradient is None else gradient for primal, gradient in zip(primals, gradients)
        )

    return output.detach(), pullback


class _WithDerivative(torch.autograd.Function):
    @staticmethod
    def forward(functions: Any, *operands: Any) -> Any:
        return functions[0](*operands)

    @staticmethod
    def setup_context(context: Any, inputs: Any, output: Any) -> None:
        (_, context.pushforward, context.pullback), *operands = inputs
        context.save_for_backward(*operands)
        context.save_for_forward(*operands)

    @staticmethod
    def backward(context: Any, cotangent: Any) -> Any:
        return None, *context.pullback(context.saved_tensors, cotangent)


class _WithBothDerivatives(_WithDerivative):
    generate_vmap_rule = True

    @staticmethod
    def jvp(context: Any, _: Any, *tangents: Any) -> Any:
        return context.pushforward(context.saved_tensors, tangents)


def with_derivative(
    function: Callable[..., Any], pushforward: Callable[..., Any], pullback: Callable[..., Any]
) -> Callable[..., Any]:
    """As on JAX; without forward mode under `torch.compile`, which cannot trace it, and none in an exported graph."""
    functions = function, pushforward, pullback

    def differentiable(*operands: Any) -> Any:
        tensors = as_tensors(operands)
        if _is_exporting():
            return function(*tensors)
        if torch.compiler.is_compiling():
            # Dynamo calls a function that needs no gradient with other arguments
            needs_gradient = any(tensor.requires_grad for tensor in tensors)
            return _WithDerivative.apply(functions, *tensors) if needs_gradient else function(*tensors)
        return _WithBothDerivatives.apply(functions, *tensors)

    return differentiable


def compiled(
    fn: Callable[..., Any], variables: Iterable[keras.Variable], *, any_batch: bool = False
) -> Callable[..., Any]:
    """As on JAX, without compilation: PyTorch runs `fn` eagerly."""
    variables = list(variables)
    without_gradients = torch.no_grad()(without_side_effects(fn))

    def at_one_time(*args: Any) -> Any:
        try:
            return without_gradients(*args)
        except RuntimeError as error:
            if "modified by an inplace operation" not in str(error):
                raise
        # another thread trains the model: the weights changed between the forward pass and a gradient
        values = [(variable, variable.value.detach().clone()) for variable in variables]
        with torch.no_grad(), keras.StatelessScope(state_mapping=values):
            return fn(*args)

    # also where a function around it is compiled
    return torch.compiler.disable(at_one_time)


def erfc_is_best(exportable: bool) -> bool:
    """As in `common`: each operation is a pass over memory of its own. What is exported is known."""
    return not _is_exporting()


def is_compiling() -> bool:
    """Whether `torch.compile` traces this. What it traces cannot read context variables."""
    return torch.compiler.is_compiling()


def is_traced(x: Any) -> bool:
    """As on JAX: inside of a transformation of `torch.func`."""
    return torch.is_tensor(x) and torch._C._functorch.is_functorch_wrapped_tensor(x)  # pyright: ignore


def _is_exporting() -> bool:
    return torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export()


def signed(magnitude: float, x: Any) -> Any:
    """The number `magnitude` with the sign of each element of `x`, positive at 0."""
    # three times as fast as a choice between two numbers
    return torch.copysign(torch.tensor(magnitude, dtype=x.dtype, device=x.device), x)


def largest_magnitude(x: Any, axes: Sequence[int]) -> Any:
    """The largest absolute value along axes, which stay with size 1."""
    axes = tuple(axes)
    # not the norm, which takes a hundred times as long
    return torch.maximum(torch.amax(x, axes, keepdim=True), -torch.amin(x, axes, keepdim=True))


def product(x: Any, *factors: Any) -> Any:
    """The product of tensors that broadcast to the shape of `x`."""
    first, *others = factors
    x = x * first
    for factor in others:
        x = x.mul_(factor) if _may_change(x) else x * factor
    return x


def square_of_product(x: Any, scale: Any) -> Any:
    """`(scale * x)**2`; `scale` broadcasts against `x`."""
    x = x * scale
    return x.square_() if _may_change(x) else torch.square(x)


def _may_change(x: Any) -> bool:
    """Whether an operation may write its result over a tensor of ours: new memory costs more than a product."""
    # what is differentiated again must stay, and transformations want results of their own
    return not (torch.is_grad_enabled() or torch.compiler.is_compiling() or is_traced(x))


def in_blocks(fn: Callable[..., Sequence[Any]], *tensors: Any) -> Sequence[Any]:
    """As in `common`: in blocks of samples, between whose operations the processor's cache keeps the tensors."""
    first = tensors[0]
    if not _may_change(first) or first.device.type != "cpu" or first.numel() <= 2 * _BLOCK:
        return fn(*tensors)
    n = len(first)
    size = max(1, _BLOCK * n // first.numel())
    results: list[Any] = []
    for start in range(0, n, size):
        block = slice(start, start + size)
        parts = fn(*(x if x is None or len(x) == 1 else x[block] for x in tensors))
        results = results or [part.new_empty((n, *part.shape[1:])) for part in parts]
        for result, part in zip(results, parts):
            result[block] = part
    return results


def at_least(x: Any, bound: float) -> Any:
    """The larger of `x` and a number; where that is the number the derivative is 0, whatever comes from above."""
    return torch.clamp_min(x, bound)


def clip(x: Any, low: float, high: float) -> Any:
    """As `keras.ops.clip`, which makes tensors of the bounds."""
    return torch.clamp(torch.as_tensor(x), low, high)


def cumsum(x: Any, axis: int) -> Any:
    """As `keras.ops.cumsum`, which makes float32 of float64."""
    return torch.cumsum(x, dim=axis) if _is_float64(x) else keras.ops.cumsum(x, axis=axis)


def matmul(a: Any, b: Any) -> Any:
    """As `keras.ops.matmul`, which makes float32 of float64."""
    return torch.matmul(*as_tensors((a, b))) if _is_float64(a) and _is_float64(b) else keras.ops.matmul(a, b)


def maximum(a: Any, b: Any) -> Any:
    """As `keras.ops.maximum`, which makes float32 of float64."""
    return torch.maximum(*as_tensors((a, b))) if _is_float64(a) else keras.ops.maximum(a, b)


def minimum(a: Any, b: Any) -> Any:
    """As `keras.ops.minimum`, which makes float32 of float64."""
    return torch.minimum(*as_tensors((a, b))) if _is_float64(a) else keras.ops.minimum(a, b)


def _is_float64(x: Any) -> bool:
    return hasattr(x, "dtype") and keras.backend.standardize_dtype(x.dtype) == "float64"
