"""The sums near a network's end, guessed for every coalition from those of some coalitions."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from keras_shapley.shapley.ridge import Design, best_noise, coefficients, spectrum
from keras_shapley.utils.threads import on_one_thread

# Settings that are tried. How far from a place players matter to it, in units of the image's sides, and how much all
# others do; how strong interactions of two players are; the noise. All variances are in units of what is guessed.
_REACHES = (0.07, 0.1, 0.15, 0.25, 0.4, np.inf)
_FLOORS = (0.003, 0.03)
_INTERACTIONS = (0.0, 0.1, 0.5, 2.0)
_NOISES = np.geomspace(1e-4, 10, 16)
# variance of the term of the size
_SIZE = 0.1
# pairs of coalitions from which the even part is guessed; time grows with the cube of their number, for each group
_EVEN_ROWS = 384
# how many pairs of coalitions, the first ones, and how many places and sums the settings are found on
SETTING_ROWS, _PLACES, _SUMS = 256, 12, 64
# with more players, or more sums, interactions are left out
_MOST_INTERACTING = 128
_MOST_SUMS_INTERACTING = 256


@dataclasses.dataclass(frozen=True)
class Places:
    """Where the parts of sums are.

    Attributes:
        distances: of the players from each place, in units of the image's sides, `(places, n)`.
        groups: the numbers of neighbouring places, an array for each group. Even parts are guessed for whole groups,
            because that takes long.
    """

    distances: np.ndarray
    groups: list[np.ndarray]


def odd_and_even(one: np.ndarray, other: np.ndarray, places: Places | None) -> tuple[np.ndarray, np.ndarray]:
    """Half the difference of the parts of coalitions and their complements, `(places, pairs, sums)`, and their mean.

    The mean is that of groups of places, `(groups, pairs, sums)`.
    """
    even = (one + other) / 2
    return (one - other) / 2, even if places is None else np.stack([even[group].sum(axis=0) for group in places.groups])


@dataclasses.dataclass(frozen=True)
class Parts:
    """The parts of sums on pairs of complementary coalitions. The last pair is that of all players and none.

    Attributes:
        signs: 1 for the players of one coalition of each pair, -1 for the others, `(pairs, n)`.
        roots: of the weights of the pairs, `(pairs,)`.
        odd: half the difference of the parts of a pair, `(places, pairs, sums)`.
        even: the mean of the two, by groups of places, `(groups, pairs, sums)`.
        places: of the parts; None if all of a sum is one part.
    """

    signs: np.ndarray
    roots: np.ndarray
    odd: np.ndarray
    even: np.ndarray
    places: Places | None

    def take(self, rows: np.ndarray) -> "Parts":
        """Some of the pairs, given by numbers or bools."""
        return dataclasses.replace(
            self, signs=self.signs[rows], roots=self.roots[rows], odd=self.odd[:, rows], even=self.even[:, rows]
        )

    def variances(self, reach: float, floor: float) -> np.ndarray:
        """How much each player matters to each place, `(places, n)`; of a place they sum to about 1."""
        if self.places is None:
            return np.full((1, self.signs.shape[1]), 1 / self.signs.shape[1])
        near = np.exp(-0.5 * np.square(self.places.distances / reach)) + floor
        return near / near.sum(axis=1).mean()

    def shares(self, variances: np.ndarray) -> np.ndarray:
        """How much each player matters to each group of places, `(groups, n)`; of a group they sum to 1."""
        shares = variances / variances.sum(axis=1, keepdims=True)
        return shares if self.places is None else np.stack([shares[group].mean(axis=0) for group in self.places.groups])


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a guess assumes; see the first values of this module."""

    reach: float
    floor: float
    noise: float
    interactions: float
    noise_of_even: float


class Guess:
    """Sums as a function of the coalition: additive in the players, with interactions of two and a term of the size.

    Each place's part is guessed by a ridge regression of its own, in which players vary the more, the nearer they are.
    With signs of +-1 for present and absent, single players make the odd part of a function of the coalition, and
    interactions and the size an even one, so the two are guessed apart.

    Args:
        parts: of the sums, on some coalitions.
        settings: what is assumed.
    """

    @on_one_thread
    def __init__(self, parts: Parts, settings: Settings) -> None:
        variances = parts.variances(settings.reach, settings.floor)
        rows, y = _weighted(parts)
        self._single = coefficients(Design(rows, variances), y, settings.noise).astype("float32")
        self._constant, self._size, self._interactions = _even(parts, parts.shares(variances), settings)

    @property
    def width(self) -> int:
        """How many numbers make the sums of a coalition."""
        n, n_sums = self._single.shape
        return n + n_sums + (0 if self._interactions is None else len(self._interactions))

    def __call__(self, present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The sums of coalitions, bool `(coalitions, n)`, and of their complements, float32 `(coalitions, sums)`."""
        signs = 2 * present.astype("float32") - 1
        odd = signs @ self._single
        even = self._constant + np.square(signs.mean(axis=1, keepdims=True)) * self._size
        if self._interactions is not None:
            i, j = np.triu_indices(signs.shape[1], 1)
            even = even + (signs[:, i] * signs[:, j]) @ self._interactions
        return even + odd, even - odd


@on_one_thread
def likely_settings(parts: Parts) -> Settings:
    """The settings with the largest evidence, found on the first `SETTING_ROWS` pairs, and on some places and sums."""
    n_sums = parts.odd.shape[2]
    parts = parts.take(_first(parts, SETTING_ROWS))
    spread = parts.odd.std(axis=1).sum(axis=0)
    columns = np.argsort(-spread)[:_SUMS]
    parts = dataclasses.replace(parts, odd=parts.odd[:, :, columns], even=parts.even[:, :, columns])
    reach, floor, noise = _best_odd(_at_some_places(parts))
    is_small = parts.signs.shape[1] <= _MOST_INTERACTING and n_sums <= _MOST_SUMS_INTERACTING
    shares = parts.shares(parts.variances(reach, floor))
    return Settings(reach, floor, noise, *_best_even(parts, shares, _INTERACTIONS if is_small else _INTERACTIONS[:1]))


def _at_some_places(parts: Parts) -> Parts:
    """The odd parts at a few places."""
    if parts.places is None:
        return parts
    n = len(parts.odd)
    chosen = np.unique(np.linspace(0, n - 1, min(n, _PLACES)).astype(int))
    places = Places(parts.places.distances[chosen], groups=[])
    return dataclasses.replace(parts, odd=parts.odd[chosen], places=places)


def _first(parts: Parts, n: int) -> np.ndarray:
    """Numbers of the first n pairs of coalitions, and of the last, which is that of all players and none."""
    return np.unique(np.append(np.arange(min(len(parts.signs), n)), len(parts.signs) - 1))


def _best_odd(parts: Parts) -> tuple[float, float, float]:
    """Reach, floor and noise of the odd part."""
    rows, y = _weighted(parts)

    def best(reach: float, floor: float) -> tuple[float, float, float, float]:
        evidence, noise = best_noise(spectrum(Design(rows, parts.variances(reach, floor)), y), _NOISES)
        return evidence, reach, floor, noise

    if parts.places is None:
        return best(np.inf, 1.0)[1:]
    found = max(best(reach, _FLOORS[0]) for reach in _REACHES)
    return max(found, *(best(found[1], floor) for floor in _FLOORS[1:]))[1:]


def _best_even(parts: Parts, shares: np.ndarray, strengths: Sequence[float]) -> tuple[float, float]:
    """Strength of interactions, and noise of the even part."""
    y = parts.even - parts.even.mean(axis=1, keepdims=True, dtype="float64")
    tried = []
    for interactions in strengths:
        features = _even_features(parts.signs, interactions)
        evidence, noise = best_noise(spectrum(_even_design(features, parts.signs, shares, interactions), y), _NOISES)
        tried.append((evidence, interactions, noise))
    return max(tried)[1:]


def _weighted(parts: Parts) -> tuple[np.ndarray, np.ndarray]:
    """Signs and odd parts, times the roots of the weights; the parts in float32, as they may be large."""
    return parts.signs * parts.roots[:, None], parts.odd * parts.roots.astype("float32")[:, None]


def _even(parts: Parts, shares: np.ndarray, settings: Settings) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """The even part: a constant and what the size adds, `(sums,)` each, and interactions `(pairs of players, sums)`."""
    parts = parts.take(_first(parts, _EVEN_ROWS))
    # in float32 the mean would not be zero, and a small noise would blow that up
    means = parts.even.mean(axis=1, keepdims=True, dtype="float64")
    features = _even_features(parts.signs, settings.interactions)
    design = _even_design(features, parts.signs, shares, settings.interactions)
    found = coefficients(design, parts.even - means, settings.noise_of_even)
    constant = means.sum(axis=0)[0] - features.mean(axis=0) @ found
    size, interactions = found[0].astype("float32"), found[1:].astype("float32")
    return constant.astype("float32"), size, interactions if settings.interactions else None


def _even_design(features: np.ndarray, signs: np.ndarray, shares: np.ndarray, interactions: float) -> Design:
    """The size, and pairs of players that matter to the same place, less their means: there is a constant."""
    rows = features - features.mean(axis=0)
    if not interactions:
        return Design(rows, np.full((len(shares), 1), _SIZE))
    i, j = np.triu_indices(signs.shape[1], 1)
    of_pairs = 2 * interactions * shares[:, i] * shares[:, j]
    size = features[:, 0]

    def kernel(place: int) -> np.ndarray:
        # the square of a sum has all pairs of its addends
        kernel = _SIZE * np.outer(size, size) + interactions * np.square((signs * shares[place]) @ signs.T)
        means = kernel.mean(axis=0)
        return kernel - means - means[:, None] + means.mean()

    return Design(rows, np.insert(of_pairs, 0, _SIZE, axis=1), kernel)


def _even_features(signs: np.ndarray, interactions: float) -> np.ndarray:
    """The square of the mean sign, which is that of the size, and with interactions the products of all pairs."""
    size = np.square(signs.mean(axis=1, keepdims=True))
    if not interactions:
        return size
    i, j = np.triu_indices(signs.shape[1], 1)
    return np.concatenate([size, signs[:, i] * signs[:, j]], axis=1)
