"""What coalitions of an input's elements are worth to a function: its outputs with the others at a baseline."""

import functools
import math

import keras
import numpy as np
from keras import ops

from keras_shapley.backend import COMPILES_EACH_SIZE
from keras_shapley.models.evaluation import evaluated, inference
from keras_shapley.shapley.first_dense import first_dense
from keras_shapley.shapley.players import Players
from keras_shapley.utils.validation import finite, integer, of_dtype

# numbers that may be kept of an image while its players come one by one
_LARGEST = 50_000_000


class Game:
    """A function, inputs and players, checked; tells what coalitions of players are worth.

    Args:
        fn, x, baseline, players, batch_size: as in `keras_shapley.exact_shapley_values`.

    Attributes:
        x: NumPy array `(batch, ...)`.
        players: `Players`.
        batch_size: int.
        worth_of_none: the outputs without any player, shape `(outputs,)`.
        n_evaluations: how many inputs the function was evaluated on until now.
    """

    def __init__(self, fn, x, baseline, players, batch_size):
        integer("batch_size", batch_size, 1)
        self.x = ops.convert_to_numpy(x)
        if self.x.ndim < 2 or not self.x.size:
            raise ValueError(f"`x` must be a batch of inputs, shape (batch, ...). Received: shape {self.x.shape}")
        finite("x", self.x)
        shape = self.x.shape[1:]
        self.background = _background(baseline, shape, self.x.dtype)
        self.players = Players(players, shape)
        self.batch_size, self.n_evaluations = batch_size, 0
        is_model = isinstance(fn, keras.Model)
        self._fn = self._in_few_shapes(inference(fn)) if is_model else fn
        self._first = first_dense(fn) if is_model else None
        if self._first and (len(self.background) * self.players.n + math.prod(shape)) * self._first.width > _LARGEST:
            self._first = None
        self._behind = self._first and self._in_few_shapes(lambda sums: self._first.rest(ops.convert_to_tensor(sums)))
        self.worth_of_none = self._in_batches(self._fn, self.background).mean(axis=0)

    def active(self, image):
        """Numbers of the players with an element that is not the baseline's: the others change nothing."""
        return np.unique(self.players.numbers[(image != self.background).any(axis=0)])

    def worth(self, image, present):
        """The outputs for an image of which some players are present.

        Args:
            image: of the shape of an input.
            present: bool `(coalitions, players)`.

        Returns:
            Shape `(coalitions, outputs)`, means over the background.
        """
        return self._worth(image, present, lambda part: part)

    def walk(self, image):
        """A function that tells the outputs while players come one by one.

        Args:
            image: of the shape of an input.

        Returns:
            A function of orders, ints `(orders, n)`, of players; the others are as in the baseline. It gives `(orders,
            n - 1, outputs)`: with the first player, with the first two, ... the first n - 1.
        """
        if self._first is None:
            return functools.partial(self._walk, image)
        starts = [
            (self._first.sums(other[None]), self._first.increments(image, other, self.players.numbers))
            for other in self.background
        ]
        return functools.partial(self._walk_by_increments, starts)

    def _walk(self, image, orders):
        length, n = orders.shape
        place = np.full((length, self.players.n), n)
        np.put_along_axis(place, orders, np.arange(n)[None], axis=1)

        def present(part):
            order, before = np.divmod(part, n - 1)
            return place[order] <= before[:, None]

        worths = self._worth(image, np.arange(length * (n - 1)), present)
        return worths.reshape(length, n - 1, worths.shape[-1])

    def _walk_by_increments(self, starts, orders):
        size = max(1, self.batch_size // max(1, orders.shape[1] - 1))
        return np.concatenate([self._walked(starts, orders[i : i + size]) for i in range(0, len(orders), size)])

    def _walked(self, starts, orders):
        length, n = orders.shape
        worths = 0
        for start, increments in starts:
            sums = start + np.cumsum(increments[orders[:, :-1]], axis=1)
            worths = worths + self._in_batches(self._behind, sums.reshape(-1, sums.shape[-1]).astype("float32"))
        return (worths / len(starts)).reshape(length, n - 1, worths.shape[-1])

    def _worth(self, image, rows, present):
        """Outputs for each of the rows, means over the background; who is `present` in them is found batch by batch."""
        worths = 0
        for other in self.background:
            worths = worths + self._in_batches(
                self._fn, rows, lambda part: np.where(present(part)[:, self.players.numbers], image, other)
            )
        return worths / len(self.background)

    def _in_batches(self, fn, rows, inputs=lambda part: part):
        """What `fn` gives for `inputs` of the rows, a batch at a time."""
        parts = (rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size))
        outputs = [self._evaluated(inputs(part), fn) for part in parts]
        return np.concatenate(outputs) if outputs else np.empty((0, *self.worth_of_none.shape))

    def _evaluated(self, inputs, fn=None):
        self.n_evaluations += len(inputs)
        return evaluated(self._fn if fn is None else fn, inputs)

    def _in_few_shapes(self, fn):
        """A compiled function that is given batches of 1, 2, 4, ... inputs alone: each other size is compiled anew."""
        if not COMPILES_EACH_SIZE:
            return fn

        def padded(inputs):
            size = min(self.batch_size, 1 << (len(inputs) - 1).bit_length())
            filled = np.concatenate([inputs, np.repeat(inputs[-1:], size - len(inputs), axis=0)])
            return fn(filled)[: len(inputs)]

        return padded


def _background(baseline, shape, dtype):
    """Inputs of which absent players have their values, `(n, ...)`."""
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
