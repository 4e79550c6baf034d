"""Layers with Shapley activations: the parent's linear map, then eq. (5) or ShapLU instead of an activation."""

import contextlib
import contextvars

import keras
from keras import ops

from keras_shapley.layers.linear_maps import linear_map
from keras_shapley.utils.validation import one_of

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
