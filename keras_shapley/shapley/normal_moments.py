"""Mean and variance of functions of normal variables: what moments become behind an activation.

A unit adds many inputs, so its preactivation is taken to be normal; `m` is its mean and `v` its variance. Activations
are elementwise, so `m` and `v` have any shape, which is also that of the result. Softmax alone mixes elements.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_shapley.layers.normal import normal_cdf, normal_pdf
from keras_shapley.utils.typing import Tensor, TensorFunction

# Added to a variance before its root is taken: too small to be seen beside the variance of anything present, and large
# enough for float32.
VARIANCE_FLOOR = 1e-12
# values at which an activation without a closed form is evaluated, and pairs of opposite normal draws for softmax
N_NODES = 24
N_PAIRS = 64


class Moments(NamedTuple):
    """Mean and variance of each element of a tensor, of the same shape."""

    mean: Tensor
    variance: Tensor


class ActivationRule(NamedTuple):
    """How an activation changes moments.

    Attributes:
        moments: function of `m` and `v` that returns the `Moments` of the activation.
        n_values: number of values that it computes at once for each element. Memory is in proportion to it.
    """

    moments: Callable[[Tensor, Tensor], Moments]
    n_values: int


def relu_moments(m: Tensor, v: Tensor) -> Moments:
    """Moments of `relu`, the larger of the variable and 0."""
    return maximum_moments(Moments(m, v), Moments(ops.zeros_like(m), ops.zeros_like(v)))


def maximum_moments(first: Moments, second: Moments) -> Moments:
    """Moments of the larger of two independent normal variables, Clark (1961), eqs. 2 to 5.

    The variance is written without the difference of two squares of means, which would cancel.
    """
    m, v = first
    other, w = second
    s = ops.sqrt(v + w + VARIANCE_FLOOR)
    r = (m - other) / s
    p = normal_cdf(r)
    q = normal_cdf(-r)
    density = normal_pdf(r)
    mean = m * p + other * q + s * density
    between = ops.square(r) * p * q + r * density * (q - p) - ops.square(density)
    return Moments(mean, ops.maximum(v * p + w * q + (v + w) * between, 0))


def leaky_relu_moments(m: Tensor, v: Tensor, slope: Tensor | float) -> Moments:
    """Moments of `max(s, slope s)` for a slope below 1.

    The function is `slope s + (1 - slope) relu(s)`; the covariance of `s` and `relu(s)` is `v Phi(m/sqrt(v))`.
    """
    mean, variance = relu_moments(m, v)
    rest = 1 - slope
    covariance = v * normal_cdf(m / ops.sqrt(v + VARIANCE_FLOOR))
    return Moments(slope * m + rest * mean, slope**2 * v + 2 * slope * rest * covariance + rest**2 * variance)


def quadrature_moments(function: TensorFunction, m: Tensor, v: Tensor, *, is_partial: bool = False) -> Moments:
    """Moments of an elementwise function, by the trapezoidal rule: no kink and no step is far from a node.

    Gauss-Hermite nodes lie so far apart that they miss a tanh of a large variance by a tenth.

    Args:
        function: the function.
        m: mean.
        v: variance.
        is_partial: whether the function may be undefined at nodes, as log and sqrt are. They count as the mean.
    """
    axes = (-1,) + (1,) * len(m.shape)
    z, w = (ops.reshape(ops.convert_to_tensor(part, m.dtype), axes) for part in _trapezoidal_rule(N_NODES, 4.6))
    nodes = m + z * ops.sqrt(v + VARIANCE_FLOOR)
    if is_partial:
        nodes = ops.where(ops.isnan(function(nodes)), m, nodes)
    values = function(nodes)
    mean = ops.sum(w * values, axis=0)
    return Moments(mean, ops.sum(w * ops.square(values - mean), axis=0))


def drawn_moments(function: TensorFunction, m: Tensor, v: Tensor) -> Moments:
    """Moments of a function that mixes elements, by pairs of opposite normal draws, the same at every call."""
    draws = np.random.default_rng(0).standard_normal((N_PAIRS, 1, *m.shape[1:]))
    z = ops.convert_to_tensor(np.concatenate([draws, -draws]), m.dtype)
    # the function sees each draw as another image
    values = function(ops.reshape(m + z * ops.sqrt(v + VARIANCE_FLOOR), (-1, *m.shape[1:])))
    values = ops.reshape(values, (2 * N_PAIRS, *m.shape))
    mean = ops.mean(values, axis=0)
    return Moments(mean, ops.mean(ops.square(values - mean), axis=0))


def by_quadrature(function: TensorFunction, *, is_partial: bool = False) -> ActivationRule:
    """The rule of any elementwise function; `is_partial` as in `quadrature_moments`."""
    return ActivationRule(functools.partial(quadrature_moments, function, is_partial=is_partial), N_NODES)


def by_draws(function: TensorFunction) -> ActivationRule:
    """The rule of any function that treats each image on its own."""
    return ActivationRule(functools.partial(drawn_moments, function), 2 * N_PAIRS)


IDENTITY = ActivationRule(Moments, 1)
# all other elementwise activations are integrated by quadrature
ACTIVATIONS: dict[TensorFunction, ActivationRule] = {
    keras.activations.linear: IDENTITY,
    keras.activations.relu: ActivationRule(relu_moments, 1),
    ops.relu: ActivationRule(relu_moments, 1),
    keras.activations.leaky_relu: ActivationRule(functools.partial(leaky_relu_moments, slope=0.2), 1),
    keras.activations.softmax: by_draws(ops.softmax),
}


def activation_rule(function: TensorFunction) -> ActivationRule:
    """The rule of an activation that is in the table or elementwise."""
    return ACTIVATIONS.get(function, by_quadrature(function))


@functools.cache
def _trapezoidal_rule(n: int, last: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of means over the standard normal distribution, exact for straight lines and squares."""
    z = np.linspace(-last, last, n)
    w = np.exp(-np.square(z) / 2)
    w /= w.sum()
    return z / np.sqrt(w @ np.square(z)), w
