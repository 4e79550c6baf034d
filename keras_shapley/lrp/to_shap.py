"""Relevance as a `shap.Explanation`, for the plots of the package shap."""

from typing import TYPE_CHECKING, Any

import numpy as np

from keras_shapley.models.given_inputs import columns_of, inputs_of
from keras_shapley.shapley.inputs import Inputs
from keras_shapley.shapley.players import Players
from keras_shapley.shapley.result import ShapleyValues
from keras_shapley.utils.structures import arrays_of

if TYPE_CHECKING:
    from keras_shapley.lrp.explanation import Explanation


def relevance_to_shap(explanation: "Explanation", x: Any, by: str) -> Any:
    """`Explanation.to_shap`, which documents it."""
    inputs = Inputs(inputs_of(None, x), 0)
    players = Players(None, inputs.shapes, inputs.skeleton)
    relevance = arrays_of(explanation.input)
    n_axes = explanation.head_total.ndim
    expected = [(len(explanation.output), *part.shape[n_axes:]) for part in relevance]
    given = [(len(inputs), *shape) for shape in inputs.shapes]
    if given != expected:
        raise ValueError(
            f"`x` must be the inputs that were explained, of shape {', '.join(map(str, expected))}. "
            f"Received: {', '.join(map(str, given))}"
        )
    values = np.concatenate([part.reshape(*part.shape[:n_axes], -1) for part in relevance], axis=-1)
    # the elements of an input are its players, and targets the last axis
    values = np.moveaxis(values, -1, 1)
    columns = columns_of(x)
    return ShapleyValues(
        values=values,
        stderr=None,
        baseline_value=explanation.head_baseline,
        total=explanation.head_total,
        residual=explanation.head_total - values.sum(axis=1),
        target=explanation.target,
        players=players.numbers,
        x=inputs.packed(inputs.arrays),
        n_evaluations=0,
        method="relevance",
        feature_names=None if columns is None else [str(name) for name in columns],
    ).to_shap(by)
