"""Scales that bring inputs and weights into a range where their squares, cubes and sums of them are normal numbers.

Float32 holds numbers from 1e-38 to 3e38, and squares of those from 1e-19 to 1e19 alone. The moments of eq. (1) are
therefore computed from scaled inputs and scaled weights. The gate is a ratio of moments of one degree, so the scale is
in no result, and no gradient flows through it.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from keras import backend, ops

from keras_shapley.backend import clip, largest_magnitude
from keras_shapley.utils.typing import Tensor

# The largest input of a neuron, and its largest weight, are brought to this range; what is in it stays as it is. Its
# top is as high as cubes allow: of (2**18 * 2**18)**3 = 2**108, float32 holds sums of 2**19. Its bottom is as high as
# derivatives by `q` allow, which are of the size of `w x / (scale w x)**2`.
_LOWEST, _HIGHEST = 1.0, 2.0**18


class Scales(NamedTuple):
    """By what the operands of a linear map are multiplied before they are raised to a power; None for nothing.

    Attributes:
        x: of the layer's input, broadcasts against it.
        kernels: of each factor of its kernel, broadcasts against it.
        sums: of a sum of `w_i x_i`, broadcasts to the layer's output.
    """

    x: Tensor | None
    kernels: Sequence[Tensor | None]
    sums: Tensor | None


# of a kernel with as many factors as there are
UNSCALED = Scales(None, (None, None), None)


def scale_of(x: Tensor, axes: Sequence[int], factors: int = 1) -> Tensor:
    """The number that brings the largest magnitude along `axes` into the range, 1 where it is there.

    Args:
        x: float tensor of any shape.
        axes: that share a scale.
        factors: of how many such tensors a number is the product that must stay in the range.

    Returns:
        Shape of `x` with 1 along `axes`; no gradient flows through it. It is finite where `x` is zero.
    """
    size = clip(largest_magnitude(ops.stop_gradient(x), axes), _tiny(x), math.inf)
    return clip(size, _LOWEST, _HIGHEST ** (1 / factors)) / size


def product_of_scales(scales: Sequence[Tensor]) -> Tensor:
    """Their product, which is a normal number also where their factors are not of a size."""
    product = scales[0]
    for scale in scales[1:]:
        product = product * scale
    return clip(product, _tiny(product), 1 / _tiny(product))


def _tiny(x: Tensor) -> float:
    """The smallest normal number of the dtype of `x`."""
    return float(np.finfo(backend.standardize_dtype(x.dtype)).tiny)
