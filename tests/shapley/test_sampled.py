"""Sampled Shapley values: against walks along the same orders, and games whose values are known."""

import tracemalloc

import keras
import numpy as np
import pytest
from reference.games import error, network

import keras_shapley as ks


@pytest.fixture
def x(rng):
    return rng.normal(size=(3, 5))


def coalition_value(image, present, baseline=0.0):
    return network(np.where(present, image, baseline)[None])[0]


def marginal_contributions(image, order, baseline=0.0):
    contributions = np.zeros((5, 2))
    present = np.zeros(5, bool)
    for player in order:
        before = coalition_value(image, present, baseline)
        present[player] = True
        contributions[player] = coalition_value(image, present, baseline) - before
    return contributions


@pytest.mark.parametrize("antithetic", [True, False])
def test_sampling_walks_the_orders_of_its_seed(x, antithetic):
    result = ks.sampled_shapley_values(network, x, n_paths=8, antithetic=antithetic, seed=3)
    rng = np.random.default_rng(3)
    samples = []
    for _ in range(4 if antithetic else 8):
        order = rng.permutation(5)
        orders = [order, order[::-1]] if antithetic else [order]
        samples.append(np.mean([marginal_contributions(x[1], order) for order in orders], axis=0))
    np.testing.assert_allclose(result.values[1], np.mean(samples, axis=0), atol=1e-12)
    stderr = np.std(samples, axis=0, ddof=1) / np.sqrt(len(samples))
    np.testing.assert_allclose(result.stderr[1], stderr, atol=1e-12)


@pytest.mark.parametrize("antithetic", [True, False])
def test_null_players_take_no_evaluation(x, antithetic):
    """The values are means over orders of the others; a null player agrees with the whole background."""
    x[1, [0, 3]] = 0.5
    x[2] = 0.5
    result = ks.sampled_shapley_values(network, x, baseline=0.5, n_paths=8, antithetic=antithetic, seed=3)
    assert not result.values[1, [0, 3]].any() and not result.stderr[1, [0, 3]].any()
    assert not result.values[2].any()
    # the baseline, each image, and along each order one coalition less than there are active players
    assert result.n_evaluations == 1 + 3 + 8 * (4 + 2)
    rng = np.random.default_rng(3)
    orders = [np.array([1, 2, 4])[rng.permutation(3)] for _ in range(4 if antithetic else 8)]
    if antithetic:
        orders += [order[::-1] for order in orders]
    expected = np.mean([marginal_contributions(x[1], order, 0.5) for order in orders], axis=0)
    np.testing.assert_allclose(result.values[1], expected, atol=1e-12)
    background = np.stack([np.full(5, 0.5), np.zeros(5)])
    result = ks.sampled_shapley_values(network, x, baseline=background, n_paths=8, antithetic=antithetic)
    assert result.values[1, [0, 3]].any()


def test_batch_size_changes_nothing(x):
    whole = ks.sampled_shapley_values(network, x, n_paths=20, seed=5)
    for batch_size in (1, 3, 7, 1000):
        result = ks.sampled_shapley_values(network, x, n_paths=20, seed=5, batch_size=batch_size)
        np.testing.assert_allclose(result.values, whole.values, atol=1e-12)
        np.testing.assert_allclose(result.stderr, whole.stderr, atol=1e-12)
        assert result.n_evaluations == whole.n_evaluations
    alone = ks.sampled_shapley_values(network, x[2:], n_paths=20, seed=5)
    np.testing.assert_allclose(alone.values[0], whole.values[2], atol=1e-12)


def test_memory_does_not_grow_with_the_square_of_the_players():
    """The coalitions along an order of 3,000 players are 9 MB, as bool."""
    tracemalloc.start()
    x = np.random.default_rng(0).normal(size=(1, 3000))
    ks.sampled_shapley_values(lambda batch: batch.sum(axis=1), x, n_paths=2, batch_size=8)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4e6


@pytest.mark.parametrize("control", [False, True])
@pytest.mark.parametrize("orders, samples", [("random", 60), ("stratified", 240), ("orthogonal", 240)])
@pytest.mark.parametrize("antithetic", [True, False])
def test_standard_errors_cover_the_truth_as_often_as_they_should(antithetic, orders, samples, control):
    """Hundred repetitions of 60 samples, single orders or groups of them: 95 % intervals miss one value in twenty."""
    x = np.random.default_rng(3).normal(size=(1, 5))
    truth = ks.exact_shapley_values(network, x).values
    options = {"control": truth + 0.1} if control else {}
    missed = []
    for seed in range(100):
        result = ks.sampled_shapley_values(
            network,
            x,
            n_paths=samples * (1 + antithetic),
            antithetic=antithetic,
            orders=orders,
            seed=seed,
            batch_size=5000,
            **options,
        )
        missed.append(np.abs(result.values - truth) > 2.0 * result.stderr)
        np.testing.assert_allclose(result.values.sum(axis=1), truth.sum(axis=1), atol=1e-12)
    assert 0.02 < np.mean(missed) < 0.09


def test_orthogonal_orders_have_smaller_errors_than_random_ones():
    """A network with ReLU and twelve inputs; groups of eleven directions, the most that fit."""
    rng = np.random.default_rng(0)
    kernel, out = rng.normal(size=(12, 16)), rng.normal(size=16)
    x = np.ones((1, 12))

    def fn(batch):
        return np.maximum(batch @ kernel, 0) @ out

    truth = ks.exact_shapley_values(fn, x).values
    random, orthogonal = (error(truth, x, fn, n_paths=2 * 176, orders=kind) for kind in ("random", "orthogonal"))
    assert orthogonal < 0.95 * random


def test_antithetic_orders_are_exact_for_a_quadratic_game():
    """Pairs of orders give the exact values of the product of two sums."""
    x = np.random.default_rng(3).normal(size=(2, 6))

    def fn(batch):
        return batch[:, :3].sum(axis=1, keepdims=True) * batch[:, 3:].sum(axis=1, keepdims=True)

    exact = ks.exact_shapley_values(fn, x)
    pairs = ks.sampled_shapley_values(fn, x, n_paths=4)
    np.testing.assert_allclose(pairs.values, exact.values, atol=1e-12)
    np.testing.assert_allclose(pairs.stderr, 0, atol=1e-7)
    singles = ks.sampled_shapley_values(fn, x, n_paths=4, antithetic=False)
    assert np.abs(singles.values - exact.values).max() > 0.01


def test_sampling_stops_image_by_image_at_the_tolerance(x):
    x = np.concatenate([x, np.zeros((1, 5))])
    result = ks.sampled_shapley_values(network, x, n_paths=100_000, tolerance=0.02, batch_size=64)
    assert 0.005 < result.stderr.max() <= 0.02
    assert not result.values[3].any()
    assert result.n_evaluations < 50_000
    again = ks.sampled_shapley_values(network, x, n_paths=100_000, tolerance=0.02, batch_size=500)
    np.testing.assert_allclose(again.values, result.values, atol=1e-12)
    # nothing is evaluated beyond the look at which it stops
    assert again.n_evaluations == result.n_evaluations


def test_a_control_equal_to_the_game_removes_all_variance():
    """The error of each sample of a cubed sum is that of the control variate."""
    x = np.random.default_rng(3).normal(size=(2, 6))

    def fn(batch):
        return np.stack([batch.sum(axis=1) ** 3, batch.sum(axis=1) ** 2], axis=1)

    exact = ks.exact_shapley_values(fn, x)
    without = ks.sampled_shapley_values(fn, x, n_paths=8)
    result = ks.sampled_shapley_values(fn, x, n_paths=8, control=x)
    assert np.abs(without.values - exact.values).max() > 0.01
    np.testing.assert_allclose(result.values, exact.values, atol=1e-10)
    np.testing.assert_allclose(result.stderr, 0, atol=1e-6)
    assert result.n_evaluations == without.n_evaluations


def test_a_control_near_the_values_makes_errors_smaller():
    """A saturating unit, controlled by its own values: by player and output, by player, by element."""
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


def test_a_control_that_says_nothing_changes_nothing(rng):
    x = rng.normal(size=(3, 5))
    plain = ks.sampled_shapley_values(network, x, n_paths=8)
    single_element = np.zeros_like(x)
    single_element[:, 2] = 3.0
    for control in (np.zeros_like(x), single_element):
        result = ks.sampled_shapley_values(network, x, n_paths=8, control=control)
        np.testing.assert_allclose(result.values, plain.values, atol=1e-10)
        np.testing.assert_allclose(result.stderr, plain.stderr, atol=1e-10)


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_paths": 0}, "`n_paths` must be an int, 1 or more"),
        ({"n_paths": 7}, "`n_paths` must be even.*n_paths=7"),
        ({"orders": "sobol"}, "`orders` must be one of 'random', 'stratified', 'orthogonal'. Received: orders='sobol'"),
        ({"control": np.ones(5)}, r"`control` must be .* \(3, 5\), \(3, 5, 2\). Received: shape \(5,\)"),
        ({"control": np.full((3, 5), np.inf)}, "`control` must be finite.*Received: NaN or infinity"),
        ({"tolerance": -1.0}, "`tolerance` must be a number, 0 or more"),
        ({"tolerance": "a"}, "`tolerance` must be a number, 0 or more"),
        ({"seed": -1}, "`seed` must be an int, 0 or more"),
        ({"tolerance": float("nan")}, "`tolerance` must be a number"),
    ],
)
def test_bad_sampling_arguments_are_named(options, message, x):
    with pytest.raises(ValueError, match=message):
        ks.sampled_shapley_values(network, x, **options)
    assert np.isnan(ks.sampled_shapley_values(network, x, n_paths=1, antithetic=False).stderr).all()
