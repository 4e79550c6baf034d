"""What the linear maps of all layer types share, and the table of them."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from keras import ops

from keras_shapley.backend import matmul, maximum, vjp
from keras_shapley.backend.derivatives import square, sum_of_squares
from keras_shapley.layers.scaling import UNSCALED, Scales, product_of_scales, scale_of
from keras_shapley.utils.typing import Tensor

Map = TypeVar("Map", bound="LinearMap")


class LinearMap:
    """The sums `u = sum of w_i x_i` of a layer, without its bias and activation.

    `map(x, kernel)` is linear in `x` and in `kernel`, and takes any kernel of the layer's geometry: its weights, their
    squares, or `unit_kernel`.
    """

    channel_axis = -1

    def __init__(self, layer: Any) -> None:
        self.layer = layer

    @property
    def kernel(self) -> Tensor:
        return self.layer.kernel

    @property
    def kernels(self) -> list[Tensor]:
        """The kernel as the layer stores it: the factors of which it is the `product`, one for most layers."""
        return [self.kernel]

    def product(self, kernels: Sequence[Tensor]) -> Tensor:
        """The kernel with these factors."""
        (kernel,) = kernels
        return kernel

    @property
    def bias(self) -> Tensor | None:
        """Bias, in a shape that broadcasts against the output, or None."""
        return None if self.layer.bias is None else self.along_channels(self.layer.bias)

    def bias_or_zero(self, dtype: str) -> Tensor:
        """Bias in this dtype, zero where there is none."""
        return ops.zeros((), dtype) if self.bias is None else ops.cast(self.bias, dtype)

    def along_channels(self, vector: Tensor) -> Tensor:
        """A vector of one number a channel, in a shape that broadcasts against input or output."""
        return vector

    def __call__(self, x: Tensor, kernel: Tensor) -> Tensor:
        """`L(x; kernel)`."""
        raise TypeError(f"{type(self).__name__} does not say how to apply itself.")

    def sums(self, x: Tensor) -> Tensor:
        """`L(x; W)` with the layer's own weights."""
        return self.power_sums(x, [ops.cast(kernel, x.dtype) for kernel in self.kernels], 1)

    def preactivation(self, x: Tensor) -> Tensor:
        """`u + b` with the layer's own weights: its output before the activation."""
        u = self.sums(x)
        return u if self.bias is None else u + ops.cast(self.bias, u.dtype)

    def unit_kernel(self, dtype: str) -> Tensor:
        """Kernel of ones that has one output for all the units that share their inputs."""
        return ops.ones(self._unit_shape(), dtype)

    def merge(self, y: Tensor, weights: Tensor) -> Tensor:
        """Sums `y * weights` over the units that share their inputs: the output's shape under `unit_kernel`."""
        if len(weights.shape) == 1:
            return sum_over_inputs(y, weights[:, None])
        return ops.sum(y * weights, axis=-1, keepdims=True)

    def spread(self, share: Tensor, x: Tensor) -> Tensor:
        """The relevance of an input like `x` if each unit gives `share` to every one of its inputs.

        The transpose of `unit_kernel`'s map, in a shape that broadcasts against `x`.
        """
        _, transpose = vjp(lambda x: self(x, self.unit_kernel(x.dtype)), x)
        return transpose(share)[0]

    def fan_in(self, real: Tensor) -> Tensor:
        """Number of inputs `n` behind each output, eq. (2): `L(1; 1)`, so taps on padding do not count.

        Args:
            real: ones in the input's shape, zeros where an element is padding.

        Returns:
            The counts, in a shape that broadcasts against the output; 1 where an output sees padding alone.
        """
        return maximum(self(real, self.unit_kernel(real.dtype)), 1)

    def _unit_shape(self) -> tuple[int, ...]:
        raise TypeError(f"{type(self).__name__} does not say which of its units share their inputs.")

    def times_inputs(self, kernel: Tensor, factors: Tensor) -> Tensor:
        """The kernel times one factor for each channel of the input."""
        raise TypeError(f"{type(self).__name__} does not say where its kernel has the channels of the input.")

    def times_outputs(self, kernel: Tensor, factors: Tensor) -> Tensor:
        """The kernel times one factor for each channel of the output, by default its last axis."""
        return kernel * factors

    def scales(self, x: Tensor, kernels: Sequence[Tensor]) -> Scales:
        """What brings inputs and weights to a size at which their powers are normal numbers.

        Args:
            x: the layer's input.
            kernels: factors of the kernel, in the form of `kernels`.
        """
        # one for a kernel, not for each unit: broadcast over channels alone, it would cost more than the moments
        of_kernels = [scale_of(kernel, range(len(kernel.shape)), len(kernels)) for kernel in kernels]
        of_x = scale_of(x, self.input_axes(len(x.shape)))
        sums = self.at_outputs(of_x)
        return Scales(of_x, of_kernels, product_of_scales([*(ops.reshape(s, ()) for s in of_kernels), sums]))

    def input_axes(self, rank: int) -> Sequence[int]:
        """Axes of an input of this rank along which the inputs of a neuron lie, and others that share their scale."""
        raise TypeError(f"{type(self).__name__} does not say where the inputs of a neuron lie.")

    def at_outputs(self, scale: Tensor) -> Tensor:
        """The scale of the input, of size 1 along `input_axes`, in a shape that broadcasts to the output."""
        return scale

    def power_sums(self, x: Tensor, kernels: Sequence[Tensor], power: int, scales: Scales = UNSCALED) -> Tensor:
        """Sums of `(w_i x_i)**power`: `u` for 1, `q` for 2.

        Args:
            x: the layer's input.
            kernels: factors of the kernel, in the form of `kernels`.
            power: 1, 2 or 3.
            scales: of `x` and `kernels`.
        """
        kernel, of_kernel = self.as_one(kernels, scales)
        return self(power_of(x, power, scales.x), power_of(kernel, power, of_kernel))

    def as_one(self, kernels: Sequence[Tensor], scales: Scales) -> tuple[Tensor, Tensor | None]:
        """The kernel with these factors, and its scale."""
        (kernel,), (of_kernel, *_) = kernels, scales.kernels
        return kernel, of_kernel

    def pooled_second_moment(
        self, x: Tensor, kernel: Tensor, of_kernel: Tensor | None = None, of_x: Tensor | None = None
    ) -> Tensor:
        """Mean field of `q` over the input channels, tap by tap and within each group.

        The map of the mean of `x**2` and the sum of `kernel**2`, as one input channel a group. The last two arguments
        are scales.
        """
        return self(sum_of_squares(x, -1, of_x) / x.shape[-1], sum_of_squares(kernel, -2, of_kernel))


def sum_over_inputs(x: Tensor, kernel: Tensor) -> Tensor:
    """The product of matrices `(..., inputs)` and `(inputs, units)`."""
    if kernel.shape[0] == 1:
        # an outer product is elementwise work
        return x * kernel[0]
    return matmul(x, kernel)


def power_of(x: Tensor, power: int, scale: Tensor | None = None) -> Tensor:
    """`scale * x` to the power of 1, 2 or 3."""
    if power == 2:
        return square(x, scale)
    x = x if scale is None else x * scale
    return x if power == 1 else ops.square(x) * x


MAPS: dict[type, type[LinearMap]] = {}


def maps(*types: type) -> Callable[[type[Map]], type[Map]]:
    """Registers the decorated `LinearMap` for layers of these types and their subclasses."""

    def register(cls: type[Map]) -> type[Map]:
        MAPS.update(dict.fromkeys(types, cls))
        return cls

    return register
