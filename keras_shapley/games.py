"""Shapley values of any function of arrays, a whole network say: exact by enumeration, or sampled by random orders."""

import dataclasses
import itertools
import math

import keras
import numpy as np
from keras import ops

from keras_shapley._backend import inference
from keras_shapley._validation import integer
from keras_shapley.shapley import MAX_PLAYERS

# pairs of orders between two looks at the standard errors
_BETWEEN_LOOKS = 16


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


def exact_shapley_values(fn, x, *, baseline=0.0, players=None, batch_size=256, progress=False):
    """Shapley values of every output of a function, by enumeration of all coalitions of up to 16 players.

    Args:
        fn: a Keras model with one input, or a function of a NumPy batch, that gives outputs `(batch, outputs)`.
        x: images or other inputs, shape `(batch, ...)`.
        baseline: what stands in the place of absent players: a number, an array of the shape of one input, or a
            background of several, `(n, ...)`, over which outputs are averaged.
        players: who plays: None for every element of an input; integers from 0 in the shape of an input, or of it
            without the channels, that name the player of each element; or one mask a player, bool `(players, ...)`,
            in these shapes.
        batch_size: inputs that `fn` is given at once, at most.
        progress: whether to show a progress bar.

    Returns:
        `ShapleyValues`.

    Raises:
        ValueError: on more than 16 players, players that do not partition the input, a baseline of another shape, or
            outputs of `fn` that are not finite or not one row an input.
    """
    game = _Game(fn, x, baseline, players, batch_size)
    n = game.n_players
    if n > MAX_PLAYERS:
        raise ValueError(
            f"exact_shapley_values enumerates 2**players coalitions and takes up to {MAX_PLAYERS} players. Received: "
            f"{n}. Group them with `players`, or use sampled_shapley_values."
        )
    present = np.array(list(itertools.product((False, True), repeat=n)))
    size = present.sum(axis=1, keepdims=True)
    # of the orders of n players, (s - 1)! (n - s)! have player k enter last in a coalition of size s
    weight = np.array([0] + [1 / (n * math.comb(n - 1, s - 1)) for s in range(1, n + 1)])
    without = np.array([1 / (n * math.comb(n - 1, s)) for s in range(n)] + [0])
    coefficients = np.where(present, weight[size], -without[size]).T
    bar = keras.utils.Progbar(len(game.x), verbose=int(progress), unit_name="image")
    values = []
    for image in game.x:
        values.append(coefficients @ game.worth(image, present))
        bar.add(1)
    values = np.stack(values)
    return ShapleyValues(values, np.zeros_like(values), game.worth_of_none, game.n_evaluations)


def sampled_shapley_values(
    fn,
    x,
    *,
    baseline=0.0,
    players=None,
    n_paths=1000,
    antithetic=True,
    tolerance=0.0,
    seed=0,
    batch_size=256,
    progress=False,
):
    """Shapley values of every output of a function, by random orders in which the players enter (Castro et al. 2009).

    Along each order the gains sum to the output less the baseline's, and so do their means, the values. The same orders
    are walked for all images, whatever the batch.

    Args:
        fn, x, baseline, players, batch_size, progress: as in `exact_shapley_values`; any number of players.
        n_paths: orders; even where they are antithetic.
        antithetic: whether each random order is followed by its reverse, whose errors tend to be opposite.
        tolerance: stop, image by image, once no standard error is above this, in units of the output. 0 walks all.
        seed: of the orders.

    Returns:
        `ShapleyValues`; standard errors are over the means of pairs, or over single orders where not antithetic.

    Raises:
        ValueError: as in `exact_shapley_values`, and on `n_paths` below 1 or odd, or a negative tolerance.
    """
    integer("n_paths", n_paths, 1)
    if antithetic and n_paths % 2:
        raise ValueError(f"`n_paths` must be even, as orders come in pairs. Received: n_paths={n_paths}")
    if not tolerance >= 0:
        raise ValueError(f"`tolerance` must be a number, 0 or more. Received: tolerance={tolerance!r}")
    game = _Game(fn, x, baseline, players, batch_size)
    rng = np.random.default_rng(seed)
    orders = np.stack([rng.permutation(game.n_players) for _ in range(n_paths // 2 if antithetic else n_paths)])
    bar = keras.utils.Progbar(len(game.x) * len(orders), verbose=int(progress), unit_name="order")
    found = []
    for number, image in enumerate(game.x, 1):
        found.append(_sampled(game, image, orders, antithetic, tolerance, bar))
        # an image may have stopped before its last order
        bar.update(number * len(orders))
    values, stderr = (np.stack(arrays) for arrays in zip(*found))
    return ShapleyValues(values, stderr, game.worth_of_none, game.n_evaluations)


def _sampled(game, image, orders, antithetic, tolerance, bar):
    """Values and standard errors of one image."""
    # sum and sum of squares of samples, less the first one, which keeps their digits
    first = total = squares = 0.0
    for n, gains in enumerate(_gains(game, image, orders, antithetic), 1):
        first = gains if n == 1 else first
        total, squares = total + (gains - first), squares + np.square(gains - first)
        bar.add(1)
        if tolerance and n % _BETWEEN_LOOKS == 0 and (_stderr(total, squares, n) <= tolerance).all():
            break
    return first + total / n, _stderr(total, squares, n)


def _stderr(total, squares, n):
    if n == 1:
        return np.full(total.shape, np.nan)
    return np.sqrt(np.maximum(squares - np.square(total) / n, 0) / (n * (n - 1)))


def _gains(game, image, orders, antithetic):
    """What each player adds along each order, or on average along it and its reverse, `(players, outputs)` by one.

    Those who change nothing add nothing, and need no step of their own.
    """
    (whole,) = game.worth(image, np.ones((1, game.n_players), bool))
    active = game.active(image)
    n, ends = len(active), (game.worth_of_none, whole)
    if not n:
        yield from np.zeros((len(orders), game.n_players, len(whole)))
        return
    # as many orders at once as make a batch
    block = max(1, game.batch_size // max(1, n - 1) // (1 + antithetic))
    for walked in (orders[i : i + block] for i in range(0, len(orders), block)):
        walked = walked[np.isin(walked, active)].reshape(-1, n)
        if antithetic:
            walked = np.stack([walked, walked[:, ::-1]], axis=1).reshape(-1, n)
        place = np.full((len(walked), game.n_players), n)
        np.put_along_axis(place, walked, np.arange(n)[None], axis=1)
        present = place[:, None] < np.arange(1, n)[:, None]
        worths = game.worth(image, present.reshape(-1, game.n_players)).reshape(len(walked), n - 1, len(whole))
        first, last = (np.broadcast_to(end, (len(walked), 1, len(whole))) for end in ends)
        added = np.diff(worths, axis=1, prepend=first, append=last)
        gains = np.zeros((len(walked), game.n_players, len(whole)))
        np.put_along_axis(gains, walked[:, :, None], added, axis=1)
        yield from gains.reshape(-1, 1 + antithetic, *gains.shape[1:]).mean(axis=1)


class _Game:
    """The checked arguments, and what coalitions are worth."""

    def __init__(self, fn, x, baseline, players, batch_size):
        integer("batch_size", batch_size, 1)
        self.x = ops.convert_to_numpy(x)
        if self.x.ndim < 2 or not self.x.size:
            raise ValueError(f"`x` must be a batch of inputs, shape (batch, ...). Received: shape {self.x.shape}")
        shape = self.x.shape[1:]
        self.background = _background(baseline, shape, self.x.dtype)
        self.players = _players(players, shape)
        self.n_players = int(self.players.max()) + 1
        self.batch_size, self.n_evaluations = batch_size, 0
        self.fn = inference(fn) if isinstance(fn, keras.Model) else fn
        self.worth_of_none = self._evaluated(self.background).mean(axis=0)

    def active(self, image):
        """Numbers of the players with an element that is not the baseline's: the others change nothing."""
        return np.unique(self.players[(image != self.background).any(axis=0)])

    def worth(self, image, present):
        """The outputs for an image of which some players are present.

        Args:
            image: of the shape of an input.
            present: bool `(coalitions, players)`.

        Returns:
            Shape `(coalitions, outputs)`, means over the background.
        """
        return np.mean([self._over(image, present, other) for other in self.background], axis=0)

    def _over(self, image, present, other):
        return np.concatenate(
            [
                self._evaluated(np.where(part[:, self.players], image, other))
                for part in (present[i : i + self.batch_size] for i in range(0, len(present), self.batch_size))
            ]
            or [np.empty((0, *self.worth_of_none.shape))]
        )

    def _evaluated(self, inputs):
        self.n_evaluations += len(inputs)
        return evaluated(self.fn, inputs)


def evaluated(fn, inputs):
    """What a function gives for a batch, NumPy array `(batch, outputs)` in float64.

    Raises:
        ValueError: if it is of another shape, or not finite.
    """
    outputs = ops.convert_to_numpy(fn(inputs))
    if outputs.shape == (len(inputs),):
        outputs = outputs[:, None]
    if outputs.ndim != 2 or len(outputs) != len(inputs):
        raise ValueError(
            f"`fn` must give outputs of shape (batch, outputs). Received: {outputs.shape} for {len(inputs)} inputs"
        )
    if not np.isfinite(outputs).all():
        raise ValueError("`fn` must give finite outputs. Received: NaN or infinity")
    return outputs.astype("float64")


def _background(baseline, shape, dtype):
    """Inputs of which absent players have their values, `(n, ...)`."""
    values = np.asarray(baseline if np.isscalar(baseline) else ops.convert_to_numpy(baseline))
    if values.shape in ((), shape):
        values = np.broadcast_to(values, shape)[None]
    if values.shape[1:] != shape or not len(values):
        raise ValueError(
            f"`baseline` must be a number, an array of shape {shape}, or a background of shape (n, "
            f"{', '.join(map(str, shape))}). Received: shape {values.shape}"
        )
    if not np.isfinite(values).all():
        raise ValueError("`baseline` must be finite. Received: NaN or infinity")
    return values.astype(dtype)


def _players(players, shape):
    """The number of the player that each element of an input belongs to, in the shape of an input."""
    if players is None:
        return np.arange(math.prod(shape)).reshape(shape)
    players = np.asarray(players)
    if players.dtype == bool and players.ndim > 1:
        counts = players.sum(axis=0)
        if (counts != 1).any() or not players.reshape(len(players), -1).any(axis=1).all():
            raise ValueError(
                "`players` must be masks that partition the input: each element in one mask, no mask empty. Received: "
                f"{(counts == 0).sum()} elements in none, {(counts > 1).sum()} in several"
            )
        players = players.argmax(axis=0)
    if players.shape == shape[:-1] and shape[:-1]:
        players = np.broadcast_to(players[..., None], shape)
    if players.shape != shape or not np.issubdtype(players.dtype, np.integer):
        raise ValueError(
            f"`players` must be integers of shape {shape}, of it without the channels, or a mask of such a shape for "
            f"each player. Received: {players.dtype} of shape {players.shape}"
        )
    if players.min() != 0 or len(np.unique(players)) != players.max() + 1:
        raise ValueError(
            "`players` must be numbered from 0 without a gap. Received: numbers from "
            f"{players.min()} to {players.max()}, {len(np.unique(players))} different ones"
        )
    return players
