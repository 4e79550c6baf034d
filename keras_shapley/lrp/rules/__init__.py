# ruff: noqa: F403
"""Rules of relevance propagation.

A rule distributes the relevance of a call's output among the call's inputs. It is a function
`rule(call, inputs, relevance)`, or an object that can be called so:

- `call` says which layer or operation was called: `call.op` is the layer or operation, `call.name` its name in the
  model, and `call.at_full_precision(*inputs)` runs it again.
- `inputs` is the list of its input tensors, with a leading batch axis. Masks, indices and constants are not among them.
- `relevance` is the relevance of its output, in the shape of the output; a list if there are several outputs.

It returns a list with the relevance of each input, in the shape of the input. A rule conserves relevance if the input
and the output have the same sum; what it does not conserve appears as a gap in `Explanation.conservation_gap`.

Examples:
    This rule passes relevance through a ReLU only where the ReLU is open.

    >>> def open_gates(call, inputs, relevance):
    ...     (x,) = inputs
    ...     return [keras.ops.where(x > 0, relevance, 0.0)]
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.ReLU(), keras.layers.Dense(3)])
    >>> explainer = ks.LRP(model, rules=[(keras.layers.ReLU, open_gates)])
    >>> tuple(explainer(np.ones((5, 2))).shape)
    (5, 2)

A rule for layers with weights is shorter as a subclass of `LinearRule`. A rule that makes sense for some layer types
only says so in a class attribute, `fits = (type, ...)`; `LRP` then refuses it elsewhere. A method `check(call)`, if it
has one, raises an error for a call that it is not for; `LRP` calls it when an explainer is made.

For a function of your own that acts on each element alone there is `Elementwise`.
"""

import re

from keras_shapley.lrp.rules import (
    attention,
    base,
    elementwise,
    linear,
    moving,
    normalization,
    pooling,
    propagation,
    recurrent,
    sums,
)
from keras_shapley.lrp.rules.attention import *
from keras_shapley.lrp.rules.base import *
from keras_shapley.lrp.rules.base import Rule
from keras_shapley.lrp.rules.elementwise import *
from keras_shapley.lrp.rules.linear import *
from keras_shapley.lrp.rules.moving import *
from keras_shapley.lrp.rules.normalization import *
from keras_shapley.lrp.rules.pooling import *
from keras_shapley.lrp.rules.propagation import *
from keras_shapley.lrp.rules.recurrent import *
from keras_shapley.lrp.rules.sums import *
from keras_shapley.utils.validation import one_of

# each module lists its own rules
__all__ = ["get"]
__all__ += attention.__all__
__all__ += base.__all__
__all__ += elementwise.__all__
__all__ += linear.__all__
__all__ += moving.__all__
__all__ += normalization.__all__
__all__ += pooling.__all__
__all__ += propagation.__all__
__all__ += recurrent.__all__
__all__ += sums.__all__

_NAMED = (
    linear.Shapley,
    linear.Epsilon,
    linear.Gamma,
    linear.AlphaBeta,
    linear.ZPlus,
    linear.WSquare,
    linear.Flat,
    elementwise.Pass,
    pooling.WinnerTakesAll,
    pooling.Airport,
    propagation.ShapleyPropagation,
    propagation.FirstOrder,
    propagation.Rescale,
)
_BY_NAME = {re.sub(r"\B([A-Z])", r"_\1", rule.__name__).lower(): rule for rule in _NAMED}


def get(identifier: str | Rule) -> Rule:
    """A rule from its name, as `LRP` reads the names in a table of rules.

    Args:
        identifier: the name of a rule in snake_case, or a rule.

    Returns:
        The rule of that name with its default arguments, or the rule that was given.

    Raises:
        ValueError: if the name is unknown, or `identifier` is neither a name nor a rule.

    Examples:
        >>> rule = ks.rules.get("z_plus")
        >>> type(rule).__name__, rule.epsilon
        ('ZPlus', 1e-06)
    """
    if isinstance(identifier, str):
        return _BY_NAME[one_of("rule", identifier, tuple(_BY_NAME))]()
    if isinstance(identifier, type) or not callable(identifier):
        raise ValueError(f"A rule must be an instance, a function or a name. Received: {identifier!r}")
    return identifier


def __dir__() -> list[str]:
    return sorted(__all__)
