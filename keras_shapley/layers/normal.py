"""The standard normal distribution: density `phi` and distribution function `Phi`."""

import math

from keras import backend, ops

from keras_shapley.backend import erfc, erfc_is_best, exp
from keras_shapley.backend.derivatives import elementwise
from keras_shapley.utils.typing import Tensor

# Mills' ratio (1 - Phi(t))/phi(t) for t >= 0 is y (c0 + c1 y + ... + c9 y^9), y = 4/(t + 4): interpolation at the
# Chebyshev nodes of y, relative error below 1e-7.
_MILLS_SHIFT = 4.0
_MILLS = (
    0.24999997,
    0.25000457,
    0.23421812,
    0.20526686,
    0.14399641,
    0.17113752,
    -0.099630608,
    0.26018514,
    -0.21403905,
    0.052175186,
)


def normal_pdf(z: Tensor) -> Tensor:
    """Density of the standard normal distribution, elementwise, same shape as `z`."""
    return exp(-0.5 * ops.square(z)) / math.sqrt(2 * math.pi)


def normal_cdf(z: Tensor) -> Tensor:
    """Standard normal distribution function, with a relative error below 2e-5 in float32 in the lower tail too.

    `(1 + erf)/2` is 0 in float32 below z = -5.5, and its gradient vanishes there. This one is positive down to
    z = -13. Its derivative is `normal_pdf`.

    Args:
        z: float tensor of any shape.

    Returns:
        `Phi(z)`, same shape and dtype.
    """
    return _NORMAL_CDF(z)


def plain_normal_cdf(z: Tensor, pdf: Tensor | None = None, *, exportable: bool = False) -> Tensor:
    """As `normal_cdf`, with the backend's own derivative.

    Args:
        z: as in `normal_cdf`.
        pdf: `phi(z)`, where it is known.
        exportable: whether to use nothing but operations that every export format has.
    """
    if erfc_is_best(exportable) or backend.standardize_dtype(z.dtype) == "float64":
        return 0.5 * erfc(-z / math.sqrt(2))
    density = normal_pdf(z) if pdf is None else pdf
    # not the absolute value: its derivative at 0 is 0, and second derivatives go through here
    y = _MILLS_SHIFT / (ops.where(z < 0, -z, z) + _MILLS_SHIFT)
    mills = _MILLS[-1]
    for coefficient in reversed(_MILLS[:-1]):
        mills = mills * y + coefficient
    tail = density * mills * y
    return ops.where(z < 0, tail, 1 - tail)


# made once: JAX traces every function anew that it has not seen
_NORMAL_CDF = elementwise(lambda z: plain_normal_cdf(z), lambda z: (normal_pdf(z),))
