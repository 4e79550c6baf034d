"""Titles of heatmaps: classes and their probabilities in words."""

from collections.abc import Mapping, Sequence

import numpy as np


def class_name(index: int, names: Sequence[str] | None) -> str:
    """Name of a class, or its number if classes have no names."""
    return str(index) if names is None else names[index]


def class_title(probability: np.ndarray, roles: Mapping[str, int], names: Sequence[str] | None) -> str:
    """A line `role: class (probability)` for each of `roles`.

    Args:
        probability: of each class, shape `(classes,)`.
        roles: class numbers by what they are, such as `{"true": 3, "predicted": 8}`.
        names: of the classes, or None.
    """
    lines = (f"{role}: {class_name(index, names)} ({probability[index]:.0%})" for role, index in roles.items())
    return "\n".join(lines)


def class_probabilities(probability: np.ndarray) -> np.ndarray:
    """Probabilities of shape `(n, classes)`; a single unit of shape `(n, 1)` becomes the classes 0 and 1."""
    if probability.shape[1] > 1:
        return probability
    return np.concatenate([1 - probability, probability], axis=1)
