"""The linear map `L(x; W)` of a layer, by layer type.

The Shapley maths needs a layer only through this map, so supporting a new layer type takes one class below.
"""

import math
import re
from collections.abc import Sequence
from typing import Any

from keras import layers, ops

from keras_shapley.backend import vjp
from keras_shapley.backend.derivatives import square, sum_of_squares
from keras_shapley.layers.linear_map import MAPS, LinearMap, maps, power_of, sum_over_inputs
from keras_shapley.layers.scaling import UNSCALED, Scales
from keras_shapley.utils.typing import Tensor


def linear_map(layer: Any) -> LinearMap:
    """The `LinearMap` of a layer.

    Raises:
        ValueError: if no map is registered for the layer's type.
    """
    for cls in type(layer).__mro__:
        if cls in MAPS:
            return MAPS[cls](layer)
    raise ValueError(
        f"Layer '{layer.name}' ({type(layer).__name__}) has no linear map, as Dense and convolutions have."
    )


@maps(layers.Dense)
class DenseMap(LinearMap):
    def __call__(self, x: Tensor, kernel: Tensor) -> Tensor:
        return sum_over_inputs(x, kernel)

    def input_axes(self, rank: int) -> Sequence[int]:
        # each row of a sequence has a scale of its own
        return [rank - 1]

    def spread(self, share: Tensor, x: Tensor) -> Tensor:
        return share

    def times_inputs(self, kernel: Tensor, factors: Tensor) -> Tensor:
        return kernel * ops.reshape(factors, (-1, 1))

    def _unit_shape(self) -> tuple[int, ...]:
        return (self.kernel.shape[0], 1)


@maps(layers.EinsumDense)
class EinsumDenseMap(LinearMap):
    def __init__(self, layer: Any) -> None:
        super().__init__(layer)
        x, kernel, y = self.terms = re.split(",|->", layer.equation.replace(" ", ""))
        contracted = [label for label in kernel if label in x and label not in y]
        new = [label for label in kernel if label not in x]
        self.channels = [_axis(kernel, term[-1]) for term in (x, y)]
        self.x_axes = _axes(x, contracted)
        self.kernel_axes = _axes(kernel, contracted)
        self.unit_axes = _axes(kernel, new)
        self.y_axes = _axes(y, new)

    def __call__(self, x: Tensor, kernel: Tensor) -> Tensor:
        return ops.einsum(self.layer.equation, x, kernel)

    def input_axes(self, rank: int) -> Sequence[int]:
        # the first axis is that of the batch, also in the output
        return range(1, rank)

    def at_outputs(self, scale: Tensor) -> Tensor:
        letters = len(self.terms[0].replace("...", ""))
        rank = len(self.terms[2].replace("...", "")) + len(scale.shape) - letters
        return ops.reshape(scale, (-1,) + (1,) * (rank - 1))

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

    def pooled_second_moment(
        self, x: Tensor, kernel: Tensor, of_kernel: Tensor | None = None, of_x: Tensor | None = None
    ) -> Tensor:
        n = math.prod(kernel.shape[axis] for axis in self.kernel_axes)
        return self(sum_of_squares(x, self.x_axes, of_x) / n, sum_of_squares(kernel, self.kernel_axes, of_kernel))


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

    def input_axes(self, rank: int) -> Sequence[int]:
        return range(1, rank)

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


@maps(layers.Conv1D, layers.Conv2D, layers.Conv3D)
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

    def pooled_second_moment(
        self, x: Tensor, kernel: Tensor, of_kernel: Tensor | None = None, of_x: Tensor | None = None
    ) -> Tensor:
        n, sums = kernel.shape[-2], sum_of_squares(kernel, -2, of_kernel)
        if self.groups > 1:
            x = x if of_x is None else x * of_x
            x = ops.squeeze(sum_of_squares(self._by_group(x), self.channel_axis + 1), self.channel_axis + 1)
            return self(x / n, sums)
        if any(size > 1 for size in self.layer.kernel_size):
            return self(sum_of_squares(x, self.channel_axis, of_x) / n, sums)
        # an outer product; as a convolution, its gradient has hung in oneDNN (PyTorch 2.13 on a CPU)
        steps = [slice(None)] + [slice(None, None, stride) for stride in self.layer.strides]
        steps.insert(self.channel_axis, slice(None))
        x = x[tuple(steps)]
        return sum_of_squares(x, self.channel_axis, of_x) * self.along_channels(ops.reshape(sums, (-1,)) / n)


@maps(layers.DepthwiseConv1D, layers.DepthwiseConv2D)
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

    def pooled_second_moment(
        self, x: Tensor, kernel: Tensor, of_kernel: Tensor | None = None, of_x: Tensor | None = None
    ) -> Tensor:
        # one input channel a group: its mean is itself
        return self(square(x, of_x), square(kernel, of_kernel))


@maps(layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
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

    def pooled_second_moment(
        self, x: Tensor, kernel: Tensor, of_kernel: Tensor | None = None, of_x: Tensor | None = None
    ) -> Tensor:
        # two equal channels: the gradient of one has failed for a batch of one (PyTorch 2.13)
        n, axis = 2 * kernel.shape[-1], self.channel_axis
        halves = ops.repeat(sum_of_squares(x, axis, of_x) / n, 2, axis)
        return self(halves, ops.repeat(sum_of_squares(kernel, -1, of_kernel), 2, -1))


@maps(layers.SeparableConv1D, layers.SeparableConv2D)
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

    def as_one(self, kernels: Sequence[Tensor], scales: Scales) -> tuple[Tensor, Tensor | None]:
        pairs = zip(kernels, scales.kernels)
        return self.product([kernel if scale is None else kernel * scale for kernel, scale in pairs]), None

    def power_sums(self, x: Tensor, kernels: Sequence[Tensor], power: int, scales: Scales = UNSCALED) -> Tensor:
        if power > 1 and self.layer.depth_multiplier > 1:
            # each weight is a sum of products
            return super().power_sums(x, kernels, power, scales)
        # one kernel after the other is cheaper than their product
        depthwise, pointwise = (power_of(kernel, power, scale) for kernel, scale in zip(kernels, scales.kernels))
        return ops.separable_conv(power_of(x, power, scales.x), depthwise, pointwise, **self.geometry)

    def _unit_shape(self) -> tuple[int, ...]:
        return (*self.layer.depthwise_kernel.shape[:-1], 1)


LINEAR_TYPES = tuple(MAPS)
