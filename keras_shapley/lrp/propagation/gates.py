"""`G`, the mean slope of an activation over random orders of a neuron's inputs, and `H`, which efficiency fixes."""

import math
from typing import NamedTuple

import numpy as np
from keras import layers, ops

from keras_shapley.backend import maximum, vjp
from keras_shapley.layers.activations import TINY
from keras_shapley.layers.base import ShapleyLayer
from keras_shapley.layers.normal import normal_cdf
from keras_shapley.lrp.propagation.variation import Variation
from keras_shapley.models.keras_internals import LEAKY_RELU_OPERATION
from keras_shapley.models.layer_types import activation_name
from keras_shapley.utils.typing import Operation, Tensor, TensorFunction

# nodes of the Gauss-Hermite quadrature, for activations without a closed form
_NODES = 7
# how many masked passes the moments of eq. (1) are worth
_PRIOR = 4.0
# a difference below this share of the values is rounding
_ROUNDING = 1e-6
_SMALLEST = 1e-15


class NormalMoments(NamedTuple):
    """Mean and variance of a neuron's sum over random orders of its inputs.

    Attributes:
        mean: shape of the sum.
        variance: same shape.
    """

    mean: Tensor
    variance: Tensor


class Measured(NamedTuple):
    """What masked passes through the model say of a neuron's sum, less that at the baseline.

    Attributes:
        mean: of the passes, shape of the sum.
        square: mean of the squares, same shape.
        n: number of passes, a float scalar.
    """

    mean: Tensor
    square: Tensor
    n: Tensor


def moments_of(z: Variation, measured: Measured | None) -> NormalMoments:
    """The moments of eq. (1), mean `z' + u/2` and variance `q/6 + u**2/12`.

    Measured moments count as many passes, and those of eq. (1) as `_PRIOR`: inputs of a deep unit come and go together,
    which eq. (1) does not know.

    Args:
        z: the neuron's sum.
        measured: by masked passes, or None.
    """
    u = z.difference
    mean, variance = u / 2, z.q / 6 + ops.square(u) / 12
    if measured is not None:
        total = _PRIOR + measured.n
        square = (_PRIOR * (variance + ops.square(mean)) + measured.n * measured.square) / total
        mean = (_PRIOR * mean + measured.n * measured.mean) / total
        variance = maximum(square - ops.square(mean), 0.0)
    return NormalMoments(z.baseline + mean, variance)


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


def mean_slope(op: Operation, function: TensorFunction, moments: NormalMoments) -> Tensor:
    """`G`, the mean of `f'` over a normal distribution of the neuron's sum.

    It has a closed form for ReLU6 and for functions that are linear on both sides of zero. For others the mean is
    by Gauss-Hermite quadrature.

    Args:
        op: layer or operation with the activation.
        function: the activation `f`, elementwise.
        moments: of the neuron's sum.

    Returns:
        Shape of the sum.
    """
    mean, sigma = moments.mean, ops.sqrt(moments.variance + TINY)
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
    pairs = zip(nodes.tolist(), weights.tolist())
    return sum(weight * derivative(function, mean + node * sigma) for node, weight in pairs)


def derivative(function: TensorFunction, z: Tensor) -> Tensor:
    """Derivative of an elementwise function."""
    y, pullback = vjp(function, z)
    return pullback(ops.ones_like(y))[0]


def _rounding(z: Variation) -> Tensor:
    """The size below which a difference of `z` is rounding."""
    return _ROUNDING * (ops.abs(z.value) + ops.abs(z.baseline)) + _SMALLEST
