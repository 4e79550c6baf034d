"""Results: Shapley values with their standard errors and residuals."""

import dataclasses

import numpy as np


@dataclasses.dataclass
class ShapleyValues:
    """Shapley values of every output of a function (Shapley 1953), NumPy arrays in float64.

    `exact_shapley_values` and `sampled_shapley_values` return it. The values of an image and an output sum to the
    output for the image less `baseline_value`, exactly.

    Attributes:
        values: shape `(batch, players, outputs)`.
        stderr: standard errors of the values, same shape. They are zero where all coalitions were enumerated, and NaN
            for a single sample.
        baseline_value: the outputs without any player, shape `(outputs,)`.
        n_evaluations: number of inputs on which the function was evaluated.

    Example:
        >>> def product(x):
        ...     return x[:, 0] * x[:, 1]
        >>> result = ks.exact_shapley_values(product, np.array([[2.0, 3.0]]))
        >>> result.values[0, :, 0].tolist()
        [3.0, 3.0]
        >>> result.baseline_value.tolist(), result.n_evaluations
        ([0.0], 5)
    """

    values: np.ndarray
    stderr: np.ndarray
    baseline_value: np.ndarray
    n_evaluations: int


@dataclasses.dataclass
class FastShapleyValues:
    """Approximate Shapley values of one output of a network, NumPy arrays. `fast_shapley_values` returns it.

    Attributes:
        values: in the shape of the input, `(batch, ...)`, or `(batch, players)` where players are given.
        stderr: for `method="masks"`, standard errors of the mean over masks, in the shape of the values; NaN for a
            single mask. They do not include the error of the method itself, and are too small where fewer than about
            ten masks have a gradient. None for `method="moments"`, whose random coalitions only correct variances.
        target: the explained output of each image, shape `(batch,)`.
        total: the output less that of the baseline, which exact Shapley values sum to, shape `(batch,)`.
        residual: `total` less the sum of the values before `normalize`, shape `(batch,)`.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")])
        >>> result = ks.fast_shapley_values(model, np.ones((2, 4)), target=0)
        >>> result.values.shape, result.target.tolist()
        ((2, 4), [0, 0])
        >>> np.allclose(result.values.sum(axis=1) + result.residual, result.total)
        True
    """

    values: np.ndarray
    stderr: np.ndarray | None
    target: np.ndarray
    total: np.ndarray
    residual: np.ndarray
