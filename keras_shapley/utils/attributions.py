"""Explanation objects where arrays of attributions are taken."""

from typing import Any

from keras_shapley.utils.targets import as_weights, is_weights


def as_array(attributions: Any) -> Any:
    """The attribution of each element of the input, from an explanation object; anything else as it is.

    Explanation objects (`Explanation`, `ShapleyValues`) have it as their attribute `heatmap`.
    """
    return getattr(attributions, "heatmap", attributions)


def has_targets(attributions: Any) -> bool:
    """Whether an explanation object is of several targets, for which its attributions have an axis."""
    target = getattr(attributions, "target", None)
    return target is not None and not is_weights(target) and target.ndim > 1


def own_target(attributions: Any, target: Any) -> Any:
    """The target of an explanation object where none is given: weights, where it was compared with another."""
    if target is not None:
        return target
    own: Any = getattr(attributions, "target", None)
    versus = getattr(attributions, "versus", None)
    if versus is None or has_targets(attributions):
        return own
    shape = attributions.output.shape[1:]
    return (as_weights(own, shape) - as_weights(versus, shape)).reshape(-1, *shape)
