"""Explanation objects where arrays of attributions are taken."""

from typing import Any


def as_array(attributions: Any) -> Any:
    """The attribution of each element of the input, from an explanation object; anything else as it is.

    Explanation objects (`Explanation`, `ShapleyValues`) have it as their attribute `heatmap`.
    """
    return getattr(attributions, "heatmap", attributions)


def own_target(attributions: Any, target: Any) -> Any:
    """The target of an explanation object where none is given."""
    return getattr(attributions, "target", None) if target is None else target
