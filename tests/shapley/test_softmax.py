"""Shapley values of a softmax's inputs: all three ways against enumeration of all orders."""

import itertools
from functools import partial

import numpy as np
import pytest
from keras import ops
from reference.permutations import by_permutations

from keras_shapley.backend import compiled
from keras_shapley.shapley import orders, softmax


def softmax_game(rng, batch=3, players=5, classes=4):
    a = rng.normal(size=(batch, players, classes)).astype("float32")
    b = rng.normal(size=(batch, classes)).astype("float32")
    a[:, :, 0] = b[:, 0] = 0  # the target is class 0
    return a, b


WALK = compiled(lambda a, b, orders: (*softmax.sampled(a, b, orders), *softmax.ends(a, b)), ())


def walk(a, b, orders, fn=WALK):
    return [ops.convert_to_numpy(part) for part in fn(*map(ops.convert_to_tensor, (a, b, orders)))]


def random_orders(n_players, n_pairs, seed):
    return orders.random(np.random.default_rng(seed), n_players, n_pairs).astype("int32")


def probability(a, b, present):
    logits = b + a[present].sum(axis=0)
    return np.exp(logits[0] - np.logaddexp.reduce(logits))


def test_all_orders_give_the_exact_values_of_a_softmax(rng):
    a, b = softmax_game(rng)
    # one order of each pair of reverses
    pairs = np.array([order for order in itertools.permutations(range(5)) if order < order[::-1]], "int32")
    values, _, paths, baseline, total = walk(a, b, pairs)
    assert paths == 60
    for image in range(3):
        value = partial(probability, a[image].astype("float64"), b[image].astype("float64"))
        np.testing.assert_allclose(values[image], by_permutations(value, 5), atol=1e-6)
        np.testing.assert_allclose(baseline[image], value(np.zeros(5, bool)), rtol=1e-5)
        np.testing.assert_allclose(total[image], value(np.ones(5, bool)) - baseline[image], atol=1e-6)


def test_a_single_pair_of_paths_is_efficient(rng):
    a, b = softmax_game(rng, players=40, classes=10)
    values, stderr, _, _, total = walk(a, b, random_orders(40, 1, seed=3))
    np.testing.assert_allclose(values.sum(axis=1), total, atol=2e-6)
    assert np.isnan(stderr).all()  # a single pair has no standard error


def test_standard_errors_are_those_of_pair_means(rng):
    a, b = softmax_game(rng, players=6)
    chosen = random_orders(6, 12, seed=1)
    values, stderr, *_ = walk(a, b, chosen)
    pairs = np.stack([walk(a, b, chosen[i : i + 1])[0] for i in range(12)])
    np.testing.assert_allclose(values, pairs.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(stderr, pairs.std(axis=0, ddof=1) / np.sqrt(12), rtol=1e-3, atol=1e-7)


def test_blocks_of_orders_give_the_same_as_one_at_a_time(rng, monkeypatch):
    a, b = softmax_game(rng, players=6)
    chosen = random_orders(6, 12, seed=1)
    whole = walk(a, b, chosen, softmax.sampled)
    monkeypatch.setattr("keras_shapley.shapley.softmax._block_length", lambda pairs, size: 3)
    for expected, part in zip(whole, walk(a, b, chosen, softmax.sampled)):
        np.testing.assert_allclose(part, expected, rtol=1e-3, atol=1e-6)


def test_the_standard_error_covers_the_truth(rng):
    """About 95 % of 400 z-scores against all orders are below 1.96, and none is wild."""
    a, b = softmax_game(rng, batch=1, players=5)
    pairs = np.array([order for order in itertools.permutations(range(5)) if order < order[::-1]], "int32")
    truth = walk(a, b, pairs)[0]
    scores = []
    for seed in range(80):
        values, stderr, *_ = walk(a, b, random_orders(5, 50, seed))
        scores.append((values - truth) / stderr)
    assert 0.90 < np.mean(np.abs(scores) < 1.96) < 0.99
    assert np.max(np.abs(scores)) < 5


def test_sampling_stops_at_the_tolerance(rng, monkeypatch):
    a, b = softmax_game(rng, players=8)
    monkeypatch.setattr("keras_shapley.shapley.softmax._block_length", lambda pairs, size: 10)
    chosen = random_orders(8, 500, seed=0)
    values, stderr, pairs = walk(a, b, chosen, partial(softmax.sampled, tolerance=0.1))
    share = np.sqrt((stderr**2).sum(axis=1) / (values**2).sum(axis=1))
    assert 10 <= pairs < 500
    assert share.max() <= 0.1
    _, total = (ops.convert_to_numpy(part) for part in softmax.ends(*map(ops.convert_to_tensor, (a, b))))
    np.testing.assert_allclose(values.sum(axis=1), total, atol=2e-6)


@pytest.mark.parametrize("block", [32, 8])
def test_all_coalitions_give_the_exact_values(rng, monkeypatch, block):
    monkeypatch.setattr("keras_shapley.shapley.softmax._block_length", lambda n, size: block)
    a, b = softmax_game(rng)
    (values,) = walk(a, b, np.zeros(1), lambda a, b, _: [softmax.enumerated(a, b)])
    for image in range(3):
        value = partial(probability, a[image].astype("float64"), b[image].astype("float64"))
        np.testing.assert_allclose(values[image], by_permutations(value, 5), atol=1e-6)


def by_quadrature(a, b):
    return walk(a, b, np.zeros(1), lambda a, b, _: [softmax.by_quadrature(a, b, 0)])[0]


def test_quadrature_is_exact_where_the_logits_hardly_move(rng):
    """There the probability is linear in the logits, and a player's value is the slope times what it adds to them."""
    a, b = softmax_game(rng)
    a *= 1e-2
    middle = b + a.sum(axis=1) / 2
    p = np.exp(middle - np.log(np.exp(middle).sum(axis=1, keepdims=True)))
    slope = -p[:, :1] * p
    slope[:, 0] += p[:, 0]
    np.testing.assert_allclose(by_quadrature(a, b), np.einsum("bpc,bc->bp", a, slope), atol=2e-6)


def test_quadrature_is_near_the_values_of_many_players(rng):
    """Thirty players: the values are within a few percent of those by 40,000 orders, and so is their sum."""
    a, b = softmax_game(rng, players=30, classes=5)
    a *= 0.5
    truth, stderr, _, _, total = walk(a, b, random_orders(30, 20_000, seed=0))
    result = by_quadrature(a, b)
    error = np.linalg.norm(result - truth, axis=1) / np.linalg.norm(truth, axis=1)
    assert np.linalg.norm(stderr, axis=1).max() < 0.01 * np.linalg.norm(truth, axis=1).min()
    assert error.max() < 0.08
    np.testing.assert_allclose(result.sum(axis=1), total, atol=0.03)


def test_quadrature_stays_finite_where_logits_are_far_apart(rng):
    a, b = softmax_game(rng, players=30)
    assert np.isfinite(by_quadrature(200 * a, 200 * b)).all()
