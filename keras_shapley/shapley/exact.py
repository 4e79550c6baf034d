"""Shapley values of any function of arrays by enumeration of all coalitions."""

import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from keras_shapley.shapley.game import Game
from keras_shapley.shapley.result import ShapleyValues
from keras_shapley.utils.progress import Progress
from keras_shapley.utils.typing import Function, Structure

MAX_PLAYERS = 16


def exact_shapley_values(
    fn: Function,
    x: Structure,
    target: ArrayLike | None = "all",
    *,
    baseline: Structure = 0.0,
    players: Any = None,
    output: str | int | None = None,
    batch_size: int | None = None,
    progress: bool = True,
) -> ShapleyValues:
    """Shapley values of a function, by enumeration of all coalitions of up to 16 players.

    The value of a coalition is the output where absent elements are those of the baseline (Shapley 1953).

    Args:
        fn: a Keras model, or a function of a NumPy batch. Outputs have the shape `(batch, ...)`.
        x: inputs, shape `(batch, ...)`; several as a list or dict of arrays, and a function receives them like that.
            Integers, such as tokens, need a baseline of integers, such as the id of padding.
        target: `"all"` explains every output. None explains the largest output of each image. An int, or ints of shape
            `(batch,)` or `(batch, 1)`, are output indices; `(batch, k)` or `(1, k)` are k targets. Bools or floats of
            the shape of one output, or of all, are weights: the weighted sum of the outputs is explained, and no more
            than a batch of outputs is in memory. Outputs of several axes are numbered in the order of `ravel`.
        baseline: values of absent elements: a number, an array of the shape of one input, or a background of several
            inputs, `(n, ...)`, over which outputs are averaged. Of several inputs a number, or a list or dict of these.
        players: None if each element of an input is a player. `"patches"`, a grid of 7 x 7 over an image, or an int for
            a grid of as many rows and columns; `"tokens"`, the steps of a sequence, which is the first axis of an
            input; `"inputs"`, each whole input of several. For other groups, integers from 0 in the shape of an input,
            or of it without the channels, that number the player of each element; or one mask for each player, bool
            `(players, ...)`, in these shapes. Of several inputs one of these words, which is then meant for each of
            them, or a list or dict of any of these. Integers are numbered across the inputs, so that a player may have
            elements in several; the players of words follow them.
        output: name or index of the model's output; None for a function, or a model with one output.
        batch_size: largest number of inputs that `fn` is given at once. By default as many as keep a model's values
            below half a gigabyte, and 256 or fewer for a function.
        progress: whether to show a progress bar if it takes more than two seconds.

    Returns:
        `ShapleyValues`, with values of shape `(batch, players, *output)` for `"all"`, `(batch, players)` for a target,
        and `(batch, players, k)` for k targets.

    Raises:
        ValueError: on more than 16 players, players that do not partition the input, a baseline of another shape, a
            target that does not fit the outputs, an `output` that the model does not have, or outputs of `fn` that are
            not finite or not one row for each input.

    Examples:
        A model of images of four patches; each patch is a player.

        >>> model = keras.Sequential(
        ...     [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3, "softmax")]
        ... )
        >>> x = np.random.default_rng(0).random((2, 4, 4, 1))
        >>> patches = np.arange(4).reshape(2, 2).repeat(2, axis=0).repeat(2, axis=1)
        >>> result = ks.exact_shapley_values(model, x, players=patches)
        >>> result.values.shape, result.n_evaluations
        ((2, 4, 3), 31)
        >>> np.allclose(result.values.sum(axis=1) + result.baseline_value, model.predict(x, verbose=0), atol=1e-5)
        True

        Output 2 less output 0, as a heatmap.

        >>> contrast = ks.exact_shapley_values(model, x, [-1.0, 0.0, 1.0], players=patches)
        >>> np.allclose(contrast.values, result.values[:, :, 2] - result.values[:, :, 0])
        True
        >>> contrast.heatmap.shape
        (2, 4, 4, 1)
    """
    game = Game(fn, x, baseline, players, batch_size, output)
    n = game.players.n
    if n > MAX_PLAYERS:
        raise ValueError(
            f"exact_shapley_values enumerates 2**players coalitions and takes up to {MAX_PLAYERS} players. Received: "
            f"{n}. Group them with `players`, or use sampled_shapley_values."
        )
    explained = game.explained(target)
    present, coefficients = all_coalitions(n)
    bar = Progress(len(game), "input", progress)
    images = []
    for image in game.of_images(explained):
        between = image.coalition_values(present[1:-1])
        images.append(coefficients @ np.concatenate([image.baseline_value[None], between, image.whole_value[None]]))
        bar.add()
    values = np.stack(images)
    return game.result(explained, values, np.zeros_like(values), "exact")


def all_coalitions(n: int) -> tuple[np.ndarray, np.ndarray]:
    """All coalitions of n players, and the coefficients of their values in each player's Shapley value.

    Returns:
        `(present, coefficients)`, NumPy arrays: bool `(2**n, n)`, and `(n, 2**n)` in float64. The empty coalition is
        the first, and that of all players the last.
    """
    present = np.array(list(itertools.product((False, True), repeat=n)))
    size = present.sum(axis=1, keepdims=True)
    # in (s - 1)! (n - s)! of the n! orders, a given player enters last into a given coalition of size s
    joining = np.array([0] + [1 / (n * math.comb(n - 1, s - 1)) for s in range(1, n + 1)])
    absent = np.array([1 / (n * math.comb(n - 1, s)) for s in range(n)] + [0])
    return present, np.where(present, joining[size], -absent[size]).T
