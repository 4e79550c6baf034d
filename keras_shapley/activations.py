"""Elementwise functions of a neuron's moments: eqs. (1), (4) and (5).

With `u` the sum of `w_i x_i`, `q` the sum of `(w_i x_i)**2` and `b` the bias, over random orders of the inputs the sum
of those that came before has mean `mu = u/2` and variance `sigma**2 = q/6 + u**2/12`.
"""

import math

from keras import backend, ops

# Added to sigma**2: a neuron whose inputs are all zero has sigma = 1e-9. Small enough not to be seen where inputs are
# above 1e-6, large enough that second derivatives, which hold sigma**-4, stay inside float32.
TINY = 1e-18

# phi is 0 beyond, in every dtype
_FAR = 38.0

# Mills' ratio (1 - Phi(t))/phi(t) for t >= 1 is y (c0 + c1 y + ... + c8 y^8), y = 1/(t + 3): interpolation at the
# Chebyshev nodes of y, relative error below 1e-7.
_TAIL = 1.0
_MILLS_SHIFT = 3.0
_MILLS = (
    1.0,
    3.000059,
    7.99386,
    18.237503,
    25.605234,
    59.951866,
    -288.012238,
    -202.835236,
    803.124695,
)


def normal_pdf(z):
    """Density of the standard normal distribution, elementwise, same shape as `z`."""
    return ops.exp(-0.5 * ops.square(z)) / math.sqrt(2 * math.pi)


def normal_cdf(z):
    """Standard normal distribution function, right in its lower tail too: relative error below 5e-6 in float32.

    `(1 + erf)/2` is 0 in float32 below z = -5.5 and its gradient vanishes; this one is positive down to z = -13. It
    needs `erf` alone in float32, which every export format has.

    Args:
        z: float tensor of any shape.

    Returns:
        `Phi(z)`, same shape and dtype.
    """
    if backend.standardize_dtype(z.dtype) == "float64":
        return 0.5 * ops.erfc(-z / math.sqrt(2))
    # each branch sees harmless values where the other one counts, so that no derivative of either is NaN
    tail = z < -_TAIL
    centre = 0.5 + 0.5 * ops.erf(ops.where(tail, 0.0, z) / math.sqrt(2))
    t = ops.where(tail, -z, _TAIL)
    y = 1 / (t + _MILLS_SHIFT)
    mills = _MILLS[-1]
    for coefficient in reversed(_MILLS[:-1]):
        mills = mills * y + coefficient
    return ops.where(tail, normal_pdf(t) * mills * y, centre)


def deviation(u, q):
    """`sigma` of eq. (1), same shape as `u` and `q`; 1e-9 where every input is zero."""
    return ops.sqrt(q / 6 + ops.square(u) / 12 + TINY)


def gate(u, q, b):
    """Probability that a ReLU neuron is open over random orders of its inputs, eq. (1).

    Args:
        u: sum of `w_i x_i`, shape `(..., units)`.
        q: sum of `(w_i x_i)**2`, same shape.
        b: bias, broadcast to the same shape.

    Returns:
        `Phi((mu + b) / sigma)` in [0, 1], same shape.
    """
    return normal_cdf(_score(u, b, deviation(u, q)))


def _score(u, b, sigma):
    """`z = (mu + b)/sigma`, constant where `phi(z)` is 0: there its derivatives, up to 1/sigma**3, have no say."""
    z = (u / 2 + b) / sigma
    return ops.where(ops.abs(z) < _FAR, z, _FAR * ops.sign(z))


def shapley_activation(u, q, b):
    """SA, eq. (5): `Phi((mu + b) / sigma) * (u + b)`. Arguments and shape as in `gate`.

    Differentiable to any order by the backend itself.
    """
    return gate(u, q, b) * (u + b)


def shaplu(u, q, b):
    """ShapLU as the paper ran it: ReLU forward; backward eq. (4) without the last terms of its first two lines.

    Arguments and shape as in `gate`. The gradient is `Phi` for `u`, `Phi + (u + b) phi/sigma` for `b`, zero for `q`.
    """
    return _with_gradient(_relu, _simplified_gradient)(u, q, _like(u, b))


def shaplu_full(u, q, c, b, n):
    """ShapLU with all of eq. (4): ReLU forward, Shapley gradient backward.

    The gradient into `x` and `w` is made of three linear maps: the cotangents of `u`, `q` and `c` below, carried on by
    the backend, are eq. (4) to the letter.

    Args:
        u, q, b: as in `gate`.
        c: sum of `(w_i x_i)**3`, same shape; the forward value does not use it.
        n: number of inputs of a neuron, broadcast to the same shape; no gradient flows into it.
    """

    def gradient(g, u, q, c, b):
        mu, share = u / 2, b / n
        sigma, z, phi, db = _gate_terms(u, q, b)
        a = phi / (2 * sigma)
        b_mu = phi * z / (6 * sigma) * (mu / sigma)
        b_share = phi * z / (6 * sigma) * (share / sigma)
        du = normal_cdf(z) + (a - b_mu) * share
        dq = (a - b_mu - b_share) / 2
        dc = -phi * z / (18 * ops.square(sigma))
        return g * du, g * dq, g * dc, g * db

    return _with_gradient(lambda u, q, c, b: ops.relu(u + b), gradient)(u, q, c, _like(u, b))


def _relu(u, q, b):
    return ops.relu(u + b)


def _simplified_gradient(g, u, q, b):
    _, z, _, db = _gate_terms(u, q, b)
    return g * normal_cdf(z), ops.zeros_like(q), g * db


def _gate_terms(u, q, b):
    """`sigma`, `z`, `phi(z)`, and the gradient for the bias, third line of eq. (4): `Phi + (u + b) phi/sigma`."""
    sigma = deviation(u, q)
    z = _score(u, b, sigma)
    phi = normal_pdf(z)
    return sigma, z, phi, normal_cdf(z) + (u + b) / sigma * phi


def _like(u, b):
    # custom gradients take operands of one shape: the backend sums over what was broadcast here
    return ops.zeros_like(u) + b


def _with_gradient(forward, gradient):
    """`forward(*inputs)` whose cotangents are `gradient(g, *inputs)`, `g` the gradient that arrives at the output."""

    @ops.custom_gradient
    def function(*inputs):
        def grad(*args, upstream=None):
            # PyTorch hands over its saved inputs, and only those belong to the graph of a second derivative
            if upstream is None:
                (upstream,), saved = args, inputs
            else:
                saved = args
            return gradient(upstream, *saved)

        return forward(*inputs), grad

    return function
