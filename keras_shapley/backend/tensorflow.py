"""Derivatives and compiled functions on TensorFlow. `jax.py` documents the functions."""

from collections.abc import Callable, Iterable
from typing import Any

import keras
import tensorflow as tf

from keras_shapley.backend.common import (
    as_tensors,
    clip,
    cumsum,
    is_compiling,
    is_eager,
    matmul,
    maximum,
    minimum,
    signed,
    without_side_effects,
)

__all__ = [
    "COMPILES_EACH_SIZE",
    "RETURNS_INITIAL_STATE",
    "clip",
    "compiled",
    "cumsum",
    "is_compiling",
    "is_eager",
    "is_traced",
    "matmul",
    "maximum",
    "minimum",
    "signed",
    "vjp",
    "with_derivative",
]

COMPILES_EACH_SIZE = False
RETURNS_INITIAL_STATE = False


def vjp(fn: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """As on JAX."""
    # copies, for one tensor may come twice, and the tape tells tensors apart by identity
    primals = tuple(tf.identity(primal) for primal in primals)
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(primals)
        output = fn(*primals)

    def pullback(cotangent: Any) -> tuple[Any, ...]:
        unconnected = tf.UnconnectedGradients.ZERO
        return tuple(
            tape.gradient(output, primals, output_gradients=cotangent, unconnected_gradients=unconnected)  # pyright: ignore
        )

    return output, pullback


def with_derivative(
    function: Callable[..., Any], pushforward: Callable[..., Any], pullback: Callable[..., Any]
) -> Callable[..., Any]:
    """As on JAX."""

    @tf.custom_gradient
    def differentiable(*operands: Any) -> Any:
        def gradient(cotangent: Any) -> Any:
            cotangents = pullback(operands, cotangent)
            return [tf.zeros_like(x) if dx is None else dx for x, dx in zip(operands, cotangents)]

        return function(*operands), gradient

    # a variable is read first, which Keras leaves to the operation that takes it: TensorFlow asks for the gradient of
    # a variable separately if the function itself reads it
    return lambda *operands: differentiable(*map(tf.convert_to_tensor, as_tensors(operands)))


def compiled(
    fn: Callable[..., Any], variables: Iterable[keras.Variable], *, any_batch: bool = False
) -> Callable[..., Any]:
    """As on JAX."""
    return tf.function(without_side_effects(fn), autograph=False, reduce_retracing=any_batch)


def is_traced(x: Any) -> bool:
    """As on JAX: inside of `tf.function`."""
    return tf.is_tensor(x) and not hasattr(x, "numpy")
