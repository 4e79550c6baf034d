"""Tables of rules for whole models: functions that return ordered lists of `(key, rule)`; the first fit counts.

A key is a layer type or a tuple of them, a `First` of such, or the name of a layer or call. A table may be incomplete:
`LRP` appends the paper's own.

Presets that keep signs apart in convolutions do so in additions as well, by `AbsoluteSum`; zennit's divide by the sum:
`[(presets.ADDITION, rules.Sum()), *presets.epsilon_plus()]`.
"""

import dataclasses

from keras import layers

from keras_shapley import _graph
from keras_shapley.linear import LINEAR_TYPES
from keras_shapley.rules import (
    AbsoluteSum,
    Airport,
    AlphaBeta,
    Attention,
    Bilinear,
    CentredScale,
    Epsilon,
    EqualSplit,
    Flat,
    Gamma,
    Gather,
    LargerOperand,
    Lookup,
    Move,
    OneOperand,
    Pass,
    Proportional,
    Resize,
    Shapley,
    SoftmaxTaylor,
    Sum,
    WinnerTakesAll,
    ZBox,
    ZPlus,
)
from keras_shapley.structural_rules import UNCENTRED, ZERO_PADDING

DENSE = (layers.Dense, layers.EinsumDense)
CONVOLUTION = tuple(cls for cls in LINEAR_TYPES if cls not in DENSE)
MAX_POOLING = (
    layers.MaxPooling1D,
    layers.MaxPooling2D,
    layers.MaxPooling3D,
    layers.GlobalMaxPooling1D,
    layers.GlobalMaxPooling2D,
    layers.GlobalMaxPooling3D,
)
AVERAGE_POOLING = (
    layers.AveragePooling1D,
    layers.AveragePooling2D,
    layers.AveragePooling3D,
    layers.GlobalAveragePooling1D,
    layers.GlobalAveragePooling2D,
    layers.GlobalAveragePooling3D,
    layers.AdaptiveAveragePooling1D,
    layers.AdaptiveAveragePooling2D,
    layers.AdaptiveAveragePooling3D,
    *_graph.MEAN_OPERATIONS,
)
PAIR_EXTREME = (layers.Maximum, layers.Minimum, *_graph.PAIR_EXTREME_OPERATIONS)
EXTREME = (
    layers.AdaptiveMaxPooling1D,
    layers.AdaptiveMaxPooling2D,
    layers.AdaptiveMaxPooling3D,
    *_graph.EXTREME_OPERATIONS,
)
# augmentation does nothing in inference, but RandomCrop, which crops
RANDOM = tuple(getattr(layers, name) for name in dir(layers) if name.startswith("Random") and name != "RandomCrop")
ELEMENTWISE = (
    layers.Activation,
    layers.ReLU,
    layers.LeakyReLU,
    layers.PReLU,
    layers.ELU,
    layers.BatchNormalization,
    layers.Dropout,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    layers.AlphaDropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.ActivityRegularization,
    layers.Identity,
    layers.Rescaling,
    layers.Normalization,
    layers.Masking,
    *RANDOM,
    *_graph.ELEMENTWISE_OPERATIONS,
)
ADDITION = (layers.Add, layers.Subtract, layers.Average, *_graph.ADDITION_OPERATIONS)
PRODUCT = (layers.Multiply, *_graph.PRODUCT_OPERATIONS)
BILINEAR = (layers.Dot, *_graph.BILINEAR_OPERATIONS)
SOFTMAX = (layers.Softmax, *_graph.SOFTMAX_OPERATIONS)
NORMALIZATION = (layers.LayerNormalization, layers.GroupNormalization, *UNCENTRED)
MOVING = (
    layers.Concatenate,
    layers.Flatten,
    layers.Reshape,
    layers.Permute,
    layers.RepeatVector,
    layers.Cropping1D,
    layers.Cropping2D,
    layers.Cropping3D,
    layers.CenterCrop,
    *ZERO_PADDING,
    *_graph.MOVING_OPERATIONS,
)
ONE_OPERAND = _graph.ONE_OPERAND_OPERATIONS
LOOKUP = _graph.LOOKUP_OPERATIONS
RESIZING = (layers.UpSampling1D, layers.UpSampling2D, layers.UpSampling3D, layers.Resizing)


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
