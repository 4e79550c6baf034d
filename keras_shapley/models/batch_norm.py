"""BatchNormalization merged into the linear layers beside it.

In inference it is an affine map of each channel, so with a linear layer `L(x; W) + b` on either side it is one linear
layer with another kernel and bias.
"""

import collections
import dataclasses
from collections.abc import Collection
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_shapley.layers.base import ShapleyLayer
from keras_shapley.layers.linear_maps import LinearMap, linear_map
from keras_shapley.models.graph import Call
from keras_shapley.models.layer_types import activation_of
from keras_shapley.utils.typing import Tensor


class OtherWeights(LinearMap):
    """The linear map of a layer with another kernel or bias of the same shapes."""

    def __init__(self, linear: LinearMap, kernel: Tensor, bias: Tensor | None) -> None:
        super().__init__(linear.layer)
        self._linear = linear
        self._kernel = kernel
        self._bias = bias

    @property
    def kernel(self) -> Tensor:
        return self._kernel

    @property
    def bias(self) -> Tensor | None:
        return self._bias

    def __call__(self, x: Tensor, kernel: Tensor) -> Tensor:
        return self._linear(x, kernel)

    def unit_kernel(self, dtype: str) -> Tensor:
        return self._linear.unit_kernel(dtype)

    def merge(self, y: Tensor, weights: Tensor) -> Tensor:
        return self._linear.merge(y, weights)

    def spread(self, share: Tensor, x: Tensor) -> Tensor:
        return self._linear.spread(share, x)

    def fan_in(self, real: Tensor) -> Tensor:
        return self._linear.fan_in(real)


@dataclasses.dataclass
class Merge:
    """The BatchNormalization calls right before and right behind a linear call; None where there is none."""

    before: Call | None = None
    behind: Call | None = None

    def __call__(self, linear: LinearMap, x: Tensor) -> OtherWeights:
        """The linear layer and its neighbours, in one.

        Args:
            linear: of the layer alone.
            x: the input of `before`, or of the layer where there is none; only its shape and dtype count.
        """
        kernel = ops.cast(linear.kernel, x.dtype)
        bias = linear.bias_or_zero(x.dtype)
        if self.before is not None:
            scale, shift = _affine(self.before.op, x.dtype)
            # the layer pads with zeros behind the normalisation, so the shift does not reach them
            bias = bias + linear(linear.along_channels(shift) + ops.zeros_like(x[:1]), kernel)
            kernel = linear.times_inputs(kernel, scale)
        if self.behind is not None:
            scale, shift = _affine(self.behind.op, x.dtype)
            bias = bias * linear.along_channels(scale) + linear.along_channels(shift)
            kernel = linear.times_outputs(kernel, scale)
        return OtherWeights(linear, kernel, bias)


def merges(calls: Collection[Call], linear: Collection[Call]) -> dict[Call, Merge]:
    """The `Merge` of each linear call beside a BatchNormalization.

    Args:
        calls: of a graph, those that relevance walks.
        linear: those of them that follow a rule for linear layers.

    Raises:
        ValueError: if a BatchNormalization beside a linear layer cannot be merged exactly.
    """
    uses = collections.Counter(value for call in calls for value in call.inputs)
    merge_by_call: dict[Call, Merge] = collections.defaultdict(Merge)
    for call in calls:
        if not call.is_a((layers.BatchNormalization,)):
            continue
        producer = call.inputs[0].producer
        if producer is not None and producer in linear and _ends_linear(producer):
            if uses[call.inputs[0]] > 1:
                raise ValueError(
                    f"Layer {call.description} cannot be merged into {producer.description}: other layers use that "
                    "layer's output as it is before the normalisation. Use merge_batch_norm=False."
                )
            _check_axis(call, producer)
            merge_by_call[producer].behind = call
            continue
        for consumer in linear:
            if call.outputs[0] in consumer.inputs:
                _check_axis(call, consumer)
                merge_by_call[consumer].before = call
    return dict(merge_by_call)


def can_merge(norm: layers.BatchNormalization, layer: Any) -> bool:
    """Whether `merged_weights` has a place for the BatchNormalization behind a linear layer."""
    if isinstance(layer, layers.EinsumDense):
        # `use_bias` is no argument of it, and its bias may be shared by the channels
        channels = norm.moving_mean.shape[0]
        return layer.bias is not None and layer.bias.shape[-1] == channels and _normalizes_channels(norm, layer)
    return _normalizes_channels(norm, layer)


def merged_weights(norm: layers.BatchNormalization, layer: Any) -> list[np.ndarray]:
    """The weights of a linear layer with a bias that does the work of the BatchNormalization behind it as well."""
    scale, shift = _affine(norm, "float32")
    linear = linear_map(layer)
    *others, last = [ops.cast(kernel, "float32") for kernel in linear.kernels]
    bias = shift if layer.bias is None else ops.cast(layer.bias, "float32") * scale + shift
    return [ops.convert_to_numpy(weight) for weight in (*others, linear.times_outputs(last, scale), bias)]


def _normalizes_channels(norm: layers.BatchNormalization, layer: Any) -> bool:
    """Whether a BatchNormalization has one scale for each channel of the linear layer beside it."""
    # counted from the end, as either may be inside TimeDistributed
    own, rank = linear_map(layer).channel_axis, norm.input_spec.ndim
    return norm.axis % rank - rank == (own if own < 0 else own - (layer.rank + 2))


def _ends_linear(call: Call) -> bool:
    return not isinstance(call.op, ShapleyLayer) and activation_of(call.op) in (None, keras.activations.linear)


def _check_axis(call: Call, neighbour: Call) -> None:
    if not _normalizes_channels(call.op, neighbour.op):
        raise ValueError(
            f"Layer {call.description} cannot be merged into {neighbour.description}: it normalises axis "
            f"{call.op.axis}, which is not the axis of that layer's channels. Use merge_batch_norm=False."
        )


def _affine(layer: layers.BatchNormalization, dtype: str) -> tuple[Tensor, Tensor]:
    """`(scale, shift)` of a BatchNormalization in inference, one number a channel each."""
    mean = ops.cast(layer.moving_mean, dtype)
    variance = ops.cast(layer.moving_variance, dtype)
    scale = ops.rsqrt(variance + layer.epsilon)
    if layer.gamma is not None:
        scale = scale * ops.cast(layer.gamma, dtype)
    shift = -mean * scale
    return scale, shift if layer.beta is None else shift + ops.cast(layer.beta, dtype)
