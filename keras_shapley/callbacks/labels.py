"""What the labels `y` of a callback say of a model's output: classes, or numbers."""

import numpy as np

from keras_shapley.models.outputs import ModelOutput
from keras_shapley.utils.targets import class_labels


def true_values(y: np.ndarray, output: ModelOutput) -> np.ndarray:
    """The true class of each sample, ints of shape `(n,)`; or its true outputs, floats of shape `(n, *output)`.

    Args:
        y: finite numbers, one row for each sample. They are classes if the output has classes and they can be labels
            of these; otherwise they are the numbers that a regression learns.
        output: the explained output.

    Raises:
        ValueError: if `y` is neither, or a label is out of range.
    """
    n_classes = output.n_classes
    labels = None if n_classes is None else _labels(y)
    if labels is not None:
        check_labels("y", labels, n_classes)
        return labels
    shape = (len(y), *output.shape)
    if output.n_units == 1 and y.ndim == 1:
        y = y.reshape(len(y), *[1] * len(output.shape))
    in_range = not output.is_probability or (y.min() >= 0 and y.max() <= 1)
    if y.shape != shape or not in_range:
        labels_or = "" if n_classes is None else f"class labels in [0, {n_classes}), or "
        limits = " in [0, 1]" if output.is_probability else ""
        raise ValueError(
            f"`y` must be {labels_or}true outputs{limits} of shape {shape}. Received: {y.dtype} of shape {y.shape} "
            f"from {y.min():.3g} to {y.max():.3g}"
        )
    return y.astype("float64")


def are_labels(truth: np.ndarray | None) -> bool:
    """Whether `true_values` found classes."""
    return truth is not None and np.issubdtype(truth.dtype, np.integer)


def check_labels(name: str, labels: np.ndarray, n_classes: int | None) -> None:
    """Raises a `ValueError` if a class label is out of range."""
    if n_classes is not None and labels.max() >= n_classes:
        raise ValueError(f"`{name}` must be in [0, {n_classes}), the model's classes. Received: {labels.max()}")


def _labels(y: np.ndarray) -> np.ndarray | None:
    """`y` as class labels of shape `(n,)`, None if it cannot be that."""
    try:
        return class_labels("y", y, len(y))
    except ValueError:
        return None
