"""Tables of rules for whole models: functions that return ordered lists of `(key, rule)`; the first fit counts.

A key is a layer type or a tuple of them, a `First` of such, or the name of a layer or call. A table may be incomplete:
`LRP` appends the paper's own.

Presets that keep signs apart in convolutions do so in additions as well, by `AbsoluteSum`; zennit's divide by the sum:
`[(presets.ADDITION, rules.Sum()), *presets.epsilon_plus()]`.
"""

import dataclasses

from keras import layers

from keras_shapley.layers.linear_maps import LINEAR_TYPES
from keras_shapley.lrp.rules.attention import Attention, Bilinear, SoftmaxTaylor
from keras_shapley.lrp.rules.elementwise import OneOperand, Pass
from keras_shapley.lrp.rules.linear import AlphaBeta, Epsilon, Flat, Gamma, Shapley, ZBox, ZPlus
from keras_shapley.lrp.rules.moving import Gather, Lookup, Move, Resize
from keras_shapley.lrp.rules.normalization import CentredScale
from keras_shapley.lrp.rules.pooling import Airport, LargerOperand, WinnerTakesAll
from keras_shapley.lrp.rules.sums import AbsoluteSum, EqualSplit, Proportional, Sum
from keras_shapley.models.layer_types import (
    ADDITION,
    AVERAGE_POOLING,
    BILINEAR,
    CONVOLUTION,
    DENSE,
    ELEMENTWISE,
    EXTREME,
    LOOKUP,
    MAX_POOLING,
    MOVING,
    NORMALIZATION,
    ONE_OPERAND,
    PAIR_EXTREME,
    PRODUCT,
    RESIZING,
    SOFTMAX,
)


@dataclasses.dataclass(frozen=True)
class First:
    """Key for those layers of `types` that no other linear layer precedes."""

    types: tuple


def paper(epsilon=1e-9):
    """Eq. (2) everywhere, and max pooling as an airport game. The default.

    Args:
        epsilon: stabiliser of the denominators.
    """
    return [
        (LINEAR_TYPES, Shapley(epsilon)),
        (AVERAGE_POOLING, Proportional(epsilon)),
        (MAX_POOLING, Airport()),
        (ADDITION, Sum(epsilon)),
        (PRODUCT, EqualSplit()),
        (ONE_OPERAND, OneOperand()),
        (EXTREME, WinnerTakesAll()),
        (PAIR_EXTREME, LargerOperand()),
        (NORMALIZATION, CentredScale(epsilon)),
        ((layers.MultiHeadAttention,), Attention(Shapley(epsilon), epsilon)),
        (BILINEAR, Bilinear(epsilon)),
        (SOFTMAX, SoftmaxTaylor()),
        (RESIZING, Resize(epsilon)),
        (MOVING, Move()),
        ((layers.Embedding,), Lookup()),
        (LOOKUP, Gather()),
        (ELEMENTWISE, Pass()),
    ]


def epsilon(epsilon=1e-6):
    """`Epsilon` on every linear layer, Bach et al. (2015)."""
    return [(LINEAR_TYPES, Epsilon(epsilon)), (ADDITION, Sum(epsilon)), *_others(epsilon)]


def epsilon_plus(epsilon=1e-6):
    """`ZPlus` on convolutions, `Epsilon` on dense layers, `AbsoluteSum` on additions."""
    return [(CONVOLUTION, ZPlus(epsilon)), (DENSE, Epsilon(epsilon)), (ADDITION, AbsoluteSum()), *_others(epsilon)]


def epsilon_plus_flat(epsilon=1e-6):
    """`epsilon_plus`, with `Flat` on the first linear layer (Kohlbrenner et al., 2020)."""
    return [(First(LINEAR_TYPES), Flat(epsilon)), *epsilon_plus(epsilon)]


def epsilon_gamma_box(low, high, epsilon=1e-6, gamma=0.25):
    """`ZBox` on the first convolution, `Gamma` on the others, `Epsilon` on dense layers (Montavon et al., 2019).

    Additions as in `epsilon_plus`.

    Args:
        low, high: bounds of the input.
        epsilon: stabiliser of the denominators.
        gamma: of `Gamma`.
    """
    return [
        (First(CONVOLUTION), ZBox(low, high, epsilon)),
        (CONVOLUTION, Gamma(gamma, epsilon)),
        (DENSE, Epsilon(epsilon)),
        (ADDITION, AbsoluteSum()),
        *_others(epsilon),
    ]


def epsilon_alpha2_beta1(epsilon=1e-6):
    """`AlphaBeta(2, 1)` on convolutions, `Epsilon` on dense layers, `AbsoluteSum` on additions."""
    return [
        (CONVOLUTION, AlphaBeta(2.0, 1.0, epsilon)),
        (DENSE, Epsilon(epsilon)),
        (ADDITION, AbsoluteSum()),
        *_others(epsilon),
    ]


def _others(epsilon):
    return [
        (AVERAGE_POOLING, Proportional(epsilon)),
        (MAX_POOLING, WinnerTakesAll()),
        (NORMALIZATION, CentredScale(epsilon)),
        ((layers.MultiHeadAttention,), Attention(Epsilon(epsilon), epsilon)),
        (BILINEAR, Bilinear(epsilon)),
    ]


# those that need no argument, by name
PRESETS = {fn.__name__: fn for fn in (paper, epsilon, epsilon_plus, epsilon_plus_flat, epsilon_alpha2_beta1)}
