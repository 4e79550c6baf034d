"""Shapley values of a softmax's or of sigmoids' inputs: all three ways against enumeration of all orders."""

import functools
import itertools
from functools import partial

import numpy as np
import pytest
from keras import ops
from reference.permutations import by_permutations

from keras_shapley.backend import compiled
from keras_shapley.shapley import orders, probability
from keras_shapley.shapley.probability import ProbabilityGame

LINKS = ["softmax", "class", "sigmoid"]  # "class" is the softmax probability of the class with the largest weight


def some_games(rng, batch=3, players=5, classes=4):
    """What players add to logits, the logits without them, and weights of either sign."""
    shapes = (batch, players, classes), (batch, classes), (batch, classes)
    return tuple(rng.normal(size=shape).astype("float32") for shape in shapes)


@functools.cache
def compiled_results(function, link):
    """`function(game, *arguments)` and the ends of the games, compiled once."""

    def results(a, b, weights, *arguments):
        if link == "class":
            game = ProbabilityGame.of_class(a, b, ops.cast(ops.argmax(weights, axis=1), "int32"))
        else:
            game = ProbabilityGame(a, b, weights, link)
        parts = function(game, *arguments)
        return (*(parts if isinstance(parts, tuple) else (parts,)), *game.ends())

    return compiled(results, ())


def run(function, games, *arguments, link="softmax"):
    """`function(game, *arguments)` and the ends of the games, as NumPy arrays."""
    parts = compiled_results(function, link)(*map(ops.convert_to_tensor, (*games, *arguments)))
    return [ops.convert_to_numpy(part) for part in parts]


def walk(games, orders, link="softmax"):
    return run(probability.sampled, games, orders, link=link)


def random_orders(n_players, n_pairs, seed):
    return orders.random(np.random.default_rng(seed), n_players, n_pairs).astype("int32")


def value(link, a, b, weights, present):
    """Weighted sum of the probabilities in float64, by the definition."""
    logits = b + a[present].sum(axis=0)
    p = 1 / (1 + np.exp(-logits)) if link == "sigmoid" else np.exp(logits - np.logaddexp.reduce(logits))
    return p[weights.argmax()] if link == "class" else weights @ p


def values_of(games, link):
    """The value function of each game."""
    return [partial(value, link, *(part.astype("float64") for part in game)) for game in zip(*games)]


ALL_PAIRS = np.array([order for order in itertools.permutations(range(5)) if order < order[::-1]], "int32")


@pytest.mark.parametrize("link", LINKS)
def test_all_orders_give_the_exact_values(link, rng):
    games = some_games(rng)
    values, _, paths, baseline, total = walk(games, ALL_PAIRS, link)
    assert paths == 60
    for image, value_of in enumerate(values_of(games, link)):
        np.testing.assert_allclose(values[image], by_permutations(value_of, 5), atol=1e-6)
        np.testing.assert_allclose(baseline[image], value_of(np.zeros(5, bool)), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(total[image], value_of(np.ones(5, bool)) - baseline[image], atol=1e-6)


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("block", [32, 8])
def test_all_coalitions_give_the_exact_values(link, block, rng, monkeypatch):
    monkeypatch.setattr("keras_shapley.shapley.probability._block_length", lambda n, size: block)
    games = some_games(rng)
    values, *_ = run(partial(probability.enumerated), games, link=link)
    for image, value_of in enumerate(values_of(games, link)):
        np.testing.assert_allclose(values[image], by_permutations(value_of, 5), atol=1e-6)


@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
@pytest.mark.parametrize(
    "method", [probability.enumerated, lambda game: probability.by_quadrature(game, 0)], ids=["exact", "quadrature"]
)
def test_values_are_linear_in_the_weights(link, method, rng):
    """A weighted sum of probabilities has the weighted sum of their values, whatever the method."""
    a, b, weights = some_games(rng)
    values, *_ = run(method, (a, b, weights), link=link)
    alone = [run(method, (a, b, np.tile(row, (3, 1))), link=link)[0] for row in np.eye(4, dtype="float32")]
    np.testing.assert_allclose(values, np.einsum("cip,ic->ip", alone, weights), atol=2e-6)


def test_a_single_pair_of_paths_is_efficient(rng):
    games = some_games(rng, players=40, classes=10)
    values, stderr, _, _, total = walk(games, random_orders(40, 1, seed=3))
    np.testing.assert_allclose(values.sum(axis=1), total, atol=1e-5)
    assert np.isnan(stderr).all()  # a single pair has no standard error


@pytest.mark.parametrize("link", LINKS)
def test_paths_end_where_all_players_are_present_however_large_the_logits(link, rng):
    a, b, weights = some_games(rng, players=40)
    values, _, _, _, total = walk((1e6 * a, b, weights), random_orders(40, 3, seed=0), link)
    np.testing.assert_allclose(values.sum(axis=1), total, atol=1e-5)


def test_standard_errors_are_those_of_pair_means(rng):
    games = some_games(rng, players=6)
    chosen = random_orders(6, 12, seed=1)
    values, stderr, *_ = walk(games, chosen)
    pairs = np.stack([walk(games, chosen[i : i + 1])[0] for i in range(12)])
    np.testing.assert_allclose(values, pairs.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(stderr, pairs.std(axis=0, ddof=1) / np.sqrt(12), rtol=1e-3, atol=1e-6)


def test_blocks_of_orders_give_the_same_as_one_at_a_time(rng, monkeypatch):
    games = some_games(rng, players=6)
    chosen = random_orders(6, 12, seed=1)
    whole = walk(games, chosen)
    monkeypatch.setattr("keras_shapley.shapley.probability._block_length", lambda pairs, size: 3)
    for expected, part in zip(whole, run(partial(probability.sampled), games, chosen)):
        np.testing.assert_allclose(part, expected, rtol=1e-3, atol=2e-6)


def test_the_standard_error_covers_the_truth(rng):
    """About 95 % of 400 z-scores against all orders are below 1.96, and none is wild."""
    games = some_games(rng, batch=1, players=5)
    truth = walk(games, ALL_PAIRS)[0]
    scores = []
    for seed in range(80):
        values, stderr, *_ = walk(games, random_orders(5, 50, seed))
        scores.append((values - truth) / stderr)
    assert 0.90 < np.mean(np.abs(scores) < 1.96) < 0.99
    assert np.max(np.abs(scores)) < 5


def test_sampling_stops_at_the_tolerance(rng, monkeypatch):
    games = some_games(rng, players=8)
    monkeypatch.setattr("keras_shapley.shapley.probability._block_length", lambda pairs, size: 10)
    sampled = partial(probability.sampled, tolerance=0.1)
    values, stderr, pairs, _, total = run(sampled, games, random_orders(8, 500, seed=0))
    share = np.sqrt((stderr**2).sum(axis=1) / (values**2).sum(axis=1))
    assert 10 <= pairs < 500
    assert share.max() <= 0.1
    np.testing.assert_allclose(values.sum(axis=1), total, atol=5e-6)


def by_quadrature(games, link="softmax"):
    return run(lambda game: probability.by_quadrature(game, 0), games, link=link)[0]


@pytest.mark.parametrize("link", LINKS)
def test_quadrature_is_exact_where_the_logits_hardly_move(link, rng):
    """There the value is linear in the logits, and a player's is the slope times what it adds to them."""
    a, b, weights = some_games(rng)
    a *= 1e-2
    middle = b + a.sum(axis=1) / 2
    if link == "class":
        weights = np.eye(4, dtype="float32")[weights.argmax(axis=1)]
    if link == "sigmoid":
        p = 1 / (1 + np.exp(-middle))
        slope = weights * p * (1 - p)
    else:
        p = np.exp(middle - np.log(np.exp(middle).sum(axis=1, keepdims=True)))
        slope = (weights - (weights * p).sum(axis=1, keepdims=True)) * p
    np.testing.assert_allclose(by_quadrature((a, b, weights), link), np.einsum("bpc,bc->bp", a, slope), atol=4e-6)


@pytest.mark.parametrize("link", LINKS)
def test_quadrature_is_near_the_values_of_many_players(link, rng):
    """Thirty players: the values are within a few percent of those by 40,000 orders, and so is their sum."""
    a, b, weights = some_games(rng, players=30, classes=5)
    games = 0.5 * a, b, weights
    truth, stderr, _, _, total = walk(games, random_orders(30, 20_000, seed=0), link)
    result = by_quadrature(games, link)
    size = np.linalg.norm(truth, axis=1)
    assert (np.linalg.norm(stderr, axis=1) / size).max() < 0.01
    assert (np.linalg.norm(result - truth, axis=1) / size).max() < 0.08
    np.testing.assert_allclose(result.sum(axis=1), total, atol=0.05)


@pytest.mark.parametrize("link", ["softmax", "class"])
def test_classes_without_probability_change_nothing(link, rng, monkeypatch):
    """With more classes than draws, quadrature sums over both in another order."""
    monkeypatch.setattr("keras_shapley.shapley.probability._CURVATURE_DRAWS", probability.DRAWS)
    a, b, weights = some_games(rng)
    more = rng.normal(size=(3, 5, 300)).astype("float32")
    games = np.dstack([a, more]), np.hstack([b, more[:, 0] - 100]), np.hstack([weights, more[:, 1] - 10])
    np.testing.assert_allclose(by_quadrature(games, link), by_quadrature((a, b, weights), link), atol=2e-6)


@pytest.mark.parametrize("link", ["softmax", "class"])
def test_few_draws_are_enough_for_second_derivatives(link, rng, monkeypatch):
    """A hundred players, 400 classes: no further from the values by orders than with all draws."""
    a, b, weights = some_games(rng, batch=2, players=100, classes=400)
    games = 0.25 * a, b, weights
    truth = walk(games, random_orders(100, 1000, seed=0), link)[0]
    size = np.linalg.norm(truth, axis=1)
    few = by_quadrature(games, link)
    monkeypatch.setattr("keras_shapley.shapley.probability._CURVATURE_DRAWS", probability.DRAWS)
    many = by_quadrature(games, link)
    errors = [np.linalg.norm(values - truth, axis=1) / size for values in (few, many)]
    assert errors[1].max() < 0.2 and (errors[0] < errors[1] + 0.02).all()
    for one, other in zip(few, many):
        assert np.corrcoef(one, other)[0, 1] > 0.999


@pytest.mark.parametrize("size", [10, 50, 300, 20_000])
@pytest.mark.parametrize("link", LINKS)
def test_quadrature_halves_logits_that_are_far_apart(link, size, rng):
    """The value is a step there. Values by orders have a norm of 0.3 to 0.9; without halving, errors are beyond 1."""
    a, b, weights = some_games(rng, batch=6, players=60, classes=5)
    weights = np.eye(5, dtype="float32")[weights.argmax(axis=1)]
    games = size / np.sqrt(60).astype("float32") * a, size * 0.1 * b, weights
    truth, _, _, _, total = walk(games, random_orders(60, 2_000, seed=0), link)
    result = by_quadrature(games, link)
    assert np.linalg.norm(result - truth, axis=1).max() < 0.3
    assert np.abs(result.sum(axis=1) - total).max() < 1
    for one, other in zip(result, truth):
        assert np.linalg.norm(other) < 0.02 or np.corrcoef(one, other)[0, 1] > 0.9


def test_a_game_is_halved_alone(rng):
    a, b, weights = some_games(rng, batch=2, players=30)
    a[1] *= 100
    both = by_quadrature((a, b, weights))
    np.testing.assert_allclose(both[:1], by_quadrature((a[:1], b[:1], weights[:1])), rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(both[1:], by_quadrature((a[1:], b[1:], weights[1:])), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("link", LINKS)
def test_values_stay_finite_where_logits_are_far_apart(link, rng):
    a, b, weights = some_games(rng, players=10)
    games = 200 * a, 200 * b, weights
    assert np.isfinite(by_quadrature(games, link)).all()
    values, *_, total = run(probability.enumerated, games, link=link)
    np.testing.assert_allclose(values.sum(axis=1), total, atol=1e-5)


@pytest.mark.parametrize("method", [probability.enumerated, lambda game: probability.by_quadrature(game, 0)])
def test_one_class_is_the_same_by_its_weights(method, rng):
    a, b, weights = some_games(rng)
    one_hot = np.eye(4, dtype="float32")[weights.argmax(axis=1)]
    for part, expected in zip(run(method, (a, b, weights), link="class"), run(method, (a, b, one_hot))):
        np.testing.assert_allclose(part, expected, atol=1e-6)
