"""Elementwise functions of a neuron's moments: eqs. (1), (4) and (5).

With `u` the sum of `w_i x_i`, `q` the sum of `(w_i x_i)**2` and `b` the bias, consider the inputs that come before a
given one in a random order. Their sum has mean `mu = u/2` and variance `sigma**2 = q/6 + u**2/12`.

Squares leave the range of float32 long before the sums do. So `q` comes in a scale of its own, and below, `mu`, `sigma`
and the bias are in that scale too; their ratios are free of it.
"""

import functools
from typing import NamedTuple

from keras import ops

from keras_shapley.backend import at_least, clip
from keras_shapley.backend.derivatives import elementwise
from keras_shapley.layers.normal import normal_cdf, normal_pdf, plain_normal_cdf
from keras_shapley.utils.typing import Tensor

# The least sigma**2, that of a neuron whose inputs are all zero. It is so small that other neurons do not have it, and
# so large that second derivatives, which hold b sigma**-2, stay inside float32.
TINY = 1e-30
# phi is 0 beyond, in every dtype
_FAR = 38.0
# a bias beyond has no normal density, whatever sigma is
_FAR_BIAS = 2.0**63


def gate(u: Tensor, q: Tensor, b: Tensor, scale: Tensor | float = 1.0) -> Tensor:
    """Probability that a ReLU neuron is open over random orders of its inputs, eq. (1).

    Args:
        u: sum of `w_i x_i`, shape `(..., units)`.
        q: sum of `(scale w_i x_i)**2`, same shape.
        b: bias, broadcast to the same shape.
        scale: of `q`, positive, broadcast to the same shape.

    Returns:
        `Phi((mu + b) / sigma)` in [0, 1], same shape.
    """
    mu = _mean(u, scale)
    return normal_cdf(_score(mu, b, scale, _precision(mu, q)))


def shapley_activation(
    u: Tensor, q: Tensor, b: Tensor, scale: Tensor | float = 1.0, *, exportable: bool = False
) -> Tensor:
    """SA, eq. (5): `Phi((mu + b) / sigma) * (u + b)`. Arguments and shape as in `gate`.

    It can be differentiated in forward and reverse mode, and again. The derivative is written out because it shares
    its exponential with `Phi`, and needs nothing but the arguments. With `exportable` the value is made of operations
    that every export format has, which is slower on TensorFlow.
    """
    activation = _EXPORTABLE_SHAPLEY_ACTIVATION if exportable else _SHAPLEY_ACTIVATION
    return activation(u, q, b, scale)


def shaplu(u: Tensor, q: Tensor, b: Tensor, scale: Tensor | float = 1.0) -> Tensor:
    """ShapLU as the paper ran it: ReLU forward; backward eq. (4) without the last terms of its first two lines.

    Arguments and shape as in `gate`. The gradient is `Phi` for `u`, `Phi + (u + b) phi/sigma` for `b`, zero for `q`.
    """
    return _SHAPLU(u, q, b, scale)


def shaplu_full(u: Tensor, q: Tensor, c: Tensor, b: Tensor, n: Tensor, scale: Tensor | float = 1.0) -> Tensor:
    """ShapLU with all of eq. (4): ReLU forward, Shapley gradient backward.

    Eq. (4) is the sum of three linear maps of the cotangents of `u`, `q` and `c`; the backend computes these maps.

    Args:
        u: as in `gate`.
        q: as in `gate`.
        c: sum of `(scale w_i x_i)**3`, same shape; the forward value does not use it.
        b: as in `gate`.
        n: number of inputs of a neuron, broadcast to the same shape; no gradient flows into it.
        scale: as in `gate`.
    """
    return _SHAPLU_FULL(u, q, c, b, n, scale)


def _mean(u: Tensor, scale: Tensor | float) -> Tensor:
    """`mu` of eq. (1), scaled."""
    return u * (scale / 2)


def _precision(mu: Tensor, q: Tensor) -> Tensor:
    """`1/sigma` of eq. (1), same shape as `mu` and `q`."""
    # `rsqrt` has a derivative with sigma**-3, which is infinite sooner
    return 1 / ops.sqrt(at_least(q / 6 + ops.square(mu) / 3, TINY))


def _score(mu: Tensor, b: Tensor, scale: Tensor | float, precision: Tensor) -> Tensor:
    """`z = (mu + b)/sigma`, cut where `phi(z)` is 0, so that derivatives up to 1/sigma**3 do not count there."""
    return clip((mu + _scaled_bias(b, scale)) * precision, -_FAR, _FAR)


def _scaled_bias(b: Tensor, scale: Tensor | float) -> Tensor:
    return clip(b * scale, -_FAR_BIAS, _FAR_BIAS)


class _Gate(NamedTuple):
    """What the derivatives of eqs. (4) and (5) are made of, all of the shape of `u`."""

    mu: Tensor
    precision: Tensor  # 1/sigma
    z: Tensor
    cdf: Tensor  # Phi(z)
    pdf: Tensor  # phi(z)


def _gate(u: Tensor, q: Tensor, b: Tensor, scale: Tensor) -> _Gate:
    mu = _mean(u, scale)
    precision = _precision(mu, q)
    z = _score(mu, b, scale, precision)
    pdf = normal_pdf(z)
    return _Gate(mu, precision, z, plain_normal_cdf(z, pdf), pdf)


def _sa(u: Tensor, q: Tensor, b: Tensor, scale: Tensor, exportable: bool = False) -> Tensor:
    """Eq. (5)."""
    mu = _mean(u, scale)
    return plain_normal_cdf(_score(mu, b, scale, _precision(mu, q)), exportable=exportable) * (u + b)


def _sa_slopes(u: Tensor, q: Tensor, b: Tensor, scale: Tensor) -> tuple[Tensor | None, ...]:
    """Derivatives of eq. (5) by u, q and b."""
    mu, precision, z, cdf, pdf = _gate(u, q, b, scale)
    steepness = (u + b) * pdf * precision
    dq = steepness * z * precision / -12
    # dq mu is small before it is scaled
    return cdf + (steepness / 2 + 2 * (dq * mu)) * scale, dq, cdf + steepness * scale, None


def _relu(u: Tensor, q: Tensor, b: Tensor, scale: Tensor) -> Tensor:
    return ops.relu(u + b)


def _simplified_slopes(u: Tensor, q: Tensor, b: Tensor, scale: Tensor) -> tuple[Tensor | None, ...]:
    """Cotangents of u, q and b for eq. (4) without the last terms of its first two lines."""
    _, precision, _, cdf, pdf = _gate(u, q, b, scale)
    return cdf, None, cdf + (u + b) * pdf * precision * scale, None


def _relu_of_five(u: Tensor, q: Tensor, c: Tensor, b: Tensor, n: Tensor, scale: Tensor) -> Tensor:
    return ops.relu(u + b)


def _full_slopes(u: Tensor, q: Tensor, c: Tensor, b: Tensor, n: Tensor, scale: Tensor) -> tuple[Tensor | None, ...]:
    """Cotangents of u, q, c, b and n for all of eq. (4).

    Its last term is `w_k phi (p_k + s)(A - B (p_k + mu))` with `p_k = w_k x_k`, `s = b/n`, `A = 1/(2 sigma)` and
    `B = z/(6 sigma**2)`. The powers 0, 1 and 2 of `p_k` go to u, q and c, whose derivatives by x_k are `w_k`,
    `2 w_k p_k` and `3 w_k p_k**2`.
    """
    mu, precision, z, cdf, phi = _gate(u, q, b, scale)
    share = _scaled_bias(b, scale) / n
    a = phi * precision / 2
    b_mu = phi * z * precision / 6 * (mu * precision)
    b_share = phi * z * precision / 6 * (share * precision)
    du = cdf + (a - b_mu) * share
    dq = (a - b_mu - b_share) / 2 / scale
    dc = -phi * z * precision / 18 * precision / scale
    return du, dq, dc, cdf + (u + b) * phi * precision * scale, None, None


_SHAPLEY_ACTIVATION = elementwise(_sa, _sa_slopes)
_EXPORTABLE_SHAPLEY_ACTIVATION = elementwise(functools.partial(_sa, exportable=True), _sa_slopes)
_SHAPLU = elementwise(_relu, _simplified_slopes)
_SHAPLU_FULL = elementwise(_relu_of_five, _full_slopes)
