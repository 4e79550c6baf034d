"""Exact Shapley values: enumeration of all coalitions against the mean over all orders."""

import functools

import numpy as np
import pytest
from reference.games import network
from reference.permutations import by_permutations

import keras_shapley as ks


def coalition_value(image, output, present):
    return network((present * image)[None])[0, output]


def test_enumeration_is_the_mean_over_all_orders(rng):
    x = rng.normal(size=(3, 5))
    result = ks.exact_shapley_values(network, x)
    assert result.values.shape == result.stderr.shape == (3, 5, 2)
    assert not result.stderr.any()
    for image, values in zip(x, result.values):
        for output in range(2):
            expected = by_permutations(functools.partial(coalition_value, image, output), 5)
            np.testing.assert_allclose(values[:, output], expected, atol=1e-12)
    # the empty coalition once, then all others of each image
    assert result.n_evaluations == 1 + 3 * (2**5 - 1)
    assert result.method == "exact" and np.abs(result.residual).max() < 1e-12


def test_table_1_is_a_game_of_three():
    result = ks.exact_shapley_values(lambda x: np.maximum(x @ np.array([[1.0], [2], [3]]) - 1, 0), [[-1.0, 2, -1]])
    np.testing.assert_allclose(result.values[0, :, 0], (-1 / 6, 4 / 3, -7 / 6), atol=1e-12)
    assert result.baseline_value == 0


def test_sixteen_players_can_be_enumerated_and_no_more(rng):
    x = rng.normal(size=(1, 16))
    found = ks.exact_shapley_values(lambda x: x.sum(axis=1, keepdims=True) + x[:, :1] * x[:, 1:2], x)
    product = x[0, 0] * x[0, 1] * (np.arange(16) < 2)
    np.testing.assert_allclose(found.values[0, :, 0], x[0] + product / 2, atol=1e-12)
    with pytest.raises(ValueError, match="up to 16 players. Received: 17.*sampled_shapley_values"):
        ks.exact_shapley_values(lambda x: x, rng.normal(size=(1, 17)))
