"""What Keras has no common word for: derivatives and compiled functions. The only file that names a backend."""

import functools

import keras

# whether each elementwise operation is a pass over memory of its own
EAGER = keras.backend.backend() == "torch"
# whether what is compiled for batches of any size is still compiled for each size anew
EACH_SIZE = keras.backend.backend() == "jax"

if keras.backend.backend() == "jax":
    import jax
    from jax.custom_derivatives import SymbolicZero

    def vjp(fn, *primals):
        """Value of `fn` and the function that carries a cotangent of it back to the primals.

        Args:
            fn: function of tensors that returns one tensor.
            primals: float tensors.

        Returns:
            `(output, pullback)`; `pullback(cotangent)` is a tuple of tensors shaped as the primals.
        """
        return jax.vjp(fn, *primals)

    def with_derivative(function, pushforward, pullback):
        """`function(*operands)` with a derivative of its own, in forward and reverse mode and of any order.

        Args:
            function: of tensors; returns a tensor.
            pushforward: `(operands, tangents)` to the tangent of the output; a tangent that is zero is None.
            pullback: `(operands, cotangent)` to the operands' cotangents, None where it is zero: the transpose of
                `pushforward`. The derivatives of both are the backend's.
        """
        function = jax.custom_jvp(function)

        def jvp(primals, tangents):
            tangents = [None if isinstance(tangent, SymbolicZero) else tangent for tangent in tangents]
            return function(*primals), pushforward(primals, tangents)

        function.defjvp(jvp, symbolic_zeros=True)
        # else what the transpose multiplies with would be kept from the forward pass on, not the operands
        function = jax.checkpoint(function)
        return lambda *operands: function(*_tensors(operands))

    def _compile(fn, variables, any_batch):
        @jax.jit
        def stateless(values, *args):
            with keras.StatelessScope(state_mapping=list(zip(variables, values))):
                return fn(*args)

        # the weights are arguments: a closure would keep those that it saw first
        return lambda *args: stateless([variable.value for variable in variables], *args)

elif keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    def vjp(fn, *primals):
        """As on JAX; `pullback` may be called more than once."""
        # copies, for one tensor may come twice, and the tape tells tensors apart by identity
        primals = tuple(tf.identity(primal) for primal in primals)
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(primals)
            output = fn(*primals)

        def pullback(cotangent):
            return tuple(
                tape.gradient(
                    output,
                    primals,
                    output_gradients=cotangent,
                    unconnected_gradients=tf.UnconnectedGradients.ZERO,
                )
            )

        return output, pullback

    def with_derivative(function, pushforward, pullback):
        """As on JAX."""

        @tf.custom_gradient
        def differentiable(*operands):
            def gradient(cotangent):
                cotangents = pullback(operands, cotangent)
                return [tf.zeros_like(x) if dx is None else dx for x, dx in zip(operands, cotangents)]

            return function(*operands), gradient

        # a variable is read first, which Keras leaves to the operation that takes it: of one that the function reads
        # itself, TensorFlow wants the gradient apart
        return lambda *operands: differentiable(*map(tf.convert_to_tensor, _tensors(operands)))

    def _compile(fn, variables, any_batch):
        return tf.function(_without_side_effects(fn), autograph=False, reduce_retracing=any_batch)

else:
    import torch

    def vjp(fn, *primals):
        """As on JAX; `pullback` may be called more than once."""
        with torch.enable_grad():
            primals = tuple(primal.detach().requires_grad_() for primal in primals)
            output = fn(*primals)

        def pullback(cotangent):
            gradients = torch.autograd.grad(output, primals, cotangent, retain_graph=True, allow_unused=True)
            return tuple(
                torch.zeros_like(primal) if gradient is None else gradient
                for primal, gradient in zip(primals, gradients)
            )

        return output.detach(), pullback

    class _WithDerivative(torch.autograd.Function):
        @staticmethod
        def forward(functions, *operands):
            return functions[0](*operands)

        @staticmethod
        def setup_context(context, inputs, output):
            (_, context.pushforward, context.pullback), *operands = inputs
            context.save_for_backward(*operands)
            context.save_for_forward(*operands)

        @staticmethod
        def backward(context, cotangent):
            return None, *context.pullback(context.saved_tensors, cotangent)

    class _WithBothDerivatives(_WithDerivative):
        generate_vmap_rule = True

        @staticmethod
        def jvp(context, _, *tangents):
            return context.pushforward(context.saved_tensors, tangents)

    def with_derivative(function, pushforward, pullback):
        """As on JAX; without forward mode under `torch.compile`, which cannot trace it."""
        functions = function, pushforward, pullback

        def differentiable(*operands):
            cls = _WithDerivative if torch.compiler.is_compiling() else _WithBothDerivatives
            return cls.apply(functions, *_tensors(operands))

        return differentiable

    def _compile(fn, variables, any_batch):
        return torch.no_grad()(_without_side_effects(fn))


def signed(magnitude, x):
    """The number `magnitude` with the sign of each element of `x`, positive at 0."""
    if keras.backend.backend() == "torch":
        # three times as fast as a choice between two numbers
        return torch.copysign(torch.tensor(magnitude, dtype=x.dtype, device=x.device), x)
    negative, positive = (keras.ops.cast(number, x.dtype) for number in (-magnitude, magnitude))
    return keras.ops.where(x < 0, negative, positive)


def _tensors(operands):
    """The operands as tensors, numbers in the type of the first."""
    first, *others = operands
    first = keras.ops.convert_to_tensor(first)
    return first, *(keras.ops.convert_to_tensor(x, None if hasattr(x, "dtype") else first.dtype) for x in others)


def _without_side_effects(fn):
    # named as `fn`: TensorFlow counts by it how often it has to compile, and warns
    @functools.wraps(fn)
    def stateless(*args):
        # updates of variables (seeds, statistics) and losses stay in the scope and go with it
        with keras.StatelessScope():
            return fn(*args)

    return stateless


def compiled(fn, variables, *, any_batch=False):
    """`fn` compiled as the backend does it, reading the present values of `variables` at every call.

    Traced again for a new shape or dtype of an argument, never for new values of the variables. Nothing that `fn` does
    to a variable remains.

    Args:
        fn: function of structures of tensors (None where an argument is absent) that returns a structure of tensors.
        variables: the Keras variables that it reads.
        any_batch: whether TensorFlow may compile it once for batches of every size, which is unknown while it does.
    """
    return _compile(fn, list(variables), any_batch)


def inference(model):
    """A Keras model as a compiled function of a batch, without training, at its present weights.

    Raises:
        ValueError: if it has no weights yet: made while it is compiled, they would be of no use afterwards.
    """
    if not model.built:
        raise ValueError(f"Model '{model.name}' is not built: call it on a batch first, or begin it with keras.Input.")
    call = compiled(lambda x: model(x, training=False), model.variables, any_batch=True)
    return lambda x: call(keras.ops.convert_to_tensor(x))
