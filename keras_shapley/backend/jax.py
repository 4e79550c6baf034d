"""Derivatives and compiled functions on JAX."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import keras
from jax.core import Tracer
from jax.custom_derivatives import SymbolicZero

from keras_shapley.backend.common import as_tensors

COMPILES = True
COMPILES_ANY_SIZE = False
RETURNS_INITIAL_STATE = True
UNROLLED = 10  # results of `each`: more would take too long to compile, and much memory

erfc = jax.scipy.special.erfc


def vjp(fn: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """The value of `fn` and its vector-Jacobian product.

    Args:
        fn: function of tensors that returns one tensor.
        primals: float tensors.

    Returns:
        `(output, pullback)`. `pullback(cotangent)` is a tuple of tensors with the shapes of the primals, and may be
        called more than once.
    """
    return jax.vjp(fn, *primals)


def with_derivative(
    function: Callable[..., Any], pushforward: Callable[..., Any], pullback: Callable[..., Any]
) -> Callable[..., Any]:
    """`function(*operands)` with a derivative of its own, in forward and reverse mode and of any order.

    Args:
        function: of tensors; returns a tensor.
        pushforward: `(operands, tangents)` to the tangent of the output; a tangent that is zero is None.
        pullback: `(operands, cotangent)` to the operands' cotangents, None where it is zero: the transpose of
            `pushforward`. The derivatives of both are the backend's.
    """
    given = function
    # JAX takes arguments with defaults, as those of a `functools.partial`, for operands
    function = jax.custom_jvp(lambda *operands: given(*operands))

    def jvp(primals: Any, tangents: Any) -> Any:
        tangents = [None if isinstance(tangent, SymbolicZero) else tangent for tangent in tangents]
        return function(*primals), pushforward(primals, tangents)

    function.defjvp(jvp, symbolic_zeros=True)
    # without it JAX keeps the factors of the transpose from the forward pass on, not the operands
    function = jax.checkpoint(function)
    return lambda *operands: function(*as_tensors(operands))


def compiled(
    fn: Callable[..., Any], variables: Iterable[keras.Variable], *, any_batch: bool = False
) -> Callable[..., Any]:
    """`fn` compiled as the backend does it, reading the present values of `variables` at every call.

    It is traced again for a new shape or dtype of an argument, never for new values of the variables. Nothing that
    `fn` does to a variable remains.

    Args:
        fn: function of structures of tensors (None where an argument is absent) that returns a structure of tensors.
        variables: the Keras variables that it reads.
        any_batch: whether TensorFlow may compile it once for batches of every size, which is unknown while it does.
    """
    variables = list(variables)

    # the weights are arguments: a closure would keep those that it saw first
    def stateless(values: Any, *args: Any) -> Any:
        with keras.StatelessScope(state_mapping=list(zip(variables, values))):
            return fn(*args)

    # as profiles show it
    for name in ("__name__", "__qualname__"):
        setattr(stateless, name, getattr(fn, name, type(fn).__name__))
    stateless = jax.jit(stateless)

    def with_present_values(*args: Any) -> Any:
        try:
            values = [variable.value for variable in variables]
        except TypeError as error:
            raise RuntimeError(
                "On JAX a model has no weights of its own while `fit` runs an epoch. Explain it in `on_epoch_end` of a "
                "callback; or explain a copy, keras.models.clone_model(model) with the weights from before."
            ) from error
        return stateless(values, *args)

    return with_present_values


def each(fn: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
    """As in `common`. The first few are in no loop, in which XLA takes about three times as long on a CPU."""
    results = [fn(*given) for given in arguments[:UNROLLED]]
    others = arguments[UNROLLED:]
    if others:
        stacked = jax.tree.map(lambda *parts: keras.ops.stack(parts), *others)
        looped = jax.lax.map(lambda given: fn(*given), stacked)
        results += [jax.tree.map(lambda part, i=i: part[i], looped) for i in range(len(others))]
    return results


def largest_magnitude(x: Any, axes: Sequence[int]) -> Any:
    """The largest absolute value along axes, which stay with size 1."""
    return keras.ops.max(keras.ops.abs(x), axis=tuple(axes), keepdims=True)


def at_least(x: Any, bound: float) -> Any:
    """The larger of `x` and a number; where that is the number the derivative is 0, whatever comes from above."""
    # that of `maximum` is a product with 0, which is NaN where infinity comes from above
    return keras.ops.where(x > bound, x, bound)


def is_traced(x: Any) -> bool:
    """Whether a tensor has no values yet, as inside of `jax.jit` or `jax.vmap`."""
    return isinstance(x, Tracer)
