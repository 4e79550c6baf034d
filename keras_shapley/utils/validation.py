"""Checks of arguments. An error names the argument, what came, and what is allowed."""

from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np
from keras import ops
from numpy.typing import ArrayLike

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
    if not bool(np.isfinite(x).all() if isinstance(x, np.ndarray) else ops.all(ops.isfinite(x))):
        raise ValueError(f"`{name}` must be finite. Received NaN or infinity in `{name}` of shape {tuple(x.shape)}.")
    return x


def of_dtype(name: str, values: np.ndarray, dtype: Any) -> np.ndarray:
    """The finite array `values` in the dtype of the inputs; raises a `ValueError` if that changes the values."""
    cast = values.astype(dtype)
    if not np.issubdtype(dtype, np.inexact) and not np.array_equal(cast, values):
        raise ValueError(f"`{name}` must have values that inputs of {dtype} can have. Received: {name}={values!r}")
    return finite(name, cast)


def numpy_of(x: Any) -> np.ndarray:
    """A tensor, a list of them, an array or a number in NumPy; bfloat16, which NumPy does not know, as float32."""
    has_tensors = ops.is_tensor(x) or (isinstance(x, (list, tuple)) and any(map(ops.is_tensor, x)))
    array = np.asarray(ops.convert_to_numpy(x) if has_tensors else x)
    return array.astype("float32") if array.dtype.name == "bfloat16" else array


def integer(name: str, value: Any, low: int) -> int:
    """Returns the int `value` if it is `low` or more, else raises a `ValueError`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < low:
        raise ValueError(f"`{name}` must be an int, {low} or more. Received: {name}={value!r}")
    return int(value)


def background(baseline: ArrayLike, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Baseline inputs `(n, *shape)` of a dtype: from a number, an array of the shape of one input, or a background.

    Raises:
        ValueError: if `baseline` is none of these, not finite, or has values that the dtype cannot have.
    """
    values = numpy_of(baseline)
    if values.dtype.kind not in "biuf":
        raise ValueError(f"`baseline` must be numbers. Received: baseline={baseline!r}")
    values = of_dtype("baseline", finite("baseline", values), dtype)
    if values.shape in ((), shape):
        values = np.broadcast_to(values, shape)[None]
    if values.shape[1:] != shape or not len(values):
        raise ValueError(
            f"`baseline` must be a number, an array of shape {shape}, or a background of shape (n, "
            f"{', '.join(map(str, shape))}). Received: shape {values.shape}"
        )
    return values
