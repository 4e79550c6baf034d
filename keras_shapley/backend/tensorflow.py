"""Derivatives and compiled functions on TensorFlow. `jax.py` documents the functions."""

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.framework.func_graph import FuncGraph
from tensorflow.python.framework.ops import gradient_registry

from keras_shapley.backend.common import as_tensors, without_side_effects

COMPILES = True
COMPILES_ANY_SIZE = True
RETURNS_INITIAL_STATE = False

erfc = tf.math.erfc


def erfc_is_best(exportable: bool) -> bool:
    """As in `common`: without XLA each operation is a pass over memory of its own."""
    return not exportable


def vjp(fn: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """As on JAX."""
    # copies, for one tensor may come twice, and the tape tells tensors apart by identity
    primals = tuple(tf.identity(primal) for primal in primals)
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(primals)
        output = fn(*primals)

    def pullback(cotangent: Any) -> tuple[Any, ...]:
        unconnected = tf.UnconnectedGradients.ZERO
        # a constant in float64 makes the output float64
        outputs, cotangents = tf.nest.flatten(output), tf.nest.flatten(cotangent)
        cotangents = [tf.cast(dy, y.dtype) for y, dy in zip(outputs, cotangents)]
        return tuple(
            tape.gradient(outputs, primals, output_gradients=cotangents, unconnected_gradients=unconnected)  # pyright: ignore
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
    def with_tensors(*operands: Any) -> Any:
        output = differentiable(*map(tf.convert_to_tensor, as_tensors(operands)))
        if not tf.executing_eagerly():
            _forget_with_graph(output)
        return output

    return with_tensors


def _forget_with_graph(output: Any) -> None:
    """Lets the derivative of `output` live as long as its graph, and as the graphs around that.

    TensorFlow registers it for ever, and with it the graph: megabytes for each function that it traces.
    """
    registry = gradient_registry._registry
    name = output.op.get_attr("_gradient_op_type").decode()
    derivative = registry[name]["type"]
    # a graph may outlive the one around it, as that of a function that another called first; and the graph of a loop's
    # body may be copied, and die before its copy
    graph: Any = output.graph
    while graph is not None:
        graph._keras_shapley = [*getattr(graph, "_keras_shapley", ()), derivative]
        outer = getattr(graph, "outer_graph", None)
        graph = outer if isinstance(outer, FuncGraph) else None
    reference = weakref.ref(derivative)

    def of_living_graph(*cotangents: Any) -> Any:
        living = reference()
        assert living is not None, "whoever differentiates a graph holds it"
        return living(*cotangents)

    registry[name]["type"] = of_living_graph
    weakref.finalize(derivative, registry.pop, name, None).atexit = False


def compiled(
    fn: Callable[..., Any], variables: Iterable[keras.Variable], *, any_batch: bool = False
) -> Callable[..., Any]:
    """As on JAX."""
    function = tf.function(without_side_effects(fn), autograph=False, reduce_retracing=any_batch)
    # TensorFlow counts by code, so that five models in a row would look like one function that is compiled five times
    function._omit_frequent_tracing_warning = True
    return function


def is_traced(x: Any) -> bool:
    """As on JAX: inside of `tf.function`."""
    return tf.is_tensor(x) and not hasattr(x, "numpy")


def each(fn: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
    """As in `common`; traced twice, as a loop must know the shapes of its results before it starts."""
    first = fn(*arguments[0])
    if len(arguments) == 1:
        return [first]
    columns = [None if parts[0] is None else tf.stack(parts) for parts in zip(*arguments)]

    def tensors(result: Any) -> list[Any]:
        return [tf.convert_to_tensor(part) for part in tf.nest.flatten(result) if part is not None]

    def result_of(i: Any) -> list[Any]:
        return tensors(fn(*[None if column is None else column[i] for column in columns]))

    signature = [tf.TensorSpec(part.shape, part.dtype) for part in tensors(first)]
    others = tf.map_fn(result_of, tf.range(1, len(arguments)), parallel_iterations=1, fn_output_signature=signature)

    def structured(parts: Iterator[Any]) -> Any:
        return tf.nest.map_structure(lambda part: None if part is None else next(parts), first)

    return [first, *(structured(iter(parts)) for parts in zip(*map(tf.unstack, others)))]


def largest_magnitude(x: Any, axes: Sequence[int]) -> Any:
    """As on JAX."""
    # not Keras's, which refuses an empty batch
    axes = tuple(axes)
    return tf.maximum(tf.reduce_max(x, axes, keepdims=True), -tf.reduce_min(x, axes, keepdims=True))
