"""Tables of rules for whole models: functions that return ordered lists of `(key, rule)`; the first fit counts.

A key is a layer type or a tuple of them, a `First` of such, or the name of a layer or call. The families of types that
the presets use are here as well: `DENSE`, `CONVOLUTION`, `ADDITION`, ... A table may be incomplete: `LRP` appends that
of `paper()`.

Presets that keep signs apart in convolutions do so in additions as well, by `AbsoluteSum`. zennit's composites divide
by the plain sum; this table does the same: `[(presets.ADDITION, rules.Sum()), *presets.epsilon_plus()]`.
"""

import dataclasses
from typing import TypeAlias

import numpy as np

from keras_shapley.layers.linear_maps import LINEAR_TYPES
from keras_shapley.lrp import rules
from keras_shapley.lrp.rules.base import Rule
from keras_shapley.models.layer_types import (
    ADDITION,
    ATTENTION,
    AVERAGE_POOLING,
    BILINEAR,
    CONVOLUTION,
    DENSE,
    ELEMENTWISE,
    EMBEDDING,
    ENCODING,
    EXTREME,
    LOG_SOFTMAX,
    LOOKUP,
    MAX_POOLING,
    MOVING,
    NORMALIZATION,
    ONE_OPERAND,
    PAIR_EXTREME,
    PRODUCT,
    RANDOM,
    RECURRENT,
    RESIZING,
    SOFTMAX,
    SPREAD,
    UNCENTRED,
    ZERO_PADDING,
)

__all__ = [
    "ADDITION",
    "ATTENTION",
    "AVERAGE_POOLING",
    "BILINEAR",
    "CONVOLUTION",
    "DENSE",
    "ELEMENTWISE",
    "EMBEDDING",
    "ENCODING",
    "EXTREME",
    "First",
    "LINEAR_TYPES",
    "LOG_SOFTMAX",
    "LOOKUP",
    "MAX_POOLING",
    "MOVING",
    "NORMALIZATION",
    "ONE_OPERAND",
    "PAIR_EXTREME",
    "PRODUCT",
    "RESIZING",
    "PRESETS",
    "RANDOM",
    "RECURRENT",
    "SOFTMAX",
    "SPREAD",
    "UNCENTRED",
    "ZERO_PADDING",
    "epsilon",
    "epsilon_alpha2_beta1",
    "epsilon_gamma_box",
    "epsilon_plus",
    "epsilon_plus_flat",
    "paper",
]


@dataclasses.dataclass(frozen=True)
class First:
    """Key of a table: those layers of `types` that no other linear layer precedes.

    Args:
        types: a layer type or a tuple of them.

    Examples:
        >>> layer = keras.layers.Dense
        >>> rules = [(ks.presets.First(layer), "flat"), (layer, "epsilon")]
        >>> model = keras.Sequential([keras.Input((3,)), layer(4, name="a"), layer(4, name="b"), layer(2, name="c")])
        >>> [type(rule).__name__ for _, rule in ks.LRP(model, rules=rules).rules.values()]
        ['Flat', 'Epsilon', 'Epsilon']
    """

    types: type | tuple[type, ...]


Key: TypeAlias = str | type | tuple[type, ...] | First
Table: TypeAlias = list[tuple[Key, Rule]]


def paper(epsilon: float = 1e-9) -> Table:
    """Eq. (2) on every layer, and max pooling as an airport game (Littlechild & Owen, 1973).

    Args:
        epsilon: stabiliser of the denominators.

    Returns:
        A table with an entry for every type of layer that has a rule.

    Examples:
        A larger stabiliser bounds the relevance in deep networks.

        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(2)])
        >>> ks.LRP(model, rules=ks.presets.paper(epsilon=0.1)).explain(np.ones((1, 3))).input.shape
        (1, 3)
    """
    return [
        (LINEAR_TYPES, rules.Shapley(epsilon)),
        (AVERAGE_POOLING, rules.Proportional(epsilon)),
        (MAX_POOLING, rules.Airport()),
        (ADDITION, rules.Sum(epsilon)),
        (PRODUCT, rules.EqualSplit()),
        (ONE_OPERAND, rules.OneOperand()),
        (EXTREME, rules.WinnerTakesAll()),
        (PAIR_EXTREME, rules.LargerOperand()),
        (NORMALIZATION, rules.CentredScale(epsilon)),
        (SPREAD, rules.Spread(epsilon)),
        (ATTENTION, rules.Attention(rules.Shapley(epsilon), epsilon)),
        (BILINEAR, rules.Bilinear(epsilon)),
        (RECURRENT, rules.Recurrent(rules.Shapley(epsilon), epsilon)),
        (SOFTMAX, rules.SoftmaxTaylor()),
        (RESIZING, rules.Resize(epsilon)),
        (MOVING, rules.Move()),
        (EMBEDDING, rules.Lookup()),
        (ENCODING, rules.Encoding()),
        (LOOKUP, rules.Gather()),
        (ELEMENTWISE, rules.Pass()),
        # the sum of exponentials is a scale, which is held constant
        (LOG_SOFTMAX, rules.Pass()),
    ]


def epsilon(epsilon: float = 1e-6) -> Table:
    """`Epsilon` on every linear layer, Bach et al. (2015).

    Args:
        epsilon: stabiliser of the denominators.

    Returns:
        A table for `LRP`.

    Examples:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(2)])
        >>> ks.LRP(model, rules=ks.presets.epsilon(0.01)).explain(np.ones((1, 3))).input.shape
        (1, 3)
    """
    return [(LINEAR_TYPES, rules.Epsilon(epsilon)), (ADDITION, rules.Sum(epsilon)), *_without_weights(epsilon)]


def epsilon_plus(epsilon: float = 1e-6) -> Table:
    """`ZPlus` on convolutions, `Epsilon` on dense layers, `AbsoluteSum` on additions (Kohlbrenner et al., 2020).

    Args:
        epsilon: stabiliser of the denominators.

    Returns:
        A table for `LRP`.

    Examples:
        >>> model = keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Conv2D(4, 3, activation="relu")])
        >>> model.add(keras.layers.GlobalAveragePooling2D())
        >>> model.add(keras.layers.Dense(2))
        >>> explainer = ks.LRP(model, rules="epsilon_plus")
        >>> [type(rule).__name__ for _, rule in explainer.rules.values()]
        ['ZPlus', 'Proportional', 'Epsilon']
    """
    return [
        (CONVOLUTION, rules.ZPlus(epsilon)),
        (DENSE, rules.Epsilon(epsilon)),
        (ADDITION, rules.AbsoluteSum()),
        *_without_weights(epsilon),
    ]


def epsilon_plus_flat(epsilon: float = 1e-6) -> Table:
    """`epsilon_plus`, with `Flat` on the first linear layer (Kohlbrenner et al., 2020).

    Args:
        epsilon: stabiliser of the denominators.

    Returns:
        A table for `LRP`.

    Examples:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(2)])
        >>> explainer = ks.LRP(model, rules="epsilon_plus_flat")
        >>> [type(rule).__name__ for _, rule in explainer.rules.values()]
        ['Flat', 'Epsilon']
    """
    return [(First(LINEAR_TYPES), rules.Flat(epsilon)), *epsilon_plus(epsilon)]


def epsilon_gamma_box(
    low: float | np.ndarray, high: float | np.ndarray, epsilon: float = 1e-6, gamma: float = 0.25
) -> Table:
    """`ZBox` on the first convolution, `Gamma` on the others, `Epsilon` on dense layers (Montavon et al., 2019).

    Additions follow `AbsoluteSum`, as in `epsilon_plus`.

    Args:
        low: lower bound of the inputs, a number or an array that broadcasts against a batch of inputs.
        high: upper bound of the inputs, likewise.
        epsilon: stabiliser of the denominators.
        gamma: by how much `Gamma` favours the sign of an output.

    Returns:
        A table for `LRP`.

    Examples:
        >>> model = keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Conv2D(4, 3, activation="relu")])
        >>> model.add(keras.layers.Conv2D(4, 3, activation="relu"))
        >>> model.add(keras.layers.GlobalAveragePooling2D())
        >>> explainer = ks.LRP(model, rules=ks.presets.epsilon_gamma_box(low=0.0, high=1.0))
        >>> [type(rule).__name__ for _, rule in explainer.rules.values()]
        ['ZBox', 'Gamma', 'Proportional']
    """
    return [
        (First(CONVOLUTION), rules.ZBox(low, high, epsilon)),
        (CONVOLUTION, rules.Gamma(gamma, epsilon)),
        (DENSE, rules.Epsilon(epsilon)),
        (ADDITION, rules.AbsoluteSum()),
        *_without_weights(epsilon),
    ]


def epsilon_alpha2_beta1(epsilon: float = 1e-6) -> Table:
    """`AlphaBeta(2, 1)` on convolutions, `Epsilon` on dense layers, `AbsoluteSum` on additions (Bach et al., 2015).

    Args:
        epsilon: stabiliser of the denominators.

    Returns:
        A table for `LRP`.

    Examples:
        >>> model = keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Conv2D(4, 3, activation="relu")])
        >>> model.add(keras.layers.Flatten())
        >>> model.add(keras.layers.Dense(2))
        >>> explainer = ks.LRP(model, rules="epsilon_alpha2_beta1")
        >>> [type(rule).__name__ for _, rule in explainer.rules.values()]
        ['AlphaBeta', 'Move', 'Epsilon']
    """
    return [
        (CONVOLUTION, rules.AlphaBeta(2.0, 1.0, epsilon)),
        (DENSE, rules.Epsilon(epsilon)),
        (ADDITION, rules.AbsoluteSum()),
        *_without_weights(epsilon),
    ]


def _without_weights(epsilon: float) -> Table:
    """What the presets after the first have in common: pooling, normalisation, attention and recurrent layers."""
    return [
        (AVERAGE_POOLING, rules.Proportional(epsilon)),
        (MAX_POOLING, rules.WinnerTakesAll()),
        (NORMALIZATION, rules.CentredScale(epsilon)),
        (ATTENTION, rules.Attention(rules.Epsilon(epsilon), epsilon)),
        (BILINEAR, rules.Bilinear(epsilon)),
        (RECURRENT, rules.Recurrent(rules.Epsilon(epsilon), epsilon)),
    ]


# the presets that need no argument, by name
PRESETS = {
    preset.__name__: preset for preset in (paper, epsilon, epsilon_plus, epsilon_plus_flat, epsilon_alpha2_beta1)
}


def __dir__() -> list[str]:
    return sorted(__all__)
