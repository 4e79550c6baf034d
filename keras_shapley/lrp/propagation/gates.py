"""`G`, the mean slope of an activation over random orders of a neuron's inputs, and `H`, which efficiency fixes."""

import math

import numpy as np
from keras import layers, ops

from keras_shapley.backend import vjp
from keras_shapley.layers.activations import TINY, gate
from keras_shapley.lrp.propagation.variation import Variation
from keras_shapley.models.keras_internals import LEAKY_RELU_OPERATION
from keras_shapley.models.layer_types import activation_name
from keras_shapley.utils.typing import Operation, Tensor, TensorFunction

# nodes of the Gauss-Hermite quadrature, for activations without a closed form
_NODES = 7
# a difference below this share of the values is rounding
_ROUNDING = 1e-6
_SMALLEST = 1e-15


def coefficients(g: Tensor, z: Variation, difference: Tensor) -> tuple[Tensor, Tensor]:
    """`(G, H)` of a neuron: a contribution `a` has the Shapley value `G a + H a**2`, to second order.

    Args:
        g: `G`, the mean slope.
        z: the neuron's sum.
        difference: of the neuron's output. The values sum to it, `H = (dy - G u)/q`.
    """
    is_real = z.q > ops.square(_rounding(z))
    return g, ops.where(is_real, (difference - g * z.difference) / ops.where(is_real, z.q, 1), 0)


def slope(function: TensorFunction, z: Variation, difference: Tensor) -> Tensor:
    """`dy/u`, the slope of an elementwise function between the baseline and the input: DeepLIFT's rescale rule.

    Args:
        function: elementwise.
        z: its input.
        difference: of its output.
    """
    u = z.difference
    is_real = ops.abs(u) > _rounding(z)
    tangent = derivative(function, (z.value + z.baseline) / 2)
    return ops.where(is_real, difference / ops.where(is_real, u, 1), tangent)


def mean_slope(op: Operation, function: TensorFunction, z: Variation) -> Tensor:
    """`G = E f'(z' + S)` for a normal `S` with the moments of eq. (1), mean `u/2` and variance `q/6 + u**2/12`.

    It has a closed form for ReLU6 and for functions that are linear on both sides of zero. For others the mean is
    by Gauss-Hermite quadrature.

    Args:
        op: layer or operation with the activation.
        function: the activation `f`, elementwise.
        z: the neuron's sum.

    Returns:
        Shape of `z`.
    """
    u, q, baseline = z.difference, z.q, z.baseline
    name = activation_name(op)
    if name == "relu6":
        return gate(u, q, baseline) - gate(u, q, baseline - 6.0)
    if name == "relu":
        return gate(u, q, baseline)
    if isinstance(op, (layers.LeakyReLU, layers.PReLU, LEAKY_RELU_OPERATION)) or name == "leaky_relu":
        ones = ops.ones_like(u)
        left, right = -function(-ones), function(ones)
        return left + (right - left) * gate(u, q, baseline)
    sigma = ops.sqrt(q / 6 + ops.square(u) / 12 + TINY)
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    weights = weights / math.sqrt(2 * math.pi)
    mean = baseline + u / 2
    pairs = zip(nodes.tolist(), weights.tolist())
    return sum(weight * derivative(function, mean + node * sigma) for node, weight in pairs)


def derivative(function: TensorFunction, z: Tensor) -> Tensor:
    """Derivative of an elementwise function."""
    y, pullback = vjp(function, z)
    return pullback(ops.ones_like(y))[0]


def _rounding(z: Variation) -> Tensor:
    """The size below which a difference of `z` is rounding."""
    return _ROUNDING * (ops.abs(z.value) + ops.abs(z.baseline)) + _SMALLEST
