"""Inputs and baselines as users give them: one array, or several in a list or a dict."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from keras_shapley.utils.structures import arrays_of, filled, matched, skeleton_of
from keras_shapley.utils.typing import Structure
from keras_shapley.utils.validation import background, finite, numpy_of


class Inputs:
    """A batch of inputs and the values of what is absent, checked.

    Args:
        x: an array `(batch, ...)`, or a structure of arrays.
        baseline: as in `keras_shapley.exact_shapley_values`.
        dtype: of the arrays; None for their own.
        are_ids: for each array, whether it has ids, which must be whole. Other integers become floats where a baseline
            has fractions.

    Attributes:
        arrays: NumPy arrays `(batch, ...)`, in the order in which `x` has them.
        skeleton: how they are nested, see `utils.structures`.
        background: baseline inputs `(n, ...)`, one array for each of `arrays`.
    """

    def __init__(
        self, x: Structure, baseline: Structure, dtype: str | None = None, *, are_ids: Sequence[bool] = ()
    ) -> None:
        self.skeleton = skeleton_of(x)
        self.arrays = [_checked(leaf, dtype) for leaf in arrays_of(x)]
        if not all(array.ndim for array in self.arrays):
            raise ValueError("`x` must be a batch of inputs, shape (batch, ...). Received: a number")
        lengths = {len(array) for array in self.arrays}
        is_single = self.skeleton == 0
        if len(lengths) > 1 or (is_single and self.arrays[0].ndim < 2) or not all(a.size for a in self.arrays):
            shapes = ", ".join(str(array.shape) for array in self.arrays)
            raise ValueError(f"`x` must be a batch of inputs, shape (batch, ...). Received: shape {shapes}")
        is_number = np.isscalar(baseline) or baseline is None
        parts: list[Any] = [baseline] * len(self.arrays) if is_number else matched("baseline", baseline, self.skeleton)
        for i, part in enumerate(parts):
            if i < len(are_ids) and are_ids[i]:
                _check_whole("x", self.arrays[i])
                _check_whole("baseline", numpy_of(part))
            elif _is_between(part, self.arrays[i].dtype):
                self.arrays[i] = self.arrays[i].astype("float32")
        arrays = [background(part, array.shape[1:], array.dtype) for part, array in zip(parts, self.arrays)]
        counts = [len(array) for array in arrays]
        n = max(counts)
        if any(count not in (1, n) for count in counts):
            raise ValueError(f"`baseline` must have the same number of rows for each input. Received: {counts}")
        self.background = [np.broadcast_to(array, (n, *array.shape[1:])) for array in arrays]

    def __len__(self) -> int:
        return len(self.arrays[0])

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Of the arrays, without the batch."""
        return [array.shape[1:] for array in self.arrays]

    def packed(self, arrays: list[np.ndarray]) -> Structure:
        """Arrays in the structure of `x`."""
        return filled(self.skeleton, arrays)


def _check_whole(name: str, values: np.ndarray) -> None:
    if _has_fractions(values):
        raise ValueError(
            f"`{name}` must be whole numbers, which the model takes. Received: {values.dtype} with fractions"
        )


def _is_between(baseline: Any, dtype: np.dtype) -> bool:
    """Whether a baseline has fractions, and inputs are whole numbers."""
    return dtype.kind in "biu" and _has_fractions(numpy_of(baseline))


def _has_fractions(values: np.ndarray) -> bool:
    """Whether there are numbers that are not whole; infinity and NaN are none."""
    return values.dtype.kind == "f" and bool((np.isfinite(values) & (values != np.floor(values))).any())


def _checked(x: ArrayLike, dtype: str | None) -> np.ndarray:
    array = numpy_of(x)
    if array.dtype.kind in "OSUMm":
        raise ValueError(f"`x` must be numbers. Received: {array.dtype} of shape {array.shape}")
    return finite("x", array if dtype is None else array.astype(dtype))
