"""Shapley values by Bayesian regression on pairs of complementary coalitions."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from keras_shapley.shapley.coalitions import Pairs
from keras_shapley.utils.threads import on_one_thread

# how many strengths of the prior are averaged over, and the least, in units of the mean squared singular value
_STRENGTHS = 60
_WEAKEST = 1e-6
# a prior's values: how much of their size every player may differ by, and how far their scale may be from the truth's
_EVEN = 0.3
_SCALES = 100.0
# a strength whose log evidence is less by this is left out
_UNLIKELY = 8.0
# squared singular values below this share of the largest are rounding
_UNSEEN = 1e-12
# noise below this share of the observations, both squared, is rounding
_ROUNDING = 1e-20


class Observed(NamedTuple):
    """What a game is, or a part of it, on pairs of coalitions.

    Attributes:
        pairs: of coalitions.
        differences: the value of each coalition less that of its complement, `(pairs, values)`.
        total: the value of all players less that of none, `(values,)`.
    """

    pairs: Pairs
    differences: np.ndarray
    total: np.ndarray


@on_one_thread
def shapley_values(
    observed: Sequence[Observed], prior: np.ndarray | None = None, strongest: float = 100.0
) -> tuple[np.ndarray, np.ndarray]:
    """The mean of the Shapley values of several observed games, and standard errors, both `(n, values)`.

    The difference of a pair is the sum of the values of the players on one side less that of the others, up to noise.
    Values of each game sum to its total, and are normal around the prior. Noise and prior have variances that all games
    share; the ratio of the two is averaged over, with the weights of its evidence.

    Args:
        observed: the games.
        prior: expected values up to a scale, `(n, values)`; None for values that are all the same.
        strongest: the largest strength of the prior, in units of the mean squared singular value of the regression.
    """
    n_values = observed[0].differences.shape[1]
    results = []
    for k in range(n_values):
        games = [Observed(game.pairs, game.differences[:, k], game.total[k]) for game in observed]
        results.append(_posterior(games, None if prior is None else prior[:, k], strongest))
    values, stderr = zip(*results)
    return np.stack(values, axis=1), np.stack(stderr, axis=1)


def _posterior(games: list[Observed], prior: np.ndarray | None, strongest: float) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean and standard deviation, `(n,)` each, of games with one value."""
    n = games[0].pairs.present.shape[1]
    covariances = [np.eye(n)]
    if prior is not None and prior.any():
        covariances.append(_covariance_around(prior))
    tried = []
    for covariance in covariances:
        solved = [_Solved(game, covariance) for game in games]
        if all(game.is_additive for game in solved):
            return np.mean([game.mean(0.0) for game in solved], axis=0), np.zeros(n)
        unit = np.mean([np.mean(game.squares) for game in solved])
        for strength in np.geomspace(_WEAKEST, strongest, _STRENGTHS) * unit:
            n_pairs = sum(game.n_pairs for game in solved)
            noise = sum(game.misfit(strength) for game in solved) / n_pairs
            occam = sum(np.log1p(game.squares / strength).sum() for game in solved)
            tried.append((-0.5 * (n_pairs * np.log(max(noise, np.finfo(float).tiny)) + occam), strength, noise, solved))
    largest = max(evidence for evidence, *_ in tried)
    likely = [(np.exp(evidence - largest), *rest) for evidence, *rest in tried if evidence > largest - _UNLIKELY]
    weights = np.array([weight for weight, *_ in likely])
    weights /= weights.sum()
    means = np.array([np.mean([game.mean(strength) for game in solved], axis=0) for _, strength, _, solved in likely])
    variances = np.array([noise * _variance(solved, strength) for _, strength, noise, solved in likely])
    mean = weights @ means
    return mean, np.sqrt(weights @ (variances + np.square(means - mean)))


def _variance(games: list["_Solved"], strength: float) -> np.ndarray:
    """Variance of the mean of the games' values, `(n,)`, for noise of variance 1.

    Their noise is independent; what the prior holds back of their values is the same.
    """
    noise = np.mean([game.noise(strength) for game in games], axis=0) / len(games)
    held_back = np.mean([game.held_back(strength) for game in games], axis=0)
    return noise + np.square(held_back).sum(axis=1) / strength


def _covariance_around(prior: np.ndarray) -> np.ndarray:
    """Covariance of values that are near a prior up to its scale, and vary most where it is large."""
    prior = prior / np.sqrt(np.mean(np.square(prior)))
    spread = np.square(np.abs(prior) + _EVEN)
    return np.diag(spread / spread.mean()) + _SCALES * np.outer(prior, prior)


class _Solved:
    """The regression of one game, of which every strength of the prior is then cheap.

    Args:
        game: with one value.
        covariance: of the values, up to a scale, before their sum is known; `(n, n)`.

    Attributes:
        n_pairs: number of observations.
        squares: squared singular values of the regression, `(r,)`.
        is_additive: whether the observations are those of a game in which each player adds its value, which they tell.
    """

    def __init__(self, game: Observed, covariance: np.ndarray) -> None:
        present, weights = game.pairs
        n = present.shape[1]
        shares = covariance.sum(axis=1) / covariance.sum()
        self._start = shares * game.total
        # values that sum to the total: the start, and `map @ coordinates`, which are normal and independent
        given = covariance - np.outer(shares, covariance.sum(axis=0))
        basis = _without_sum(n)
        self._map = basis @ np.linalg.cholesky(basis.T @ given @ basis)
        root = np.sqrt(weights)
        signs = (2.0 * present - 1.0) * root[:, None]
        y = root * game.differences - signs @ self._start
        self.n_pairs = len(y)
        rows = signs @ self._map
        if len(rows) < rows.shape[1]:
            left, singular, right = np.linalg.svd(rows, full_matrices=False)
            self.squares = np.square(singular)
            self._right = right
            self._products = singular * (left.T @ y)
        else:
            squares, vectors = np.linalg.eigh(rows.T @ rows)
            self.squares = np.maximum(squares, 0)
            self._right = vectors.T
            self._products = self._right @ (rows.T @ y)
        is_seen = self.squares > _UNSEEN * self.squares.max(initial=0)
        explained = np.divide(np.square(self._products), self.squares, out=np.zeros_like(self.squares), where=is_seen)
        self._explained = explained
        fitted = np.divide(self._products, self.squares, out=np.zeros_like(self.squares), where=is_seen)
        self._rest = float(np.square(y - rows @ (self._right.T @ fitted)).sum())
        size = float(weights @ np.square(game.differences)) + float(np.square(game.total))
        self.is_additive = is_seen.sum() == n - 1 < len(y) and self._rest <= _ROUNDING * size

    def misfit(self, strength: float) -> float:
        """Squares of the noise and, times the strength, of the coordinates."""
        return float((self._explained * strength / (self.squares + strength)).sum()) + self._rest

    def mean(self, strength: float) -> np.ndarray:
        """Posterior mean of the values, `(n,)`."""
        return self._start + self._map @ (self._right.T @ (self._products / (self.squares + strength)))

    def noise(self, strength: float) -> np.ndarray:
        """Variance that noise of variance 1 gives to the posterior mean, `(n,)`."""
        return np.square(self._map @ self._right.T) @ (self.squares / np.square(self.squares + strength))

    def held_back(self, strength: float) -> np.ndarray:
        """The part of the values that the posterior mean lacks without noise, from their coordinates: `(n, n - 1)`."""
        shares = self.squares / (self.squares + strength)
        return self._map - (self._map @ self._right.T * shares) @ self._right


class LeastSquares:
    """Shapley values by weighted least squares on very many pairs, which are added in blocks.

    Args:
        total: the value of all players less that of none, `(values,)`.
        n: number of players.

    Attributes:
        n_pairs: number of pairs so far.
    """

    def __init__(self, total: np.ndarray, n: int) -> None:
        self._start = np.broadcast_to(total / n, (n, len(total)))
        self._basis = _without_sum(n)
        self._gram = np.zeros((n - 1, n - 1))
        self._products = np.zeros((n - 1, len(total)))
        self._blocks: list[tuple[Pairs, np.ndarray]] = []
        self.n_pairs = 0

    def add(self, pairs: Pairs, differences: np.ndarray) -> None:
        """Adds pairs and their differences, `(pairs, values)`."""
        signs = 2.0 * pairs.present - 1
        left = differences - signs @ self._start
        rows = signs @ self._basis
        weighted = rows * pairs.weights[:, None]
        self._gram += weighted.T @ rows
        self._products += weighted.T @ left
        self._blocks.append((pairs, left))
        self.n_pairs += len(rows)

    def solve(self) -> tuple[np.ndarray, np.ndarray]:
        """The values and their standard errors, which hold for any spread of the noise (White 1980); `(n, values)`."""
        inverse = np.linalg.inv(self._gram)
        coordinates = inverse @ self._products
        spread = self._basis @ inverse
        variance = np.zeros_like(self._start)
        for pairs, left in self._blocks:
            rows = (2.0 * pairs.present - 1) @ self._basis
            noise = (left - rows @ coordinates) * pairs.weights[:, None]
            variance = variance + np.square(spread @ rows.T) @ np.square(noise)
        variance *= self.n_pairs / max(self.n_pairs - len(self._gram), 1)
        return self._start + self._basis @ coordinates, np.sqrt(variance)


def _without_sum(n: int) -> np.ndarray:
    """An orthonormal basis of the vectors `(n,)` that sum to zero, `(n, n - 1)`."""
    return np.linalg.qr(np.column_stack([np.ones(n), np.eye(n)[:, 1:]]))[0][:, 1:]
