"""The sums near a network's end, guessed for every coalition from those of some coalitions."""

import dataclasses

import numpy as np

from keras_shapley.utils.threads import on_one_thread

# Settings that are tried. How far from a place players matter to it, in units of the image's sides, and how much all
# others do; how strong interactions of two players are; the noise. All variances are in units of what is guessed.
_REACHES = (0.07, 0.1, 0.15, 0.25, 0.4, np.inf)
_FLOORS = (0.003, 0.03)
_INTERACTIONS = (0.0, 0.1, 0.5, 2.0)
_NOISES = np.geomspace(1e-4, 10, 16)
# variance of the term of the size
_SIZE = 0.1
# pairs of coalitions from which the even part is guessed; time grows with the cube of their number, for each place
_EVEN_ROWS = 384
# how many pairs of coalitions, places and sums the settings are found on
_ROWS, _PLACES, _SUMS = 256, 12, 64
# with more players, or more sums, interactions are left out
_MOST_INTERACTING = 128
_MOST_SUMS_INTERACTING = 256


@dataclasses.dataclass(frozen=True)
class Parts:
    """The parts of sums on pairs of complementary coalitions. The last pair is that of all players and none.

    Attributes:
        signs: 1 for the players of one coalition of each pair, -1 for the others, `(pairs, n)`.
        roots: of the weights of the pairs, `(pairs,)`.
        odd: half the difference of the parts of a pair, `(places, pairs, sums)`.
        even: the mean of the two, same shape.
        distances: of the players from each place, in units of the image's sides, `(places, n)`; None if they have no
            place.
    """

    signs: np.ndarray
    roots: np.ndarray
    odd: np.ndarray
    even: np.ndarray
    distances: np.ndarray | None

    def take(self, rows: np.ndarray) -> "Parts":
        """Some of the pairs, given by numbers or bools."""
        return dataclasses.replace(
            self, signs=self.signs[rows], roots=self.roots[rows], odd=self.odd[:, rows], even=self.even[:, rows]
        )

    def variances(self, reach: float, floor: float) -> np.ndarray:
        """How much each player matters to each place, `(places, n)`; of a place they sum to about 1."""
        if self.distances is None:
            return np.full((len(self.odd), self.signs.shape[1]), 1 / self.signs.shape[1])
        near = np.exp(-0.5 * np.square(self.distances / reach)) + floor
        return near / near.sum(axis=1).mean()


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
        self._single = _single(parts, variances, settings.noise).astype("float32")
        parts = parts.take(_first(parts, _EVEN_ROWS))
        dual, kernels = _even_dual(parts, variances, settings)
        size = np.square(parts.signs.mean(axis=1))
        self._size = (_SIZE * size @ dual.sum(axis=0)).astype("float32")
        self._constant = (parts.even.astype("float64") - kernels @ dual).mean(axis=1).sum(axis=0).astype("float32")
        self._interactions = None
        if settings.interactions:
            i, j = np.triu_indices(parts.signs.shape[1], 1)
            products = parts.signs[:, i] * parts.signs[:, j]
            shares = variances / variances.sum(axis=1, keepdims=True)
            of_places = ((share[i] * share[j])[:, None] * (products.T @ part) for share, part in zip(shares, dual))
            self._interactions = (2 * settings.interactions * np.sum(list(of_places), axis=0)).astype("float32")

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
    """The settings with the largest evidence, found on some of the pairs, places and sums."""
    some = _some(parts)
    reach, floor, noise = _best_odd(some)
    interactions, noise_of_even = _best_even(some, some.variances(reach, floor), parts.odd.shape[2])
    return Settings(reach, floor, noise, interactions, noise_of_even)


def _some(parts: Parts) -> Parts:
    rows = _first(parts, _ROWS)
    places = np.unique(np.linspace(0, len(parts.odd) - 1, min(len(parts.odd), _PLACES)).astype(int))
    spread = parts.odd.std(axis=1).sum(axis=0)
    columns = np.argsort(-spread)[:_SUMS]
    rest = parts.take(rows)
    return dataclasses.replace(
        rest,
        odd=rest.odd[places][:, :, columns],
        even=rest.even[places][:, :, columns],
        distances=None if parts.distances is None else parts.distances[places],
    )


def _first(parts: Parts, n: int) -> np.ndarray:
    """Numbers of the first n pairs of coalitions, and of the last, which is that of all players and none."""
    return np.unique(np.append(np.arange(min(len(parts.signs), n)), len(parts.signs) - 1))


def _best_odd(parts: Parts) -> tuple[float, float, float]:
    """Reach, floor and noise of the odd part."""
    rows, y = _weighted(parts)

    def best(reach: float, floor: float) -> tuple[float, float, float, float]:
        kernels = (rows * parts.variances(reach, floor)[:, None]) @ rows.T
        evidence, noise = _best_noise(kernels, y)
        return evidence, reach, floor, noise

    if parts.distances is None:
        return best(np.inf, 1.0)[1:]
    found = max(best(reach, _FLOORS[0]) for reach in _REACHES)
    return max(found, *(best(found[1], floor) for floor in _FLOORS[1:]))[1:]


def _best_even(parts: Parts, variances: np.ndarray, n_sums: int) -> tuple[float, float]:
    """Strength of interactions, and noise of the even part."""
    is_small = parts.signs.shape[1] <= _MOST_INTERACTING and n_sums <= _MOST_SUMS_INTERACTING
    y = _centred_rows(parts.even)
    tried = []
    for interactions in _INTERACTIONS if is_small else _INTERACTIONS[:1]:
        evidence, noise = _best_noise(_centred(_even_kernels(parts.signs, variances, interactions)), y)
        tried.append((evidence, interactions, noise))
    return max(tried)[1:]


def _best_noise(kernels: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """The largest log evidence of observations `(places, rows, sums)`, each of a variance of its own, and its noise."""
    values, vectors = np.linalg.eigh(kernels)
    values = np.maximum(values, 0)[:, :, None]
    squares = np.square(np.swapaxes(vectors, 1, 2) @ y)
    # a sum that never changes tells nothing
    varies = squares.sum(axis=1) > 0
    tried = []
    for noise in _NOISES:
        variance = (squares / (values + noise)).mean(axis=1)[varies]
        occam = np.log(values + noise).sum(axis=1) * varies
        tried.append((-0.5 * (y.shape[1] * np.log(variance).sum() + occam.sum()), noise))
    return max(tried)


def _weighted(parts: Parts) -> tuple[np.ndarray, np.ndarray]:
    """Signs and odd parts, times the roots of the weights; the parts in float32, as they may be large."""
    return parts.signs * parts.roots[:, None], parts.odd * parts.roots.astype("float32")[:, None]


def _single(parts: Parts, variances: np.ndarray, noise: float) -> np.ndarray:
    """What each player adds to the sums, `(n, sums)`: the ridge regressions of all places, summed up."""
    rows, y = _weighted(parts)
    n_rows, n = rows.shape
    roots = np.sqrt(variances)[:, :, None]
    if n <= n_rows:
        grams = roots * (rows.T @ rows) * np.swapaxes(roots, 1, 2)
        products = rows.T.astype(y.dtype) @ y
        return (roots * np.linalg.solve(grams + noise * np.eye(n), roots * products)).sum(axis=0)
    kernels = (rows * variances[:, None]) @ rows.T
    return (variances[:, :, None] * (rows.T @ np.linalg.solve(kernels + noise * np.eye(n_rows), y))).sum(axis=0)


def _even_dual(parts: Parts, variances: np.ndarray, settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """Weights of the pairs of coalitions in the even part, `(places, pairs, sums)`, and the kernels they belong to."""
    kernels = _even_kernels(parts.signs, variances, settings.interactions)
    y = _centred_rows(parts.even)
    n = len(parts.signs)
    return np.linalg.solve(_centred(kernels) + settings.noise_of_even * np.eye(n), y), kernels


def _even_kernels(signs: np.ndarray, variances: np.ndarray, interactions: float) -> np.ndarray:
    """Covariances of the even part of pairs of coalitions, `(places, pairs, pairs)`; one for all without places."""
    size = np.square(signs.mean(axis=1))
    kernels = _SIZE * np.outer(size, size)[None]
    if not interactions:
        return kernels
    shares = variances / variances.sum(axis=1, keepdims=True)
    return kernels + interactions * np.square((signs * shares[:, None]) @ signs.T)


def _centred_rows(even: np.ndarray) -> np.ndarray:
    """The even part less its mean. In float32 the mean would not be zero, and the small noise would blow that up."""
    even = even.astype("float64")
    return even - even.mean(axis=1, keepdims=True)


def _centred(kernels: np.ndarray) -> np.ndarray:
    kernels = kernels - kernels.mean(axis=1, keepdims=True)
    return kernels - kernels.mean(axis=2, keepdims=True)
