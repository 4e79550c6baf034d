"""Shapley values of a ReLU neuron: eq. (1), better, and exact."""

import numpy as np
from keras import backend, ops

from keras_shapley.layers.activations import TINY, gate
from keras_shapley.layers.normal import normal_cdf, normal_pdf
from keras_shapley.shapley.exact import MAX_PLAYERS, all_coalitions
from keras_shapley.utils.validation import finite, one_of

_NODES = 8


def neuron_shapley_values(x, kernel, bias=None, *, method="gaussian", normalize=False):
    """Shapley values of the inputs of one Dense layer with ReLU, absent inputs at 0.

    Exact Shapley values sum to `relu(u + b) - relu(b)`, with `u` the sum of `w_i x_i`. The approximations miss that
    sum: `gaussian` deals the bias out as well and sums to `Phi((mu + b)/sigma) (u + b)`; `quadrature` comes near it.

    Args:
        x: inputs, shape `(batch, inputs)`.
        kernel: weights, shape `(inputs, units)`.
        bias: shape `(units,)`, or None for none.
        method: `"gaussian"` is eq. (1). `"quadrature"` keeps the time `t` at which an input enters, with 8
            Gauss-Legendre nodes: the mean of `relu` over a Gaussian with the mean and variance of what is there at
            `t`, with and without the input. `"exact"` enumerates all coalitions, for up to 16 inputs.
        normalize: whether to spread the missing part of the sum over the inputs, in proportion to `|w_k x_k|`.

    Returns:
        Tensor of shape `(batch, inputs, units)`.

    Raises:
        ValueError: on an unknown `method`, shapes that do not fit, NaN or infinity, or more than 16 inputs for
            `"exact"`.
    """
    methods = {"gaussian": _gaussian, "quadrature": _quadrature, "exact": _exact}
    one_of("method", method, tuple(methods))
    x, kernel = ops.convert_to_tensor(x), ops.convert_to_tensor(kernel)
    bias = ops.zeros(kernel.shape[-1:]) if bias is None else ops.convert_to_tensor(bias)
    dtype = backend.result_type("float32", x.dtype, kernel.dtype, bias.dtype)
    named = {"x": x, "kernel": kernel, "bias": bias}
    x, kernel, bias = (finite(name, ops.cast(value, dtype)) for name, value in named.items())
    if len(x.shape) != 2 or len(kernel.shape) != 2 or x.shape[1] != kernel.shape[0] or bias.shape != kernel.shape[1:]:
        raise ValueError(
            "`x`, `kernel` and `bias` must have shapes (batch, inputs), (inputs, units) and (units,). Received: "
            f"{tuple(x.shape)}, {tuple(kernel.shape)} and {tuple(bias.shape)}"
        )
    if method == "exact" and x.shape[1] > MAX_PLAYERS:
        raise ValueError(
            f"method='exact' enumerates 2**inputs coalitions and takes up to {MAX_PLAYERS} inputs. "
            f"Received: x with {x.shape[1]} inputs. Use method='quadrature'."
        )
    a = x[:, :, None] * kernel
    values = methods[method](a, bias)
    if not normalize:
        return values

    size = ops.sum(ops.abs(a), axis=1, keepdims=True)
    weights = ops.where(size > 0, ops.abs(a) / ops.where(size > 0, size, 1), 1 / x.shape[1])
    total = ops.relu(ops.sum(a, axis=1) + bias) - ops.relu(bias)
    return values + weights * (total - ops.sum(values, axis=1))[:, None]


def _gaussian(a, b):
    """Eq. (1), from the products `a_k = w_k x_k`, shape `(batch, inputs, units)`."""
    u, q = ops.sum(a, axis=1, keepdims=True), ops.sum(ops.square(a), axis=1, keepdims=True)
    return gate(u, q, b) * (a + b / a.shape[1])


def _quadrature(a, b):
    u, q = ops.sum(a, axis=1, keepdims=True), ops.sum(ops.square(a), axis=1, keepdims=True)
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    values = ops.zeros_like(a)
    for t, weight in zip((nodes + 1) / 2, weights / 2):
        mean = b + float(t) * (u - a)
        # the variance of the other inputs; rounding can take it below zero
        variance = float(t * (1 - t)) * ops.maximum(q - ops.square(a), 0)
        values = values + float(weight) * (_mean_relu(mean + a, variance) - _mean_relu(mean, variance))
    return values


def _mean_relu(m, v):
    """Mean of `relu` of a Gaussian with mean `m` and variance `v`."""
    sigma = ops.sqrt(v + TINY)
    z = m / sigma
    return m * normal_cdf(z) + sigma * normal_pdf(z)


def _exact(a, b):
    present, coefficients = all_coalitions(a.shape[1])
    present, coefficients = ops.cast(present, a.dtype), ops.cast(coefficients, a.dtype)
    # image by image: the worth of every coalition at once
    values = [ops.matmul(coefficients, ops.relu(ops.matmul(present, image) + b)) for image in a]
    return ops.stack(values)
