"""A layer as a list of its neurons, each with its own list of inputs, found by loops over its geometry."""

import itertools
import math
from typing import NamedTuple

import numpy as np


class Neuron(NamedTuple):
    """One output of a layer and all that feeds it. A tap on padding is no input and is not listed."""

    output: tuple  # index into the layer's output
    inputs: list  # index into the layer's input, tap by tap
    weights: list  # index into its kernel, tap by tap
    bias: tuple  # index into its bias
    sites: list  # taps of one site differ in the input channel alone: second_moment="pooled" averages over them

    @property
    def n(self):
        return len(self.inputs)


def fan_in(cells):
    """Number of inputs `n` of every neuron, in the shape of the output."""
    n = np.zeros(output_shape(cells))
    for cell in cells:
        n[cell.output] = cell.n
    return n


def output_shape(cells):
    return tuple(int(size) for size in np.max([cell.output for cell in cells], axis=0) + 1)


def neurons(layer, input_shape):
    """The neurons of a Keras Dense, EinsumDense or convolution of any kind, from its public arguments.

    The weights of a SeparableConv are those of `kernel_of`.

    Args:
        layer: a layer; only the attributes that hold its arguments are read, and the shape of EinsumDense's weights.
        input_shape: shape of the input, with the batch.
    """
    if hasattr(layer, "equation"):
        return list(_einsum(layer, input_shape))
    if hasattr(layer, "kernel_size"):
        return list(_conv(layer, input_shape))
    return list(_dense(layer, input_shape))


def _dense(layer, input_shape):
    *positions, features = input_shape
    for position in np.ndindex(*positions):
        for unit in range(layer.units):
            yield Neuron(
                output=(*position, unit),
                inputs=[(*position, i) for i in range(features)],
                weights=[(i, unit) for i in range(features)],
                bias=(unit,),
                sites=[0] * features,
            )


def kernel_of(kernels):
    """The kernel of a layer with these kernels: that of a SeparableConv is `W[tap, c, f]`, by the definition."""
    if len(kernels) == 1:
        return kernels[0]
    depthwise, pointwise = kernels
    *taps, channels, multiplier = depthwise.shape
    kernel = np.zeros((*taps, channels, pointwise.shape[-1]), depthwise.dtype)
    for *tap, c, m in np.ndindex(depthwise.shape):
        kernel[(*tap, c)] += depthwise[(*tap, c, m)] * pointwise.reshape(-1, kernel.shape[-1])[c * multiplier + m]
    return kernel


def kernel_gradients(dkernel, kernels):
    """The derivatives by a layer's kernels from that by `kernel_of` them: the chain rule, product by product."""
    if len(kernels) == 1:
        return [dkernel]
    depthwise, pointwise = kernels
    ddepthwise, dpointwise = np.zeros(depthwise.shape), np.zeros(pointwise.shape)
    rows, drows = (a.reshape(-1, a.shape[-1]) for a in (pointwise, dpointwise))
    for *tap, c, m in np.ndindex(depthwise.shape):
        row = c * depthwise.shape[-1] + m
        ddepthwise[(*tap, c, m)] = dkernel[(*tap, c)] @ rows[row]
        drows[row] += dkernel[(*tap, c)] * depthwise[(*tap, c, m)]
    return [ddepthwise, dpointwise]


def _conv(layer, input_shape):
    depthwise = hasattr(layer, "depth_multiplier") and not hasattr(layer, "pointwise_initializer")
    transposed = hasattr(layer, "output_padding")
    last = layer.data_format == "channels_last"
    batch, channels = input_shape[0], input_shape[-1 if last else 1]
    sizes = input_shape[1:-1] if last else input_shape[2:]
    groups = channels if depthwise else getattr(layer, "groups", 1)
    filters = channels * layer.depth_multiplier if depthwise else layer.filters
    of_group, per_group = channels // groups, filters // groups

    def index(image, position, channel):
        return (image, *position, channel) if last else (image, channel, *position)

    axes = [sizes, layer.kernel_size, layer.strides, layer.dilation_rate]
    if transposed:
        axes.append(layer.output_padding or (None,) * layer.rank)
    find = _transposed_windows if transposed else _windows
    windows = [find(*of_axis, padding=layer.padding) for of_axis in zip(*axes, strict=True)]
    for image, position, unit in itertools.product(range(batch), np.ndindex(*map(len, windows)), range(filters)):
        neuron = Neuron(index(image, position, unit), [], [], (unit,), [])
        group, place = divmod(unit, per_group)
        for taps in itertools.product(*(window[i] for window, i in zip(windows, position, strict=True))):
            pixel, tap = zip(*taps, strict=True)
            for channel in range(of_group):
                neuron.inputs.append(index(image, pixel, group * of_group + channel))
                # a depthwise kernel keeps its groups and their filters on two axes, a grouped one on the last
                neuron.weights.append((*tap, group, place) if depthwise else (*tap, channel, unit))
                if transposed:
                    neuron.weights[-1] = (*tap, unit, channel)
                neuron.sites.append(tap)
        yield neuron


def _windows(size, kernel, stride, dilation, padding):
    """Along one axis, for each output: the pairs (input position, kernel position) that lie in the image."""
    reach = (kernel - 1) * dilation + 1
    if padding == "same":
        outputs = math.ceil(size / stride)
        before = max((outputs - 1) * stride + reach - size, 0) // 2
    else:
        before = reach - 1 if padding == "causal" else 0
        outputs = (before + size - reach) // stride + 1
    pairs = [[(o * stride - before + k * dilation, k) for k in range(kernel)] for o in range(outputs)]
    return [[(i, k) for i, k in window if 0 <= i < size] for window in pairs]


def _transposed_windows(size, kernel, stride, dilation, output_padding, padding):
    """As `_windows`: input `i` reaches output `i * stride + k * dilation` through `k`, less what padding cuts off."""
    reach = (kernel - 1) * dilation + 1
    natural = (size - 1) * stride + reach
    if padding == "valid":
        outputs = natural + (max(stride - reach, 0) if output_padding is None else output_padding)
    else:
        outputs = size * stride if output_padding is None else (size - 1) * stride + reach % 2 + output_padding
    cut = max(natural - outputs, 0) // 2
    windows = [[] for _ in range(outputs)]
    for i, k in itertools.product(range(size), range(kernel)):
        output = i * stride + k * dilation - cut
        if 0 <= output < outputs:
            windows[output].append((i, k))
    return windows


def _einsum(layer, input_shape):
    terms = layer.equation.replace("->", ",").split(",")
    letters = sum(term.isalpha() for term in terms[0].replace("...", ""))
    elided = "ABCDEFGH"[: len(input_shape) - letters]
    x, kernel, y = (term.replace("...", elided) for term in terms)
    sizes = dict(zip(x + kernel, (*input_shape, *layer.kernel.shape), strict=True))
    summed = [label for label in sizes if label not in y]
    pooled = [label for label in summed if label in kernel]
    bias_shape = () if layer.bias is None else tuple(layer.bias.shape)

    for output in np.ndindex(*(sizes[label] for label in y)):
        place = output[len(y) - len(bias_shape) :]
        bias = tuple(0 if size == 1 else i for i, size in zip(place, bias_shape, strict=True))
        neuron = Neuron(output, [], [], bias, [])
        for taps in np.ndindex(*(sizes[label] for label in summed)):
            at = dict(zip(y, output, strict=True)) | dict(zip(summed, taps, strict=True))
            neuron.inputs.append(tuple(at[label] for label in x))
            neuron.weights.append(tuple(at[label] for label in kernel))
            neuron.sites.append(tuple(at[label] for label in summed if label not in pooled))
        yield neuron
