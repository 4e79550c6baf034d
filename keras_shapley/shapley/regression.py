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
        prior: expected values up to a scale, `(n, values)`, or `(n, 1)` for all; None for values that are all the same.
        strongest: the largest strength of the prior, in units of the mean squared singular value of the regression.
    """
    if prior is None:
        return _posterior(observed, [np.eye(observed[0].pairs.present.shape[1])], strongest)
    results = []
    for k, expected in enumerate(np.broadcast_to(prior, (len(prior), len(observed[0].total))).T):
        games = [Observed(game.pairs, game.differences[:, k : k + 1], game.total[k : k + 1]) for game in observed]
        covariances = [np.eye(len(expected))]
        if expected.any():
            covariances.append(_covariance_around(expected))
        results.append(_posterior(games, covariances, strongest))
    values, stderr = zip(*results)
    return np.concatenate(values, axis=1), np.concatenate(stderr, axis=1)


class _Tried(NamedTuple):
    """A strength of a prior, `(values,)` where each value has its own.

    Attributes:
        evidence: its logarithm.
        noise: the variance of an observation of weight 1.
        strength: in units of the squared singular values.
        games: as the prior solves them.
    """

    evidence: np.ndarray
    noise: np.ndarray
    strength: float
    games: list["_Solved"]

    @property
    def mean(self) -> np.ndarray:
        """The mean of the games' posterior means, `(n, values)`."""
        return np.mean([game.mean(self.strength) for game in self.games], axis=0)

    @property
    def variance(self) -> np.ndarray:
        """Its variance, same shape."""
        return np.outer(_variance([game.design for game in self.games], self.strength), self.noise)


def _posterior(
    observed: Sequence[Observed], covariances: Sequence[np.ndarray], strongest: float
) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean and standard deviation, `(n, values)` each, over strengths of priors with these covariances."""
    tried: list[_Tried] = []
    for covariance in covariances:
        games = [_Solved(_Design(game.pairs, covariance), game) for game in observed]
        unit = float(np.mean([np.mean(game.design.squares) for game in games]))
        tried += [_tried(games, strength) for strength in np.geomspace(_WEAKEST, strongest, _STRENGTHS) * unit]
    evidence = np.stack([one.evidence for one in tried])
    evidence -= evidence.max(axis=0)
    weights = np.where(evidence > -_UNLIKELY, np.exp(evidence), 0)
    weights /= weights.sum(axis=0)
    likely = [(weight, one) for weight, one in zip(weights, tried) if weight.any()]
    mean, variance = np.zeros((2, observed[0].pairs.present.shape[1], evidence.shape[1]))
    for weight, one in likely:
        mean += weight * one.mean
    for weight, one in likely:
        variance += weight * (one.variance + np.square(one.mean - mean))
    stderr = np.sqrt(variance)
    is_additive = np.all([game.is_additive for game in tried[0].games], axis=0)
    if is_additive.any():
        mean[:, is_additive] = tried[0]._replace(strength=0.0).mean[:, is_additive]
        stderr[:, is_additive] = 0
    return mean, stderr


def _tried(games: list["_Solved"], strength: float) -> _Tried:
    n_pairs = sum(game.design.n_pairs for game in games)
    noise = sum(game.misfit(strength) for game in games) / n_pairs
    occam = sum(np.log1p(game.design.squares / strength).sum() for game in games)
    evidence = -0.5 * (n_pairs * np.log(np.maximum(noise, np.finfo(float).tiny)) + occam)
    return _Tried(evidence, np.asarray(noise), strength, games)


def _variance(designs: list["_Design"], strength: float) -> np.ndarray:
    """Variance of the mean of the games' values, `(n,)`, for noise of variance 1.

    Their noise is independent; what the prior holds back of their values is the same.
    """
    noise = np.mean([design.noise(strength) for design in designs], axis=0) / len(designs)
    held_back = np.mean([design.held_back(strength) for design in designs], axis=0)
    return noise + np.square(held_back).sum(axis=1) / strength


def _covariance_around(prior: np.ndarray) -> np.ndarray:
    """Covariance of values that are near a prior up to its scale, and vary most where it is large."""
    prior = prior / np.sqrt(np.mean(np.square(prior)))
    spread = np.square(np.abs(prior) + _EVEN)
    return np.diag(spread / spread.mean()) + _SCALES * np.outer(prior, prior)


class _Design:
    """The regression on some pairs, whatever was observed: every strength of the prior is then cheap.

    Args:
        pairs: of coalitions.
        covariance: of the values, up to a scale, before their sum is known; `(n, n)`.

    Attributes:
        n_pairs: number of observations.
        shares: of the total that the players have in the prior's mean, `(n,)`.
        rows: the regression, from coordinates to observations times the roots of their weights, `(pairs, n - 1)`.
        map: from coordinates, which are normal and independent, to values that sum to zero, `(n, n - 1)`.
        squares: squared singular values of the rows, `(r,)`.
        right: their right singular vectors, `(r, n - 1)`.
    """

    def __init__(self, pairs: Pairs, covariance: np.ndarray) -> None:
        present, weights = pairs
        self.n_pairs, n = present.shape
        self.shares = covariance.sum(axis=1) / covariance.sum()
        given = covariance - np.outer(self.shares, covariance.sum(axis=0))
        basis = _without_sum(n)
        self.map = basis @ np.linalg.cholesky(basis.T @ given @ basis)
        self.roots = np.sqrt(weights)
        self.signs = (2.0 * present - 1.0) * self.roots[:, None]
        self.rows = self.signs @ self.map
        if self.n_pairs < n - 1:
            _, singular, self.right = np.linalg.svd(self.rows, full_matrices=False)
            self.squares = np.square(singular)
        else:
            squares, vectors = np.linalg.eigh(self.rows.T @ self.rows)
            self.squares = np.maximum(squares, 0)
            self.right = vectors.T

    def noise(self, strength: float) -> np.ndarray:
        """Variance that noise of variance 1 gives to the posterior mean, `(n,)`."""
        return np.square(self.map @ self.right.T) @ (self.squares / np.square(self.squares + strength))

    def held_back(self, strength: float) -> np.ndarray:
        """The part of the values that the posterior mean lacks without noise, from their coordinates: `(n, n - 1)`."""
        shares = self.squares / (self.squares + strength)
        return self.map - (self.map @ self.right.T * shares) @ self.right


class _Solved:
    """The regression of what one game was observed to be.

    Args:
        design: of the game's pairs.
        game: with the values `(values,)` of which all are solved at once.

    Attributes:
        design: the same.
        is_additive: whether the observations of a value are those of a game in which each player adds its own, which
            they tell; `(values,)`.
    """

    def __init__(self, design: _Design, game: Observed) -> None:
        self.design = design
        self._start = np.outer(design.shares, game.total)
        y = design.roots[:, None] * game.differences - design.signs @ self._start
        squares = design.squares[:, None]
        self._products = design.right @ (design.rows.T @ y)
        is_seen = squares > _UNSEEN * squares.max(initial=0)
        fitted = np.divide(self._products, squares, out=np.zeros_like(self._products), where=is_seen)
        self._explained = fitted * self._products
        self._rest = np.square(y - design.rows @ (design.right.T @ fitted)).sum(axis=0)
        size = game.pairs.weights @ np.square(game.differences) + np.square(game.total)
        is_told = is_seen.sum() == len(self._start) - 1 < len(y)
        self.is_additive = is_told & (self._rest <= _ROUNDING * size)

    def misfit(self, strength: float) -> np.ndarray:
        """Squares of the noise and, times the strength, of the coordinates; `(values,)`."""
        return (strength / (self.design.squares + strength)) @ self._explained + self._rest

    def mean(self, strength: float) -> np.ndarray:
        """Posterior mean of the values, `(n, values)`."""
        design = self.design
        coordinates = design.right.T @ (self._products / (design.squares + strength)[:, None])
        return self._start + design.map @ coordinates


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

    @on_one_thread
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

    @on_one_thread
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
