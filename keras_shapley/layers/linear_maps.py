"""The linear map `L(x; W)` of a layer, by layer type.

The Shapley maths needs a layer only through this map, so supporting a new layer type takes one class below.
"""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from keras import layers, ops

from keras_shapley.backend import matmul, maximum, vjp
from keras_shapley.backend.derivatives import sum_of_squares
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
            return _matmul(y, weights[:, None])
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

    def power_sums(self, x: Tensor, kernels: Sequence[Tensor], power: int) -> Tensor:
        """Sums of `(w_i x_i)**power`: `u` for 1, `q` for 2.

        Args:
            x: the layer's input.
            kernels: factors of the kernel, in the form of `kernels`.
            power: 1, 2 or 3.
        """
        return self(_power(x, power), _power(self.product(kernels), power))

    def pooled_second_moment(self, x: Tensor, kernel: Tensor) -> Tensor:
        """Mean field of `q` over the input channels, tap by tap and within each group.

        The map of the mean of `x**2` and the sum of `kernel**2`, as one input channel a group.
        """
        return self(sum_of_squares(x, -1) / x.shape[-1], sum_of_squares(kernel, -2))


_MAPS: dict[type, type[LinearMap]] = {}


def _maps(*types: type) -> Callable[[type[Map]], type[Map]]:
    """Registers the decorated `LinearMap` for layers of these types and their subclasses."""

    def register(cls: type[Map]) -> type[Map]:
        _MAPS.update(dict.fromkeys(types, cls))
        return cls

    return register


def linear_map(layer: Any) -> LinearMap:
    """The `LinearMap` of a layer.

    Raises:
        ValueError: if no map is registered for the layer's type.
    """
    for cls in type(layer).__mro__:
        if cls in _MAPS:
            return _MAPS[cls](layer)
    raise ValueError(
        f"Layer '{layer.name}' ({type(layer).__name__}) has no linear map. Types with one: "
        f"{', '.join(cls.__name__ for cls in LINEAR_TYPES)}."
    )


@_maps(layers.Dense)
class DenseMap(LinearMap):
    def __call__(self, x: Tensor, kernel: Tensor) -> Tensor:
        return _matmul(x, kernel)

    def spread(self, share: Tensor, x: Tensor) -> Tensor:
        return share

    def times_inputs(self, kernel: Tensor, factors: Tensor) -> Tensor:
        return kernel * ops.reshape(factors, (-1, 1))

    def _unit_shape(self) -> tuple[int, ...]:
        return (self.kernel.shape[0], 1)


@_maps(layers.EinsumDense)
class EinsumDenseMap(LinearMap):
    def __init__(self, layer: Any) -> None:
        super().__init__(layer)
        x, kernel, y = re.split(",|->", layer.equation.replace(" ", ""))
        contracted = [label for label in kernel if label in x and label not in y]
        new = [label for label in kernel if label not in x]
        self.channels = [_axis(kernel, term[-1]) for term in (x, y)]
        self.x_axes = _axes(x, contracted)
        self.kernel_axes = _axes(kernel, contracted)
        self.unit_axes = _axes(kernel, new)
        self.y_axes = _axes(y, new)

    def __call__(self, x: Tensor, kernel: Tensor) -> Tensor:
        return ops.einsum(self.layer.equation, x, kernel)

    def times_inputs(self, kernel: Tensor, factors: Tensor) -> Tensor:
        return self._times(kernel, factors, self.channels[0])

    def times_outputs(self, kernel: Tensor, factors: Tensor) -> Tensor:
        return self._times(kernel, factors, self.channels[1])

    def _times(self, kernel: Tensor, factors: Tensor, axis: int | None) -> Tensor:
        if axis is None:
            raise ValueError(
                f"BatchNormalization cannot be merged into layer '{self.layer.name}' (EinsumDense): its kernel has "
                f"nothing for the last axis, in {self.layer.equation!r}. Use merge_batch_norm=False."
            )
        return kernel * ops.reshape(factors, [-1 if i == axis else 1 for i in range(len(kernel.shape))])

    def _unit_shape(self) -> tuple[int, ...]:
        return tuple(1 if axis in self.unit_axes else size for axis, size in enumerate(self.kernel.shape))

    def merge(self, y: Tensor, weights: Tensor) -> Tensor:
        return ops.sum(y * weights, axis=self.y_axes, keepdims=True)

    def pooled_second_moment(self, x: Tensor, kernel: Tensor) -> Tensor:
        n = math.prod(kernel.shape[axis] for axis in self.kernel_axes)
        return self(sum_of_squares(x, self.x_axes) / n, sum_of_squares(kernel, self.kernel_axes))


def _matmul(x: Tensor, kernel: Tensor) -> Tensor:
    if kernel.shape[0] == 1:
        # an outer product is elementwise work
        return x * kernel[0]
    return matmul(x, kernel)


def _power(x: Tensor, power: int) -> Tensor:
    square = x if power == 1 else ops.square(x)
    return square * x if power == 3 else square


def _axis(kernel: str, label: str) -> int | None:
    return kernel.index(label) if label in kernel else None


def _axes(spec: str, labels: list[str]) -> tuple[int, ...]:
    """Positions of `labels` in one term of an einsum equation, from the end where the term begins with `...`."""
    letters = spec.replace("...", "")
    shift = len(letters) if spec.startswith("...") else 0
    return tuple(letters.index(label) - shift for label in labels)


class _ConvMap(LinearMap):
    """What convolutions share: an axis of channels, and groups of channels that do not meet."""

    groups: int

    @property
    def geometry(self) -> dict[str, Any]:
        """The layer's arguments as those of an operation of `keras.ops`."""
        return {name: getattr(self.layer, name) for name in ("strides", "padding", "data_format", "dilation_rate")}

    def along_channels(self, vector: Tensor) -> Tensor:
        if self.layer.data_format == "channels_last":
            return vector
        return ops.reshape(vector, (-1,) + (1,) * self.layer.rank)

    @property
    def channel_axis(self) -> int:
        return self.layer.rank + 1 if self.layer.data_format == "channels_last" else 1

    def merge(self, y: Tensor, weights: Tensor) -> Tensor:
        if self.groups == 1 and self.layer.data_format == "channels_last":
            return super().merge(y, weights)
        return ops.sum(self._by_group(y * weights), axis=self.channel_axis + 1)

    def spread(self, share: Tensor, x: Tensor) -> Tensor:
        if self.groups > 1:
            return super().spread(share, x)
        if all(size == 1 for size in (*self.layer.kernel_size, *self.layer.strides)):
            return share
        # all channels of the input get the same
        ones = ops.ones((*self.layer.kernel_size, 1, 1), x.dtype)
        _, transpose = vjp(lambda x: self(x, ones), self._first_channel(x))
        return transpose(share)[0]

    def fan_in(self, real: Tensor) -> Tensor:
        # the same for every group: one channel of it broadcasts
        counts = super().fan_in(real)
        return self._first_channel(counts)

    def _first_channel(self, x: Tensor) -> Tensor:
        return x[(slice(None),) * self.channel_axis + (slice(1),)]

    def _by_group(self, x: Tensor) -> Tensor:
        """Splits the channels: axes `(..., groups, channels of a group, ...)`."""
        shape, axis = list(ops.shape(x)), self.channel_axis
        return ops.reshape(x, shape[:axis] + [self.groups, shape[axis] // self.groups] + shape[axis + 1 :])


@_maps(layers.Conv1D, layers.Conv2D, layers.Conv3D)
class ConvMap(_ConvMap):
    @property
    def groups(self) -> int:
        return self.layer.groups

    def __call__(self, x: Tensor, kernel: Tensor) -> Tensor:
        layer, geometry = self.layer, self.geometry
        if layer.padding == "causal":
            margins = [[0, 0]] * (layer.rank + 2)
            margins[2 if self.channel_axis == 1 else 1] = [layer.dilation_rate[0] * (layer.kernel_size[0] - 1), 0]
            x, geometry["padding"] = ops.pad(x, margins), "valid"
        return ops.conv(x, kernel, **geometry)

    def times_inputs(self, kernel: Tensor, factors: Tensor) -> Tensor:
        by_group = ops.transpose(ops.reshape(factors, (self.groups, -1)))
        return kernel * ops.repeat(by_group, self.layer.filters // self.groups, axis=1)

    def _unit_shape(self) -> tuple[int, ...]:
        return (*self.kernel.shape[:-1], self.groups)

    def pooled_second_moment(self, x: Tensor, kernel: Tensor) -> Tensor:
        n, sums = kernel.shape[-2], sum_of_squares(kernel, -2)
        if self.groups > 1:
            x = ops.squeeze(sum_of_squares(self._by_group(x), self.channel_axis + 1), self.channel_axis + 1)
            return self(x / n, sums)
        if any(size > 1 for size in self.layer.kernel_size):
            return self(sum_of_squares(x, self.channel_axis) / n, sums)
        # an outer product; as a convolution, its gradient has hung in oneDNN (PyTorch 2.13 on a CPU)
        steps = [slice(None)] + [slice(None, None, stride) for stride in self.layer.strides]
        steps.insert(self.channel_axis, slice(None))
        x = x[tuple(steps)]
        return sum_of_squares(x, self.channel_axis) * self.along_channels(ops.reshape(sums, (-1,)) / n)


@_maps(layers.DepthwiseConv1D, layers.DepthwiseConv2D)
class DepthwiseConvMap(_ConvMap):
    @property
    def groups(self) -> int:
        return self.kernel.shape[-2]

    def __call__(self, x: Tensor, kernel: Tensor) -> Tensor:
        return ops.depthwise_conv(x, kernel, **self.geometry)

    def times_inputs(self, kernel: Tensor, factors: Tensor) -> Tensor:
        return kernel * ops.reshape(factors, (-1, 1))

    def times_outputs(self, kernel: Tensor, factors: Tensor) -> Tensor:
        return kernel * ops.reshape(factors, (-1, self.layer.depth_multiplier))

    def _unit_shape(self) -> tuple[int, ...]:
        return (*self.kernel.shape[:-1], 1)

    def pooled_second_moment(self, x: Tensor, kernel: Tensor) -> Tensor:
        # one input channel a group: its mean is itself
        return self(ops.square(x), ops.square(kernel))


@_maps(layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
class ConvTransposeMap(_ConvMap):
    groups = 1

    def __call__(self, x: Tensor, kernel: Tensor) -> Tensor:
        return ops.conv_transpose(x, kernel, output_padding=self.layer.output_padding, **self.geometry)

    def times_inputs(self, kernel: Tensor, factors: Tensor) -> Tensor:
        return kernel * factors

    def times_outputs(self, kernel: Tensor, factors: Tensor) -> Tensor:
        return kernel * ops.reshape(factors, (-1, 1))

    def _unit_shape(self) -> tuple[int, ...]:
        return (*self.kernel.shape[:-2], 1, self.kernel.shape[-1])

    def pooled_second_moment(self, x: Tensor, kernel: Tensor) -> Tensor:
        # two equal channels: the gradient of one has failed for a batch of one (PyTorch 2.13)
        n, axis = 2 * kernel.shape[-1], self.channel_axis
        halves = ops.repeat(sum_of_squares(x, axis) / n, 2, axis)
        return self(halves, ops.repeat(sum_of_squares(kernel, -1), 2, -1))


@_maps(layers.SeparableConv1D, layers.SeparableConv2D)
class SeparableConvMap(ConvMap):
    """A depthwise and a pointwise kernel with nothing between are one kernel: their product."""

    @property
    def groups(self) -> int:
        return 1

    @property
    def kernels(self) -> list[Tensor]:
        return [self.layer.depthwise_kernel, self.layer.pointwise_kernel]

    @property
    def kernel(self) -> Tensor:
        return self.product(self.kernels)

    def product(self, kernels: Sequence[Tensor]) -> Tensor:
        depthwise, pointwise = kernels
        *_, channels, multiplier = depthwise.shape
        mixing = ops.reshape(pointwise, (channels, multiplier, self.layer.filters))
        return ops.einsum("...cm,cmf->...cf", depthwise, mixing)

    def power_sums(self, x: Tensor, kernels: Sequence[Tensor], power: int) -> Tensor:
        if power > 1 and self.layer.depth_multiplier > 1:
            # each weight is a sum of products
            return super().power_sums(x, kernels, power)
        # one kernel after the other is cheaper than their product
        depthwise, pointwise = (_power(kernel, power) for kernel in kernels)
        return ops.separable_conv(_power(x, power), depthwise, pointwise, **self.geometry)

    def _unit_shape(self) -> tuple[int, ...]:
        return (*self.layer.depthwise_kernel.shape[:-1], 1)


LINEAR_TYPES = tuple(_MAPS)
