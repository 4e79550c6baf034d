"""BatchNormalization merged into the linear layers beside it: `L(x; W) + b` with the affine map of either side."""

import collections
import dataclasses

import keras
from keras import layers, ops

from keras_shapley.layers.base import ShapleyLayer
from keras_shapley.layers.linear_maps import LinearMap, linear_map
from keras_shapley.models.graph import Call


class MergedMap(LinearMap):
    """A linear map with another kernel and bias of the same geometry."""

    kernel = bias = None

    def __init__(self, linear, kernel, bias):
        super().__init__(linear.layer)
        self._linear, self.kernel, self.bias = linear, kernel, bias

    def __call__(self, x, kernel):
        return self._linear(x, kernel)

    def unit_kernel(self, dtype):
        return self._linear.unit_kernel(dtype)

    def merge(self, y, weights):
        return self._linear.merge(y, weights)

    def spread(self, share, x):
        return self._linear.spread(share, x)

    def fan_in(self, players):
        return self._linear.fan_in(players)


@dataclasses.dataclass
class Merge:
    """The BatchNormalization calls right before and right behind a linear call; None where there is none."""

    before: Call | None = None
    behind: Call | None = None

    def __call__(self, linear, x):
        """The `MergedMap` of all, where `x` is what comes in: the input of `before`, or of the layer itself."""
        kernel = ops.cast(linear.kernel, x.dtype)
        bias = ops.zeros((), x.dtype) if linear.bias is None else ops.cast(linear.bias, x.dtype)
        if self.before is not None:
            scale, shift = _affine(self.before.op, x.dtype)
            # zeros with which the layer pads come behind the normalisation, so the shift has no part there
            bias = bias + linear(linear.along_channels(shift) + ops.zeros_like(x[:1]), kernel)
            kernel = linear.times_inputs(kernel, scale)
        if self.behind is not None:
            scale, shift = _affine(self.behind.op, x.dtype)
            bias = bias * linear.along_channels(scale) + linear.along_channels(shift)
            kernel = linear.times_outputs(kernel, scale)
        return MergedMap(linear, kernel, bias)


def merges(calls, linear):
    """The `Merge` of each linear call beside a BatchNormalization.

    Args:
        calls: of a graph, those that relevance walks.
        linear: those of them that follow a rule for linear layers.

    Raises:
        ValueError: if a BatchNormalization beside a linear layer cannot be merged exactly.
    """
    uses = collections.Counter(value for call in calls for value in call.inputs)
    found = collections.defaultdict(Merge)
    for call in calls:
        if not call.is_a((layers.BatchNormalization,)):
            continue
        producer = call.inputs[0].producer
        if producer in linear and _ends_linear(producer):
            if uses[call.inputs[0]] > 1:
                raise ValueError(
                    f"Layer {call.description} cannot be merged into {producer.description}: other layers use that "
                    "layer's output as it is before the normalisation. Use merge_batch_norm=False."
                )
            _check_axis(call, producer)
            found[producer].behind = call
            continue
        for consumer in calls:
            if call.outputs[0] in consumer.inputs and consumer in linear:
                _check_axis(call, consumer)
                found[consumer].before = call
    return dict(found)


def _ends_linear(call):
    return not isinstance(call.op, ShapleyLayer) and call.op.activation in (None, keras.activations.linear)


def along_the_channels(call, neighbour):
    """Whether a BatchNormalization has a number for each channel of the linear layer beside it."""
    rank = call.op.input_spec.ndim
    return call.op.axis % rank == linear_map(neighbour.op).channel_axis % rank


def _check_axis(call, neighbour):
    if not along_the_channels(call, neighbour):
        raise ValueError(
            f"Layer {call.description} cannot be merged into {neighbour.description}: it normalises axis "
            f"{call.op.axis}, which is not the axis of that layer's channels. Use merge_batch_norm=False."
        )


def _affine(layer, dtype):
    """`(scale, shift)` of a BatchNormalization in inference."""
    mean, variance = (ops.cast(moment, dtype) for moment in (layer.moving_mean, layer.moving_variance))
    scale = ops.rsqrt(variance + layer.epsilon)
    if layer.gamma is not None:
        scale = scale * ops.cast(layer.gamma, dtype)
    shift = -mean * scale
    return scale, shift if layer.beta is None else shift + ops.cast(layer.beta, dtype)
