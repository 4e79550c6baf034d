"""Interactions of pairs of players of any function: by enumeration, or from random coalitions."""

import dataclasses
import functools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from keras_shapley.models.last_layers import LastLayers, last_layers
from keras_shapley.models.outputs import output_index
from keras_shapley.shapley import regression
from keras_shapley.shapley.coalitions import pair_count, random_pairs
from keras_shapley.shapley.exact import MAX_PLAYERS, all_coalitions
from keras_shapley.shapley.game import Game, ImageGame
from keras_shapley.shapley.interaction_index import interaction_index, sampled_index
from keras_shapley.shapley.last_sums import Guess, Parts, Places, likely_settings, odd_and_even
from keras_shapley.shapley.pair_regression import PairRegression
from keras_shapley.shapley.surrogate import (
    STRONGEST,
    Surrogate,
    affordable_places,
    both,
    cross_fitted,
    places_of,
)
from keras_shapley.utils.progress import Progress
from keras_shapley.utils.typing import Function, Structure
from keras_shapley.utils.validation import integer, one_of
from keras_shapley.utils.wording import count

# with more players, the regression on all pairs of them takes too much memory
_MOST_PLAYERS = 128
# coalitions for each player: the fewest, and those without a budget
_LEAST, _COALITIONS = 4, 64
# the surrogate's own interactions: numbers in the sums of all pairs of coalitions, the least and most pairs, and pairs
# at once
_NUMBERS, _LEAST_PAIRS, _MOST_PAIRS, _BLOCK = 2**28, 2**15, 2**17, 2**12


@dataclasses.dataclass(repr=False)
class ShapleyInteractions:
    """Interactions of pairs of players, NumPy arrays in float64; what `shapley_interactions` returns.

    Attributes:
        values: symmetric matrices, `(batch, n, n)` for n players and a target of each image, `(batch, n, n, k)` for k
            targets, and `(batch, n, n, *output)` for all outputs.
        stderr: standard errors of the values, same shape. They are zero where all coalitions were enumerated.
        baseline_value: what is explained, without any player: `(batch,)` or `(batch, k)`; for all outputs, the shape of
            one output.
        total: what is explained of each image less `baseline_value`, `(batch,)`, `(batch, k)` or `(batch, *output)`.
        players: number of the player of each element, ints in the structure and shape of an input.
        x: the inputs, NumPy arrays in the structure that was given.
        target: None for all outputs. Else the targets of each image, as in `ShapleyValues`.
        n_evaluations: number of inputs on which the function was evaluated.
        method: `"exact"`, `"surrogate"` or `"regression"`.
        index: `"SII"` or `"k-SII"`.

    Examples:
        >>> def product(x):
        ...     return x[:, 0] * x[:, 1]
        >>> result = ks.shapley_interactions(product, np.array([[2.0, 3.0]]))
        >>> result.values[0].tolist()
        [[3.0, 6.0], [6.0, 3.0]]
        >>> ks.shapley_interactions(product, np.array([[2.0, 3.0]]), index="k-SII").values[0].tolist()
        [[0.0, 3.0], [3.0, 0.0]]
        >>> result
        ShapleyInteractions(SII, exact, inputs: 1, players: 2, largest standard error 0, 4 evaluations)
    """

    values: np.ndarray
    stderr: np.ndarray
    baseline_value: np.ndarray
    total: np.ndarray
    players: Structure
    x: Structure
    target: np.ndarray | None
    n_evaluations: int
    method: str
    index: str

    def __repr__(self) -> str:
        n_inputs, n_players = self.values.shape[:2]
        return (
            f"ShapleyInteractions({self.index}, {self.method}, inputs: {n_inputs}, players: {n_players}, "
            f"largest standard error {self.stderr.max():.3g}, {count(self.n_evaluations, 'evaluation')})"
        )


class _Matrices(NamedTuple):
    """Interactions of an image's active players, with the sums of the rows on the diagonal, and their errors.

    Attributes:
        interactions: `(n, n, values)`.
        stderr: same shape.
        singles: Shapley values, `(n, values)`.
        singles_stderr: same shape.
    """

    interactions: np.ndarray
    stderr: np.ndarray
    singles: np.ndarray
    singles_stderr: np.ndarray


def shapley_interactions(
    fn: Function,
    x: Structure,
    target: ArrayLike | None = None,
    *,
    players: Any = None,
    baseline: Structure = 0.0,
    budget: int | None = None,
    order: int = 2,
    index: str = "SII",
    output: str | int | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    progress: bool = True,
) -> ShapleyInteractions:
    """Interactions of all pairs of players: the Shapley interaction index, with standard errors.

    The interaction of players i and j (Grabisch & Roubens 1999) is the mean, over the coalitions S of the n - 2 other
    players, of what both add together beyond what each adds alone:

        I_ij = sum_S |S|! (n - |S| - 2)! / (n - 1)! (v(S + i + j) - v(S + i) - v(S + j) + v(S)).

    It is positive where the players need each other, and negative where one does for both. Values of coalitions are as
    in `exact_shapley_values`. With `"SII"` the matrices hold I_ij, and the Shapley values on their diagonal. With
    `"k-SII"` they hold I_ij / 2, and on the diagonal the Shapley value of i less the rest of the row: rows sum to the
    Shapley values, and matrices to the total (Lundberg et al. 2020, as in the TreeExplainer of shap). The diagonal and
    twice the elements beside it are the k-SII of order 2 (Bordt & von Luxburg 2023).

    Up to 16 players, not counting those whose elements are those of the baseline, are enumerated. More are estimated
    from random coalitions: of Keras models that have a surrogate (see `shapley_values`) by that and a regression of
    what it misses; of other functions by the regression alone, which needs many coalitions for each pair of players.

    Args:
        fn: a Keras model, or a function of a NumPy batch. Outputs have the shape `(batch, ...)`.
        x: inputs, shape `(batch, ...)`; several as a list or dict of arrays.
        target: what is explained of each image, as in `exact_shapley_values`: None for its largest output, indices,
            weights of the outputs, or `"all"`.
        players: None for elements; `"patches"` or an int for a grid over images, `"tokens"`, `"inputs"`, or groups, as
            in `exact_shapley_values`.
        baseline: values of absent elements, as in `exact_shapley_values`.
        budget: the largest number of coalitions that are evaluated for each image. An image is enumerated if it allows
            that. By default all coalitions of up to 16 players, and 64 for each of more.
        order: the number of players that interact, 2.
        index: `"SII"` or `"k-SII"`.
        output: name or index of the model's output; None for a function, or a model with one output.
        seed: of the coalitions.
        batch_size: largest number of inputs that `fn` is given at once, as in `exact_shapley_values`.
        progress: whether to show a progress bar if it takes more than two seconds.

    Returns:
        `ShapleyInteractions`, with values of shape `(batch, n, n)` for n players, and `(batch, n, n, k)` for k targets.

    Raises:
        ValueError: as in `exact_shapley_values`, on another order or index, a budget of fewer than 4 coalitions for
            each player of an image that is estimated, or more than 128 such players.

    Examples:
        >>> table = np.random.default_rng(0).random((3, 5))
        >>> found = ks.shapley_interactions(lambda x: x[:, 0] * x[:, 1] + x[:, 4], table, index="k-SII")
        >>> found.values.shape, found.method
        ((3, 5, 5), 'exact')
        >>> np.allclose(found.values[:, 0, 1], table[:, 0] * table[:, 1] / 2)
        True
        >>> np.allclose(found.values.sum(axis=(1, 2)), found.total)
        True
    """
    if order != 2:
        raise ValueError(f"`order` must be 2, for pairs of players; shapley_values has order 1. Received: {order!r}")
    one_of("index", index, ("SII", "k-SII"))
    if budget is not None:
        integer("budget", budget, _LEAST)
    integer("seed", seed, 0)
    game = Game(fn, x, baseline, players, batch_size, output)
    explained = game.explained(target)
    most = 2**MAX_PLAYERS if budget is None else budget
    largest = max(len(game.active_players(number)) for number in range(len(game)))
    if 2**largest > most:
        _n_pairs(largest, budget)
    model = game.model
    layers = last_layers(model, output_index(model, output)) if model is not None and 2**largest > most else None
    if layers is not None and not Surrogate(next(game.of_images(explained)), layers, None, 0, seed).fits:
        layers = None
    places = None if layers is None else places_of(game, layers)
    n = game.players.n
    values = np.zeros((len(game), n, n, explained.whole.shape[1]))
    stderr = np.zeros_like(values)
    method = "exact"
    bar = Progress(len(game), "input", progress)
    for number, image in enumerate(game.of_images(explained)):
        bar.add()
        n_active = len(image.active)
        if not n_active:
            continue
        if 2**n_active <= most:
            found = _exact(image)
        else:
            # none and all are evaluated again for their sums, of the first image twice
            n_pairs = _n_pairs(n_active, budget) - (0 if layers is None else 2)
            method = "regression" if layers is None else "surrogate"
            found = _Estimator(image, layers, places, n_pairs, seed).estimate()
        rows = np.ix_(image.active, image.active)
        values[number][rows], stderr[number][rows] = _with_diagonal(found, index)
    shape = (len(game), n, n, *explained.shape)
    of_singles = game.result(explained, values.sum(axis=2), None, method)
    return ShapleyInteractions(
        values=values.reshape(shape),
        stderr=stderr.reshape(shape),
        baseline_value=of_singles.baseline_value,
        total=of_singles.total,
        players=of_singles.players,
        x=of_singles.x,
        target=of_singles.target,
        n_evaluations=of_singles.n_evaluations,
        method=method,
        index=index,
    )


def _n_pairs(n: int, budget: int | None) -> int:
    """The number of pairs of coalitions, besides none and all, that are evaluated for n players."""
    if n > _MOST_PLAYERS:
        raise ValueError(
            f"shapley_interactions takes up to {_MOST_PLAYERS} players whose elements differ from the baseline. "
            f"Received: {n}. Group them with `players`, such as players='patches' for images."
        )
    if budget is not None and budget < _LEAST * n:
        raise ValueError(f"`budget` must be at least {_LEAST * n} for {count(n, 'player')}. Received: {budget}")
    return (int(_COALITIONS * n if budget is None else budget) - 2) // 2


def _with_diagonal(found: _Matrices, index: str) -> tuple[np.ndarray, np.ndarray]:
    """The matrices of an index and their standard errors, `(n, n, values)`."""
    values, stderr = found.interactions.copy(), found.stderr.copy()
    own = np.arange(len(values))
    if index == "SII":
        values[own, own], stderr[own, own] = found.singles, found.singles_stderr
        return values, stderr
    values, stderr = values / 2, stderr / 2
    # single players rest on the odd part of the game, pairs on the even one: their errors are independent
    values[own, own] = found.singles - values[own, own]
    stderr[own, own] = np.hypot(found.singles_stderr, stderr[own, own])
    return values, stderr


def _exact(image: ImageGame) -> _Matrices:
    present, coefficients = all_coalitions(len(image.active))
    between = image.coalition_values(image.of_active(present[1:-1]))
    values = np.concatenate([image.baseline_value[None], between, image.whole_value[None]])
    interactions, singles = interaction_index(present, values), coefficients @ values
    return _Matrices(interactions, np.zeros_like(interactions), singles, np.zeros_like(singles))


class _Estimator:
    """Estimates from random pairs of complementary coalitions.

    With signs of +-1 for present and absent players, single players make the odd part of a function of the coalition,
    and pairs the even part. Both are estimated by regression. A surrogate of the network (see `surrogate.Surrogate`)
    leaves them only what it misses: each of five groups of pairs is predicted by one that has not seen the group. Its
    own interactions come from very many coalitions, which cost no evaluations.

    Args:
        image: the game.
        layers: the model in two parts; None for a regression alone.
        places: of the sums, for all players; or None.
        n_pairs: number of pairs.
        seed: of the coalitions.
    """

    def __init__(
        self, image: ImageGame, layers: LastLayers | None, places: Places | None, n_pairs: int, seed: int
    ) -> None:
        self._image = image
        self._layers = layers
        self._rng = np.random.default_rng(seed)
        n = len(image.active)
        self._pairs = random_pairs(n, n_pairs, self._rng)
        self._ends = np.ones((1, n), bool)
        self._regression = PairRegression(self._pairs)
        self._places = None if layers is None else affordable_places(image, layers, places, n_pairs)

    def estimate(self) -> _Matrices:
        present = self._pairs.present
        total = self._image.whole_value - self._image.baseline_value
        if self._layers is None:
            one, other = np.split(self._image.coalition_values(both(present, self._image)), 2)
            even = (one + other) / 2 - (self._image.whole_value + self._image.baseline_value) / 2
            observed = [regression.Observed(self._pairs, one - other, total)]
            return _Matrices(*self._regression.interactions(even), *regression.shapley_values(observed))
        parts, one, other = self._evaluated()
        even = _even(one, other)
        settings = likely_settings(parts)
        missed, missed_even = [], np.empty_like(even)
        for rows, sums in cross_fitted(parts, settings, self._rng):
            guess = self._values(sums, np.concatenate([present[rows], self._ends]))
            odd = (one - other)[np.append(rows, -1)] - (guess[0] - guess[1])
            missed.append(regression.Observed(self._pairs.take(rows), odd[:-1], odd[-1]))
            missed_even[rows] = even[rows] - _even(*guess)
        correction, stderr = self._regression.interactions(missed_even)
        singles, singles_stderr = regression.shapley_values(missed, strongest=STRONGEST)
        own = self._own(Guess(parts, settings))
        return _Matrices(
            own.interactions + correction,
            np.hypot(stderr, own.stderr),
            singles + own.singles + (total - (singles + own.singles).sum(axis=0)) / len(singles),
            np.hypot(singles_stderr, own.singles_stderr),
        )

    def _evaluated(self) -> tuple[Parts, np.ndarray, np.ndarray]:
        """The parts of the sums, and the values of the coalitions and their complements; the last are the ends."""
        assert self._layers is not None
        present = np.concatenate([self._pairs.present, self._ends])
        is_by_place = self._places is not None
        parts, values = self._image.parts_and_values(self._layers, both(present, self._image), by_place=is_by_place)
        one, other = np.split(parts.astype("float64"), 2, axis=1)
        odd, even = odd_and_even(one, other, self._places)
        observed = Parts(2.0 * present - 1, np.sqrt(np.append(self._pairs.weights, 1)), odd, even, self._places)
        return observed, values[: len(present)], values[len(present) :]

    def _values(self, guess: Guess, present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The surrogate's values of coalitions and of their complements, `(coalitions, values)`."""
        assert self._layers is not None
        values = functools.partial(self._image.values_of_sums, self._layers)
        one, other = guess(present)
        return values(one), values(other)

    def _own(self, guess: Guess) -> _Matrices:
        """The surrogate's own interactions."""
        n = self._ends.shape[1]
        n_pairs = min(max(_NUMBERS // guess.width, _LEAST_PAIRS), _MOST_PAIRS, pair_count(n))
        pairs = random_pairs(n, n_pairs, self._rng)
        present = np.concatenate([pairs.present, self._ends])
        blocks = [self._values(guess, present[start : start + _BLOCK]) for start in range(0, len(present), _BLOCK)]
        one, other = map(np.concatenate, zip(*blocks))
        least_squares = regression.LeastSquares((one - other)[-1], n)
        least_squares.add(pairs, (one - other)[:-1])
        index = sampled_index(np.concatenate([present, ~present]), np.concatenate([one, other]))
        return _Matrices(*index, *least_squares.solve())


def _even(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The even part of values, less that of the last row, the ends; `(pairs, values)` without the last row."""
    even = (one + other) / 2
    return even[:-1] - even[-1]
