"""The output that a metric looks at, as a function of inputs."""

import keras
import numpy as np
from numpy.typing import ArrayLike

from keras_shapley.models.evaluation import batch_function, evaluated, in_few_sizes
from keras_shapley.utils.targets import Targets, parse_targets, target_values
from keras_shapley.utils.typing import Function
from keras_shapley.utils.validation import integer


class TargetFunction:
    """The value of each sample's target, as a function of inputs.

    Args:
        fn: as in `perturbation_curve`, like the other arguments.
        x: samples, `(batch, ...)`.
        target: one of each sample.
        output: of a model.
        batch_size: largest number of inputs that `fn` is given at once.

    Attributes:
        values: of the samples themselves, shape `(batch,)`.

    Raises:
        ValueError: on a target that does not fit, or several targets of a sample.
    """

    def __init__(
        self, fn: Function, x: np.ndarray, target: ArrayLike | None, output: str | int | None, batch_size: int
    ) -> None:
        self._batch_size = integer("batch_size", batch_size, 1)
        self._fn = batch_function(fn, output)
        if isinstance(fn, keras.Model):
            self._fn = in_few_sizes(self._fn, batch_size)
        self._targets: list[np.ndarray] = []
        values: list[np.ndarray] = []
        for start in range(0, len(x), batch_size):
            rows = slice(start, start + batch_size)
            outputs = evaluated(self._fn, x[rows])
            (column,) = _one_target(target, len(x), outputs.shape[1:]).resolved(outputs, rows)
            values += [target_values(k, row[None]) for k, row in zip(column, outputs)]
            self._targets += list(column)
        self.values = np.concatenate(values)

    def __call__(self, sample: int, inputs: np.ndarray) -> np.ndarray:
        """The values for inputs `(n, ...)` of the target of a sample, given by its number; shape `(n,)`."""
        target = self._targets[sample]
        starts = range(0, len(inputs), self._batch_size)
        batches = (inputs[start : start + self._batch_size] for start in starts)
        return np.concatenate([target_values(target, evaluated(self._fn, batch)) for batch in batches])


def _one_target(target: ArrayLike | None, batch: int, shape: tuple[int, ...]) -> Targets:
    """The `Targets` of a batch with one target for each sample."""
    targets = parse_targets(target, batch, shape)
    if targets.has_axis:
        raise ValueError(
            f"`target` must be one target for each sample. Received: {len(targets.columns)} for each. Call the metric "
            "for one after the other."
        )
    return targets
