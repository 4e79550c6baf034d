"""The walk of an explainer as compiled functions, which all explainers of a model with the same options share."""

from collections.abc import Hashable
from typing import Any

import keras

from keras_shapley.backend import compiled
from keras_shapley.lrp import presets
from keras_shapley.lrp.propagation.walk import Propagation
from keras_shapley.lrp.rule_table import is_own_rule
from keras_shapley.lrp.walk import Walk
from keras_shapley.models.evaluation import FewSizes
from keras_shapley.models.kept import kept


class CompiledWalk:
    """The compiled functions of a walk.

    Args:
        walk: the walk.
        variables: of the model.

    Attributes:
        relevance: `Walk.relevance`.
        report: `Walk.report`.
        deviations: `Propagation.deviations`; None for a walk without a baseline.
        size: the size of a batch of n, padded.
    """

    def __init__(self, walk: Walk, variables: list[keras.Variable]) -> None:
        self.relevance = compiled(walk.relevance, variables)
        self.report = compiled(walk.report, variables)
        self.deviations = compiled(walk.deviations, variables) if isinstance(walk, Propagation) else None
        self.size = FewSizes()


def compiled_walk(model: keras.Model, walk: Walk, options: Any, parts: list[Any], owner: Any) -> CompiledWalk:
    """The `CompiledWalk` of the first explainer with these options; of the owner, if others cannot have the same.

    Args:
        model: the model.
        walk: the walk of an explainer.
        options: on which the walk depends.
        parts: of the model, as `parts_of` returns them.
        owner: the explainer.
    """
    key = _key(options)
    owner = owner if key is None else None
    return kept(model, ("walk", key), lambda: CompiledWalk(walk, model.variables), owner, parts)


def _key(option: Any) -> Hashable | None:
    """Options as a key; None if a function, an array or an object of the user is among them, as these may change."""
    if isinstance(option, (str, int, float, type)):
        return option
    if isinstance(option, presets.First):
        option = ["first", option.types]
    elif is_own_rule(option):
        option = [type(option), *sorted(vars(option).items())]
    if not isinstance(option, (list, tuple)):
        return None
    keys = tuple(map(_key, option))
    return None if None in keys else keys
