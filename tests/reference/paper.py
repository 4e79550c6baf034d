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

import numpy as np

from reference.geometry import output_shape


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


def _operands(cell, x, kernel, bias, pooled):
    taps = np.array([x[index] for index in cell.inputs], "float64")
    w = np.array([kernel[index] for index in cell.weights], "float64")
    return taps, w, 0.0 if bias is None else float(bias[cell.bias]), cell.sites if pooled else None
