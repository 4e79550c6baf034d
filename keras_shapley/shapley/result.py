"""Results: Shapley values with their standard errors and residuals."""

import dataclasses

import numpy as np

from keras_shapley.shapley.players import spread_equally
from keras_shapley.utils.targets import is_weights

# number of targets in a summary
_SHOWN = 5


@dataclasses.dataclass(repr=False)
class ShapleyValues:
    """Shapley values of a function (Shapley 1953), NumPy arrays in float64.

    `exact_shapley_values` and `sampled_shapley_values` return it. The values of an image and an output, or a target,
    sum to the output for the image less `baseline_value`, exactly.

    Attributes:
        values: shape `(batch, players, *output)` for all outputs, `(batch, players)` for a target of each image, and
            `(batch, players, k)` for k targets.
        stderr: standard errors of the values, same shape. They are zero where all coalitions were enumerated, and NaN
            for a single sample.
        baseline_value: the outputs without any player, in the shape of one output; the targets, of shape `(batch,)` or
            `(batch, k)`.
        n_evaluations: number of inputs on which the function was evaluated.
        target: None for all outputs. Else the targets of each image, as every function takes them: output indices of
            shape `(batch,)` or `(batch, k)`, or weights `(batch, *output)`.
        players: number of the player of each element, ints in the shape of an input.

    Example:
        >>> def product(x):
        ...     return x[:, 0] * x[:, 1]
        >>> result = ks.exact_shapley_values(product, np.array([[2.0, 3.0]]))
        >>> result.values[0, :, 0].tolist()
        [3.0, 3.0]
        >>> result.baseline_value.tolist(), result.n_evaluations
        ([0.0], 5)
        >>> result
        ShapleyValues(1 input, 2 players, all outputs of shape (1,), largest standard error 0, 5 evaluations)
    """

    values: np.ndarray
    stderr: np.ndarray
    baseline_value: np.ndarray
    n_evaluations: int
    target: np.ndarray | None
    players: np.ndarray

    @property
    def heatmap(self) -> np.ndarray:
        """The attribution of each element, in the shape of `x`; a group's value is spread equally over its elements.

        Raises:
            ValueError: if several outputs or targets of an image are explained.
        """
        n_inputs, n_players, *outputs = self.values.shape
        if self.values.size > n_inputs * n_players:
            raise ValueError(
                f"A heatmap shows one output of each input. These are values of several, of shape {tuple(outputs)}: "
                "explain one with `target=`, or take `.values`."
            )
        return spread_equally(self.values.reshape(n_inputs, n_players), self.players)

    def __repr__(self) -> str:
        shape = self.values.shape
        explained = f"all outputs of shape {shape[2:]}" if self.target is None else _target_summary(self.target)
        return (
            f"ShapleyValues({_count(shape[0], 'input')}, {_count(shape[1], 'player')}, {explained}, "
            f"largest standard error {self.stderr.max():.3g}, {self.n_evaluations} evaluations)"
        )


@dataclasses.dataclass(repr=False)
class FastShapleyValues:
    """Approximate Shapley values of a network, NumPy arrays. `fast_shapley_values` returns it.

    With k targets an image, all arrays but `players` have an axis for them after the batch.

    Attributes:
        values: in the shape of the input, `(batch, ...)`, or `(batch, players)` where players are given.
        stderr: for `method="masks"`, standard errors of the mean over masks, in the shape of the values; NaN for a
            single mask. They do not include the error of the method itself, and are too small where fewer than about
            ten masks have a gradient. None for `method="moments"`, whose random coalitions only correct variances.
        target: the targets of each image, as every function takes them: output indices of shape `(batch,)`, or
            `(batch, k)`, or weights `(batch, *output)`.
        total: the target's output less that of the baseline, which exact Shapley values sum to, shape `(batch,)`.
        residual: `total` less the sum of the values before `normalize`, shape `(batch,)`.
        baseline_value: the target's output for the baseline, shape `(batch,)`.
        players: number of the player of each element, ints in the shape of an input; None where each element is one.

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
    baseline_value: np.ndarray
    players: np.ndarray | None

    @property
    def heatmap(self) -> np.ndarray:
        """The attribution of each element, in the shape of `x`; a group's value is spread equally over its elements.

        Raises:
            ValueError: if several targets of an image are explained.
        """
        if self.total.ndim > 1:
            raise ValueError(
                f"A heatmap shows one target of each input. These are values of {self.total.shape[1]}: explain one "
                "with `target=`, or take `.values`."
            )
        return self.values if self.players is None else spread_equally(self.values, self.players)

    def __repr__(self) -> str:
        n_inputs = len(self.values)
        return (
            f"FastShapleyValues({_count(n_inputs, 'input')}, values of shape {self.values.shape}, "
            f"{_target_summary(self.target)}, largest residual {np.abs(self.residual).max():.2g} of total "
            f"{np.abs(self.total).max():.2g})"
        )


def _target_summary(target: np.ndarray) -> str:
    """Which targets are explained, in a few words."""
    if is_weights(target):
        return "a weighted sum of the outputs"
    if target.ndim > 1:
        return f"{target.shape[1]} targets of each"
    distinct = np.unique(target)
    shown = ", ".join(map(str, distinct[:_SHOWN]))
    rest = ", ..." if len(distinct) > _SHOWN else ""
    return f"target{'s' if len(distinct) > 1 else ''} {shown}{rest}"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
