"""Layers with Shapley activations: the parent's linear map, then eq. (5) or ShapLU instead of an activation."""

import contextlib
import contextvars

import keras
from keras import ops

from keras_shapley import activations
from keras_shapley._validation import one_of
from keras_shapley.linear import linear_map

FLOAT16_MIN = -65504.0
_EXACT = contextvars.ContextVar("exact_derivatives", default=False)


@contextlib.contextmanager
def exact_derivatives():
    """Within it, layers have the derivative of what they compute: ShapLU that of ReLU, SA that of its moments too."""
    token = _EXACT.set(True)
    try:
        yield
    finally:
        _EXACT.reset(token)


class ShapleyLayer:
    """Mixin over a Keras layer that has a `LinearMap`: its options, and the moments of its neurons.

    The layer takes every argument of its parent; of `activation` only `None` or `"linear"`. Inputs, outputs and weights
    have the parent's shapes.

    Args:
        second_moment: `"exact"` for `q = sum of (w_i x_i)**2`, a second linear map. `"pooled"` for its mean field over
            the input channels, tap by tap and within each group: a linear map with one input channel.

    Raises:
        ValueError: on another `activation`, an unknown option, or a quantized dtype policy.
    """

    def __init__(self, *args, second_moment="exact", **kwargs):
        super().__init__(*args, **kwargs)
        if self.activation is not keras.activations.linear:
            received = getattr(self.activation, "__name__", self.activation)
            raise ValueError(
                f"{type(self).__name__} has its activation built in: `activation` must be None or 'linear'. "
                f"Received: activation={received!r}"
            )
        self.second_moment = one_of("second_moment", second_moment, ("exact", "pooled"))

    def build(self, input_shape):
        if self.quantization_mode is not None:
            raise ValueError(
                f"Layer '{self.name}' ({type(self).__name__}) cannot be quantized: its dtype policy must be a float "
                f"policy. Received: dtype={self.dtype_policy.name!r}"
            )
        super().build(input_shape)

    def quantize(self, mode=None, **kwargs):
        # Keras's own exception: `Model.quantize` then warns and goes on with the other layers
        raise NotImplementedError(
            f"Layer '{self.name}' ({type(self).__name__}) cannot be quantized, its activation needs the float kernel. "
            f"Received: mode={mode!r}"
        )

    def moments(self, x, *, gradient=True, cubes=False):
        """`(u, q, b)` of every neuron, eq. (1), each in float32 at least.

        Args:
            x: the layer's input.
            gradient: whether the gradient flows into `q`.
            cubes: whether to give `(u, q, c, b, n)` as well, with `c` the sum of `(w_i x_i)**3` and `n` the fan-in.
        """
        linear, kernel = linear_map(self), self.kernel
        # squares leave the range of float16 at 256, and sums of squares want more than the 8 bits of bfloat16
        dtype = self.moment_dtype
        u = ops.cast(linear(x, kernel), dtype)
        if self.compute_dtype == "float16":
            # of a sum below its range, -inf, ReLU makes 0: here too it stays finite
            u = ops.maximum(u, FLOAT16_MIN)
        b = ops.zeros((), dtype) if linear.bias is None else ops.cast(linear.bias, dtype)

        x, kernel = ops.cast(x, dtype), ops.cast(kernel, dtype)
        if not gradient:
            x, kernel = ops.stop_gradient(x), ops.stop_gradient(kernel)
        if self.second_moment == "pooled":
            return u, linear.pooled_second_moment(x, kernel), b
        q = linear.second_moment(x, kernel)
        if not cubes:
            return u, q, b
        c = linear(ops.square(x) * x, ops.square(kernel) * kernel)
        return u, q, c, b, linear.fan_in(ops.ones_like(x[:1]))

    @property
    def moment_dtype(self):
        return "float64" if self.compute_dtype == "float64" else "float32"

    def get_config(self):
        config = super().get_config()
        del config["activation"]
        return {**config, "second_moment": self.second_moment}


class ShapleyActivation(ShapleyLayer):
    """Mixin: the output is the Shapley activation SA, eq. (5): `Phi((mu + b)/sigma) * (u + b)`.

    Args:
        second_moment: as in `ShapleyLayer`.
        moment_gradient: whether the gradient flows into `q`. False is cheaper, and no longer the exact derivative.
    """

    def __init__(self, *args, moment_gradient=True, **kwargs):
        super().__init__(*args, **kwargs)
        self.moment_gradient = one_of("moment_gradient", moment_gradient, (True, False))

    def call(self, inputs):
        u, q, b = self.moments(inputs, gradient=self.moment_gradient or _EXACT.get())
        return ops.cast(activations.shapley_activation(u, q, b), self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "moment_gradient": self.moment_gradient}


class ShapleyLinearUnit(ShapleyLayer):
    """Mixin: the output is ReLU and its gradient the Shapley gradient, eq. (4): ShapLU, section 2.2 of the paper.

    Args:
        second_moment: as in `ShapleyLayer`.
        gradient: `"simplified"` is what the paper ran: eq. (4) without the last terms of its first two lines. `"full"`
            is all of eq. (4); it needs `second_moment="exact"` and costs a third linear map.
    """

    def __init__(self, *args, gradient="simplified", **kwargs):
        super().__init__(*args, **kwargs)
        self.gradient = one_of("gradient", gradient, ("simplified", "full"))
        if self.gradient == "full" and self.second_moment == "pooled":
            raise ValueError(
                "`gradient='full'` is eq. (4) with each input's own moment: it needs second_moment='exact'. "
                "Received: second_moment='pooled'"
            )

    def call(self, inputs):
        if _EXACT.get():
            u, _, b = self.moments(inputs)
            y = ops.relu(u + b)
        elif self.gradient == "full":
            y = activations.shaplu_full(*self.moments(inputs, cubes=True))
        else:
            y = activations.shaplu(*self.moments(inputs, gradient=False))
        return ops.cast(y, self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "gradient": self.gradient}


@keras.saving.register_keras_serializable(package="keras_shapley")
class SADense(ShapleyActivation, keras.layers.Dense):
    """`keras.layers.Dense` with the Shapley activation, eq. (5).

    Takes the arguments of its parent, and `second_moment` and `moment_gradient` of `ShapleyActivation`.
    """


@keras.saving.register_keras_serializable(package="keras_shapley")
class SAConv1D(ShapleyActivation, keras.layers.Conv1D):
    """`keras.layers.Conv1D` with the Shapley activation, eq. (5).

    Takes the arguments of its parent, and `second_moment` and `moment_gradient` of `ShapleyActivation`.
    """


@keras.saving.register_keras_serializable(package="keras_shapley")
class SAConv2D(ShapleyActivation, keras.layers.Conv2D):
    """`keras.layers.Conv2D` with the Shapley activation, eq. (5).

    Takes the arguments of its parent, and `second_moment` and `moment_gradient` of `ShapleyActivation`.
    """


@keras.saving.register_keras_serializable(package="keras_shapley")
class SAConv3D(ShapleyActivation, keras.layers.Conv3D):
    """`keras.layers.Conv3D` with the Shapley activation, eq. (5).

    Takes the arguments of its parent, and `second_moment` and `moment_gradient` of `ShapleyActivation`.
    """


@keras.saving.register_keras_serializable(package="keras_shapley")
class SADepthwiseConv2D(ShapleyActivation, keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D` with the Shapley activation, eq. (5).

    Takes the arguments of its parent, and `second_moment` and `moment_gradient` of `ShapleyActivation`.
    """


@keras.saving.register_keras_serializable(package="keras_shapley")
class SAEinsumDense(ShapleyActivation, keras.layers.EinsumDense):
    """`keras.layers.EinsumDense` with the Shapley activation, eq. (5).

    Takes the arguments of its parent, and `second_moment` and `moment_gradient` of `ShapleyActivation`.
    """


@keras.saving.register_keras_serializable(package="keras_shapley")
class ShapLUDense(ShapleyLinearUnit, keras.layers.Dense):
    """`keras.layers.Dense` with ReLU forward and the Shapley gradient backward, eq. (4).

    Takes the arguments of its parent, and `second_moment` and `gradient` of `ShapleyLinearUnit`.
    """


@keras.saving.register_keras_serializable(package="keras_shapley")
class ShapLUConv1D(ShapleyLinearUnit, keras.layers.Conv1D):
    """`keras.layers.Conv1D` with ReLU forward and the Shapley gradient backward, eq. (4).

    Takes the arguments of its parent, and `second_moment` and `gradient` of `ShapleyLinearUnit`.
    """


@keras.saving.register_keras_serializable(package="keras_shapley")
class ShapLUConv2D(ShapleyLinearUnit, keras.layers.Conv2D):
    """`keras.layers.Conv2D` with ReLU forward and the Shapley gradient backward, eq. (4).

    Takes the arguments of its parent, and `second_moment` and `gradient` of `ShapleyLinearUnit`.
    """


@keras.saving.register_keras_serializable(package="keras_shapley")
class ShapLUConv3D(ShapleyLinearUnit, keras.layers.Conv3D):
    """`keras.layers.Conv3D` with ReLU forward and the Shapley gradient backward, eq. (4).

    Takes the arguments of its parent, and `second_moment` and `gradient` of `ShapleyLinearUnit`.
    """


@keras.saving.register_keras_serializable(package="keras_shapley")
class ShapLUDepthwiseConv2D(ShapleyLinearUnit, keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D` with ReLU forward and the Shapley gradient backward, eq. (4).

    Takes the arguments of its parent, and `second_moment` and `gradient` of `ShapleyLinearUnit`.
    """


@keras.saving.register_keras_serializable(package="keras_shapley")
class ShapLUEinsumDense(ShapleyLinearUnit, keras.layers.EinsumDense):
    """`keras.layers.EinsumDense` with ReLU forward and the Shapley gradient backward, eq. (4).

    Takes the arguments of its parent, and `second_moment` and `gradient` of `ShapleyLinearUnit`.
    """
