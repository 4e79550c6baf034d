"""Interactions of pairs of players by Bayesian regression on pairs of complementary coalitions."""

import numpy as np

from keras_shapley.shapley.coalitions import Pairs

# Strengths of the prior that are averaged over, in units of the mean squared singular value of the regression. With
# stronger ones the standard errors of few coalitions are too small.
_STRENGTHS = np.geomspace(1e-6, 1, 60)


class PairRegression:
    """Bayesian regression of the even part of a function on the products of the signs of two players.

    Interactions are normal around zero. The weights are those of KernelSHAP-IQ (Fumagalli et al. 2024), with which
    least squares on all coalitions gives the Shapley interaction index; here they are finite for all sizes.

    Args:
        pairs: of coalitions.
    """

    def __init__(self, pairs: Pairs) -> None:
        n = pairs.present.shape[1]
        signs, size = 2.0 * pairs.present - 1, pairs.present.sum(axis=1)
        weights = pairs.weights / (size * (n - size))
        self._roots = np.sqrt(weights / weights.mean())
        self._pairs = i, j = np.triu_indices(n, 1)
        self._size = size
        # one is lost with the mean of each size
        self._n_rows = len(size) - len(np.unique(size[size > 1]))
        rows = self._centred((signs[:, i] * signs[:, j] - 1) * self._roots[:, None])
        is_short = len(rows) < len(i)
        squares, vectors = np.linalg.eigh(rows @ rows.T if is_short else rows.T @ rows)
        seen = squares > 1e-10 * squares[-1]
        self._squares, vectors = squares[seen], vectors[:, seen]
        singular = np.sqrt(self._squares)
        self._right = rows.T @ vectors / singular if is_short else vectors
        self._left = vectors if is_short else rows @ vectors / singular
        # each player's sum over its pairs comes behind the pairs
        of_players = np.stack([self._right[(i == player) | (j == player)].sum(axis=0) for player in range(n)])
        self._functionals = np.concatenate([self._right, of_players])
        self._sizes = np.append(np.ones(len(i)), np.full(n, n - 1.0))

    def interactions(self, even: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Interactions with the sums of the rows on the diagonal, and standard errors, `(n, n, values)`.

        Args:
            even: the even part of the function on the pairs, less that of none and all, `(pairs, values)`.
        """
        means, errors = zip(*map(self._posterior, even.T))
        return np.stack(means, axis=2), np.stack(errors, axis=2)

    def _posterior(self, even: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        y = self._centred((even * self._roots)[:, None])[:, 0]
        products = self._left.T @ y
        rest = max(float(y @ y - products @ products), 0.0)
        strengths = _STRENGTHS * self._squares.mean()
        # squared singular values beside the strengths of the prior, one column for each strength
        shares = self._squares[:, None] / (self._squares[:, None] + strengths)
        noise = (np.square(products) @ (1 - shares) + rest) / self._n_rows
        occam = np.log1p(self._squares[:, None] / strengths).sum(axis=0)
        evidence = -0.5 * (self._n_rows * np.log(np.maximum(noise, np.finfo(float).tiny)) + occam)
        weights = np.exp(evidence - evidence.max())
        weights /= weights.sum()
        means = self._functionals @ (shares / np.sqrt(self._squares)[:, None] * products[:, None])
        variances = noise / strengths * (self._sizes[:, None] - np.square(self._functionals) @ shares)
        mean = means @ weights
        variance = np.maximum(variances, 0) @ weights + np.square(means - mean[:, None]) @ weights
        return self._matrix(4 * mean), self._matrix(4 * np.sqrt(variance))

    def _centred(self, rows: np.ndarray) -> np.ndarray:
        """Rows less the weighted mean of those of their size, which says nothing of interactions from size 2 on."""
        one_hot = (self._size[:, None] == np.arange(2, self._size.max() + 1)) * self._roots[:, None]
        one_hot /= np.maximum(np.linalg.norm(one_hot, axis=0), 1e-300)
        return rows - one_hot @ (one_hot.T @ rows)

    def _matrix(self, numbers: np.ndarray) -> np.ndarray:
        """The symmetric matrix of numbers of the pairs, then of the players."""
        n = len(numbers) - len(self._pairs[0])
        matrix = np.zeros((n, n))
        matrix[self._pairs] = numbers[:-n]
        return matrix + matrix.T + np.diag(numbers[-n:])
