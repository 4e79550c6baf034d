"""The cooperative game that a function plays with an input: its value for every coalition of players."""

import functools
import math
from collections.abc import Callable

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from keras_shapley.backend import COMPILES_EACH_SIZE
from keras_shapley.models.evaluation import evaluated, inference
from keras_shapley.shapley.first_dense import FirstDense, first_dense
from keras_shapley.shapley.players import Players
from keras_shapley.utils.typing import Function, Structure
from keras_shapley.utils.validation import finite, integer, of_dtype

# numbers that may be kept for an image while its players enter one by one
_MAX_INCREMENTS = 50_000_000


class Game:
    """A function, inputs and players, checked.

    The value of a coalition is the function's output where the elements of its players are those of the image, and all
    other elements those of the baseline; over a background it is the mean.

    Args:
        fn: as in `keras_shapley.exact_shapley_values`, like the other arguments.
        x: inputs.
        baseline: values of absent players.
        players: players of an input.
        batch_size: of evaluations.

    Attributes:
        x: NumPy array `(batch, ...)`.
        players: `Players` of an input.
        background: baseline inputs, `(n, ...)`.
        batch_size: largest number of inputs in an evaluation.
        baseline_value: value of the empty coalition, shape `(outputs,)`.
        n_evaluations: number of inputs on which the function was evaluated until now.
    """

    def __init__(
        self, fn: Function, x: ArrayLike, baseline: ArrayLike, players: ArrayLike | None, batch_size: int
    ) -> None:
        self.batch_size = integer("batch_size", batch_size, 1)
        self.x = ops.convert_to_numpy(x)
        if self.x.ndim < 2 or not self.x.size:
            raise ValueError(f"`x` must be a batch of inputs, shape (batch, ...). Received: shape {self.x.shape}")
        finite("x", self.x)
        shape = self.x.shape[1:]
        self.background = _background(baseline, shape, self.x.dtype)
        self.players = Players(players, shape)
        self.n_evaluations = 0
        is_model = isinstance(fn, keras.Model)
        self._fn = self._in_few_sizes(inference(fn)) if is_model else fn
        self._first_dense = self._affordable(first_dense(fn)) if is_model else None
        self.baseline_value = self._in_batches(self._fn, self.background).mean(axis=0)

    def active_players(self, image: np.ndarray) -> np.ndarray:
        """Numbers of the players with an element that differs from the baseline. The others are null players."""
        return np.unique(self.players.numbers[(image != self.background).any(axis=0)])

    def coalition_values(self, image: np.ndarray, present: np.ndarray) -> np.ndarray:
        """Values of coalitions, shape `(coalitions, outputs)`.

        Args:
            image: of the shape of an input.
            present: which players are in each coalition, bool `(coalitions, players)`.
        """
        return self._mean_values(image, present, lambda rows: rows)

    def values_along_orders(self, image: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """A function of orders that gives the values of the coalitions of their first players.

        Args:
            image: of the shape of an input.

        Returns:
            A function of orders of players, ints `(orders, n)`; players in no order are absent. It returns the values
            of the coalitions of the first player, the first two, ..., the first n - 1: `(orders, n - 1, outputs)`.
        """
        if self._first_dense is None:
            return functools.partial(self._values_by_masks, image)
        starts = [
            (self._first_dense.sums(other[None]), self._first_dense.increments(image, other, self.players.numbers))
            for other in self.background
        ]
        rest = self._in_few_sizes(self._first_dense.outputs_from_sums)
        return functools.partial(self._values_by_increments, rest, starts)

    def _affordable(self, candidate: FirstDense | None) -> FirstDense | None:
        """The model's first layer, unless its increments are too many to be kept."""
        if candidate is None:
            return None
        rows = len(self.background) * self.players.n + math.prod(self.x.shape[1:])
        return candidate if rows * candidate.width <= _MAX_INCREMENTS else None

    def _values_by_masks(self, image: np.ndarray, orders: np.ndarray) -> np.ndarray:
        n_orders, n = orders.shape
        # absent players are at place n, behind all
        place = np.full((n_orders, self.players.n), n)
        np.put_along_axis(place, orders, np.arange(n)[None], axis=1)

        def present(steps: np.ndarray) -> np.ndarray:
            order, last = np.divmod(steps, n - 1)
            return place[order] <= last[:, None]

        values = self._mean_values(image, np.arange(n_orders * (n - 1)), present)
        return values.reshape(n_orders, n - 1, values.shape[-1])

    def _values_by_increments(
        self, rest: Function, starts: list[tuple[np.ndarray, np.ndarray]], orders: np.ndarray
    ) -> np.ndarray:
        """The values by the sums of the model's first layer, to which each player adds its increment.

        Args:
            rest: the model's outputs from the sums.
            starts: for each input of the background, its sums `(1, width)` and the increments `(players, width)`.
            orders: ints `(orders, n)`.
        """
        n_orders, n = orders.shape
        size = max(1, self.batch_size // max(1, n - 1))
        parts = []
        for first in range(0, n_orders, size):
            walked = orders[first : first + size, :-1]
            values = np.zeros((1, 1))
            for start, increments in starts:
                sums = start + np.cumsum(increments[walked], axis=1)
                values = values + self._in_batches(rest, sums.reshape(-1, sums.shape[-1]).astype("float32"))
            parts.append((values / len(starts)).reshape(*walked.shape, values.shape[-1]))
        return np.concatenate(parts)

    def _mean_values(
        self, image: np.ndarray, rows: np.ndarray, present: Callable[[np.ndarray], np.ndarray]
    ) -> np.ndarray:
        """Values of coalitions, means over the background.

        Args:
            image: of the shape of an input.
            rows: one for each coalition.
            present: function of rows that returns their players, bool `(rows, players)`. It is called batch by batch,
                so that no more than a batch of coalitions is in memory.
        """
        values = (self._values_for_baseline(image, other, rows, present) for other in self.background)
        return sum(values, start=np.zeros(())) / len(self.background)

    def _values_for_baseline(
        self, image: np.ndarray, other: np.ndarray, rows: np.ndarray, present: Callable[[np.ndarray], np.ndarray]
    ) -> np.ndarray:
        def inputs(batch: np.ndarray) -> np.ndarray:
            return np.where(present(batch)[:, self.players.numbers], image, other)

        return self._in_batches(self._fn, rows, inputs)

    def _in_batches(
        self,
        fn: Function,
        rows: np.ndarray,
        inputs: Callable[[np.ndarray], np.ndarray] = lambda batch: batch,
    ) -> np.ndarray:
        """Outputs of `fn` for the `inputs` of each batch of rows, `(rows, outputs)`."""
        outputs = []
        for start in range(0, len(rows), self.batch_size):
            batch = inputs(rows[start : start + self.batch_size])
            self.n_evaluations += len(batch)
            outputs.append(evaluated(fn, batch))
        return np.concatenate(outputs) if outputs else np.empty((0, *self.baseline_value.shape))

    def _in_few_sizes(self, fn: Function) -> Function:
        """`fn` given batches of 1, 2, 4, ... inputs only, because each further size would compile anew."""
        if not COMPILES_EACH_SIZE:
            return fn

        def padded(inputs: np.ndarray) -> Structure:
            size = min(self.batch_size, 1 << (len(inputs) - 1).bit_length())
            filled = np.concatenate([inputs, np.repeat(inputs[-1:], size - len(inputs), axis=0)])
            return fn(filled)[: len(inputs)]

        return padded


def _background(baseline: ArrayLike, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Baseline inputs, `(n, *shape)`."""
    values = np.asarray(baseline if np.isscalar(baseline) else ops.convert_to_numpy(baseline))
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
