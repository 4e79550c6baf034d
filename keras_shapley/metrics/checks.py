"""Arguments of metrics, checked, and what metrics compute alike."""

import math
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from keras import ops, tree
from numpy.typing import ArrayLike

from keras_shapley.models.evaluation import batch_function
from keras_shapley.models.given_inputs import inputs_of
from keras_shapley.utils.attributions import as_array
from keras_shapley.utils.channels import without_channels
from keras_shapley.utils.structures import filled, is_nested, leaves, matched, skeleton_of
from keras_shapley.utils.typing import Function, Structure
from keras_shapley.utils.validation import finite, numpy_of, of_dtype

# an array, or an explanation object
Attributions: TypeAlias = Any


class Samples(NamedTuple):
    """What a metric needs to change inputs.

    Attributes:
        fn: the model or function, of inputs as they are here.
        output: of the model; None for a function.
        inputs: `(batch, ...)`; those of several inputs in one row, `(batch, elements)`.
        attributions: of them, in float64.
        absent: the baseline, a number or of the shape of one input.
    """

    fn: Function
    output: str | int | None
    inputs: np.ndarray
    attributions: np.ndarray
    absent: np.ndarray


def checked_batch(x: ArrayLike) -> np.ndarray:
    """A finite batch of inputs."""
    inputs = numpy_of(x)
    if inputs.ndim < 2 or not inputs.size:
        raise ValueError(f"`x` must be a batch of inputs, shape (batch, ...). Received: shape {inputs.shape}")
    return finite("x", inputs)


def attribution_array(attributions: Attributions) -> np.ndarray:
    """Finite attributions in float64, `(batch, ...)`; `(batch, elements)` for those of several inputs."""
    values = as_array(attributions)
    if _is_of_several_inputs(attributions):
        values = np.concatenate([_rows(leaf) for leaf in leaves(values)], axis=1)
    values = np.asarray(ops.convert_to_numpy(values), "float64")
    if values.ndim < 2 or not np.isfinite(values).all():
        raise ValueError(
            f"Attributions must be finite, of shape (batch, ...). Received: shape {values.shape}, "
            f"{np.count_nonzero(~np.isfinite(values))} not finite"
        )
    return values


def flat_attributions(attributions: Attributions) -> np.ndarray:
    """Finite attributions in float64, `(batch, elements)`."""
    values = attribution_array(attributions)
    return values.reshape(len(values), -1)


def flat_pair(attributions: Attributions, truth: Attributions) -> tuple[np.ndarray, np.ndarray]:
    """Attributions and the truth, of one shape, as `flat_attributions`."""
    a = attribution_array(attributions)
    b = attribution_array(truth)
    if a.shape != b.shape:
        raise ValueError(f"`attributions` and `truth` must be of one shape. Received: {a.shape} and {b.shape}")
    return a.reshape(len(a), -1), b.reshape(len(b), -1)


def checked_samples(
    fn: Function, x: Structure, attributions: Attributions, baseline: Structure, output: str | int | None
) -> Samples:
    """Inputs, their attributions and a baseline, checked; several inputs are joined to one row of elements."""
    x = inputs_of(fn, x)
    values = as_array(attributions)
    if is_nested(x):
        if is_nested(values):
            parts = matched("attributions", values, skeleton_of(x))
            values = np.concatenate([_rows(part) for part in parts], axis=1)
        fn, x, baseline = _joined(fn, x, baseline, output)
        output = None
    elif _is_of_several_inputs(attributions):
        raise ValueError(
            "`attributions` must be one array, as `x` is. Received: a "
            f"{type(values).__name__} of {len(tree.flatten(values))}"
        )
    inputs = checked_batch(x)
    values = attribution_array(values)
    allowed = {inputs.shape}
    if inputs.ndim > 2:
        allowed.add((len(inputs), *without_channels(inputs.shape[1:])))
    if values.shape not in allowed:
        raise ValueError(
            f"`attributions` must be of the shape of `x`, {inputs.shape}, or of it without the channels. Received: "
            f"{values.shape}"
        )
    absent = numpy_of(baseline)
    if absent.dtype.kind not in "biuf":
        raise ValueError(f"`baseline` must be numbers. Received: baseline={baseline!r}")
    if absent.shape not in ((), inputs.shape[1:]) or not np.isfinite(absent).all():
        raise ValueError(
            f"`baseline` must be a finite number or array of shape {inputs.shape[1:]}. Received: shape {absent.shape}"
        )
    return Samples(fn, output, inputs, values, of_dtype("baseline", absent, inputs.dtype))


def _joined(
    fn: Function, x: Structure, baseline: Structure, output: str | int | None
) -> tuple[Function, np.ndarray, ArrayLike]:
    """A function of rows that hold all elements of several inputs, the rows, and the baseline as a row or a number."""
    skeleton = skeleton_of(x)
    arrays = [np.asarray(ops.convert_to_numpy(leaf)) for leaf in leaves(x)]
    ends = np.cumsum([math.prod(array.shape[1:]) for array in arrays])
    function = batch_function(fn, output)

    def of_rows(rows: np.ndarray) -> Any:
        parts = zip(np.split(rows, ends[:-1], axis=1), arrays)
        return function(filled(skeleton, [p.reshape(-1, *a.shape[1:]).astype(a.dtype) for p, a in parts]))

    if not np.isscalar(baseline):
        given = matched("baseline", baseline, skeleton)
        parts = [np.broadcast_to(ops.convert_to_numpy(p), a.shape[1:]).ravel() for p, a in zip(given, arrays)]
        baseline = np.concatenate(parts)
    return of_rows, np.concatenate([_rows(array) for array in arrays], axis=1), baseline


def _rows(array: Any) -> np.ndarray:
    values = np.asarray(ops.convert_to_numpy(array), "float64")
    return values.reshape(len(values), -1)


def _is_of_several_inputs(attributions: Attributions) -> bool:
    """Whether this is a dict, or an explanation object with a structure; a plain list is a batch, as NumPy takes it."""
    values = as_array(attributions)
    return isinstance(values, dict) or (values is not attributions and is_nested(values))


def n_elements(x: Structure, attributions: Attributions) -> int:
    """Number of elements of one input that have an attribution."""
    values = as_array(attributions)
    parts = leaves(values) if is_nested(x) and is_nested(values) else [values]
    return sum(math.prod(np.shape(part)[1:]) for part in parts)


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """The quotient; NaN where the denominator is not positive, because nothing is there to compare with."""
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)
