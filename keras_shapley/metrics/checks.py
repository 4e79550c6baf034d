"""Arguments of metrics, checked, and what metrics compute alike."""

from typing import Any, TypeAlias

import numpy as np
from keras import ops, tree
from numpy.typing import ArrayLike

from keras_shapley.utils.attributions import as_array
from keras_shapley.utils.structures import is_nested
from keras_shapley.utils.validation import finite, of_dtype

# an array, or an explanation object
Attributions: TypeAlias = Any


def checked_batch(x: ArrayLike) -> np.ndarray:
    """A finite batch of inputs."""
    inputs = ops.convert_to_numpy(x)
    if inputs.ndim < 2 or not inputs.size:
        raise ValueError(f"`x` must be a batch of inputs, shape (batch, ...). Received: shape {inputs.shape}")
    return finite("x", inputs)


def attribution_array(attributions: Attributions) -> np.ndarray:
    """Finite attributions in float64, `(batch, ...)`; `(batch, elements)` for an explanation of several inputs."""
    values = as_array(attributions)
    if _is_of_several_inputs(attributions):
        leaves = [ops.convert_to_numpy(leaf) for leaf in tree.flatten(values)]
        values = np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)
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


def checked_arguments(
    x: ArrayLike, attributions: Attributions, baseline: ArrayLike
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, their attributions in float64, and a baseline of the inputs' dtype."""
    if _is_of_several_inputs(attributions):
        values = as_array(attributions)
        raise ValueError(
            "`attributions` must be one array, of the input whose elements this metric changes. Received: a "
            f"{type(values).__name__} of {len(tree.flatten(values))}. `correlation` and `conservation` take several."
        )
    inputs = checked_batch(x)
    values = attribution_array(attributions)
    allowed = {inputs.shape, inputs.shape[:-1]} if inputs.ndim > 2 else {inputs.shape}
    if values.shape not in allowed:
        raise ValueError(
            f"`attributions` must be of the shape of `x`, {inputs.shape}, or of it without the channels. Received: "
            f"{values.shape}"
        )
    absent = np.asarray(ops.convert_to_numpy(baseline))
    if absent.shape not in ((), inputs.shape[1:]) or not np.isfinite(absent).all():
        raise ValueError(
            f"`baseline` must be a finite number or array of shape {inputs.shape[1:]}. Received: shape {absent.shape}"
        )
    return inputs, values, of_dtype("baseline", absent, inputs.dtype)


def _is_of_several_inputs(attributions: Attributions) -> bool:
    """Whether this is an explanation object with a structure of arrays; a plain list is a batch, as NumPy takes it."""
    values = as_array(attributions)
    return values is not attributions and is_nested(values)


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """The quotient; NaN where the denominator is not positive, because nothing is there to compare with."""
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)
