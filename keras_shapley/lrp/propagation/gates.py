"""What the multipliers of a neuron are made of: the moments of its sum, `G` and `H`, or the slope of rescale."""

from typing import NamedTuple

from keras import ops

from keras_shapley.backend import maximum
from keras_shapley.lrp.propagation.variation import Variation
from keras_shapley.models.mean_slope import (
    NormalMoments,
    derivative,
    finite_or,
    order_moments,
    rounding_of,
    second_coefficient,
)
from keras_shapley.utils.typing import Tensor, TensorFunction

# how many masked passes the moments of eq. (1) are worth
_PRIOR = 4.0


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
    mean, variance = order_moments(z.difference, z.q)
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
    return g, second_coefficient(g, z.difference, z.q, difference, rounding_of(z.value, z.baseline))


def slope(function: TensorFunction, z: Variation, difference: Tensor) -> Tensor:
    """`dy/u`, the slope of an elementwise function between the baseline and the input: DeepLIFT's rescale rule.

    Args:
        function: elementwise.
        z: its input.
        difference: of its output.
    """
    u = z.difference
    is_real = ops.abs(u) > rounding_of(z.value, z.baseline)
    tangent = finite_or(derivative(function, (z.value + z.baseline) / 2), 0)
    return ops.where(is_real, difference / ops.where(is_real, u, 1), tangent)
