"""Shapley values of an image's players from random coalitions: by regression, or by a surrogate of the network."""

import math
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import keras
import numpy as np

from keras_shapley.models.last_layers import LastLayers, neighbours
from keras_shapley.shapley import regression
from keras_shapley.shapley.coalitions import Pairs, joined, pair_count, random_pairs
from keras_shapley.shapley.game import Game, ImageGame
from keras_shapley.shapley.last_sums import SETTING_ROWS, Guess, Parts, Places, Settings, likely_settings, odd_and_even

# groups of pairs, of which each is predicted from the others
FOLDS = 5
# the largest strength of the prior of what the surrogate misses, in units of the data of a group
STRONGEST = 16.0
# the surrogate's own values: pairs of coalitions to begin with and at most, and numbers in all of their sums
_FIRST_PAIRS, _MOST_PAIRS, _MOST_NUMBERS = 2**12, 2**17, 2**26
# numbers that a guess makes at once
_NUMBERS_AT_ONCE = 2**24
# the largest ratio of the surrogate's own standard error to that of what it misses
_OWN_ERROR = 1 / 3
# the largest difference of two ways to the same outputs, beside their size
_ROUNDING = 1e-3
# groups of places that even parts are guessed for
_MOST_GROUPS = 9
# numbers in all parts of the sums that are kept by place
_MOST_PARTS = 2**27


class Estimate(NamedTuple):
    """Shapley values of an image's active players, and their standard errors, both `(n, values)`."""

    values: np.ndarray
    stderr: np.ndarray


class Estimator(Protocol):
    """Evaluates coalitions of an image's active players, and estimates Shapley values from all of them."""

    def add(self, pairs: Pairs) -> None:
        """Evaluates pairs of coalitions, bool `(pairs, n)`."""

    def estimate(self) -> Estimate:
        """The estimate from all pairs so far."""
        ...


class Regression:
    """A Bayesian regression on pairs of coalitions, which is exact where they are all pairs.

    Args:
        image: the game.
        prior: expected values of the active players, up to a scale, `(n, values)`; or None.
    """

    def __init__(self, image: ImageGame, prior: np.ndarray | None = None) -> None:
        self._image = image
        self._prior = prior
        self._pairs: list[Pairs] = []
        self._differences: list[np.ndarray] = []

    def add(self, pairs: Pairs) -> None:
        one, other = np.split(self._image.coalition_values(both(pairs.present, self._image)), 2)
        self._pairs.append(pairs)
        self._differences.append(one - other)

    def estimate(self) -> Estimate:
        pairs, differences = joined(self._pairs), np.concatenate(self._differences)
        total = self._image.whole_value - self._image.baseline_value
        n_pairs, n = pairs.present.shape
        if n_pairs == pair_count(n):
            exact = regression.LeastSquares(total, n)
            exact.add(pairs, differences)
            values, _ = exact.solve()
            return Estimate(values, np.zeros_like(values))
        return Estimate(*regression.shapley_values([regression.Observed(pairs, differences, total)], self._prior))


class Surrogate:
    """A surrogate of the network, and a regression of what it misses.

    The surrogate guesses the sums near the network's end for every coalition, and lets the network's own last layers
    make an output of them. Its Shapley values come from very many coalitions, which cost no evaluation. What it misses
    is estimated in five groups of the pairs, each against a surrogate that has not seen the group, so that the standard
    errors are honest.

    Args:
        image: the game.
        layers: the model in two parts.
        places: of the sums, for all players; or None.
        most_pairs: the largest number of pairs that may be added.
        seed: of the groups, and of the surrogate's coalitions.
    """

    def __init__(self, image: ImageGame, layers: LastLayers, places: Places | None, most_pairs: int, seed: int) -> None:
        self._image = image
        self._layers = layers
        self._places = affordable_places(image, layers, places, most_pairs)
        self._seed = seed
        self._sampled: list[_Sampled] = []
        self._settings: tuple[int, Settings] | None = None
        # all players, and none
        self._ends = self._evaluated(Pairs(np.ones((1, len(image.active)), bool), np.ones(1)))

    @property
    def fits(self) -> bool:
        """Whether the two parts of the model make its outputs, for all players and for none.

        They do not where a layer does what its graph does not show, as an average that leaves out masked steps.
        """
        image = self._image
        odd, even = self._ends.odd.sum(axis=0), self._ends.even.sum(axis=0)
        known = np.stack([image.whole_value, image.baseline_value])
        made = image.values_of_sums(self._layers, np.concatenate([even + odd, even - odd]))
        total = self._ends.differences[0]
        gaps = [np.abs(made - known).max(), np.abs(total - (known[0] - known[1])).max()]
        return max(gaps) <= _ROUNDING * np.abs(known).max()

    def add(self, pairs: Pairs) -> None:
        self._sampled.append(self._evaluated(pairs))

    def estimate(self) -> Estimate:
        pairs, parts, differences = self._all()
        n = pairs.present.shape[1]
        *_, total = differences
        settings = self._likely_settings(parts)
        rng = np.random.default_rng(self._seed)
        missed = []
        for rows, guess in cross_fitted(parts, settings, rng):
            left = differences[rows] - self._differences(guess, pairs.present[rows])
            missed.append(regression.Observed(pairs.take(rows), left, total - self._total(guess)))
        correction, stderr = regression.shapley_values(missed, strongest=STRONGEST)
        own, own_stderr = self._own_values(Guess(parts, settings), stderr, rng)
        values = own + correction
        values += (self._image.whole_value - self._image.baseline_value - values.sum(axis=0)) / n
        return Estimate(values, np.hypot(stderr, own_stderr))

    def _evaluated(self, pairs: Pairs) -> "_Sampled":
        coalitions = both(pairs.present, self._image)
        is_by_place = self._places is not None
        parts, values = self._image.parts_and_values(self._layers, coalitions, by_place=is_by_place)
        one, other = np.split(parts, 2, axis=1)
        of_one, of_other = np.split(values, 2)
        odd, even = odd_and_even(one, other, self._places)
        return _Sampled(pairs, odd, even, of_one - of_other)

    def _all(self) -> tuple[Pairs, Parts, np.ndarray]:
        """All pairs, the parts of the sums and the differences of values; the last row of these is of the ends."""
        sampled = [*self._sampled, self._ends]
        pairs = joined([part.pairs for part in sampled])
        parts = Parts(
            signs=2.0 * pairs.present - 1,
            roots=np.sqrt(pairs.weights),
            odd=np.concatenate([part.odd for part in sampled], axis=1),
            even=np.concatenate([part.even for part in sampled], axis=1),
            places=self._places,
        )
        return pairs.take(slice(-1)), parts, np.concatenate([part.differences for part in sampled])

    def _likely_settings(self, parts: Parts) -> Settings:
        """The settings, which are found again only if there are more of the pairs that they are found on."""
        n_rows = min(len(parts.signs) - 1, SETTING_ROWS)
        if self._settings is None or self._settings[0] < n_rows:
            self._settings = n_rows, likely_settings(parts)
        return self._settings[1]

    def _differences(self, guess: Guess, present: np.ndarray) -> np.ndarray:
        """The surrogate's value of each coalition, less that of its complement, `(coalitions, values)`."""
        blocks = []
        size = max(1, min(_FIRST_PAIRS, _NUMBERS_AT_ONCE // guess.width))
        for start in range(0, len(present), size):
            one, other = guess(present[start : start + size])
            one, other = (self._image.values_of_sums(self._layers, sums) for sums in (one, other))
            blocks.append(one - other)
        return np.concatenate(blocks)

    def _total(self, guess: Guess) -> np.ndarray:
        return self._differences(guess, self._ends.pairs.present)[0]

    def _own_values(self, guess: Guess, stderr: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The surrogate's own Shapley values, and their standard errors: a third of those of what it misses, or less.

        Where that takes too many coalitions, the standard errors are larger.
        """
        n = len(stderr)
        width = max(guess.width, stderr.shape[1])
        most = min(_MOST_PAIRS, max(_FIRST_PAIRS, _MOST_NUMBERS // width))
        least_squares = regression.LeastSquares(self._total(guess), n)
        if pair_count(n) <= most:
            every = random_pairs(n, pair_count(n), rng)
            least_squares.add(every, self._differences(guess, every.present))
            values, _ = least_squares.solve()
            return values, np.zeros_like(values)
        while True:
            pairs = random_pairs(n, max(least_squares.n_pairs, _FIRST_PAIRS), rng)
            least_squares.add(pairs, self._differences(guess, pairs.present))
            values, own = least_squares.solve()
            is_enough = np.mean(np.square(own)) <= np.mean(np.square(_OWN_ERROR * stderr))
            if is_enough or least_squares.n_pairs >= most:
                return values, own


class _Sampled(NamedTuple):
    """What was seen of pairs of coalitions.

    Attributes:
        pairs: the pairs.
        odd: half the difference of the parts of the sums of a pair, `(places, pairs, sums)`.
        even: the mean of the two, by groups of places, `(groups, pairs, sums)`.
        differences: of the values of a pair, `(pairs, values)`.
    """

    pairs: Pairs
    odd: np.ndarray
    even: np.ndarray
    differences: np.ndarray


def both(present: np.ndarray, image: ImageGame) -> np.ndarray:
    """Coalitions of active players, then their complements, as coalitions of all players."""
    return image.of_active(np.concatenate([present, ~present]))


def cross_fitted(parts: Parts, settings: Settings, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, Guess]]:
    """Groups of the pairs in `parts`, by number, each with a guess from all others. The ends are in every guess."""
    group = rng.permutation(np.arange(len(parts.signs) - 1) % FOLDS)
    for k in range(FOLDS):
        yield np.flatnonzero(group == k), Guess(parts.take(np.append(group != k, True)), settings)


def affordable_places(image: ImageGame, layers: LastLayers, places: Places | None, n_pairs: int) -> Places | None:
    """The places for the active players; None if the parts of each place would take too much memory.

    Args:
        image: the game.
        layers: the model in two parts.
        places: for all players; or None.
        n_pairs: number of pairs of coalitions, besides none and all.
    """
    n_parts = 2 * (n_pairs + 1) * math.prod(layers.places) * layers.n_sums * image.n_background
    if places is None or n_parts > _MOST_PARTS:
        return None
    return Places(places.distances[:, image.active], places.groups)


def places_of(game: Game, layers: LastLayers) -> Places | None:
    """The places of a model's last map, seen by the players of images.

    None if the map is not one of the image's places, as tokens of an image.
    """
    (first, *others), (shape, *_) = game.players.parts, game.inputs.shapes
    n_axes = len(layers.places)
    if others or not n_axes or len(shape) not in (n_axes, n_axes + 1):
        return None
    is_channels_first = keras.config.image_data_format() == "channels_first" and len(shape) > n_axes
    counts = np.bincount(first.ravel())
    squares = np.zeros((math.prod(layers.places), game.players.n))
    for axis, of_places in enumerate(np.indices(layers.places).reshape(n_axes, -1)):
        own_axis = axis + is_channels_first
        of_elements = np.indices(shape)[own_axis].ravel()
        of_players = (np.bincount(first.ravel(), of_elements) / counts + 0.5) / shape[own_axis]
        squares += np.square((of_places[:, None] + 0.5) / layers.places[axis] - of_players)
    return Places(np.sqrt(squares), neighbours(layers.places, _MOST_GROUPS))
