"""Shapley values of a ReLU neuron: eq. (1), better, and exact."""

import itertools
import math

import keras
import numpy as np

from keras_shapley.shapley.game import Game
from keras_shapley.shapley.result import ShapleyValues

MAX_PLAYERS = 16


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
    game = Game(fn, x, baseline, players, batch_size)
    n = game.players.n
    if n > MAX_PLAYERS:
        raise ValueError(
            f"exact_shapley_values enumerates 2**players coalitions and takes up to {MAX_PLAYERS} players. Received: "
            f"{n}. Group them with `players`, or use sampled_shapley_values."
        )
    present, coefficients = all_coalitions(n)
    bar = keras.utils.Progbar(len(game.x), verbose=int(progress), unit_name="image")
    values = []
    for image in game.x:
        values.append(coefficients @ game.worth(image, present))
        bar.add(1)
    values = np.stack(values)
    return ShapleyValues(values, np.zeros_like(values), game.worth_of_none, game.n_evaluations)


def all_coalitions(n):
    """All coalitions of n players, and what their worths count for in each player's Shapley value.

    Returns:
        `(present, coefficients)`, NumPy arrays: bool `(2**n, n)`, and `(n, 2**n)` in float64.
    """
    present = np.array(list(itertools.product((False, True), repeat=n)))
    size = present.sum(axis=1, keepdims=True)
    # of the orders of n players, (s - 1)! (n - s)! have player k enter last in a coalition of size s
    weight = np.array([0] + [1 / (n * math.comb(n - 1, s - 1)) for s in range(1, n + 1)])
    without = np.array([1 / (n * math.comb(n - 1, s)) for s in range(n)] + [0])
    return present, np.where(present, weight[size], -without[size]).T
