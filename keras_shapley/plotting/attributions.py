"""Attributions as the plots take them: arrays, explanation objects, and dicts of these."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_shapley.plotting.canvas import checked_titles
from keras_shapley.utils.attributions import as_array, has_targets
from keras_shapley.utils.structures import is_nested, leaves
from keras_shapley.utils.typing import Structure, Tensor
from keras_shapley.utils.validation import finite


@dataclasses.dataclass(frozen=True)
class Attributions:
    """One attribution of each element of each sample, which is drawn under a label.

    Attributes:
        name: of the argument, for error messages.
        label: of the colour bar of all samples; empty for none.
        labels: a label for each sample. They differ where samples have targets of their own.
        values: float64, shape `(n, ...)`.
        groups: number of the group of each element, ints in the shape of one sample, if a group's value was spread
            equally over its elements; else None.
    """

    name: str
    label: str
    labels: list[str]
    values: np.ndarray
    groups: np.ndarray | None = None

    def of_elements(self) -> np.ndarray:
        """The values, where each element of a group has the group's value."""
        return self.values if self.groups is None else self.values * _sizes(self.groups)

    def of_positions(self) -> np.ndarray:
        """The values, summed over the last axis; a group counts once at each position."""
        if self.groups is None:
            return self.values.sum(axis=-1)
        repeats = sum((self.groups == self.groups[..., k : k + 1]) for k in range(self.groups.shape[-1]))
        return (self.values * _sizes(self.groups) / repeats).sum(axis=-1)

    def rearranged(self, change: Callable[[np.ndarray], np.ndarray]) -> "Attributions":
        """With a change of the axes of a batch, of the values and of the groups."""
        groups = None if self.groups is None else change(self.groups[None])[0]
        return dataclasses.replace(self, values=change(self.values), groups=groups)

    def relabelled(self, change: Callable[[str], str]) -> "Attributions":
        return dataclasses.replace(self, label=change(self.label), labels=[change(label) for label in self.labels])


def attributions_of(relevance: Any) -> list[Attributions]:
    """What is drawn side by side: each array, each target of an explanation, and each entry of a dict of these.

    Raises:
        ValueError: if there is nothing to draw, an explanation has several inputs, or values are not finite numbers.
    """
    if not isinstance(relevance, dict):
        return _of_one("relevance", "", relevance)
    if not relevance:
        raise ValueError("`relevance` must hold at least one array. Received an empty dict.")
    return [part for key, each in relevance.items() for part in _of_one(f"relevance[{key!r}]", str(key), each)]


def _of_one(name: str, label: str, relevance: Any) -> list[Attributions]:
    is_object = hasattr(relevance, "heatmap")
    array = as_array(relevance)
    if is_object or isinstance(array, dict) or _are_batches(array):
        array = only_array(name, array, ".heatmap" if is_object else "")
    values = real_numbers(name, array).astype("float64")
    groups = getattr(relevance, "players", None)
    groups = None if groups is None else np.asarray(only_array(name, groups))
    if values.ndim == 0:
        raise ValueError(f"`{name}` must be an array of shape (n, ...). Received: {relevance!r}")
    if not has_targets(relevance):
        return [Attributions(name, label, [label] * len(values), values, groups)]
    versus = getattr(relevance, "versus", None)
    result = []
    columns = np.transpose(relevance.target)
    for k, indices in enumerate(columns):
        others = [""] * len(indices) if versus is None else [f" less output {index}" for index in versus[:, k]]
        labels = [_joined(label, f"output {index}{other}") for index, other in zip(indices, others)]
        is_same = len(set(labels)) == 1
        shared = labels[0] if is_same else _joined(label, f"target {k + 1} of {len(columns)}")
        result.append(Attributions(name, shared, labels, values[:, k], groups))
    return result


def titles_of(relevance: Any, titles: Sequence[str] | None, n: int, each: str = "image") -> list[str]:
    """Titles of n samples: given ones, or those of an explanation of one target; several targets have labels.

    Raises:
        ValueError: if fewer or more are given.
    """
    if titles is None and hasattr(relevance, "titles") and not has_targets(relevance) and len(relevance.output) == n:
        titles = relevance.titles()
    return checked_titles(titles, n, each=each)


def check_same_shapes(parts: Sequence[Attributions], text: str) -> None:
    """Raises a `ValueError` if what is drawn side by side has several shapes."""
    shapes = [part.values.shape for part in parts]
    if len(set(shapes)) > 1:
        raise ValueError(f"The arrays of `relevance` must have one shape {text}. Received shapes: {shapes}")


def only_array(name: str, value: Structure, attribute: str = "") -> Any:
    """The array of a structure of one input; an array as it is.

    Args:
        name: of the argument, for an error message.
        value: an array, or a structure of arrays.
        attribute: with which a user reads the structure from the argument.

    Raises:
        ValueError: if there are several arrays.
    """
    if not is_nested(value):
        return value
    parts = leaves(value)
    if len(parts) == 1:
        return parts[0]
    first = next(iter(value)) if isinstance(value, dict) else 0
    remedy = f"pass one of them, such as {name}{attribute}[{first!r}]"
    if attribute:
        remedy += f", or {name}{attribute}[{first!r}][:, 0] for the first of several targets"
    elif not isinstance(value, dict):
        remedy += ", or np.stack() them if they are one batch"
    raise ValueError(f"`{name}` has {len(parts)} arrays, as of several inputs, and one can be drawn: {remedy}.")


def given_array(name: str, value: Any) -> np.ndarray:
    """A batch that a user gave; a list is a batch of its entries, and a dict may hold one input.

    Raises:
        ValueError: as `only_array` and `real_numbers`.
    """
    return real_numbers(name, only_array(name, value) if isinstance(value, dict) else value)


def real_numbers(name: str, values: Tensor) -> np.ndarray:
    """A finite NumPy array of real numbers.

    Raises:
        ValueError: if the values are others, or arrays of several shapes.
    """
    try:
        array = np.asarray(ops.convert_to_numpy(values) if ops.is_tensor(values) else values)
    except ValueError as error:
        raise ValueError(f"`{name}` must be one array. {error}") from None
    if array.dtype.kind in "OSUMmc":
        remedy = " Tokens are drawn by `ks.plot_tokens(relevance, tokens)`." if array.dtype.kind in "SU" else ""
        received = f"{type(values).__name__} of dtype {array.dtype}"
        raise ValueError(f"`{name}` must be an array of real numbers. Received: {received}.{remedy}")
    return finite(name, array)


def _are_batches(value: Any) -> bool:
    """Whether a value is a list of arrays that are batches, rather than rows of one batch."""
    return isinstance(value, (list, tuple)) and any(len(getattr(part, "shape", ())) > 2 for part in value)


def _sizes(groups: np.ndarray) -> np.ndarray:
    """Number of elements of the group of each element."""
    return np.bincount(groups.ravel())[groups]


def _joined(*words: str) -> str:
    return ", ".join(filter(None, words))
