"""The closed form of a neuron's Shapley values, `G a_k + H a_k**2` for its contributions `a_k`.

`G` is the mean slope of the activation over random orders of the contributions, and `H` is fixed by efficiency. Below,
`u` is the sum of the contributions and `q` the sum of their squares.
"""

import math
from typing import NamedTuple

import numpy as np
from keras import layers, ops

from keras_shapley.backend import vjp
from keras_shapley.layers.base import ShapleyLayer
from keras_shapley.layers.normal import normal_cdf
from keras_shapley.models.keras_internals import LEAKY_RELU_OPERATION
from keras_shapley.models.layer_types import activation_layer, activation_name
from keras_shapley.utils.typing import Operation, Tensor, TensorFunction

# nodes of the Gauss-Hermite quadrature, for activations without a closed form
_NODES = 7
# below this deviation of the sum the slope is averaged, above it the function, which may saturate between the nodes
_NARROW = 0.5
# a difference below this share of the values is rounding
_ROUNDING = 1e-6
# the squares of smaller numbers leave the range of float32
_SMALLEST = 1e-18


class NormalMoments(NamedTuple):
    """Mean and variance of a neuron's sum over random orders of its inputs.

    Attributes:
        mean: shape of the sum.
        variance: same shape.
    """

    mean: Tensor
    variance: Tensor


def order_moments(u: Tensor, q: Tensor) -> NormalMoments:
    """The moments of eq. (1), mean `u/2` and variance `q/6 + u**2/12`: of the contributions that come before one."""
    return NormalMoments(u / 2, q / 6 + ops.square(u) / 12)


def mean_slope(op: Operation, function: TensorFunction, moments: NormalMoments) -> Tensor:
    """`G`, the mean of `f'` over a normal distribution of the neuron's sum.

    It has a closed form for ReLU6 and for functions that are linear on both sides of zero. For others it is a
    Gauss-Hermite quadrature: of `f'` where the sum hardly varies; elsewhere of `f(z) (z - mean)/variance`, which has
    the same mean (Stein 1981), and whose nodes need not lie where `f` is steep. Where a node lies outside of the
    domain of `f`, it is the slope at the mean, or 0 where there is none.

    Args:
        op: layer or operation with the activation.
        function: the activation `f`, elementwise.
        moments: of the neuron's sum.

    Returns:
        Shape of the sum.
    """
    op = activation_layer(op)
    mean, sigma = moments.mean, ops.sqrt(moments.variance + _SMALLEST**2)
    name = activation_name(op)
    if name == "relu6":
        return normal_cdf(mean / sigma) - normal_cdf((mean - 6.0) / sigma)
    if name == "relu" or isinstance(op, ShapleyLayer):
        return normal_cdf(mean / sigma)
    if isinstance(op, (layers.LeakyReLU, layers.PReLU, LEAKY_RELU_OPERATION)) or name == "leaky_relu":
        ones = ops.ones_like(mean)
        left, right = -function(-ones), function(ones)
        return left + (right - left) * normal_cdf(mean / sigma)
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    weights = weights / math.sqrt(2 * math.pi)
    by_slopes = by_values = at_mean = 0.0
    for k, (node, weight) in enumerate(zip(nodes.tolist(), weights.tolist())):
        z = mean + node * sigma
        slope = derivative(function, z)
        at_mean = slope if k == _NODES // 2 else at_mean
        by_slopes = by_slopes + weight * slope
        by_values = by_values + weight * node * function(z)
    is_narrow = sigma < _NARROW
    slope = ops.where(is_narrow, by_slopes, by_values / ops.where(is_narrow, 1, sigma))
    # nodes may lie outside of the function's domain, as that of log, or where it has no slope, as sqrt at 0
    return finite_or(slope, finite_or(at_mean, 0))


def second_coefficient(g: Tensor, u: Tensor, q: Tensor, dy: Tensor, rounding: Tensor) -> Tensor:
    """`H = (dy - G u)/q`, with which the values sum to `dy`.

    Args:
        g: `G`, the mean slope.
        u: sum of the contributions.
        q: sum of their squares.
        dy: difference of the neuron's output.
        rounding: the size below which contributions are rounding; `H` is 0 there.
    """
    is_real = q > ops.square(rounding)
    return ops.where(is_real, (dy - g * u) / ops.where(is_real, q, 1), 0)


def finite_or(values: Tensor, others: Tensor | float) -> Tensor:
    """The values, with others in the place of those that are not finite."""
    return ops.where(ops.isfinite(values), values, others)


def derivative(function: TensorFunction, z: Tensor) -> Tensor:
    """Derivative of an elementwise function."""
    y, pullback = vjp(function, z)
    return pullback(ops.ones_like(y))[0]


def rounding_of(z: Tensor, z0: Tensor) -> Tensor:
    """The size below which the difference of a sum `z` and its baseline `z0` is rounding."""
    return _ROUNDING * (ops.abs(z) + ops.abs(z0)) + _SMALLEST
