"""The Shapley interaction index of pairs of players, from all coalitions or from random ones."""

import math

import numpy as np


def interaction_index(present: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Interactions of pairs of players, with the sums of the rows on the diagonal, `(n, n, values)`.

    Args:
        present: all coalitions, or some of each size from 0 to n, bool `(coalitions, n)`.
        values: of the coalitions, `(coalitions, values)`.
    """
    size = present.sum(axis=1)
    return _with_row_sums(_weighted_sums(present, values / np.bincount(size)[size, None], 1))


def sampled_index(present: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Estimates as by `interaction_index`, and their standard errors, from random coalitions.

    A function that is linear among the coalitions of one size has no interactions, for sizes from 2 to n - 2. Of the
    values of each size, what is linear is therefore subtracted: a least-squares fit to the other coalitions.

    Args:
        present: different coalitions, with all of sizes 0, 1, n - 1 and n, bool `(coalitions, n)`.
        values: of the coalitions, `(coalitions, values)`.
    """
    n = present.shape[1]
    size = present.sum(axis=1)
    left, noise = values.copy(), np.zeros_like(values)
    for t in range(2, n - 1):
        rows = np.flatnonzero(size == t)
        basis, _ = np.linalg.qr(present[rows].astype("float64"))
        fraction_unseen = 1 - len(rows) / math.comb(n, t)
        leverage = np.square(basis).sum(axis=1, keepdims=True) * fraction_unseen
        left[rows] = (values[rows] - basis @ (basis.T @ values[rows])) / (1 - leverage)
        noise[rows] = left[rows] / len(rows) * math.sqrt(fraction_unseen)
    variance = _weighted_sums(present, np.square(noise), 2)
    own = np.arange(n)
    # the sums of the rows depend on the sizes that are complete
    variance[own, own] = 0
    return interaction_index(present, left), np.sqrt(np.maximum(variance, 0))


def _weighted_sums(present: np.ndarray, values: np.ndarray, power: int) -> np.ndarray:
    """Sums of the values of coalitions, by a power of their weights in each pair's interaction, `(n, n, values)`.

    The weights are for means over the coalitions of each size.
    """
    n = present.shape[1]
    size = present.sum(axis=1)
    t = np.arange(n + 1)
    # of coalitions of t players with both players of a pair, with one, and with none
    both = (n / np.maximum(t * (t - 1), 1) * (t > 1)) ** power
    one = (-n / np.maximum(t * (n - t), 1) * (t > 0) * (t < n)) ** power
    none = both[::-1]
    z = present.astype("float64")
    sums = np.empty((n, n, values.shape[1]))
    for k, column in enumerate(values.T):
        of_players = z.T @ (column * (one - none)[size])
        products = (z.T * (column * (both - 2 * one + none)[size])) @ z
        sums[:, :, k] = (products + products.T) / 2 + (of_players + of_players[:, None]) + column @ none[size]
    return sums


def _with_row_sums(matrices: np.ndarray) -> np.ndarray:
    """Matrices `(n, n, values)` with the sums of all else in a row on the diagonal."""
    own = np.arange(len(matrices))
    matrices[own, own] = 0
    matrices[own, own] = matrices.sum(axis=1)
    return matrices
