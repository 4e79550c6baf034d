"""Rules of relevance propagation: how a call hands the relevance of its output on to its inputs.

A rule is a function `rule(call, inputs, relevance)`: the `Call` in the graph, its input tensors, and the relevance of
its output (a list of them where it has several outputs), all with a leading batch axis. It returns a list with the
relevance of each input.
"""

from keras_shapley._validation import one_of
from keras_shapley.attention_rules import Attention, Bilinear, SoftmaxTaylor
from keras_shapley.linear_rules import (
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
from keras_shapley.structural_rules import (
    AbsoluteSum,
    Airport,
    CentredScale,
    EachStep,
    EqualSplit,
    Gather,
    LargerOperand,
    Lookup,
    Move,
    OneOperand,
    Pass,
    Proportional,
    Resize,
    Sum,
    WinnerTakesAll,
    stabilize,
)

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
