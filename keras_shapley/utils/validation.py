"""Checks of arguments. An error names the argument, what came, and what is allowed."""

from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np
from keras import ops

from keras_shapley.utils.typing import Tensor

Option = TypeVar("Option")


def one_of(name: str, value: Option, allowed: Iterable[Any]) -> Option:
    """Returns `value` if it is in `allowed`, else raises a `ValueError`."""
    allowed = tuple(allowed)
    if value not in allowed:
        choices = ", ".join(repr(choice) for choice in allowed)
        raise ValueError(f"`{name}` must be one of {choices}. Received: {name}={value!r}")
    return value


def finite(name: str, x: Tensor) -> Tensor:
    """Returns the tensor or array `x` if all of it is finite, else raises a `ValueError`."""
    if not bool(ops.all(ops.isfinite(x))):
        raise ValueError(f"`{name}` must be finite. Received NaN or infinity in `{name}` of shape {tuple(x.shape)}.")
    return x


def of_dtype(name: str, values: np.ndarray, dtype: Any) -> np.ndarray:
    """The finite array `values` in the dtype of the inputs; raises a `ValueError` if that changes the values."""
    cast = values.astype(dtype)
    if not np.issubdtype(dtype, np.inexact) and not np.array_equal(cast, values):
        raise ValueError(f"`{name}` must have values that inputs of {dtype} can have. Received: {name}={values!r}")
    return finite(name, cast)


def integer(name: str, value: Any, low: int) -> int:
    """Returns the int `value` if it is `low` or more, else raises a `ValueError`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < low:
        raise ValueError(f"`{name}` must be an int, {low} or more. Received: {name}={value!r}")
    return int(value)


def classes(name: str, y: Any, n: int) -> np.ndarray:
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


def targets(target: Any, outputs: np.ndarray) -> np.ndarray:
    """The index of the output to explain for each input, ints of shape `(batch,)`.

    Args:
        target: None for the largest output, an int, or ints of shape `(batch,)`.
        outputs: shape `(batch, outputs)`.

    Raises:
        ValueError: if `target` is none of these, or out of range.
    """
    if target is None:
        return outputs.argmax(axis=1)
    target = np.asarray(ops.convert_to_numpy(target))
    batch, n = outputs.shape
    if not np.issubdtype(target.dtype, np.integer) or target.shape not in ((), (batch,)):
        raise ValueError(
            f"`target` must be None, an int or ints of shape ({batch},). Received: {target.dtype} of shape "
            f"{target.shape}"
        )
    if target.min() < 0 or target.max() >= n:
        raise ValueError(f"`target` must be in [0, {n}). Received: {target.min()} to {target.max()}")
    return np.broadcast_to(target, (batch,))
