"""The cooperative game that a function plays with an input: its value for every coalition of players."""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import tree
from numpy.typing import ArrayLike

from keras_shapley.models.evaluation import as_outputs, batch_function, batch_size_for, in_few_sizes
from keras_shapley.models.given_inputs import check_same_columns, columns_of, inputs_of, is_frame
from keras_shapley.models.last_layers import LastLayers
from keras_shapley.models.outputs import output_index
from keras_shapley.models.tokens import behind_text, tokens_of
from keras_shapley.models.tracing import takes_integers
from keras_shapley.shapley.explained import Explained, values_of_targets
from keras_shapley.shapley.first_dense import FirstDense, first_dense
from keras_shapley.shapley.inputs import Inputs
from keras_shapley.shapley.players import Players
from keras_shapley.shapley.result import ShapleyValues
from keras_shapley.utils.targets import parse_targets
from keras_shapley.utils.typing import Function, Structure
from keras_shapley.utils.validation import integer, one_of

# numbers that may be kept for an image while its players enter one by one
_MAX_INCREMENTS = 50_000_000
# rows of sums that a model's last layers are given at once
_MOST_SUMS = 4096


class Game:
    """A function, inputs and players, checked, and the outputs of the function.

    Args:
        fn: as in `keras_shapley.exact_shapley_values`, like the other arguments.
        x: inputs.
        baseline: values of absent players.
        players: players of an input.
        batch_size: of evaluations; None for one that fits the memory.
        output: of a model.
        dtype: of the inputs; None for their own.

    Attributes:
        model: the model; behind a TextVectorization where it begins with one. None for a function.
        inputs: `Inputs`, the batch and the background as flat lists of arrays.
        players: `Players` of an input.
        batch_size: largest number of inputs in an evaluation.
        n_evaluations: number of inputs on which the function was evaluated until now.
        fn: the function of a batch in the structure of `x`.
        feature_names: the columns of a data frame, where its elements are the players; else None.
    """

    def __init__(
        self,
        fn: Function,
        x: Structure,
        baseline: Structure,
        players: Any,
        batch_size: int | None = None,
        output: str | int | None = None,
        dtype: str | None = None,
    ) -> None:
        if batch_size is not None:
            integer("batch_size", batch_size, 1)
        text, fn = behind_text(fn) or (None, fn)
        check_same_columns(x, baseline)
        columns = columns_of(x) if is_frame(x) or isinstance(x, tuple) else None
        x, baseline = inputs_of(fn, x), inputs_of(fn, baseline)
        x = tokens_of(text, x)
        self.inputs = Inputs(x, baseline, dtype, are_ids=takes_integers(fn, x))
        self.players = Players(players, self.inputs.shapes, self.inputs.skeleton)
        is_by_column = not self.players.are_groups and len(columns or ()) == self.players.n
        self.feature_names = [str(name) for name in columns or ()] if is_by_column else None
        self.model = fn if isinstance(fn, keras.Model) else None
        self._output = output
        self.fn = batch_function(fn, output)
        self.batch_size = batch_size or batch_size_for(fn, self.x)
        if self.model is not None:
            self.fn = in_few_sizes(self.fn, self.batch_size)
        self.n_evaluations = 0

    @functools.cached_property
    def baseline_output(self) -> np.ndarray:
        """Output without players, a mean over the background, in the shape of one output."""
        batches = (batch for batch, _ in self._batches(self.inputs.background))
        are_ids = all(array.dtype.kind in "iu" for array in self.inputs.background)
        given = " for `baseline`" + (" (if it is all padding, give the id of another token)" if are_ids else "")
        parts = (self.outputs(self.fn, batch, given).sum(axis=0) for batch in batches)
        return np.asarray(sum(parts)) / len(self.inputs.background[0])

    def active_players(self, number: int) -> np.ndarray:
        """The players of an image, given by its number, with an element that differs from the background."""
        arrays = zip(self.inputs.arrays, self.inputs.background, self.players.parts)
        return np.unique(np.concatenate([part[(a[number] != others).any(axis=0)] for a, others, part in arrays]))

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def x(self) -> Structure:
        """The inputs, NumPy arrays `(batch, ...)` in the structure that was given."""
        return self.inputs.packed(self.inputs.arrays)

    @functools.cached_property
    def first_dense(self) -> FirstDense | None:
        """The model in two parts, if it begins with a Dense layer whose increments can be kept; else None."""
        if self.model is None:
            return None
        candidate = first_dense(self.model, output_index(self.model, self._output))
        if candidate is None:
            return None
        rows = len(self.inputs.background[0]) * self.players.n + math.prod(self.inputs.shapes[0])
        return candidate if rows * candidate.width <= _MAX_INCREMENTS else None

    def outputs(self, fn: Function, inputs: Structure, given: str = "") -> np.ndarray:
        """Outputs of `self.fn`, or of the model's second part, for one batch; shape `(batch, *output)`, float64.

        An error message says that the inputs were given as `given`.
        """
        return self.checked(fn(inputs), len(tree.flatten(inputs)[0]), given)

    def checked(self, outputs: Any, n: int, given: str = "") -> np.ndarray:
        """Outputs for a batch of n inputs, checked and counted; shape `(n, *output)`, float64."""
        self.n_evaluations += n
        return as_outputs(outputs, n, given=given)

    def explained(self, target: ArrayLike | None) -> Explained:
        """What a user's `target` explains, `"all"` or targets, and its values for the whole images.

        Every image is evaluated once; `ImageGame.whole_value` has its value.

        Raises:
            ValueError: on a target that does not fit.
        """
        output_shape = self.baseline_output.shape
        if isinstance(target, str):
            one_of("target", target, ("all",))
            batches = self._batches(self.inputs.arrays)
            whole = [self.outputs(self.fn, batch).reshape(-1, math.prod(output_shape)) for batch, _ in batches]
            return Explained(None, output_shape, np.concatenate(whole))
        targets = parse_targets(target, len(self), output_shape)
        columns, whole = [], []
        for batch, rows in self._batches(self.inputs.arrays):
            outputs = self.outputs(self.fn, batch)
            columns.append(targets.resolved(outputs, rows))
            whole.append(np.stack([values_of_targets(column, outputs) for column in columns[-1]], axis=1))
        shape = (len(targets.columns),) if targets.has_axis else ()
        return Explained([np.concatenate(parts) for parts in zip(*columns)], shape, np.concatenate(whole))

    def of_images(self, explained: Explained) -> "Iterator[ImageGame]":
        """Yields the game of each image."""
        for number in range(len(self)):
            yield ImageGame(self, number, explained)

    def result(self, explained: Explained, values: np.ndarray, stderr: np.ndarray | None, method: str) -> ShapleyValues:
        """The result, for values and their standard errors of shape `(batch, players, values)`."""
        shape = (*values.shape[:2], *explained.shape)
        each = [explained.values(number, self.baseline_output[None])[0] for number in range(len(self))]
        total = explained.whole - np.stack(each)
        is_all = explained.targets is None
        return ShapleyValues(
            values=values.reshape(shape),
            stderr=None if stderr is None else stderr.reshape(shape),
            baseline_value=self.baseline_output if is_all else np.stack(each).reshape(len(self), *explained.shape),
            total=total.reshape(len(self), *explained.shape),
            residual=(total - values.sum(axis=1)).reshape(len(self), *explained.shape),
            target=explained.target,
            players=self.players.numbers,
            x=self.x,
            n_evaluations=int(self.n_evaluations),
            method=method,
            feature_names=self.feature_names,
        )

    def _batches(self, arrays: list[np.ndarray]) -> Iterator[tuple[Structure, slice]]:
        """Yields the batches of arrays, in the structure of `x`, and their places."""
        for rows in _slices(len(arrays[0]), self.batch_size):
            yield self.inputs.packed([array[rows] for array in arrays]), rows


class ImageGame:
    """The game that a function plays with one image.

    The value of a coalition is what is explained of the function's output where the elements of its players are those
    of the image, and all other elements those of the baseline; over a background it is the mean. Only these values are
    kept, not the outputs.

    Args:
        game: the function, its background and players.
        number: of the image.
        explained: what is explained of each image.

    Attributes:
        active: numbers of the players with an element that differs from the baseline. The others are null players.
        baseline_value: value of the empty coalition, shape `(values,)`.
        whole_value: value of the coalition of all players, shape `(values,)`. Both ends are known, and take no
            evaluation.
    """

    def __init__(self, game: Game, number: int, explained: Explained) -> None:
        self._game = game
        self._image = [array[number] for array in game.inputs.arrays]
        self._explained = functools.partial(explained.values, number)
        self.active = game.active_players(number)
        (self.baseline_value,) = self._explained(game.baseline_output[None])
        self.whole_value = explained.whole[number]

    @property
    def n_background(self) -> int:
        """Number of inputs over which a value is a mean."""
        return len(self._game.inputs.background[0])

    def inputs(self, present: np.ndarray, other: int = 0) -> Structure:
        """The image where players are present, and an input of the background elsewhere, in the structure of `x`.

        Args:
            present: which players are in each coalition, bool `(coalitions, players)`.
            other: number of the input of the background.
        """
        parts = zip(self._game.players.parts, self._image, self._game.inputs.background)
        return self._game.inputs.packed(
            [np.where(present[:, numbers], image, others[other]) for numbers, image, others in parts]
        )

    def of_active(self, present: np.ndarray) -> np.ndarray:
        """Coalitions of all players, `(coalitions, players)`, from those of the active ones; the others are absent."""
        of_all = np.zeros((len(present), self._game.players.n), bool)
        of_all[:, self.active] = present
        return of_all

    def coalition_values(self, present: np.ndarray) -> np.ndarray:
        """Values of coalitions, shape `(coalitions, values)`.

        Args:
            present: which players are in each coalition, bool `(coalitions, players)`.
        """
        return self._mean_values(present, lambda rows: rows)

    def parts_and_values(
        self, layers: LastLayers, present: np.ndarray, *, by_place: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """The parts of the sums near the model's end, and the values, of coalitions.

        Args:
            layers: the model in two parts.
            present: which players are in each coalition, bool `(coalitions, players)`.
            by_place: whether the parts are kept apart; else they are added, as if there were one place.

        Returns:
            Parts `(places, coalitions, sums)`, in which the sums of one input of the background follow those of
            another, and values `(coalitions, values)`. Sums that are the outputs become the parts of the values.
        """
        fn = in_few_sizes(layers, self._game.batch_size)
        n_background = len(self._game.inputs.background[0])
        parts, values = [], []
        for batch in _slices(len(present), self._game.batch_size):
            of_batch, means = [], []
            for other in range(n_background):
                of_other, outputs = fn(self.inputs(present[batch], other))
                if layers.are_outputs:
                    of_values = self._explained(of_other.reshape(-1, layers.n_sums)) / n_background
                    of_other = of_values.reshape(*of_other.shape[:2], -1)
                of_batch.append(of_other if by_place else of_other.sum(axis=1, keepdims=True))
                means.append(self._explained(self._game.checked(outputs, len(of_other))))
            joined = np.sum(of_batch, axis=0) if layers.are_outputs else np.concatenate(of_batch, axis=2)
            parts.append(np.swapaxes(joined, 0, 1))
            values.append(np.mean(means, axis=0))
        return np.concatenate(parts, axis=1), np.concatenate(values)

    def values_of_sums(self, layers: LastLayers, sums: np.ndarray) -> np.ndarray:
        """Values `(coalitions, values)` for sums as `parts_and_values` returns them, added over the places."""
        if layers.are_outputs:
            return sums.astype("float64")
        fn = in_few_sizes(layers.outputs, _MOST_SUMS)
        rows = sums.reshape(-1, layers.n_sums)
        values = [self._explained(np.asarray(fn(rows[batch]), "float64")) for batch in _slices(len(rows), _MOST_SUMS)]
        return np.concatenate(values).reshape(len(sums), -1, len(self.baseline_value)).mean(axis=1)

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
        (image,), (numbers,), (background,) = self._image, self._game.players.parts, self._game.inputs.background
        starts = [
            (first_dense.sums(other[None]), first_dense.increments(image, other, numbers)) for other in background
        ]
        rest = in_few_sizes(first_dense.outputs_from_sums, self._game.batch_size)
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
        n = len(self._game.inputs.background[0])
        values = np.zeros((len(rows), len(self.baseline_value)))
        for other in range(n):
            values += self._in_batches(
                self._game.fn, rows, lambda batch, other=other: self.inputs(present(batch), other)
            )
        return values / n

    def _in_batches(
        self, fn: Function, rows: np.ndarray, inputs: Callable[[np.ndarray], Structure] = lambda batch: batch
    ) -> np.ndarray:
        """What is explained of the outputs of `fn` for the `inputs` of each batch of rows, `(rows, values)`."""
        values = np.empty((len(rows), len(self.baseline_value)))
        for batch in _slices(len(rows), self._game.batch_size):
            values[batch] = self._explained(self._game.outputs(fn, inputs(rows[batch])))
        return values


def _slices(n: int, size: int) -> Iterator[slice]:
    """Yields slices of `size` rows or fewer that cover n rows."""
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))
