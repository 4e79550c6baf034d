"""Elementwise functions of a neuron's moments: eqs. (1), (4) and (5).

With `u` the sum of `w_i x_i`, `q` the sum of `(w_i x_i)**2` and `b` the bias, consider the inputs that come before a
given one in a random order. Their sum has mean `mu = u/2` and variance `sigma**2 = q/6 + u**2/12`.
"""

from typing import NamedTuple

from keras import ops

from keras_shapley.backend import clip
from keras_shapley.backend.derivatives import elementwise
from keras_shapley.layers.normal import normal_cdf, normal_pdf, plain_normal_cdf
from keras_shapley.utils.typing import Tensor

# Added to sigma**2, so that a neuron whose inputs are all zero has sigma = 1e-9. It does not show where inputs are
# above 1e-6, and second derivatives, which hold sigma**-4, stay inside float32.
TINY = 1e-18
# phi is 0 beyond, in every dtype
_FAR = 38.0


def gate(u: Tensor, q: Tensor, b: Tensor) -> Tensor:
    """Probability that a ReLU neuron is open over random orders of its inputs, eq. (1).

    Args:
        u: sum of `w_i x_i`, shape `(..., units)`.
        q: sum of `(w_i x_i)**2`, same shape.
        b: bias, broadcast to the same shape.

    Returns:
        `Phi((mu + b) / sigma)` in [0, 1], same shape.
    """
    return normal_cdf(_score(u, b, _precision(u, q)))


def shapley_activation(u: Tensor, q: Tensor, b: Tensor) -> Tensor:
    """SA, eq. (5): `Phi((mu + b) / sigma) * (u + b)`. Arguments and shape as in `gate`.

    It can be differentiated in forward and reverse mode, and again. The derivative is written out because it shares
    its exponential with `Phi`, and needs nothing but the arguments.
    """
    return _SHAPLEY_ACTIVATION(u, q, b)


def shaplu(u: Tensor, q: Tensor, b: Tensor) -> Tensor:
    """ShapLU as the paper ran it: ReLU forward; backward eq. (4) without the last terms of its first two lines.

    Arguments and shape as in `gate`. The gradient is `Phi` for `u`, `Phi + (u + b) phi/sigma` for `b`, zero for `q`.
    """
    return _SHAPLU(u, q, b)


def shaplu_full(u: Tensor, q: Tensor, c: Tensor, b: Tensor, n: Tensor) -> Tensor:
    """ShapLU with all of eq. (4): ReLU forward, Shapley gradient backward.

    Eq. (4) is the sum of three linear maps of the cotangents of `u`, `q` and `c`; the backend computes these maps.

    Args:
        u: as in `gate`.
        q: as in `gate`.
        c: sum of `(w_i x_i)**3`, same shape; the forward value does not use it.
        b: as in `gate`.
        n: number of inputs of a neuron, broadcast to the same shape; no gradient flows into it.
    """
    return _SHAPLU_FULL(u, q, c, b, n)


def _precision(u: Tensor, q: Tensor) -> Tensor:
    """`1/sigma` of eq. (1), same shape as `u` and `q`; 1e9 where every input is zero."""
    return ops.rsqrt(q / 6 + ops.square(u) / 12 + TINY)


def _score(u: Tensor, b: Tensor, precision: Tensor) -> Tensor:
    """`z = (mu + b)/sigma`, cut where `phi(z)` is 0, so that derivatives up to 1/sigma**3 do not count there."""
    return clip((u / 2 + b) * precision, -_FAR, _FAR)


class _Gate(NamedTuple):
    """What the derivatives of eqs. (4) and (5) are made of, all of the shape of `u`."""

    precision: Tensor  # 1/sigma
    z: Tensor
    cdf: Tensor  # Phi(z)
    pdf: Tensor  # phi(z)


def _gate(u: Tensor, q: Tensor, b: Tensor) -> _Gate:
    precision = _precision(u, q)
    z = _score(u, b, precision)
    pdf = normal_pdf(z)
    return _Gate(precision, z, plain_normal_cdf(z, pdf), pdf)


def _sa(u: Tensor, q: Tensor, b: Tensor) -> Tensor:
    """Eq. (5)."""
    return plain_normal_cdf(_score(u, b, _precision(u, q))) * (u + b)


def _sa_slopes(u: Tensor, q: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    """Derivatives of eq. (5) by u, q and b."""
    precision, z, cdf, pdf = _gate(u, q, b)
    steepness = (u + b) * precision * pdf
    dq = steepness * z * precision / -12
    return cdf + steepness / 2 + dq * u, dq, cdf + steepness


def _relu(u: Tensor, q: Tensor, b: Tensor) -> Tensor:
    return ops.relu(u + b)


def _simplified_slopes(u: Tensor, q: Tensor, b: Tensor) -> tuple[Tensor | None, ...]:
    """Cotangents of u, q and b for eq. (4) without the last terms of its first two lines."""
    precision, _, cdf, pdf = _gate(u, q, b)
    return cdf, None, cdf + (u + b) * precision * pdf


def _relu_of_five(u: Tensor, q: Tensor, c: Tensor, b: Tensor, n: Tensor) -> Tensor:
    return ops.relu(u + b)


def _full_slopes(u: Tensor, q: Tensor, c: Tensor, b: Tensor, n: Tensor) -> tuple[Tensor | None, ...]:
    """Cotangents of u, q, c, b and n for all of eq. (4).

    Its last term is `w_k phi (p_k + s)(A - B (p_k + mu))` with `p_k = w_k x_k`, `s = b/n`, `A = 1/(2 sigma)` and
    `B = z/(6 sigma**2)`. The powers 0, 1 and 2 of `p_k` go to u, q and c, whose derivatives by x_k are `w_k`,
    `2 w_k p_k` and `3 w_k p_k**2`.
    """
    mu = u / 2
    share = b / n
    precision, z, cdf, phi = _gate(u, q, b)
    a = phi * precision / 2
    b_mu = phi * z * precision / 6 * (mu * precision)
    b_share = phi * z * precision / 6 * (share * precision)
    du = cdf + (a - b_mu) * share
    dq = (a - b_mu - b_share) / 2
    dc = -phi * z * ops.square(precision) / 18
    return du, dq, dc, cdf + (u + b) * precision * phi, None


_SHAPLEY_ACTIVATION = elementwise(_sa, _sa_slopes)
_SHAPLU = elementwise(_relu, _simplified_slopes)
_SHAPLU_FULL = elementwise(_relu_of_five, _full_slopes)
