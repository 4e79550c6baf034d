"""Elementwise functions of a neuron's moments: eqs. (1), (4) and (5).

With `u` the sum of `w_i x_i`, `q` the sum of `(w_i x_i)**2` and `b` the bias, over random orders of the inputs the sum
of those that came before has mean `mu = u/2` and variance `sigma**2 = q/6 + u**2/12`.
"""

from keras import ops

from keras_shapley.backend.derivatives import elementwise
from keras_shapley.layers.normal import cdf_from_pdf, normal_cdf, normal_pdf

# Added to sigma**2: a neuron whose inputs are all zero has sigma = 1e-9. Small enough not to be seen where inputs are
# above 1e-6, large enough that second derivatives, which hold sigma**-4, stay inside float32.
TINY = 1e-18
# phi is 0 beyond, in every dtype
_FAR = 38.0


def gate(u, q, b):
    """Probability that a ReLU neuron is open over random orders of its inputs, eq. (1).

    Args:
        u: sum of `w_i x_i`, shape `(..., units)`.
        q: sum of `(w_i x_i)**2`, same shape.
        b: bias, broadcast to the same shape.

    Returns:
        `Phi((mu + b) / sigma)` in [0, 1], same shape.
    """
    return normal_cdf(_score(u, b, _precision(u, q)))


def _precision(u, q):
    """`1/sigma` of eq. (1), same shape as `u` and `q`; 1e9 where every input is zero."""
    return ops.rsqrt(q / 6 + ops.square(u) / 12 + TINY)


def _score(u, b, precision):
    """`z = (mu + b)/sigma`, constant where `phi(z)` is 0: there its derivatives, up to 1/sigma**3, have no say."""
    return ops.clip((u / 2 + b) * precision, -_FAR, _FAR)


def shapley_activation(u, q, b):
    """SA, eq. (5): `Phi((mu + b) / sigma) * (u + b)`. Arguments and shape as in `gate`.

    Differentiable forwards and backwards, and again; the derivative is written out, for it shares its exponential with
    `Phi` and needs nothing but the arguments.
    """
    return _SHAPLEY_ACTIVATION(u, q, b)


def _shapley_activation(u, q, b):
    return cdf_from_pdf(_score(u, b, _precision(u, q))) * (u + b)


def _shapley_activation_slopes(u, q, b):
    """Derivatives of eq. (5) by u, q and b."""
    precision, z, cdf, pdf = _gate_terms(u, q, b)
    steepness = (u + b) * precision * pdf
    dq = steepness * z * precision / -12
    return cdf + steepness / 2 + dq * u, dq, cdf + steepness


_SHAPLEY_ACTIVATION = elementwise(_shapley_activation, _shapley_activation_slopes)


def shaplu(u, q, b):
    """ShapLU as the paper ran it: ReLU forward; backward eq. (4) without the last terms of its first two lines.

    Arguments and shape as in `gate`. The gradient is `Phi` for `u`, `Phi + (u + b) phi/sigma` for `b`, zero for `q`.
    """
    return _SHAPLU(u, q, b)


def shaplu_full(u, q, c, b, n):
    """ShapLU with all of eq. (4): ReLU forward, Shapley gradient backward.

    The gradient into `x` and `w` is made of three linear maps: the cotangents of `u`, `q` and `c` below, carried on by
    the backend, are eq. (4) to the letter.

    Args:
        u, q, b: as in `gate`.
        c: sum of `(w_i x_i)**3`, same shape; the forward value does not use it.
        n: number of inputs of a neuron, broadcast to the same shape; no gradient flows into it.
    """
    return _SHAPLU_FULL(u, q, c, b, n)


def _relu(u, q, b):
    return ops.relu(u + b)


def _simplified_slopes(u, q, b):
    precision, _, cdf, pdf = _gate_terms(u, q, b)
    return cdf, None, cdf + (u + b) * precision * pdf


def _gate_terms(u, q, b):
    """`1/sigma`, `z`, `Phi(z)` and `phi(z)`."""
    precision = _precision(u, q)
    z = _score(u, b, precision)
    pdf = normal_pdf(z)
    return precision, z, cdf_from_pdf(z, pdf), pdf


def _full_slopes(u, q, c, b, n):
    mu, share = u / 2, b / n
    precision, z, cdf, phi = _gate_terms(u, q, b)
    a = phi * precision / 2
    b_mu = phi * z * precision / 6 * (mu * precision)
    b_share = phi * z * precision / 6 * (share * precision)
    du = cdf + (a - b_mu) * share
    dq = (a - b_mu - b_share) / 2
    dc = -phi * z * ops.square(precision) / 18
    return du, dq, dc, cdf + (u + b) * precision * phi, None


_SHAPLU = elementwise(_relu, _simplified_slopes)
_SHAPLU_FULL = elementwise(lambda u, q, c, b, n: ops.relu(u + b), _full_slopes)
