"""Metrics that compare attributions with others: against SciPy, and by hand."""

import numpy as np
import pytest
from keras import ops
from scipy import stats

from keras_shapley import metrics


def test_conservation_is_the_part_that_is_left_out():
    attributions = np.array([[1.0, 2.0], [1.0, 2.0], [0.0, 0.0]])
    np.testing.assert_allclose(metrics.conservation(attributions, [3.0, 6.0, -2.0]), [0, 0.5, -1])
    assert np.isnan(metrics.conservation(attributions[:1], [0.0])).all()


def test_correlations_are_those_of_scipy(rng):
    a, b = rng.normal(size=(3, 4, 5)), rng.integers(0, 4, size=(3, 4, 5))
    linear, ranked = metrics.correlation(a, b), metrics.rank_correlation(a, b)
    for image in range(3):
        x, y = a[image].ravel(), b[image].ravel()
        np.testing.assert_allclose(linear[image], stats.pearsonr(x, y).statistic)
        np.testing.assert_allclose(ranked[image], stats.spearmanr(x, y).statistic)
    assert np.isnan(metrics.correlation(a, np.full_like(a, 0.1))).all()
    assert np.isnan(metrics.correlation(np.full_like(a, 0.3), np.full_like(a, 0.1))).all()


def test_the_error_is_relative_to_the_truth(rng):
    truth = rng.normal(size=(3, 7))
    np.testing.assert_allclose(metrics.relative_rmse(1.1 * truth, truth), 0.1)
    np.testing.assert_allclose(metrics.relative_rmse(ops.convert_to_tensor(truth), truth), 0, atol=1e-6)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: metrics.conservation(np.ones((1, 4)), [1.0, 2.0]), r"`total` must be of shape \(1,\)"),
        (
            lambda: metrics.correlation(np.ones((1, 4)), np.ones((1, 3))),
            r"one shape. Received: \(1, 4\) and \(1, 3\)",
        ),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
