"""The cooperative game that a function plays with an input: its value for every coalition of players."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from keras_shapley.backend import COMPILES_EACH_SIZE
from keras_shapley.models.evaluation import batch_function, evaluated
from keras_shapley.models.outputs import output_index
from keras_shapley.shapley.first_dense import FirstDense, first_dense
from keras_shapley.shapley.players import Players
from keras_shapley.shapley.result import ShapleyValues
from keras_shapley.utils.targets import parse_targets, target_values
from keras_shapley.utils.typing import Function, Structure
from keras_shapley.utils.validation import background, finite, integer, one_of

# numbers that may be kept for an image while its players enter one by one
_MAX_INCREMENTS = 50_000_000


@dataclasses.dataclass(frozen=True)
class Explained:
    """What is explained of each image: all outputs, or its targets.

    Attributes:
        targets: the targets of each image, indices or weights, one column after the other; None for all outputs.
        shape: of what is explained of one image: that of the outputs, `()` for a target, `(k,)` for k targets.
    """

    targets: list[np.ndarray] | None
    shape: tuple[int, ...]

    def values(self, number: int, outputs: np.ndarray) -> np.ndarray:
        """What is explained of an image, given by its number, in outputs `(n, *output)`: shape `(n, values)`."""
        if self.targets is None:
            return outputs.reshape(len(outputs), -1)
        return np.stack([target_values(column[number], outputs) for column in self.targets], axis=1)

    @property
    def target(self) -> np.ndarray | None:
        """The targets as users give them, `(batch,)`, `(batch, k)` or weights `(batch, *output)`; None for all."""
        if self.targets is None:
            return None
        return np.stack(self.targets, axis=1) if self.shape else self.targets[0]


class Game:
    """A function, inputs and players, checked, and the outputs of the function.

    Args:
        fn: as in `keras_shapley.exact_shapley_values`, like the other arguments.
        x: inputs.
        baseline: values of absent players.
        players: players of an input.
        batch_size: of evaluations.
        output: of a model.

    Attributes:
        x: NumPy array `(batch, ...)`.
        players: `Players` of an input.
        background: baseline inputs, `(n, ...)`.
        batch_size: largest number of inputs in an evaluation.
        baseline_output: output without players, a mean over the background, in the shape of one output.
        n_evaluations: number of inputs on which the function was evaluated until now.
        fn: the function of a batch.
        first_dense: the model in two parts, if it begins with a Dense layer whose increments can be kept; else None.
    """

    def __init__(
        self,
        fn: Function,
        x: ArrayLike,
        baseline: ArrayLike,
        players: ArrayLike | None,
        batch_size: int,
        output: str | int | None,
    ) -> None:
        self.batch_size = integer("batch_size", batch_size, 1)
        self.x = ops.convert_to_numpy(x)
        if self.x.ndim < 2 or not self.x.size:
            raise ValueError(f"`x` must be a batch of inputs, shape (batch, ...). Received: shape {self.x.shape}")
        finite("x", self.x)
        shape = self.x.shape[1:]
        self.background = background(baseline, shape, self.x.dtype)
        self.players = Players(players, shape)
        self.n_evaluations = 0
        self.fn = batch_function(fn, output)
        self.first_dense = None
        if isinstance(fn, keras.Model):
            self.fn = self.in_few_sizes(self.fn)
            self.first_dense = self._affordable(first_dense(fn, output_index(fn, output)))
        parts = (self.outputs(self.fn, batch).sum(axis=0) for batch in self._batches(self.background))
        self.baseline_output = np.asarray(sum(parts)) / len(self.background)

    def outputs(self, fn: Function, inputs: np.ndarray) -> np.ndarray:
        """Outputs of `self.fn`, or of the model's second part, for one batch; shape `(batch, *output)`, float64."""
        self.n_evaluations += len(inputs)
        return evaluated(fn, inputs)

    def explained(self, target: ArrayLike | None) -> Explained:
        """What a user's `target` explains: `"all"`, or targets. To find the largest outputs it evaluates all images.

        Raises:
            ValueError: on a target that does not fit.
        """
        output_shape = self.baseline_output.shape
        if isinstance(target, str):
            one_of("target", target, ("all",))
            return Explained(None, output_shape)
        targets = parse_targets(target, len(self.x), output_shape)
        columns = [column for column in targets.columns if column is not None]
        if not columns:
            largest = [targets.resolved(self.outputs(self.fn, batch))[0] for batch in self._batches(self.x)]
            columns = [np.concatenate(largest)]
        return Explained(columns, (len(columns),) if targets.has_axis else ())

    def of_images(self, explained: Explained) -> "Iterator[ImageGame]":
        """Yields the game of each image."""
        for number in range(len(self.x)):
            yield ImageGame(self, self.x[number], functools.partial(explained.values, number))

    def result(self, explained: Explained, values: np.ndarray, stderr: np.ndarray) -> ShapleyValues:
        """The result, for values and their standard errors of shape `(batch, players, values)`."""
        shape = (*values.shape[:2], *explained.shape)
        without_players = self.baseline_output
        if explained.targets is not None:
            each = [explained.values(number, self.baseline_output[None]) for number in range(len(self.x))]
            without_players = np.stack(each).reshape(len(self.x), *explained.shape)
        return ShapleyValues(
            values=values.reshape(shape),
            stderr=stderr.reshape(shape),
            baseline_value=without_players,
            n_evaluations=self.n_evaluations,
            target=explained.target,
            players=self.players.numbers,
        )

    def in_few_sizes(self, fn: Function) -> Function:
        """`fn` given batches of 1, 2, 4, ... inputs only, because each further size would compile anew."""
        if not COMPILES_EACH_SIZE:
            return fn

        def padded(inputs: np.ndarray) -> Structure:
            size = min(self.batch_size, 1 << (len(inputs) - 1).bit_length())
            filled = np.concatenate([inputs, np.repeat(inputs[-1:], size - len(inputs), axis=0)])
            return fn(filled)[: len(inputs)]

        return padded

    def _batches(self, inputs: np.ndarray) -> Iterator[np.ndarray]:
        return (inputs[start : start + self.batch_size] for start in range(0, len(inputs), self.batch_size))

    def _affordable(self, candidate: FirstDense | None) -> FirstDense | None:
        """The model's first layer, unless its increments are too many to be kept."""
        if candidate is None:
            return None
        rows = len(self.background) * self.players.n + math.prod(self.x.shape[1:])
        return candidate if rows * candidate.width <= _MAX_INCREMENTS else None


class ImageGame:
    """The game that a function plays with one image.

    The value of a coalition is what is explained of the function's output where the elements of its players are those
    of the image, and all other elements those of the baseline; over a background it is the mean. Only these values are
    kept, not the outputs.

    Args:
        game: the function, its background and players.
        image: of the shape of an input.
        explained: function of outputs `(n, *output)` that gives what is explained of them, `(n, values)`.

    Attributes:
        active: numbers of the players with an element that differs from the baseline. The others are null players.
        baseline_value: value of the empty coalition, shape `(values,)`.
    """

    def __init__(self, game: Game, image: np.ndarray, explained: Callable[[np.ndarray], np.ndarray]) -> None:
        self._game = game
        self._image = image
        self._explained = explained
        self.active = np.unique(game.players.numbers[(image != game.background).any(axis=0)])
        (self.baseline_value,) = explained(game.baseline_output[None])

    def coalition_values(self, present: np.ndarray) -> np.ndarray:
        """Values of coalitions, shape `(coalitions, values)`.

        Args:
            present: which players are in each coalition, bool `(coalitions, players)`.
        """
        return self._mean_values(present, lambda rows: rows)

    def values_along_orders(self, orders: np.ndarray) -> np.ndarray:
        """Values of the coalitions of the first players of each order.

        Args:
            orders: of players, ints `(orders, n)`; players in no order are absent.

        Returns:
            The values of the coalitions of the first player, the first two, ..., the first n - 1:
            `(orders, n - 1, values)`.
        """
        return self._of_orders(orders)

    @functools.cached_property
    def _of_orders(self) -> Callable[[np.ndarray], np.ndarray]:
        first_dense = self._game.first_dense
        if first_dense is None:
            return self._values_by_masks
        starts = [
            (first_dense.sums(other[None]), first_dense.increments(self._image, other, self._game.players.numbers))
            for other in self._game.background
        ]
        rest = self._game.in_few_sizes(first_dense.outputs_from_sums)
        return functools.partial(self._values_by_increments, rest, starts)

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
        size = max(1, self._game.batch_size // max(1, n - 1))
        parts = []
        for first in range(0, n_orders, size):
            walked = orders[first : first + size, :-1]
            values = np.zeros((walked.size, len(self.baseline_value)))
            for start, increments in starts:
                sums = start + np.cumsum(increments[walked], axis=1)
                values += self._in_batches(rest, sums.reshape(-1, sums.shape[-1]).astype("float32"))
            parts.append((values / len(starts)).reshape(*walked.shape, values.shape[-1]))
        return np.concatenate(parts)

    def _values_by_masks(self, orders: np.ndarray) -> np.ndarray:
        n_orders, n = orders.shape
        # absent players are at place n, behind all
        place = np.full((n_orders, self._game.players.n), n)
        np.put_along_axis(place, orders, np.arange(n)[None], axis=1)

        def present(steps: np.ndarray) -> np.ndarray:
            order, last = np.divmod(steps, n - 1)
            return place[order] <= last[:, None]

        values = self._mean_values(np.arange(n_orders * (n - 1)), present)
        return values.reshape(n_orders, n - 1, values.shape[-1])

    def _mean_values(self, rows: np.ndarray, present: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Values of coalitions, means over the background.

        Args:
            rows: one for each coalition.
            present: function of rows that returns their players, bool `(rows, players)`. It is called batch by batch,
                so that no more than a batch of coalitions is in memory.
        """
        values = (self._values_for_baseline(other, rows, present) for other in self._game.background)
        return sum(values, start=np.zeros(())) / len(self._game.background)

    def _values_for_baseline(
        self, other: np.ndarray, rows: np.ndarray, present: Callable[[np.ndarray], np.ndarray]
    ) -> np.ndarray:
        def inputs(batch: np.ndarray) -> np.ndarray:
            return np.where(present(batch)[:, self._game.players.numbers], self._image, other)

        return self._in_batches(self._game.fn, rows, inputs)

    def _in_batches(
        self,
        fn: Function,
        rows: np.ndarray,
        inputs: Callable[[np.ndarray], np.ndarray] = lambda batch: batch,
    ) -> np.ndarray:
        """What is explained of the outputs of `fn` for the `inputs` of each batch of rows, `(rows, values)`."""
        values = np.empty((len(rows), len(self.baseline_value)))
        for start in range(0, len(rows), self._game.batch_size):
            batch = slice(start, start + self._game.batch_size)
            values[batch] = self._explained(self._game.outputs(fn, inputs(rows[batch])))
        return values
