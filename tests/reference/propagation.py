"""Shapley propagation in float64 NumPy, one neuron and one input at a time.

A network is a list of `Layer`. Its neurons come from `reference.geometry`; each has its own list of contributions
`a_k = w_k (x_k - x'_k)`, and the Shapley value of each is `G a_k + H a_k**2`.

    r_x = relevance(layers, x, baseline, weights)
"""

import math
from typing import NamedTuple

import numpy as np

from reference.geometry import neurons, output_shape
from reference.paper import normal_cdf


class Layer(NamedTuple):
    """A layer with weights, and the activation behind it."""

    cells: list
    kernel: np.ndarray
    bias: np.ndarray
    activation: str = "linear"
    shape: tuple | None = None  # of its input, if that was flattened on the way


def layer_of(layer, input_shape, activation="linear", kernel=None):
    """The `Layer` of a Keras layer, from its weights and its geometry for one input."""
    weights = [np.array(weight, "float64") for weight in layer.get_weights()]
    kernel = weights[0] if kernel is None else kernel
    bias = weights[1] if len(weights) > 1 else np.zeros(kernel.shape[-1])
    return Layer(neurons(layer, input_shape), kernel, bias, activation, tuple(input_shape))


def relevance(layers, x, baseline, weights):
    """Relevance of one input `x` from `baseline`, shape `(1, ...)`, for the sum of the outputs times `weights`."""
    values, baselines = [np.array(x, "float64")], [np.array(baseline, "float64")]
    for layer in layers:
        values.append(_forward(layer, values[-1]))
        baselines.append(_forward(layer, baselines[-1]))
    m = np.array(weights, "float64").reshape(values[-1].shape)
    for layer, before, before0 in zip(reversed(layers), reversed(values[:-1]), reversed(baselines[:-1]), strict=True):
        shape = before.shape
        m = _backward(layer, before.reshape(layer.shape), before0.reshape(layer.shape), m).reshape(shape)
    return m * (values[0] - baselines[0])


def activate(name, z):
    """An activation that is linear piece by piece, of one number."""
    pieces = {"linear": z, "relu": max(z, 0.0), "relu6": min(max(z, 0.0), 6.0), "leaky": z if z > 0 else 0.3 * z}
    return pieces[name]


def mean_slope(name, z0, u, q):
    """`G`: the mean of the slope over a normal distribution with the moments of eq. (1)."""
    sigma = math.sqrt(q / 6 + u**2 / 12)
    if name == "linear" or sigma == 0:
        return 1.0
    above = normal_cdf((z0 + u / 2) / sigma)
    if name == "relu6":
        return above - normal_cdf((z0 - 6 + u / 2) / sigma)
    return above if name == "relu" else 0.3 + 0.7 * above


def neuron_values(name, a, z0):
    """`(values, G, H)` of one neuron: the Shapley values of its contributions `a`, and both coefficients."""
    u, q = np.sum(a), np.sum(a**2)
    g = mean_slope(name, z0, u, q)
    h = (activate(name, z0 + u) - activate(name, z0) - g * u) / q if q > 0 else 0.0
    return g * a + h * a**2, g, h


def _forward(layer, x):
    x = x.reshape(layer.shape)
    y = np.zeros(output_shape(layer.cells))
    for cell in layer.cells:
        z = sum(layer.kernel[w] * x[i] for i, w in zip(cell.inputs, cell.weights, strict=True)) + layer.bias[cell.bias]
        y[cell.output] = activate(layer.activation, z)
    return y


def _backward(layer, x, x0, m):
    """Multipliers of a layer's inputs, from those of its outputs."""
    m = m.reshape(output_shape(layer.cells))
    before = np.zeros(layer.shape)
    for cell in layer.cells:
        w = np.array([layer.kernel[index] for index in cell.weights])
        d = np.array([x[index] - x0[index] for index in cell.inputs])
        z0 = sum(layer.kernel[k] * x0[i] for i, k in zip(cell.inputs, cell.weights, strict=True))
        _, g, h = neuron_values(layer.activation, w * d, z0 + layer.bias[cell.bias])
        for index, weight, difference in zip(cell.inputs, w, d, strict=True):
            before[index] += m[cell.output] * (g * weight + h * weight**2 * difference)
    return before
