"""Rules of relevance propagation: how a call hands the relevance of its output on to its inputs.

A rule is a function `rule(call, inputs, relevance)`: the `Call` in the graph, its input tensors, and the relevance of
its output (a list of them where it has several outputs), all with a leading batch axis. It returns a list with the
relevance of each input.
"""

from keras_shapley.lrp.rules.attention import Attention, Bilinear, SoftmaxTaylor
from keras_shapley.lrp.rules.base import stabilize
from keras_shapley.lrp.rules.elementwise import OneOperand, Pass
from keras_shapley.lrp.rules.linear import (
    AlphaBeta,
    Epsilon,
    Flat,
    Gamma,
    LinearRule,
    Part,
    Shapley,
    WSquare,
    ZBox,
    ZPlus,
)
from keras_shapley.lrp.rules.moving import EachStep, Gather, Lookup, Move, Resize
from keras_shapley.lrp.rules.normalization import CentredScale
from keras_shapley.lrp.rules.pooling import Airport, LargerOperand, WinnerTakesAll
from keras_shapley.lrp.rules.sums import AbsoluteSum, EqualSplit, Proportional, Sum
from keras_shapley.utils.validation import one_of

__all__ = [
    "AbsoluteSum",
    "Airport",
    "AlphaBeta",
    "Attention",
    "Bilinear",
    "CentredScale",
    "EachStep",
    "Epsilon",
    "EqualSplit",
    "Flat",
    "Gamma",
    "Gather",
    "LargerOperand",
    "LinearRule",
    "Lookup",
    "Move",
    "OneOperand",
    "Part",
    "Pass",
    "Proportional",
    "Resize",
    "Shapley",
    "SoftmaxTaylor",
    "Sum",
    "WSquare",
    "WinnerTakesAll",
    "ZBox",
    "ZPlus",
    "get",
    "stabilize",
]

ALIASES = {
    "shapley": Shapley,
    "epsilon": Epsilon,
    "gamma": Gamma,
    "alpha_beta": AlphaBeta,
    "z_plus": ZPlus,
    "w_square": WSquare,
    "flat": Flat,
    "pass": Pass,
    "winner_takes_all": WinnerTakesAll,
    "airport": Airport,
}


def get(identifier):
    """A rule from its snake_case name, with default arguments, or the rule itself.

    Raises:
        ValueError: if the name is unknown, or `identifier` is no rule.
    """
    if isinstance(identifier, str):
        return ALIASES[one_of("rule", identifier, tuple(ALIASES))]()
    if isinstance(identifier, type) or not callable(identifier):
        raise ValueError(f"A rule must be an instance, a function or a name. Received: {identifier!r}")
    return identifier
