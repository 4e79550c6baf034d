"""Random pairs of coalitions: different ones, with the sizes and weights of leverage scores."""

import math

import numpy as np
import pytest

from keras_shapley.shapley.coalitions import joined, pair_count, random_pairs


def sizes_of(pairs):
    """The size of the smaller coalition of each pair."""
    size = pairs.present.sum(axis=1)
    return np.minimum(size, pairs.present.shape[1] - size)


@pytest.mark.parametrize("n", [2, 3, 6, 7, 12])
def test_all_pairs_have_the_weights_of_the_shapley_kernel(n, rng):
    pairs = random_pairs(n, pair_count(n), rng)
    assert len(np.unique(np.concatenate([pairs.present, ~pairs.present]), axis=0)) == 2**n - 2
    kernel = np.array([1 / (math.comb(n, s) * s * (n - s)) for s in sizes_of(pairs)])
    np.testing.assert_allclose(pairs.weights, kernel / kernel.mean())


@pytest.mark.parametrize(("n", "n_pairs"), [(4, 3), (6, 20), (12, 300), (20, 8000), (61, 150), (784, 40)])
def test_pairs_are_different(n, n_pairs, rng):
    pairs = random_pairs(n, n_pairs, rng)
    assert pairs.present.shape == (n_pairs, n) and pairs.weights.shape == (n_pairs,)
    assert len(np.unique(np.concatenate([pairs.present, ~pairs.present]), axis=0)) == 2 * n_pairs
    assert 1 <= sizes_of(pairs).min()
    assert math.isclose(pairs.weights.mean(), 1)


def test_sizes_are_equally_frequent_where_there_are_enough(rng):
    counts = np.bincount(sizes_of(random_pairs(21, 1000, rng)))
    # of a single player there are 21 pairs; the others share the rest
    assert counts[1] == 21
    assert np.ptp(counts[2:]) <= 1


def test_weights_are_unbiased():
    """The weights of a size sum, on average, to what they are for all pairs."""
    n, every = 8, random_pairs(8, pair_count(8), np.random.default_rng(0))
    kernel = np.array([every.weights[sizes_of(every) == s].sum() for s in range(1, 5)])
    sums = []
    for seed in range(500):
        pairs = random_pairs(n, 7, np.random.default_rng(seed))
        sums.append([pairs.weights[sizes_of(pairs) == s].sum() for s in range(1, 5)])
    np.testing.assert_allclose(np.mean(sums, axis=0) / 7, kernel / kernel.sum(), atol=0.03)


def test_every_player_is_as_often_in_as_out(rng):
    present = np.concatenate([random_pairs(11, 60, np.random.default_rng(seed)).present for seed in range(200)])
    sizes = present.sum(axis=1)
    for size in range(1, 6):
        share = present[sizes == size].mean(axis=0)
        np.testing.assert_allclose(share, size / 11, atol=0.05)


def test_joined(rng):
    one, two = random_pairs(9, 5, rng), random_pairs(9, 6, rng)
    both = joined([one, two])
    assert len(both.present) == 11
    np.testing.assert_array_equal(both.take(slice(5, None)).present, two.present)
