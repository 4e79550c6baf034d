"""What a training step takes, read from the backend: matrix products and convolutions, multiply-adds, memory."""

import math
import statistics

import keras
import timing
from keras import ops

BACKEND = keras.backend.backend()


def count(model, x, y):
    """Products and convolutions in the gradient of a classifier's loss by its weights.

    Counted in what is handed to the backend: the jaxpr (XLA may still merge what is equal), the pruned graph, or
    PyTorch's dispatched operations. The gradient of a convolution is one for its input and one for its kernel.

    Args:
        model: built model with probabilities of shape `(batch, classes)`.
        x: tensor of inputs, shape `(batch, ...)`.
        y: integer tensor of labels, shape `(batch,)`.

    Returns:
        `(n, multiply_adds)`.
    """
    costs = _costs(model, x, y)
    return len(costs), sum(costs)


def memory(model, x, y, step, samples):
    """Bytes that a training step needs at its peak above what is held between steps; None where nobody tells.

    On JAX what XLA plans for the gradient that `count` counts, for its allocator does not show the peak of one step.
    Else the median of the peaks of `samples` calls of `step`.
    """
    if BACKEND == "jax":
        return _planned(model, x, y)
    peaks = [timing.peak_memory(step) for _ in range(samples)]
    return None if None in peaks else statistics.median(peaks)


def loss(model, x, y, call):
    """Mean cross-entropy of `call(x)`."""
    return ops.mean(keras.losses.sparse_categorical_crossentropy(y, call(x)))


def _product(*sizes):
    # of (m, k), (k, n) and (m, n), whichever of them is the result
    return math.isqrt(math.prod(sizes))


def _convolution(output, kernel, filters):
    return output * kernel // filters


if BACKEND == "jax":
    import jax

    def _gradient(model):
        def total(weights, rest, x, y):
            return loss(model, x, y, lambda x: model.stateless_call(weights, rest, x, training=True)[0])

        groups = model.trainable_variables, model.non_trainable_variables
        return jax.grad(total), [[variable.value for variable in group] for group in groups]

    def _costs(model, x, y):
        gradient, variables = _gradient(model)
        return list(_of_jaxpr(jax.make_jaxpr(gradient)(*variables, x, y).jaxpr))

    def _planned(model, x, y):
        gradient, variables = _gradient(model)
        plan = jax.jit(gradient).lower(*variables, x, y).compile().memory_analysis()
        return plan.temp_size_in_bytes + plan.output_size_in_bytes

    def _of_jaxpr(jaxpr):
        for equation in jaxpr.eqns:
            sizes = [variable.aval.size for variable in (*equation.invars, *equation.outvars)]
            if equation.primitive.name == "dot_general":
                yield _product(*sizes)
            elif equation.primitive.name == "conv_general_dilated":
                _, kernel, output = sizes
                filters = equation.invars[1].aval.shape[equation.params["dimension_numbers"].rhs_spec[0]]
                # zeros between the elements of the first operand are not multiplied with
                yield _convolution(output, kernel, filters) // math.prod(equation.params["lhs_dilation"])
            for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "eqns")):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from _of_jaxpr(inner)

elif BACKEND == "tensorflow":
    import tensorflow as tf

    def _costs(model, x, y):
        @tf.function(autograph=False)
        def gradient(x, y):
            with tf.GradientTape() as tape:
                total = loss(model, x, y, lambda x: model(x, training=True))
            return tape.gradient(total, [variable.value for variable in model.trainable_variables])

        graph = gradient.get_concrete_function(x, y).graph
        # TensorFlow writes down both gradients of a convolution and runs those that lead to a result
        seen, waiting = set(), [output.op for output in graph.outputs]
        while waiting:
            operation = waiting.pop()
            if operation.name not in seen:
                seen.add(operation.name)
                waiting += [tensor.op for tensor in operation.inputs] + list(operation.control_inputs)
        found = (_of_operation(graph.get_operation_by_name(name)) for name in seen)
        return [cost for cost in found if cost is not None]

    def _of_operation(operation):
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

    def _costs(model, x, y):
        with _Recorder() as recorder:
            total = loss(model, x, y, lambda x: model(x, training=True))
            torch.autograd.grad(total, [variable.value for variable in model.trainable_variables])
        return recorder.costs
