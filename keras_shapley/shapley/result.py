"""`ShapleyValues`: the result of every function of Shapley values."""

import dataclasses
import math
import os
from typing import Any

import numpy as np

from keras_shapley.shapley.players import spread_equally
from keras_shapley.shapley.to_shap import explanation
from keras_shapley.utils.result_files import ResultFormat
from keras_shapley.utils.structures import leaves
from keras_shapley.utils.targets import is_weights
from keras_shapley.utils.typing import Structure
from keras_shapley.utils.wording import count

# number of targets in a summary
_SHOWN = 5


@dataclasses.dataclass(repr=False)
class ShapleyValues:
    """Shapley values of a function (Shapley 1953), NumPy arrays in float64. Every method returns it.

    Attributes:
        values: shape `(batch, players)` for a target of each image, `(batch, players, k)` for k targets, and
            `(batch, players, *output)` for all outputs.
        stderr: standard errors of the values, same shape. They are zero where all coalitions were enumerated, or all
            that were seen fit a sum over the players, and NaN for a single sample. None where the method has none, as
            `"moments"`. For `"masks"` they do not include the error of the method itself.
        baseline_value: the value with no player present: in the shape of one output for all outputs, and else
            `(batch,)` or `(batch, k)`.
        total: what is explained of each image less `baseline_value`, shape `(batch,)`, `(batch, k)` or
            `(batch, *output)`.
        residual: `total` less the sum of the values, same shape. It is rounding where the method is efficient.
        target: None for all outputs. Else the targets of each image, as every function takes them: output indices of
            shape `(batch,)` or `(batch, k)`, or weights `(batch, *output)`.
        players: number of the player of each element, ints in the structure and shape of an input.
        x: the inputs, NumPy arrays in the structure that was given.
        n_evaluations: number of inputs on which the function was evaluated. For `"moments"` and `"masks"`, the number
            of forward passes that take as long; a gradient counts as three.
        method: `"exact"`, `"orders"`, `"moments"`, `"masks"`, `"regression"` or `"surrogate"`.
        feature_names: a name for each player, or None.

    Examples:
        >>> def product(x):
        ...     return x[:, 0] * x[:, 1]
        >>> result = ks.exact_shapley_values(product, np.array([[2.0, 3.0]]))
        >>> result.values[0, :, 0].tolist()
        [3.0, 3.0]
        >>> result.baseline_value.tolist(), result.total.tolist(), result.n_evaluations
        ([0.0], [[6.0]], 4)
        >>> result
        ShapleyValues(exact, 1 input, 2 players, all outputs of shape (1,), largest standard error 0, 4 evaluations)
    """

    values: np.ndarray
    stderr: np.ndarray | None
    baseline_value: np.ndarray
    total: np.ndarray
    residual: np.ndarray
    target: np.ndarray | None
    players: Structure
    x: Structure
    n_evaluations: int
    method: str
    feature_names: list[str] | None = None

    @property
    def heatmap(self) -> Structure:
        """The attribution of each element, in the structure and shape of `x`; `(batch, k, ...)` for k targets.

        A group's value is spread equally over its elements.

        Raises:
            ValueError: if all of several outputs are explained.
        """
        n_inputs, n_players, *outputs = self.values.shape
        if self.target is None and math.prod(outputs) > 1:
            raise ValueError(
                "A heatmap shows one output of each input, or several targets. These are values of all outputs, of "
                f"shape {tuple(outputs)}: explain one with `target=`, or take `.values`."
            )
        has_targets = self.target is not None and bool(outputs)
        values = np.moveaxis(self.values, 1, 2) if has_targets else self.values.reshape(n_inputs, n_players)
        return spread_equally(values, self.players)

    def to_shap(self, by: str = "auto") -> Any:
        """A `shap.Explanation`, which the plots of the package shap take; several outputs are its last axis.

        Args:
            by: `"players"` gives values `(batch, players)`, for waterfall, beeswarm, bar and force plots. The data of
                a player is its element, or the mean of its elements. `"elements"` gives the heatmap and the pixels,
                channels last, for `shap.image_plot`. `"auto"` is `"elements"` for images, else `"players"`.

        For `shap.plots.text` put words in the place of ids: `explanation.data = words`, object array `(batch, tokens)`.

        Raises:
            ImportError: if the package shap is not installed.
            ValueError: on an unknown `by`, or `"elements"` of several inputs.

        Examples:
            >>> x = np.array([[2.0, 3.0], [1.0, 0.0]])
            >>> explanation = ks.exact_shapley_values(lambda x: x[:, 0] * x[:, 1], x, 0).to_shap()
            >>> explanation.values.shape, explanation.feature_names
            ((2, 2), ['feature 0', 'feature 1'])
        """
        return explanation(self, by)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Saves all of it as one `.npz` file, without pickle, in one step.

        Raises:
            OSError: if the file cannot be written.

        Examples:
            >>> import tempfile
            >>> result = ks.exact_shapley_values(lambda x: x[:, 0] * x[:, 1], np.array([[2.0, 3.0]]), 0)
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     result.save(folder + "/values.npz")
            ...     again = ks.ShapleyValues.load(folder + "/values.npz")
            >>> np.array_equal(again.values, result.values)
            True
        """
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        _FORMAT.save(path, fields)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "ShapleyValues":
        """The result that `save` wrote. Nothing is unpickled, and what is too large for its file is not read.

        Raises:
            ValueError: if the file holds no result.
            OSError: if there is no file, or it cannot be read.
        """
        return cls(**_FORMAT.load(path))

    def __repr__(self) -> str:
        shape = self.values.shape
        explained = f"all outputs of shape {shape[2:]}" if self.target is None else _target_summary(self.target)
        error = (
            f"largest residual {np.abs(self.residual).max():.2g} of total {np.abs(self.total).max():.2g}"
            if self.stderr is None or self.method == "masks"
            else f"largest standard error {self.stderr.max():.3g}"
        )
        return (
            f"ShapleyValues({self.method}, {count(shape[0], 'input')}, {count(shape[1], 'player')}, {explained}, "
            f"{error}, {count(self.n_evaluations, 'evaluation')})"
        )


def _is_result(fields: dict[str, Any]) -> bool:
    """Whether fields of a file are those of a result; they may be of any type, and raise any error."""
    n_inputs, n_players, *outputs = fields["values"].shape
    parts = [leaves(fields[name]) for name in _STRUCTURES]
    return (
        set(fields) == {field.name for field in dataclasses.fields(ShapleyValues)}
        and all(fields[name].dtype.kind == "f" for name in ("values", "baseline_value", "total", "residual"))
        and fields["total"].shape == fields["residual"].shape == (n_inputs, *outputs)
        and (fields["stderr"] is None or fields["stderr"].shape == fields["values"].shape)
        and (fields["target"] is None or len(fields["target"]) == n_inputs)
        and all(x.shape == (n_inputs, *players.shape) for players, x in zip(*parts, strict=True))
        and all(0 <= players.min() and players.max() < n_players for players in parts[0] if players.size)
        and isinstance(fields["n_evaluations"], int)
        and isinstance(fields["method"], str)
        and (fields["feature_names"] is None or len(fields["feature_names"]) == n_players)
    )


# fields that are nested as the inputs are
_STRUCTURES = ("players", "x")
_FORMAT = ResultFormat("ShapleyValues", _STRUCTURES, _is_result)


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
