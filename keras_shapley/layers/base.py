"""What the layers with a Shapley activation share: their options, and the moments that their gate is a function of."""

import contextlib
import contextvars
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_shapley.backend import is_compiling
from keras_shapley.layers.linear_map import LinearMap
from keras_shapley.layers.linear_maps import linear_map
from keras_shapley.layers.scaling import UNSCALED, Scales
from keras_shapley.utils.typing import Tensor
from keras_shapley.utils.validation import one_of

FLOAT16_MIN = -65504.0

# A context variable, not an argument: Keras calls the layers of a model, and passes no argument of ours on to them.
_EXACT = contextvars.ContextVar("exact_derivatives", default=False)


@contextlib.contextmanager
def exact_derivatives() -> Iterator[None]:
    """Within it, a layer's derivative is that of the function it computes, whatever gradient it trains with.

    ShapLU then has the derivative of ReLU, and SA that of eq. (5) also with `moment_gradient=False`.
    """
    token = _EXACT.set(True)
    try:
        yield
    finally:
        _EXACT.reset(token)


class GateMoments(NamedTuple):
    """The operands of eq. (1), one number a neuron.

    Attributes:
        u: sum of `w_i x_i`, shape of the layer's output.
        q: sum of `(scale w_i x_i)**2`, same shape.
        b: bias, in a shape that broadcasts to the same.
        scale: with which these squares neither overflow nor vanish; broadcasts to the same.
    """

    u: Tensor
    q: Tensor
    b: Tensor
    scale: Tensor


class FullMoments(NamedTuple):
    """The operands of eq. (4), one number a neuron.

    Attributes:
        u: as of `GateMoments`.
        q: as of `GateMoments`.
        c: sum of `(scale w_i x_i)**3`, shape of the layer's output.
        b: as of `GateMoments`.
        n: number of inputs, taps on padding not counted; broadcasts to the layer's output.
        scale: as of `GateMoments`.
    """

    u: Tensor
    q: Tensor
    c: Tensor
    b: Tensor
    n: Tensor
    scale: Tensor


class ShapleyLayer(keras.layers.Layer):
    """Mixin over a Keras layer that has a `LinearMap`: options, refusals, and the moments of eq. (1).

    The layer takes every argument of its parent except an `activation`. Inputs, outputs and weights have the parent's
    shapes.

    In float32 the moments are right at every size of inputs and weights, for a neuron whose largest `w_i x_i` is above
    1e-14 of the largest weight of the layer times the largest input of the sample (of a row of Dense). A neuron below
    has a gate between its own and 1/2. Where the largest input is 1e6 or more, it is 1e-19. Third moments take 1e-12,
    and inputs, weights and sums above 1e-12.

    Args:
        second_moment: `"exact"`: `q` is the sum of `(w_i x_i)**2`, a second linear map. `"pooled"`: its mean field over
            the input channels, tap by tap and within each group; a linear map with one input channel.

    Raises:
        ValueError: on an `activation` other than None or `"linear"`, an unknown option, or a quantized dtype policy.
    """

    def __init__(self, *args: Any, second_moment: str = "exact", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.activation is not keras.activations.linear:
            received = getattr(self.activation, "__name__", self.activation)
            raise ValueError(
                f"{type(self).__name__} has its activation built in: `activation` must be None or 'linear'. "
                f"Received: activation={received!r}"
            )
        self.second_moment = one_of("second_moment", second_moment, ("exact", "pooled"))

    def build(self, input_shape: Any) -> None:
        if self.quantization_mode is not None:
            raise ValueError(
                f"Layer '{self.name}' ({type(self).__name__}) cannot be quantized: its dtype policy must be a float "
                f"policy. Received: dtype={self.dtype_policy.name!r}"
            )
        super().build(input_shape)

    def quantize(self, mode: str | None = None, **kwargs: Any) -> None:
        # Keras's own exception: `Model.quantize` then warns and goes on with the other layers
        raise NotImplementedError(
            f"Layer '{self.name}' ({type(self).__name__}) cannot be quantized, its activation needs the float kernel. "
            f"Received: mode={mode!r}"
        )

    def gate_moments(self, x: Tensor, *, gradient: bool = True) -> GateMoments:
        """The moments of every neuron, eq. (1), in float32, or float64 if the layer computes in it.

        Args:
            x: the layer's input.
            gradient: whether the gradient flows into `q`.
        """
        linear = linear_map(self)
        kernels = linear.kernels
        u = self._sums(linear, x, kernels)
        b = linear.bias_or_zero(self.moment_dtype)
        x, *kernels = self._in_moment_dtype(x, *kernels)
        if not gradient:
            x, *kernels = map(ops.stop_gradient, (x, *kernels))
        scales = linear.scales(x, kernels)
        return GateMoments(u, self.second_moment_of(linear, x, kernels, scales), b, scales.sums)

    def full_moments(self, x: Tensor) -> FullMoments:
        """The operands of all of eq. (4), in the dtype of `gate_moments`."""
        linear = linear_map(self)
        kernels = linear.kernels
        u = self._sums(linear, x, kernels)
        b = linear.bias_or_zero(self.moment_dtype)
        # cast once: in low precision the gradients of q and c are added before they are rounded
        x, *kernels = self._in_moment_dtype(x, *kernels)
        scales = linear.scales(x, kernels)
        q, c = (linear.power_sums(x, kernels, power, scales) for power in (2, 3))
        return FullMoments(u, q, c, b, linear.fan_in(ops.ones_like(x[:1])), scales.sums)

    def second_moment_of(
        self, linear: LinearMap, x: Tensor, kernels: Sequence[Tensor], scales: Scales = UNSCALED
    ) -> Tensor:
        """`q` of every neuron, exact or pooled as the layer's option says; `kernels` in the form of `linear`'s."""
        if self.second_moment == "exact":
            return linear.power_sums(x, kernels, 2, scales)
        return linear.pooled_second_moment(x, *linear.as_one(kernels, scales), scales.x)

    def rectified(self, x: Tensor) -> Tensor:
        """`relu(u + b)` of every neuron, with the backend's own derivative, in the dtype of `gate_moments`."""
        linear = linear_map(self)
        return ops.relu(self._sums(linear, x, linear.kernels) + linear.bias_or_zero(self.moment_dtype))

    def _sums(self, linear: LinearMap, x: Tensor, kernels: Sequence[Tensor]) -> Tensor:
        """`u` of every neuron, computed as the parent does."""
        u = ops.cast(linear.power_sums(x, kernels, 1), self.moment_dtype)
        # a sum below the range of float16 is -inf, of which ReLU makes 0: here too it stays finite
        return ops.maximum(u, FLOAT16_MIN) if self.compute_dtype == "float16" else u

    def _in_moment_dtype(self, *tensors: Tensor) -> list[Tensor]:
        return [ops.cast(tensor, self.moment_dtype) for tensor in tensors]

    @property
    def moment_dtype(self) -> str:
        # squares leave the range of float16 at 256, and sums of squares want more than the 8 bits of bfloat16
        return "float64" if self.compute_dtype == "float64" else "float32"

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["activation"]
        return {**config, "second_moment": self.second_moment}

    @property
    def _derivatives_are_exact(self) -> bool:
        return not is_compiling() and _EXACT.get()
