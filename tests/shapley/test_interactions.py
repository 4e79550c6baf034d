"""Interactions of pairs of players: the index by its definition, and estimates that know their error."""

import itertools
import math

import keras
import numpy as np
import pytest
from reference.games import network

import keras_shapley as ks
from keras_shapley.shapley.coalitions import random_pairs
from keras_shapley.shapley.interaction_index import interaction_index, sampled_index
from keras_shapley.shapley.pair_regression import PairRegression


def by_definition(value, n):
    """Grabisch & Roubens 1999, a sum over coalitions of the other players, for a function of sets; Shapley values on
    the diagonal."""
    result = np.zeros((n, n))
    for i, j in itertools.combinations(range(n), 2):
        others = [p for p in range(n) if p not in (i, j)]
        for s in range(n - 1):
            weight = math.factorial(s) * math.factorial(n - s - 2) / math.factorial(n - 1)
            for chosen in map(set, itertools.combinations(others, s)):
                change = value(chosen | {i, j}) - value(chosen | {i}) - value(chosen | {j}) + value(chosen)
                result[i, j] += weight * change
        result[j, i] = result[i, j]
    for i in range(n):
        others = [p for p in range(n) if p != i]
        for s in range(n):
            weight = math.factorial(s) * math.factorial(n - s - 1) / math.factorial(n)
            result[i, i] += weight * sum(
                value({*chosen, i}) - value(set(chosen)) for chosen in itertools.combinations(others, s)
            )
    return result


def game_of(fn, image, output):
    """The value of a set of elements of an image; absent ones are 0."""

    def value(present):
        masked = np.zeros_like(image)
        masked[list(present)] = image[list(present)]
        return fn(masked[None])[0, output]

    return value


def all_present(n):
    return np.array(list(itertools.product((False, True), repeat=n)))


def beside_diagonal(matrices):
    n = matrices.shape[1]
    return matrices[:, ~np.eye(n, dtype=bool)]


def test_enumeration_is_the_definition(rng):
    x = rng.normal(size=(2, 5))
    result = ks.shapley_interactions(network, x, [[0, 1]])
    assert result.values.shape == result.stderr.shape == (2, 5, 5, 2)
    for image, values in zip(x, result.values):
        for output in range(2):
            expected = by_definition(game_of(network, image, output), 5)
            np.testing.assert_allclose(values[:, :, output], expected, atol=1e-12)
    assert not result.stderr.any() and result.method == "exact" and result.index == "SII"
    assert result.n_evaluations == 1 + 2 * (2**5 - 1)
    assert result.total.shape == result.baseline_value.shape == (2, 2) and result.target.tolist() == [[0, 1]] * 2


def test_the_diagonal_of_sii_is_the_shapley_values(rng):
    x = rng.normal(size=(2, 5))
    values = ks.shapley_interactions(network, x, 1).values
    np.testing.assert_allclose(
        np.diagonal(values, axis1=1, axis2=2), ks.exact_shapley_values(network, x, 1).values, atol=1e-12
    )


def test_rows_of_k_sii_sum_to_shapley_values_and_matrices_to_the_total(rng):
    x = rng.normal(size=(2, 5))
    found = ks.shapley_interactions(network, x, [[0, 1]], index="k-SII")
    exact = ks.exact_shapley_values(network, x, [[0, 1]])
    np.testing.assert_allclose(found.values.sum(axis=2), exact.values, atol=1e-12)
    np.testing.assert_allclose(found.values.sum(axis=(1, 2)), found.total, atol=1e-12)
    index = ks.shapley_interactions(network, x, [[0, 1]])
    np.testing.assert_allclose(beside_diagonal(found.values), beside_diagonal(index.values) / 2, atol=1e-14)


def test_shapiq_finds_the_same():
    shapiq = pytest.importorskip("shapiq")
    x = np.random.default_rng(0).normal(size=(1, 5))

    def game(present):
        return network(np.where(present, x, 0.0))[:, 0]

    computer = shapiq.ExactComputer(game, n_players=5)
    for index, scale in (("SII", 1), ("k-SII", 2)):
        theirs = computer(index, order=2)
        ours = ks.shapley_interactions(network, x, 0, index=index).values[0]
        for i, j in itertools.combinations(range(5), 2):
            assert theirs[(i, j)] == pytest.approx(scale * ours[i, j], abs=1e-10)
        for i in range(5):
            assert theirs[(i,)] == pytest.approx(ours[i, i], abs=1e-10)


def test_axioms(rng):
    """Linear in the game, nothing for a player that does nothing, and the same for players that are alike."""
    x = rng.normal(size=(1, 5))
    x[0, 1] = x[0, 0]

    def alike(x):
        return np.tanh(x[:, :1] + x[:, 1:2] - x[:, 2:3]) * x[:, 3:4]

    def both(x):
        return 2 * alike(x) - 3 * network(x)[:, :1]

    one, other, joined = (ks.shapley_interactions(fn, x, 0).values for fn in (alike, network, both))
    np.testing.assert_allclose(joined, 2 * one - 3 * other, atol=1e-12)
    assert np.abs(one[0, 4]).max() < 1e-14
    np.testing.assert_allclose(one[0, 0, 2:], one[0, 1, 2:], atol=1e-14)
    np.testing.assert_array_equal(one, np.swapaxes(one, 1, 2))


def test_elements_of_the_baseline_do_not_count(rng):
    """A player at the baseline has no interaction, changes none, and costs nothing."""
    x = np.zeros((1, 40))
    x[0, [3, 17, 25, 30, 39]] = rng.normal(size=5)

    def fn(x):
        return network(x[:, [3, 17, 25, 30, 39]])

    found = ks.shapley_interactions(fn, x, 0)
    expected = np.zeros((40, 40))
    active = np.flatnonzero(x[0])
    expected[np.ix_(active, active)] = ks.shapley_interactions(network, x[:, active], 0).values[0]
    np.testing.assert_allclose(found.values[0], expected, atol=1e-14)
    assert found.method == "exact" and found.n_evaluations == 2**5


@pytest.mark.parametrize("n_active", (0, 1, 2))
def test_very_few_players(n_active):
    x = np.zeros((1, 5))
    x[0, :n_active] = 1.0
    found = ks.shapley_interactions(network, x, 0, index="k-SII")
    expected = by_definition(game_of(network, x[0], 0), 5)
    np.testing.assert_allclose(found.values.sum(axis=2)[0], np.diag(expected), atol=1e-14)
    np.testing.assert_allclose(2 * found.values[0, 0, 1], expected[0, 1], atol=1e-14)


def test_all_outputs_and_groups(rng):
    x = rng.normal(size=(2, 5))
    found = ks.shapley_interactions(network, x, "all", players=[0, 0, 1, 2, 2])
    assert found.values.shape == (2, 3, 3, 2) and found.target is None
    assert found.baseline_value.shape == (2,) and found.total.shape == (2, 2)
    same = ks.shapley_interactions(network, x, [[0, 1]], players=[0, 0, 1, 2, 2])
    np.testing.assert_array_equal(found.values, same.values)
    assert repr(found) == (
        "ShapleyInteractions(SII, exact, inputs: 2, players: 3, largest standard error 0, 15 evaluations)"
    )


def test_random_coalitions_have_no_bias(rng):
    """Means over many samples are the index; the standard errors are the spread."""
    n = 9
    present = all_present(n)
    values = np.tanh(present @ rng.normal(size=n)) + (present @ rng.normal(size=(n, 3))).prod(axis=1)
    truth = interaction_index(present, values[:, None])[:, :, 0]
    codes = 2 ** np.arange(n)[::-1]
    found, errors = [], []
    for _ in range(300):
        pairs = random_pairs(n, 120, rng).present
        some = np.concatenate([pairs, ~pairs, np.ones((1, n), bool), np.zeros((1, n), bool)])
        index, stderr = sampled_index(some, values[some @ codes][:, None])
        found.append(index[:, :, 0])
        errors.append(stderr[:, :, 0])
    beside = ~np.eye(n, dtype=bool)
    mean, spread = np.mean(found, axis=0), np.std(found, axis=0, ddof=1)
    z = (mean - truth)[beside] / spread[beside] * math.sqrt(300)
    assert np.sqrt(np.mean(np.square(z))) < 1.6
    stated = np.sqrt(np.mean(np.square(errors), axis=0))
    assert 0.6 < np.median(stated[beside] / spread[beside]) < 1.5
    # rows: the ends of the game alone
    np.testing.assert_allclose(np.diagonal(found, axis1=1, axis2=2), np.tile(np.diag(truth), (300, 1)), atol=1e-10)


def test_all_coalitions_give_the_index_to_random_ones_too(rng):
    present, values = all_present(6), rng.normal(size=(64, 2))
    index, stderr = sampled_index(present, values)
    np.testing.assert_allclose(index, interaction_index(present, values), atol=1e-12)
    assert not stderr.any()


def test_the_regression_finds_the_interactions_of_pairs(rng):
    """A game of pairs, to the last digit where pairs of coalitions are more than those of players."""
    n = 18
    b = np.triu(rng.normal(size=(n, n)), 1)
    present = random_pairs(n, 600, rng)
    even = np.mean([np.einsum("ti,ij,tj->t", z, b, z) for z in (present.present * 1.0, ~present.present * 1.0)], axis=0)
    found, stderr = PairRegression(present).interactions((even - b.sum() / 2)[:, None])
    expected = b + b.T
    np.fill_diagonal(expected, expected.sum(axis=1))
    np.testing.assert_allclose(found[:, :, 0], expected, atol=1e-3)
    assert stderr.max() < 1e-2


@pytest.mark.parametrize("n_pairs", [9, 31])
def test_the_regression_is_that_of_normal_distributions(n_pairs, rng):
    """Against dense matrices: strengths of the prior, averaged by the density of what is observed, and its noise."""
    n, pairs, even = 6, random_pairs(6, n_pairs, rng), rng.normal(size=n_pairs)
    size, (i, j) = pairs.present.sum(axis=1), np.triu_indices(n, 1)
    signs, weights = 2.0 * pairs.present - 1, pairs.weights / (size * (n - size))
    roots = np.sqrt(weights / weights.mean())
    # of each size but single players the mean is unknown: projected out
    unknown = (size[:, None] == np.unique(size[size > 1])) * roots[:, None]
    projection = np.eye(n_pairs) - unknown @ np.linalg.pinv(unknown)
    rows = projection @ ((signs[:, i] * signs[:, j] - 1) * roots[:, None])
    y, n_rows = projection @ (even * roots), n_pairs - unknown.shape[1]
    # the pairs of players, then the sums of each player's
    functionals = np.concatenate([np.eye(len(i)), [(i == k) | (j == k) for k in range(n)]])
    evidence, means, variances = [], [], []
    unit = np.mean([square for square in np.linalg.svd(rows)[1] ** 2 if square > 1e-9])
    for strength in np.geomspace(1e-6, 1, 60) * unit:
        covariance = np.eye(n_pairs) + rows @ rows.T / strength
        noise = y @ np.linalg.solve(covariance, y) / n_rows
        evidence.append(-0.5 * (n_rows * np.log(noise) + np.linalg.slogdet(covariance)[1]))
        inverse = np.linalg.inv(rows.T @ rows + strength * np.eye(len(i)))
        means.append(functionals @ inverse @ rows.T @ y)
        variances.append(noise * np.diag(functionals @ inverse @ functionals.T))
    shares = np.exp(evidence - np.max(evidence))
    shares /= shares.sum()
    mean = shares @ means
    stderr = np.sqrt(shares @ (variances + np.square(means - mean)))
    for found, expected in zip(PairRegression(pairs).interactions(even[:, None]), (mean, stderr)):
        np.testing.assert_allclose(found[i, j, 0], 4 * expected[: len(i)], rtol=1e-5, atol=1e-9)
        np.testing.assert_allclose(found[j, i, 0], found[i, j, 0])
        np.testing.assert_allclose(np.diag(found[:, :, 0]), 4 * expected[len(i) :], rtol=1e-5, atol=1e-9)


def hidden_network():
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((14,)), keras.layers.Dense(16, "tanh"), keras.layers.Dense(8, "relu"), keras.layers.Dense(3)]
    )
    for weight in model.trainable_weights:
        weight.assign(2.0 * weight)
    return model


def of_seeds(fn, x, budget, n_seeds, **options):
    found = [
        ks.shapley_interactions(fn, x, 0, budget=budget, seed=seed, progress=False, **options)
        for seed in range(n_seeds)
    ]
    return found[0].method, np.array([f.values[0] for f in found]), np.array([f.stderr[0] for f in found])


@pytest.mark.parametrize("method, error", (("surrogate", 0.15), ("regression", 0.3)))
def test_estimates_know_their_error(method, error):
    """Fourteen players, of which the exact values are known, from a budget below 2**14."""
    model = hidden_network()
    x = np.random.default_rng(0).normal(size=(1, 14)).astype("float32")
    fn = model if method == "surrogate" else lambda x: model.predict_on_batch(x.astype("float32"))
    truth = ks.shapley_interactions(model, x, 0).values
    used, values, stderr = of_seeds(fn, x, 900, 4)
    assert used == method
    size = np.sqrt(np.mean(np.square(beside_diagonal(truth))))
    wrong = beside_diagonal(values - truth)
    assert np.sqrt(np.mean(np.square(wrong))) < error * size
    z = wrong / beside_diagonal(stderr)
    assert 0.3 < np.sqrt(np.mean(np.square(z))) < 2
    diagonal = np.diagonal(values - truth, axis1=1, axis2=2)
    assert np.sqrt(np.mean(np.square(diagonal))) < 0.1 * np.sqrt(np.mean(np.square(np.diagonal(truth[0]))))


@pytest.mark.parametrize("is_model", (True, False))
def test_estimates_of_k_sii_sum_to_the_total_within_the_budget(is_model):
    model = hidden_network()
    x = np.random.default_rng(0).normal(size=(2, 14)).astype("float32")
    fn = model if is_model else lambda x: model.predict_on_batch(x.astype("float32"))
    found = ks.shapley_interactions(fn, x, [[0, 2]], budget=200, index="k-SII")
    np.testing.assert_allclose(found.values.sum(axis=(1, 2)), found.total, atol=1e-4)
    assert found.values.shape == (2, 14, 14, 2) and found.method == ("surrogate" if is_model else "regression")
    np.testing.assert_allclose(found.values, np.swapaxes(found.values, 1, 2), atol=1e-8)
    # that without players, and the whole images
    assert found.n_evaluations <= 1 + 2 * (1 + 200)
    index = ks.shapley_interactions(fn, x, [[0, 2]], budget=200)
    np.testing.assert_allclose(beside_diagonal(found.stderr), beside_diagonal(index.stderr) / 2, rtol=1e-4, atol=1e-8)


def test_more_players_than_can_be_enumerated(rng):
    """Twenty players, of which three interact."""

    def fn(x):
        return x.sum(axis=1) + 4 * x[:, 0] * x[:, 1] - 3 * x[:, 1] * x[:, 2]

    found = ks.shapley_interactions(fn, np.ones((1, 20)))
    assert found.method == "regression" and found.n_evaluations <= 64 * 20 + 2
    expected = np.zeros((20, 20))
    expected[0, 1] = expected[1, 0] = 4
    expected[1, 2] = expected[2, 1] = -3
    np.testing.assert_allclose(beside_diagonal(found.values), beside_diagonal(expected[None]), atol=1e-3)


def test_errors(rng):
    x = rng.normal(size=(1, 5))
    with pytest.raises(ValueError, match="`order` must be 2.*Received: 3"):
        ks.shapley_interactions(network, x, order=3)
    with pytest.raises(ValueError, match="index"):
        ks.shapley_interactions(network, x, index="STII")
    with pytest.raises(ValueError, match="`budget` must be an int, 4 or more. Received: budget=3"):
        ks.shapley_interactions(network, x, budget=3)
    with pytest.raises(ValueError, match="`budget` must be at least 20 for 5 players. Received: 10"):
        ks.shapley_interactions(network, x, budget=10)
    with pytest.raises(ValueError, match="up to 128 players.*Received: 130. Group them with `players`"):
        ks.shapley_interactions(lambda x: x, np.ones((1, 130)))
    with pytest.raises(ValueError, match="seed"):
        ks.shapley_interactions(network, x, seed=-1)
