"""Shapley values of any function of arrays, a whole network say: exact by enumeration, or sampled by random orders."""

import dataclasses

import numpy as np


@dataclasses.dataclass
class ShapleyValues:
    """Shapley values of a function's outputs, NumPy arrays in float64.

    Attributes:
        values: shape `(batch, players, outputs)`. For each image and output they sum to the output for the image less
            `baseline_value`, exactly.
        stderr: their standard errors, same shape; zeros where all coalitions were enumerated, NaN for a single sample.
        baseline_value: the outputs without any player, shape `(outputs,)`.
        n_evaluations: how often the function was evaluated, on one input each time.
    """

    values: np.ndarray
    stderr: np.ndarray
    baseline_value: np.ndarray
    n_evaluations: int


@dataclasses.dataclass
class FastShapleyValues:
    """Approximate Shapley values of the inputs of a network, NumPy arrays.

    Attributes:
        values: in the shape of the input, `(batch, ...)`, or `(batch, players)` where these are given.
        stderr: of `"masks"`, standard errors of the mean over masks, in the shape of the values, not a number for a
            single one; they say nothing of the method's own error, and too little where few of the masks, less than
            some ten, have any gradient. None for `"moments"`, whose random coalitions enter through variances.
        target: the explained output of each image, shape `(batch,)`.
        total: this output less that of the baseline, which exact Shapley values sum to, shape `(batch,)`.
        residual: `total` less the sum of the values as they were before `normalize`, shape `(batch,)`.
    """

    values: np.ndarray
    stderr: np.ndarray | None
    target: np.ndarray
    total: np.ndarray
    residual: np.ndarray
