"""Nested lists, tuples and dicts of arrays, as models with several inputs take them.

The *skeleton* of a structure has the number of each array in its place; it is 0 for a single array.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from keras_shapley.utils.typing import Structure


def skeleton_of(structure: Structure) -> Structure:
    """The skeleton of a structure of arrays, numbered in the order of `leaves`.

    Lists and tuples that hold an array of two axes or more are structures; lists of numbers are arrays.
    """
    return _numbered(structure, itertools.count()) if is_nested(structure) else 0


def leaves(structure: Structure) -> list[Any]:
    """The arrays of a structure in the user's order; that of `keras.tree.flatten` sorts the keys of dicts."""
    if isinstance(structure, dict):
        structure = list(structure.values())
    return [leaf for part in structure for leaf in leaves(part)] if _is_container(structure) else [structure]


def arrays_of(batch: Structure) -> list[Any]:
    """The arrays of a batch: the leaves of a structure, or the one array that it is."""
    return leaves(batch) if is_nested(batch) else [batch]


def ordered_as(structure: Structure, other: Structure) -> Structure:
    """The same as `other`, with the keys of all dicts in the order of `structure`."""
    if isinstance(structure, dict):
        return {key: ordered_as(part, other[key]) for key, part in structure.items()}
    return type(other)(map(ordered_as, structure, other)) if _is_container(structure) else other


def is_nested(value: Any) -> bool:
    """Whether a value is a structure of arrays, and not an array or what becomes one."""
    if isinstance(value, dict):
        return True
    parts = leaves(value) if _is_container(value) else []
    return any(len(getattr(part, "shape", ())) > 1 for part in parts)


def filled(skeleton: Structure, leaves: Sequence[Any]) -> Structure:
    """The structure that has a leaf in the place of each number of the skeleton."""
    return _mapped(skeleton, lambda number: leaves[number])


def matched(name: str, value: Any, skeleton: Structure) -> list[Any]:
    """One part of `value` for each number of the skeleton.

    Args:
        name: of the argument, for an error message.
        value: nested as the skeleton is; whatever stands in the place of a number is a part.
        skeleton: of the inputs.

    Raises:
        ValueError: if `value` is nested in another way.
    """
    if skeleton == 0 or (len(leaves(skeleton)) == 1 and not _is_container(value)):
        return [value]
    parts: dict[int, Any] = {}
    _match(name, value, skeleton, parts)
    return [parts[number] for number in range(len(parts))]


def _is_container(value: Any) -> bool:
    return isinstance(value, (dict, list, tuple))


def _numbered(structure: Structure, numbers: Iterator[int]) -> Structure:
    if isinstance(structure, dict):
        return {key: _numbered(part, numbers) for key, part in structure.items()}
    if _is_container(structure):
        return type(structure)(_numbered(part, numbers) for part in structure)
    return next(numbers)


def _match(name: str, value: Any, skeleton: Structure, parts: dict[int, Any]) -> None:
    if isinstance(skeleton, int):
        parts[skeleton] = value
        return
    if isinstance(skeleton, dict):
        if not isinstance(value, dict) or set(value) != set(skeleton):
            received = f"keys {list(value)}" if isinstance(value, dict) else type(value).__name__
            raise ValueError(f"`{name}` must be a dict with the inputs' keys {list(skeleton)}. Received: {received}")
        keys = list(skeleton)
    else:
        if not isinstance(value, (list, tuple)) or len(value) != len(skeleton):
            received = f"{len(value)}" if isinstance(value, (list, tuple)) else type(value).__name__
            raise ValueError(f"`{name}` must be a list of {len(skeleton)}, one for each input. Received: {received}")
        keys = range(len(skeleton))
    for key in keys:
        _match(name, value[key], skeleton[key], parts)


def _mapped(skeleton: Structure, leaf: Callable[[int], Any]) -> Structure:
    if isinstance(skeleton, int):
        return leaf(skeleton)
    if isinstance(skeleton, dict):
        return {key: _mapped(part, leaf) for key, part in skeleton.items()}
    return type(skeleton)(_mapped(part, leaf) for part in skeleton)
