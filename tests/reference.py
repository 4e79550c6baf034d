"""The paper's formulas in float64 NumPy, one neuron at a time: what the other tests are held against.

Nothing here goes through `L(x**2, W**2)` or any other trick of `keras_shapley`: a layer is a list of `Neuron`, each
with its own list of inputs, and eqs. (1), (2), (4) and (5) are written for the vectors `x`, `w` and the number `b` of
one neuron, as the paper has them.

    cells = neurons(layer, x.shape)
    y = forward(shapley_activation, cells, x, kernel, bias)
    dx, dkernel, dbias = gradients(sa_gradient, cells, x, kernel, bias, upstream)
    r_x = relevance(cells, x, kernel, bias, r_y)
"""

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


def normal_cdf(z):
    return math.erfc(-z / math.sqrt(2)) / 2


def normal_pdf(z):
    return math.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)


def second_moment(x, w, sites=None):
    """Sum of `(w_i x_i)**2`; with `sites`, its mean field: mean of `x**2` times sum of `w**2`, site by site."""
    if sites is None:
        return np.sum((w * x) ** 2)
    members = _members(sites)
    return sum(np.mean(x[site] ** 2) * np.sum(w[site] ** 2) for site in members)


def second_moment_gradient(x, w, sites=None):
    """Derivatives of `second_moment` with respect to `x` and `w`."""
    if sites is None:
        return 2 * w**2 * x, 2 * w * x**2
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    for site in _members(sites):
        dx[site] = 2 * x[site] / len(site) * np.sum(w[site] ** 2)
        dw[site] = np.mean(x[site] ** 2) * 2 * w[site]
    return dx, dw


def _members(sites):
    return [[tap for tap, other in enumerate(sites) if other == site] for site in dict.fromkeys(sites)]


def mean_and_variance(x, w, sites=None):
    """`mu` and `sigma**2`, eq. (1)."""
    mu = np.sum(w * x) / 2
    variance = second_moment(x, w, sites) / 6 + np.sum(w * x) ** 2 / 12
    return mu, variance


def shapley_values(x, w, b, sites=None):
    """`alpha_k` for every `k`, eq. (1)."""
    mu, variance = mean_and_variance(x, w, sites)
    return normal_cdf((mu + b) / math.sqrt(variance)) * (w * x + b / len(x))


def shapley_activation(x, w, b, sites=None):
    """SA, eq. (5)."""
    mu, variance = mean_and_variance(x, w, sites)
    return normal_cdf((mu + b) / math.sqrt(variance)) * (np.sum(w * x) + b)


def relu(x, w, b, sites=None):
    return max(np.sum(w * x) + b, 0.0)


def sa_gradient(x, w, b, sites=None, moment_gradient=True):
    """Derivative of eq. (5) with respect to `x`, `w` and `b`, by the chain rule.

    `moment_gradient=False` holds the sum of `(w_i x_i)**2` constant.
    """
    mu, variance = mean_and_variance(x, w, sites)
    sigma, s, u = math.sqrt(variance), np.sum(w * x) + b, np.sum(w * x)
    z = (mu + b) / sigma
    dq_dx, dq_dw = second_moment_gradient(x, w, sites) if moment_gradient else (0, 0)

    def derivative(du, dq):
        dvariance = dq / 6 + u * du / 6
        dz = du / (2 * sigma) - (mu + b) / (2 * sigma**3) * dvariance
        return normal_cdf(z) * du + s * normal_pdf(z) * dz

    return derivative(w, dq_dx), derivative(x, dq_dw), normal_cdf(z) + s * normal_pdf(z) / sigma


def shapley_gradient(x, w, b, sites=None, full=True):
    """Eq. (4), for `x`, `w` and `b`; `full=False` leaves out the last terms of its first two lines, as they did."""
    mu, variance = mean_and_variance(x, w, sites)
    sigma, n = math.sqrt(variance), len(x)
    cdf = normal_cdf((mu + b) / sigma)
    g = normal_pdf((mu + b) / sigma) * (w * x + b / n)
    last = g * (1 / (2 * sigma) - (mu + b) * (w * x + mu) / (6 * sigma**3)) if full else 0
    return cdf * w + w * last, cdf * x + x * last, cdf + np.sum(g) / sigma


def exact_shapley_values(x, w, b):
    """Shapley values of `max(sum of w_i x_i + b, 0)`: the average of Table 1 over all permutations."""
    return np.mean([contributions(x, w, b, order) for order in itertools.permutations(range(len(x)))], axis=0)


def contributions(x, w, b, order):
    """What each input adds to `max(s, 0)` when the inputs come in this order: one row of Table 1."""
    s, added = b, np.zeros(len(x))
    for k in order:
        before = max(s, 0.0)
        s += w[k] * x[k]
        added[k] = max(s, 0.0) - before
    return added


def relevance_shares(x, w, b, r, epsilon=0.0):
    """`r(x_k <- y)` for every `k`, eq. (2), with the paper's `epsilon` in the denominator."""
    s = np.sum(w * x) + b
    return (w * x + b / len(x)) / (s + epsilon * (1 if s >= 0 else -1)) * r


def forward(activation, cells, x, kernel, bias=None, *, pooled=False):
    """Output of a layer, `activation(x, w, b, sites)` being one neuron's."""
    y = np.zeros(output_shape(cells))
    for cell in cells:
        y[cell.output] = activation(*_operands(cell, x, kernel, bias, pooled))
    return y


def gradients(gradient, cells, x, kernel, bias, upstream, *, pooled=False, **options):
    """`(dx, dkernel, dbias)` of `sum of upstream * y`, `gradient(x, w, b, sites, **options)` being one neuron's."""
    dx, dkernel = np.zeros(np.shape(x)), np.zeros(np.shape(kernel))
    dbias = None if bias is None else np.zeros(np.shape(bias))
    for cell in cells:
        of_x, of_w, of_b = gradient(*_operands(cell, x, kernel, bias, pooled), **options)
        g = upstream[cell.output]
        for tap in range(cell.n):
            dx[cell.inputs[tap]] += g * of_x[tap]
            dkernel[cell.weights[tap]] += g * of_w[tap]
        if bias is not None:
            dbias[cell.bias] += g * of_b
    return dx, dkernel, dbias


def relevance(cells, x, kernel, bias, r_y, *, epsilon=0.0):
    """Relevance of the inputs: the sum over all neurons of their shares, eq. (2)."""
    r_x = np.zeros(np.shape(x))
    for cell in cells:
        taps, w, b, _ = _operands(cell, x, kernel, bias, False)
        for index, share in zip(cell.inputs, relevance_shares(taps, w, b, r_y[cell.output], epsilon), strict=True):
            r_x[index] += share
    return r_x


def fan_in(cells):
    """Number of inputs `n` of every neuron, in the shape of the output."""
    n = np.zeros(output_shape(cells))
    for cell in cells:
        n[cell.output] = cell.n
    return n


def output_shape(cells):
    return tuple(int(size) for size in np.max([cell.output for cell in cells], axis=0) + 1)


def _operands(cell, x, kernel, bias, pooled):
    taps = np.array([x[index] for index in cell.inputs], "float64")
    w = np.array([kernel[index] for index in cell.weights], "float64")
    return taps, w, 0.0 if bias is None else float(bias[cell.bias]), cell.sites if pooled else None


def neurons(layer, input_shape):
    """The neurons of a Keras Dense, Conv, DepthwiseConv or EinsumDense, from its public arguments.

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


def _conv(layer, input_shape):
    depthwise = hasattr(layer, "depth_multiplier")
    last = layer.data_format == "channels_last"
    batch, channels = input_shape[0], input_shape[-1 if last else 1]
    sizes = input_shape[1:-1] if last else input_shape[2:]
    groups = channels if depthwise else layer.groups
    filters = channels * layer.depth_multiplier if depthwise else layer.filters
    of_group, per_group = channels // groups, filters // groups

    def index(image, position, channel):
        return (image, *position, channel) if last else (image, channel, *position)

    windows = [
        _windows(size, kernel, stride, dilation, layer.padding)
        for size, kernel, stride, dilation in zip(
            sizes, layer.kernel_size, layer.strides, layer.dilation_rate, strict=True
        )
    ]
    for image, position, unit in itertools.product(range(batch), np.ndindex(*map(len, windows)), range(filters)):
        neuron = Neuron(index(image, position, unit), [], [], (unit,), [])
        group, place = divmod(unit, per_group)
        for taps in itertools.product(*(window[i] for window, i in zip(windows, position, strict=True))):
            pixel, tap = zip(*taps, strict=True)
            for channel in range(of_group):
                neuron.inputs.append(index(image, pixel, group * of_group + channel))
                # a depthwise kernel keeps its groups and their filters on two axes, a grouped one on the last
                neuron.weights.append((*tap, group, place) if depthwise else (*tap, channel, unit))
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
