"""`lab/coalitions.py`: the regression beside enumeration, and its standard errors beside the errors."""

import numpy as np
import pytest

import keras_shapley as ks
from lab import coalitions

pytestmark = pytest.mark.once


def game(rng, n):
    """A function of bools `(batch, n)` with two outputs, of which no player's part is simple."""
    weights, others = rng.normal(size=(n, 6)), rng.normal(size=(6, 2))
    return lambda z: np.maximum(np.asarray(z, "float64") @ weights + 0.3, 0) @ others


def test_coalitions_come_with_their_complements_and_in_the_sizes_of_the_kernel(rng):
    drawn = coalitions.paired(10, 20_000, rng)
    assert drawn.shape == (40_000, 10)
    np.testing.assert_array_equal(drawn[::2], ~drawn[1::2])
    sizes = np.arange(1, 10)
    kernel = 1 / (sizes * (10 - sizes))
    shares = np.bincount(drawn.sum(axis=1), minlength=11)[1:-1] / len(drawn)
    np.testing.assert_allclose(shares, kernel / kernel.sum(), atol=0.005)
    np.testing.assert_allclose(drawn.mean(axis=0), 0.5)


def test_values_are_those_of_enumeration_within_their_standard_errors(rng):
    n = 7
    function = game(rng, n)
    ones, zeros = np.ones((1, n)), np.zeros((1, n))
    exact = ks.exact_shapley_values(function, ones, "all").values[0].T
    ends = function(zeros)[0], function(ones)[0]
    errors, claimed = [], []
    for _ in range(300):
        drawn = coalitions.paired(n, 40, rng)
        values, stderr = coalitions.regression(drawn, function(drawn), *ends)
        np.testing.assert_allclose(values.sum(axis=1), ends[1] - ends[0])
        errors.append(values - exact)
        claimed.append(stderr)
    errors, claimed = np.array(errors), np.array(claimed)
    deviation = np.sqrt(np.mean(errors**2, axis=0))
    assert np.all(np.abs(errors.mean(axis=0)) < 4 * deviation / np.sqrt(300) + 0.1 * deviation)
    np.testing.assert_allclose(np.sqrt(np.mean(claimed**2, axis=0)), deviation, rtol=0.25)


def test_an_additive_function_has_no_error(rng):
    w = rng.normal(size=(6, 1))
    drawn = coalitions.paired(6, 30, rng)
    values, stderr = coalitions.regression(drawn, drawn @ w + 2.0, np.array([2.0]), w.sum(axis=0) + 2.0)
    np.testing.assert_allclose(values[0], w[:, 0], atol=1e-12)
    np.testing.assert_allclose(stderr, 0, atol=1e-12)


def test_absent_players_take_the_baseline(rng):
    """Of a linear function, a player's value is the sum over its elements of weight times difference."""
    w, x, baseline = (rng.normal(size=(4, 4)) for _ in range(3))
    players = np.arange(16).reshape(4, 4) // 4
    drawn = coalitions.paired(4, 20, rng)

    def function(batch):
        assert len(batch) <= 5
        return np.stack([(batch * w).sum(axis=(1, 2)), np.full(len(batch), 3.0)], axis=1)

    values, _, total = coalitions.shapley_values(function, x, baseline, players, drawn, batch_size=5)
    np.testing.assert_allclose(values[0], ((x - baseline) * w).sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(values[1], 0, atol=1e-12)
    np.testing.assert_allclose(total, [((x - baseline) * w).sum(), 0], rtol=1e-5)
