"""The cost of a training step as the backend sees it: products and convolutions, multiply-adds, memory."""

import math
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import ops

from lab.environment import BACKEND
from lab.measuring import peak_memory


def count(model: keras.Model, x: Any, y: Any) -> tuple[int, int]:
    """Products and convolutions in the gradient of a classifier's loss with respect to its weights.

    They are counted in the program that the backend gets: the jaxpr (XLA may still merge equal ones), the pruned graph,
    or PyTorch's dispatched operations. A convolution has one gradient for its input and one for its kernel.

    Args:
        model: built model with probabilities of shape `(batch, classes)`.
        x: tensor of inputs, shape `(batch, ...)`.
        y: integer tensor of labels, shape `(batch,)`.

    Returns:
        `(n, multiply_adds)`.
    """
    costs = _costs(model, x, y)
    return len(costs), sum(costs)


def memory(model: keras.Model, x: Any, y: Any, step: Callable, samples: int) -> float | None:
    """Bytes that a training step needs at its peak above what is held between steps; None if the system hides it.

    On JAX it is XLA's plan for the gradient that `count` counts, because the allocator does not show the peak of one
    step. Else it is the median of the peaks of `samples` calls of `step`.
    """
    if BACKEND == "jax":
        return _planned(model, x, y)
    peaks = [peak for peak in (peak_memory(step) for _ in range(samples)) if peak is not None]
    return statistics.median(peaks) if peaks else None


def _loss(y: Any, predictions: Any) -> Any:
    """Mean cross-entropy."""
    return ops.mean(keras.losses.sparse_categorical_crossentropy(y, predictions))


def _product(*sizes: int) -> int:
    """Multiply-adds of a matrix product, from the sizes of (m, k), (k, n) and (m, n) in any order."""
    return math.isqrt(math.prod(sizes))


def _convolution(output: int, kernel: int, filters: int) -> int:
    """Multiply-adds of a convolution, from the sizes of its output and its kernel."""
    return output * kernel // filters


if BACKEND == "jax":
    import jax

    def _gradient(model: keras.Model) -> tuple[Callable, list]:
        def total(weights, rest, x, y):
            return _loss(y, model.stateless_call(weights, rest, x, training=True)[0])

        groups = model.trainable_variables, model.non_trainable_variables
        return jax.grad(total), [[variable.value for variable in group] for group in groups]

    def _costs(model: keras.Model, x: Any, y: Any) -> list[int]:
        gradient, variables = _gradient(model)
        return list(_jaxpr_costs(jax.make_jaxpr(gradient)(*variables, x, y).jaxpr))

    def _planned(model: keras.Model, x: Any, y: Any) -> int:
        gradient, variables = _gradient(model)
        plan = jax.jit(gradient).lower(*variables, x, y).compile().memory_analysis()
        return plan.temp_size_in_bytes + plan.output_size_in_bytes

    def _jaxpr_costs(jaxpr: Any) -> Iterator[int]:
        for equation in jaxpr.eqns:
            sizes = [variable.aval.size for variable in (*equation.invars, *equation.outvars)]
            if equation.primitive.name == "dot_general":
                yield _product(*sizes)
            elif equation.primitive.name == "conv_general_dilated":
                _, kernel, output = sizes
                filters = equation.invars[1].aval.shape[equation.params["dimension_numbers"].rhs_spec[0]]
                # zeros between the elements of the first operand cost no multiplication
                yield _convolution(output, kernel, filters) // math.prod(equation.params["lhs_dilation"])
            for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "eqns")):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from _jaxpr_costs(inner)

elif BACKEND == "tensorflow":
    import tensorflow as tf

    def _costs(model: keras.Model, x: Any, y: Any) -> list[int]:
        @tf.function(autograph=False)
        def gradient(x, y):
            with tf.GradientTape() as tape:
                total = _loss(y, model(x, training=True))
            return tape.gradient(total, [variable.value for variable in model.trainable_variables])

        graph = gradient.get_concrete_function(x, y).graph
        # the graph holds both gradients of each convolution, and TensorFlow runs those that lead to an output
        seen, waiting = set(), [output.op for output in graph.outputs]
        while waiting:
            operation = waiting.pop()
            if operation.name not in seen:
                seen.add(operation.name)
                waiting += [tensor.op for tensor in operation.inputs] + list(operation.control_inputs)
        costs = (_operation_cost(graph.get_operation_by_name(name)) for name in seen)
        return [cost for cost in costs if cost is not None]

    def _operation_cost(operation: Any) -> int | None:
        tensors = (*operation.inputs, *operation.outputs)
        if operation.type == "MatMul":
            return _product(*(tensor.shape.num_elements() for tensor in tensors))
        position = {"Conv2D": (2, 1), "Conv2DBackpropInput": (2, 1), "Conv2DBackpropFilter": (2, 3)}.get(operation.type)
        if position is None:
            return None
        output, kernel = (tensors[index].shape for index in position)
        return _convolution(output.num_elements(), kernel.num_elements(), kernel[-1])

else:
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class _Recorder(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.costs = []

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            name = function.overloadpacket.__name__
            if name in ("mm", "addmm"):
                self.costs.append(_product(args[-2].numel(), args[-1].numel(), result.numel()))
            elif name == "convolution":
                self.costs.append(_convolution(result.numel(), args[1].numel(), len(args[1])))
            elif name == "convolution_backward":
                wanted = args[-1][:2]
                self.costs += [_convolution(args[0].numel(), args[2].numel(), len(args[2]))] * sum(wanted)
            return result

    def _costs(model: keras.Model, x: Any, y: Any) -> list[int]:
        with _Recorder() as recorder:
            total = _loss(y, model(x, training=True))
            torch.autograd.grad(total, [variable.value for variable in model.trainable_variables])
        return recorder.costs
