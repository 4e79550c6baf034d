"""Data sets as batches: arrays, `tf.data`, `keras.utils.PyDataset`, and other iterables."""

from collections.abc import Iterator
from typing import Any

import keras
from keras import ops, tree

from keras_shapley.utils.typing import Structure
from keras_shapley.utils.validation import integer

# the inputs of a batch, its labels or None, and the slice of the whole arrays that it is, or None
Batch = tuple[Structure, Structure, slice | None]


def batches(data: Any, batch_size: int, labels: Structure | None = None) -> tuple[int | None, Iterator[Batch]]:
    """A data set cut into batches.

    Args:
        data: arrays, or a dict, list or tuple of them, of one length; or a data set of batches, each `x`, `(x, y)` or
            `(x, y, sample_weight)`.
        batch_size: of arrays; other data come in batches of their own.
        labels: of arrays, or None.

    Returns:
        `(length, iterator)`: the number of batches, None where it is not known, and an iterator of `(x, y, place)`: a
        batch, its labels or None, and the slice of the arrays that it is, or None.

    Raises:
        ValueError: if `batch_size` is no positive int, arrays differ in length, or there is no data.
        TypeError: if `data` is neither arrays nor a data set.
    """
    integer("batch_size", batch_size, 1)
    if not is_data_set(data):
        if not hasattr(data, "__len__") or isinstance(data, str):
            raise TypeError(f"`data` must be arrays or a data set of batches. Received: {type(data).__name__}")
        return _of_arrays(data, labels, batch_size)
    if isinstance(data, keras.utils.PyDataset):
        return len(data), (_unpacked(data[i]) for i in range(len(data)))
    try:
        length = len(data)
    except TypeError:  # unknown, or infinite
        length = None
    return length, map(_unpacked, data)


def is_data_set(data: Any) -> bool:
    """Whether this is a data set of batches, rather than arrays."""
    if isinstance(data, keras.utils.PyDataset):
        return True
    is_array = ops.is_tensor(data) or hasattr(data, "__array__")
    return hasattr(data, "__iter__") and not is_array and not isinstance(data, (dict, list, tuple, str, bytes))


def _of_arrays(data: Structure, labels: Structure | None, batch_size: int) -> tuple[int, Iterator[Batch]]:
    lengths = {len(array) for array in tree.flatten((data, [] if labels is None else labels))}
    if len(lengths) != 1 or lengths == {0}:
        raise ValueError(f"`data` must be arrays of one length, 1 or more. Received lengths: {sorted(lengths)}")
    (n,) = lengths
    places = [slice(start, start + batch_size) for start in range(0, n, batch_size)]

    def part(place: slice) -> Batch:
        x, y = tree.map_structure(lambda array: array[place], (data, [] if labels is None else labels))
        return x, None if labels is None else y, place

    return len(places), map(part, places)


def _unpacked(batch: Any) -> Batch:
    x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
    return x, y, None
