"""Random coalitions, from which Shapley values are estimated by regression."""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# subsets of a size that are listed to choose from; of more, random ones rarely repeat
_LISTED = 50_000


class Pairs(NamedTuple):
    """Pairs of complementary coalitions.

    Attributes:
        present: the players of one coalition of each pair, bool `(pairs, n)`; the other has all others.
        weights: of the pairs in the regression, `(pairs,)`, with a mean of 1.
    """

    present: np.ndarray
    weights: np.ndarray

    def take(self, rows: np.ndarray | slice) -> "Pairs":
        """Some of the pairs."""
        return Pairs(self.present[rows], self.weights[rows])


def joined(pairs: Sequence[Pairs]) -> Pairs:
    """Several sets of pairs as one."""
    return Pairs(*map(np.concatenate, zip(*pairs)))


def pair_count(n: int) -> int:
    """Number of pairs of complementary coalitions of n players, but for that of none and all."""
    return 2 ** (n - 1) - 1


def random_pairs(n: int, n_pairs: int, rng: np.random.Generator) -> Pairs:
    """Different pairs, in random order, whose sizes have the probabilities of leverage scores.

    In the regression whose solution is the Shapley values, all sizes together have the same leverage (Musco & Witter,
    "Provably accurate Shapley value estimation via leverage score sampling", 2025). A pair's weight is that of the
    Shapley kernel over the expected number of pairs of its size.

    Args:
        n: number of players, 2 or more.
        n_pairs: number of pairs, at most `pair_count(n)`.
        rng: random numbers.
    """
    sizes = np.arange(1, n // 2 + 1)
    # a pair of two halves is counted once
    share = np.where(2 * sizes == n, 0.5, 1.0)
    available = [math.comb(n, s) // (2 if 2 * s == n else 1) for s in sizes.tolist()]
    expected = _capped(share, available, n_pairs)
    # a systematic sample: each count is the expected one, rounded up or down
    edges = np.floor(np.cumsum(expected) + rng.uniform() * (1 - 1e-9) + 1e-9)
    edges[-1] = n_pairs
    counts = np.diff(edges, prepend=0).astype(int)
    present = [_subsets(n, s, k, total, rng) for s, k, total in zip(sizes.tolist(), counts.tolist(), available)]
    weights = np.repeat(share / (sizes * (n - sizes)) / expected, counts)
    order = rng.permutation(n_pairs)
    return Pairs(np.concatenate(present)[order], weights[order] / weights.mean())


def _capped(share: np.ndarray, available: list[int], total: int) -> np.ndarray:
    """Numbers in proportion to `share` that sum to `total`, none of them above what is available."""
    most = np.array([min(float(number), 1e18) for number in available])
    numbers = np.zeros(len(share))
    is_full = np.zeros(len(share), bool)
    while True:
        free = ~is_full
        numbers[is_full] = most[is_full]
        if free.any():
            numbers[free] = share[free] / share[free].sum() * (total - most[is_full].sum())
        above = free & (numbers > most)
        if not above.any():
            return numbers
        is_full |= above


def _subsets(n: int, size: int, count: int, available: int, rng: np.random.Generator) -> np.ndarray:
    """Different subsets of a size, bool `(count, n)`; of each two halves of all players one."""
    if not count:
        return np.zeros((0, n), bool)
    # of two halves, the one with the first player
    fixed = 1 if 2 * size == n else 0
    if available <= max(_LISTED, 2 * count):
        rows = np.array(list(itertools.combinations(range(fixed, n), size - fixed)), int)
        present = np.zeros((count, n), bool)
        present[:, :fixed] = True
        np.put_along_axis(present, rows[rng.permutation(available)[:count]], True, axis=1)
        return present
    present = np.zeros((0, n), bool)
    while len(present) < count:
        ranks = rng.random((count - len(present), n - fixed), dtype="float32")
        last = np.partition(ranks, size - fixed - 1, axis=1)[:, size - fixed - 1 : size - fixed]
        drawn = np.concatenate([np.ones((len(ranks), fixed), bool), ranks <= last], axis=1)
        # two equal ranks would make one too many
        drawn = drawn[drawn.sum(axis=1) == size]
        present = np.unique(np.concatenate([present, drawn]), axis=0) if len(drawn) else present
    return rng.permutation(present)
