"""Regression on pairs of coalitions, against enumeration and against dense formulas of normal distributions."""

import numpy as np
import pytest

from keras_shapley.shapley import regression
from keras_shapley.shapley.coalitions import pair_count, random_pairs
from keras_shapley.shapley.exact import all_coalitions


def game(n, seed=0):
    """A function of coalitions, with interactions of all orders up to three."""
    rng = np.random.default_rng(seed)
    single, pairs = rng.normal(size=n), np.triu(rng.normal(size=(n, n)), 1)
    triple = rng.permutation(n)[:3]

    def value(present):
        z = present.astype("float64")
        return z @ single + 0.5 * np.einsum("si,ij,sj->s", z, pairs, z) + 2 * z[:, triple].prod(axis=1)

    return value


def truth_of(value, n):
    present, coefficients = all_coalitions(n)
    return coefficients @ value(present)


def observed(value, n, n_pairs, seed):
    pairs = random_pairs(n, n_pairs, np.random.default_rng(seed))
    none, every = value(np.array([[False] * n, [True] * n]))
    differences = value(pairs.present) - value(~pairs.present)
    return regression.Observed(pairs, differences[:, None], np.array([every - none]))


@pytest.mark.parametrize("n", [2, 5, 9])
def test_least_squares_on_all_pairs_are_the_shapley_values(n):
    value = game(n)
    data = observed(value, n, pair_count(n), 0)
    solver = regression.LeastSquares(data.total, n)
    for rows in (slice(0, 1), slice(1, None)) if n > 2 else (slice(0, 1),):
        solver.add(data.pairs.take(rows), data.differences[rows])
    values, _ = solver.solve()
    np.testing.assert_allclose(values[:, 0], truth_of(value, n), atol=1e-10)


def test_least_squares_know_their_error():
    n, value = 12, game(12)
    truth = truth_of(value, n)
    errors, stderr = [], []
    for seed in range(200):
        data = observed(value, n, 150, seed)
        solver = regression.LeastSquares(data.total, n)
        solver.add(data.pairs, data.differences)
        values, own = solver.solve()
        np.testing.assert_allclose(values.sum(), data.total, atol=1e-9)
        errors.append(values[:, 0] - truth)
        stderr.append(own[:, 0])
    spread = np.sqrt(np.mean(np.square(errors)))
    # pairs are drawn without replacement, so the errors are smaller than the standard errors
    assert 0.6 * np.sqrt(np.mean(np.square(stderr))) < spread < 1.05 * np.sqrt(np.mean(np.square(stderr)))


@pytest.mark.parametrize("n_pairs", [29, 60, 400])
def test_an_additive_game_is_solved_to_rounding(rng, n_pairs):
    single = rng.normal(size=(30, 2)) * [1.0, 1e6]
    pairs = random_pairs(30, n_pairs + 1, rng)
    data = regression.Observed(pairs, (2.0 * pairs.present - 1) @ single, single.sum(axis=0))
    values, stderr = regression.shapley_values([data])
    np.testing.assert_allclose(values, single, rtol=1e-7, atol=1e-7)
    assert not stderr.any()


@pytest.mark.parametrize("n_pairs", [4, 20])
@pytest.mark.parametrize("prior", [None, "given"])
def test_the_posterior_is_that_of_normal_distributions(rng, n_pairs, prior):
    """Against the dense formula: condition the values on their sum, then on the observations."""
    n, strength = 8, 3.0
    data = observed(game(n), n, n_pairs, 1)
    covariance = np.eye(n) if prior is None else regression._covariance_around(rng.normal(size=n))
    design = regression._Design(data.pairs, covariance)
    solved = regression._Solved(design, data)

    prior_covariance = covariance / strength
    signs = 2.0 * data.pairs.present - 1
    rows = np.concatenate([signs, np.ones((1, n))])
    noise = np.diag(np.append(1 / data.pairs.weights, 1e-12))
    y = np.append(data.differences[:, 0], data.total[0])
    gain = prior_covariance @ rows.T @ np.linalg.inv(rows @ prior_covariance @ rows.T + noise)
    variance = np.diag(prior_covariance - gain @ rows @ prior_covariance)
    np.testing.assert_allclose(solved.mean(strength)[:, 0], gain @ y, atol=1e-6)
    own = design.noise(strength) + np.square(design.held_back(strength)).sum(axis=1) / strength
    np.testing.assert_allclose(own, variance, atol=1e-6)
    np.testing.assert_allclose(regression._variance([design], strength), variance, atol=1e-6)


@pytest.mark.parametrize("n_pairs", [6, 40])
def test_values_do_not_depend_on_those_beside_them(rng, n_pairs):
    n = 10
    games = [game(n, seed) for seed in range(3)] + [lambda present: present @ np.arange(n, dtype="float64")]
    each = [observed(value, n, n_pairs, 0) for value in games]
    differences = np.concatenate([data.differences for data in each], axis=1)
    together = regression.Observed(each[0].pairs, differences, np.concatenate([data.total for data in each]))
    found = regression.shapley_values([together])
    alone = [np.concatenate(parts, axis=1) for parts in zip(*(regression.shapley_values([data]) for data in each))]
    np.testing.assert_allclose(found, alone, atol=1e-10)


@pytest.mark.parametrize("per_player", [2.5, 5, 25])
def test_intervals_cover(per_player):
    n, inside, size, error = 16, [], [], []
    for seed in range(30):
        value = game(n, seed)
        data = observed(value, n, int(per_player * n), seed)
        values, stderr = regression.shapley_values([data])
        np.testing.assert_allclose(values.sum(), data.total, atol=1e-9)
        error.append(values[:, 0] - truth_of(value, n))
        size.append(stderr[:, 0])
        inside.append(np.abs(error[-1]) < 1.96 * stderr[:, 0])
    assert 0.92 < np.mean(inside) < 0.99
    assert 0.7 < np.sqrt(np.mean(np.square(error)) / np.mean(np.square(size))) < 1.2


def test_a_prior_helps_as_far_as_it_is_right():
    n = 12
    errors = {"none": [], "right": [], "wrong": []}
    for seed in range(40):
        value = game(n, seed)
        truth = truth_of(value, n)
        rng = np.random.default_rng(seed)
        priors = {"none": None, "right": 7 * truth + rng.normal(size=n), "wrong": rng.normal(size=n)}
        data = observed(value, n, 12, seed)
        for name, prior in priors.items():
            values, _ = regression.shapley_values([data], None if prior is None else prior[:, None])
            errors[name].append(np.square(values[:, 0] - truth).mean())
    right, wrong = (np.sqrt(np.mean(errors[name]) / np.mean(errors["none"])) for name in ("right", "wrong"))
    assert right < 0.8
    assert wrong < 1.15


def test_the_covariance_around_a_prior_depends_on_neither_its_scale_nor_the_number_of_players(rng):
    prior = rng.normal(size=6)
    covariance = regression._covariance_around(prior)
    np.testing.assert_allclose(regression._covariance_around(-7 * prior), covariance)
    np.testing.assert_allclose(regression._covariance_around(np.tile(prior, 2))[:6, :6], covariance)
    # beside the scale, a value varies by its own size and three tenths of the root mean square
    squares = np.array([0.3, 0.3 + 2**0.5]) ** 2
    near = regression._covariance_around(np.array([0.0, 2**0.5])) - np.diag([0, 100 * 2])
    np.testing.assert_allclose(near, np.diag(squares / squares.mean()), atol=1e-10)


def test_a_game_without_variation_has_values_of_zero(rng):
    pairs = random_pairs(6, 10, rng)
    for n_pairs in (4, 10):
        data = regression.Observed(pairs.take(slice(n_pairs)), np.zeros((n_pairs, 1)), np.zeros(1))
        values, stderr = regression.shapley_values([data])
        assert not values.any() and np.isfinite(stderr).all()
