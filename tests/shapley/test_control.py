"""Control variates of random orders: attributions that are nearly the values."""

import keras
import numpy as np
from reference.games import error, network

import keras_shapley as ks


def test_a_control_that_is_the_game_takes_all_variance_away():
    """Of a cubed sum, whose values are known, the samples' errors are the control's own."""
    x = np.random.default_rng(3).normal(size=(2, 6))

    def fn(batch):
        return np.stack([batch.sum(axis=1) ** 3, batch.sum(axis=1) ** 2], axis=1)

    exact = ks.exact_shapley_values(fn, x)
    without = ks.sampled_shapley_values(fn, x, n_paths=8)
    found = ks.sampled_shapley_values(fn, x, n_paths=8, control=x)
    assert np.abs(without.values - exact.values).max() > 0.01
    np.testing.assert_allclose(found.values, exact.values, atol=1e-10)
    np.testing.assert_allclose(found.stderr, 0, atol=1e-6)
    assert found.n_evaluations == without.n_evaluations


def test_a_control_near_the_values_makes_errors_smaller():
    """A saturating unit, controlled by its own values; the control by player, by output, by element."""
    x = np.random.default_rng(5).normal(size=(1, 8))

    def fn(batch):
        return 1 / (1 + np.exp(-1.5 * batch.sum(axis=1)))

    truth = ks.exact_shapley_values(fn, x).values
    plain = error(truth, x, fn, n_paths=40)
    for control in (truth, truth[..., 0]):
        assert error(truth, x, fn, n_paths=40, control=control) < 0.5 * plain
    pairs = np.arange(8) // 2
    by_pairs = ks.exact_shapley_values(fn, x, players=pairs).values
    once = ks.sampled_shapley_values(fn, x, players=pairs, n_paths=10, control=x)
    same = ks.sampled_shapley_values(fn, x, players=pairs, n_paths=10, control=x.reshape(1, 4, 2).sum(axis=2))
    np.testing.assert_allclose(once.values, same.values, atol=1e-12)
    assert np.abs(once.values - by_pairs).max() < 0.05


def test_a_control_of_nothing_changes_nothing(rng):
    x = rng.normal(size=(3, 5))
    plain = ks.sampled_shapley_values(network, x, n_paths=8)
    one_element = np.zeros_like(x)
    one_element[:, 2] = 3.0
    for control in (np.zeros_like(x), one_element):
        found = ks.sampled_shapley_values(network, x, n_paths=8, control=control)
        np.testing.assert_allclose(found.values, plain.values, atol=1e-10)
        np.testing.assert_allclose(found.stderr, plain.stderr, atol=1e-10)


def test_a_softmax_head_is_controlled_by_its_fast_values(rng):
    """Twelve inputs of a head with four classes: a third of the variance, for the cost of four gradients."""
    model = keras.Sequential([keras.Input((12,)), keras.layers.Dense(4, "softmax")])
    kernel, x = rng.normal(size=(12, 4)), np.abs(rng.normal(size=(1, 12)))
    model.set_weights([kernel, np.zeros(4)])

    def head(batch):
        e = np.exp(batch @ kernel)
        return (e / e.sum(axis=1, keepdims=True))[:, :1]

    truth = ks.exact_shapley_values(head, x).values
    control = ks.fast_shapley_values(model, x, 0).values
    plain, controlled = (error(truth, x, head, n_paths=64, **options) for options in ({}, {"control": control}))
    assert controlled < 0.6 * plain
