"""What `target` may be, in every function, metric, callback and on the command line."""

import dataclasses
import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_shapley.utils.validation import numpy_of

ALLOWED = (
    "None for the largest output of each sample; output indices, an int or ints of shape (batch,), (batch, 1), "
    "(batch, k) or (1, k); or weights of the outputs, bools or floats of the shape of one output"
)


@dataclasses.dataclass(frozen=True)
class Targets:
    """The targets of a batch. A target is an output, or a weighted sum of outputs.

    Outputs of several axes are numbered in the order of `ravel`.

    Attributes:
        columns: the targets of each sample, one after the other. Each is None for the largest output, ints of shape
            `(batch,)`, or weights, floats of shape `(batch, *output)`.
        has_axis: whether results have an axis of targets.
    """

    columns: list[np.ndarray | None]
    has_axis: bool

    def resolved(self, outputs: np.ndarray, rows: Any = slice(None)) -> list[np.ndarray]:
        """The columns, with the index of the largest output in place of None.

        Args:
            outputs: of the samples, `(batch, *output)`.
            rows: which samples of the batch these are, a slice or ints; all by default.
        """
        largest = outputs.reshape(len(outputs), -1).argmax(axis=1)
        return [largest if column is None else column[rows] for column in self.columns]


def parse_targets(target: Any, batch: int, shape: tuple[int, ...], *, name: str = "target") -> Targets:
    """The `Targets` of a batch.

    Args:
        target: what a user gave.
        batch: number of samples.
        shape: of one output, without the batch.
        name: of the argument, for an error message.

    Raises:
        ValueError: if `target` is none of `ALLOWED`, an index is out of range, weights are not finite, or an array of
            ints holds one-hot rows.
    """
    if target is None:
        return Targets([None], has_axis=False)
    array = numpy_of(target)
    if array.dtype == bool or np.issubdtype(array.dtype, np.floating):
        return Targets([_weights(array, batch, shape, name)], has_axis=False)
    is_index = np.issubdtype(array.dtype, np.integer)
    fits = array.shape in ((), (batch,)) or (array.ndim == 2 and array.shape[0] in (batch, 1))
    if not is_index or not fits or not array.size:
        received = f"the string {target!r}" if isinstance(target, str) else f"{array.dtype} of shape {array.shape}"
        raise ValueError(f"`{name}` must be {ALLOWED}. Received: {received}")
    n_outputs = math.prod(shape)
    if array.ndim == 2 and array.shape[0] == batch:
        _check_not_one_hot(array, n_outputs, name)
    if array.min() < 0 or array.max() >= n_outputs:
        raise ValueError(_out_of_range(array, n_outputs, name))
    rows = array if array.ndim == 2 else array.reshape(-1, 1)
    rows = np.broadcast_to(rows, (batch, rows.shape[1])).astype("int32")
    return Targets(list(rows.T), has_axis=rows.shape[1] > 1)


def as_weights(target: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Weights of all outputs, `(batch, outputs)` in float64, from a resolved column of `Targets`."""
    n_outputs = math.prod(shape)
    if is_weights(target):
        return target.reshape(-1, n_outputs)
    weights = np.zeros((len(target), n_outputs))
    weights[np.arange(len(target)), target] = 1
    return weights


def target_values(target: Any, outputs: np.ndarray) -> np.ndarray:
    """The values of one sample's target, an index or weights, in outputs `(n, *output)`: shape `(n,)`."""
    outputs = outputs.reshape(len(outputs), -1)
    return outputs @ target.ravel() if is_weights(target) else outputs[:, target]


def is_weights(target: Any) -> bool:
    """Whether a resolved target, an array or a tensor, holds weights of the outputs; otherwise it holds indices."""
    return keras.backend.is_float_dtype(keras.backend.standardize_dtype(target.dtype))


def class_labels(name: str, y: Any, n: int) -> np.ndarray:
    """Class numbers of shape `(n,)`, from class numbers, a column of them, or one-hot rows.

    Raises:
        ValueError: if `y` is none of these.
    """
    y = ops.convert_to_numpy(y)
    if y.ndim == 2 and y.shape[1] > 1 and np.all(np.isin(y, (0, 1))) and np.all(y.sum(axis=1) == 1):
        y = y.argmax(axis=1)
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.shape != (n,) or not np.issubdtype(y.dtype, np.number) or np.any(y != np.floor(y)) or np.any(y < 0):
        raise ValueError(
            f"`{name}` must be class numbers of shape ({n},) or ({n}, 1), or one-hot rows. Received: {y.dtype} of "
            f"shape {y.shape}"
        )
    return y.astype("int32")


def _weights(array: np.ndarray, batch: int, shape: tuple[int, ...], name: str) -> np.ndarray:
    """Weights of the outputs of each sample, from those of one output or of each."""
    if array.shape not in (shape, (batch, *shape)) or not shape:
        raise ValueError(
            f"`{name}` of bools or floats must be weights of the shape of one output, {shape}, or one such array for "
            f"each sample, {(batch, *shape)}. Received: {array.dtype} of shape {array.shape}. Output indices must be "
            "ints."
        )
    is_whole = array.dtype != bool and bool((array == np.floor(array)).all())
    if array.shape == shape == (batch,) and is_whole and bool((array > 1).any()):
        raise ValueError(
            f"`{name}` holds floats that look like labels, and would be read as weights. Give output indices as ints."
        )
    if not np.isfinite(array).all():
        raise ValueError(f"`{name}` must be finite. Received weights with NaN or infinity.")
    return np.broadcast_to(array.astype("float64"), (batch, *shape))


def _check_not_one_hot(array: np.ndarray, n_outputs: int, name: str) -> None:
    """Raises a `ValueError` for one-hot rows, which as indices would mean outputs 0 and 1 in turn."""
    if array.ndim != 2 or array.shape[1] != n_outputs or n_outputs < 2:
        return
    is_binary = bool(np.isin(array, (0, 1)).all())
    is_one_hot = is_binary and bool((array.sum(axis=1) == 1).all())
    if is_binary and not is_one_hot and n_outputs > 2:
        raise ValueError(
            f"`{name}` holds rows of zeros and ones, which would be read as indices 0 and 1. For the sum of several "
            f"outputs give {name}.astype(float). Received: {array.dtype} of shape {array.shape}"
        )
    both_in_order = array.tolist() == [[0, 1]]
    if is_one_hot and not both_in_order:
        raise ValueError(
            f"`{name}` holds one-hot rows of ints, which would be read as indices 0 and 1. Give "
            f"`{name}.argmax(axis=1)`. Received: {array.dtype} of shape {array.shape}"
        )


def _out_of_range(array: np.ndarray, n_outputs: int, name: str) -> str:
    low, high = array.min(), array.max()
    received = f"Received: {low}" if low == high else f"Received: {low} to {high}"
    if n_outputs > 1:
        return f"`{name}` must be in [0, {n_outputs}), the model's outputs. {received}"
    return (
        f"`{name}` must be 0, or None: a single output unit is explained as it is, so that positive values raise it. "
        f"The class labels 0 and 1 both belong to this unit. {received}"
    )
