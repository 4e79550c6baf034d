"""Shapley's axioms, and what else holds for any game: random values of coalitions, every method."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference.permutations import by_permutations
from reference.random_games import RandomGame, games

import keras_shapley as ks

SEEDS = st.integers(0, 10**6)


def exact(fn, x, target="all", **options):
    return ks.exact_shapley_values(fn, x, target, progress=False, **options)


def orders(fn, x, target="all", *, n_paths=12, **options):
    return ks.sampled_shapley_values(fn, x, target, n_paths=n_paths, progress=False, **options)


def regression(fn, x, target="all", *, budget=18, **options):
    return ks.shapley_values(fn, x, target, method="regression", budget=budget, progress=False, **options)


METHODS = st.sampled_from([exact, orders, regression])
# those whose value of a player is a weighted sum of its contributions
BY_CONTRIBUTIONS = st.sampled_from([exact, orders])


def close(found, expected, game, rounding=1e-11):
    np.testing.assert_allclose(found, expected, atol=rounding * game.size * game.n)


@given(games(most=5))
def test_exact_values_are_means_over_all_orders(game):
    values = exact(game, game.x).values
    for output in range(game.outputs):
        expected = by_permutations(lambda present: game.value(present, output), game.n)
        close(values[0, :, output], expected, game)


@given(games(), METHODS, SEEDS)
def test_efficiency(game, method, seed):
    options = {} if method is exact else {"seed": seed}
    result = method(game, game.x, **options)
    close(result.values.sum(axis=1), result.total, game)
    close(result.total[0], game.table[-1] - game.table[0], game)
    close(result.baseline_value, game.table[0], game)
    close(result.residual, 0, game)


@given(games(), SEEDS)
def test_symmetry(game, seed):
    i, j = np.random.default_rng(seed).choice(game.n, 2, replace=False)
    values = exact(game.with_twins(i, j), game.x).values
    close(values[0, i], values[0, j], game)


@given(games(), BY_CONTRIBUTIONS, st.data())
def test_a_dummy_has_its_worth(game, method, data):
    k = data.draw(st.integers(0, game.n - 1))
    result = method(game.with_dummy(k, 0.7 * game.size), game.x)
    close(result.values[0, k], 0.7 * game.size, game)
    close(result.stderr[0, k], 0, game)


@given(games(), METHODS, st.data())
def test_an_absent_player_has_nothing(game, method, data):
    """Its element is the baseline's."""
    k = data.draw(st.integers(0, game.n - 1))
    x = game.x
    x[0, k] = 0
    result = method(game, x)
    close(result.values[0, k], 0, game)
    close(result.stderr[0, k], 0, game)
    close(result.residual, 0, game)


@given(games(outputs=1), SEEDS, BY_CONTRIBUTIONS)
def test_linearity(game, seed, method):
    other = RandomGame(game.n, 1, seed, game.size)
    both = method(lambda x: 2 * game(x) - 3 * other(x), game.x).values
    close(both, 2 * method(game, game.x).values - 3 * method(other, game.x).values, game)


@given(games(outputs=1), st.floats(-5, 5), SEEDS, METHODS)
def test_an_additive_game_is_exact(game, constant, seed, method):
    """Each player has what it adds, by any method, and the standard errors are nothing."""
    worth = game.size * np.random.default_rng(seed).normal(size=(game.n, 1))
    result = method(lambda x: x @ worth + constant * game.size, game.x)
    close(result.values[0], worth, game, 1e-9)
    close(result.stderr, 0, game, 1e-9)


@given(games(), st.data())
def test_the_order_of_players_is_no_matter(game, data):
    order = np.array(data.draw(st.permutations(range(game.n))))
    values = exact(game, game.x).values
    close(exact(game.permuted(order), game.x).values, values[:, order], game)
    # the same by the numbers of groups
    close(exact(game, game.x, players=order).values[:, order], values, game)
    found = ks.shapley_interactions(game.permuted(order), game.x, 0, progress=False).values
    expected = ks.shapley_interactions(game, game.x, 0, progress=False).values
    close(found, expected[:, order][:, :, order], game)


@given(games(least=4), SEEDS, st.data())
def test_a_group_is_one_player(game, seed, data):
    """The values of groups are those of the game between groups, by enumeration of its orders."""
    groups = np.array(data.draw(st.lists(st.integers(0, 2), min_size=game.n, max_size=game.n)))
    groups = np.unique(groups, return_inverse=True)[1]
    values = exact(game, game.x, 0, players=groups).values
    expected = by_permutations(lambda present: game.value(present[groups]), groups.max() + 1)
    close(values[0], expected, game)


@given(games(outputs=3), METHODS, SEEDS)
def test_several_targets_are_as_one_by_one(game, method, seed):
    options = {} if method is exact else {"seed": seed}
    every = method(game, game.x, **options)
    for k in range(game.outputs):
        one = method(game, game.x, k, **options)
        close(every.values[:, :, k], one.values, game, 1e-9)
        close(every.stderr[:, :, k], one.stderr, game, 1e-9)
        weights = np.eye(game.outputs)[k]
        close(method(game, game.x, weights, **options).values, one.values, game, 1e-9)


@given(games(least=3), METHODS, SEEDS)
def test_a_row_does_not_depend_on_its_batch(game, method, seed):
    """Nor on how many inputs the function is given at once; and twice the same."""
    x = np.ones((3, game.n))
    x[1, 0] = x[2, :2] = 0
    options = {} if method is exact else {"seed": seed}
    result = method(game, x, **options)
    again = method(game, x, batch_size=3, **options)
    np.testing.assert_array_equal(method(game, x, **options).values, result.values)
    close(again.values, result.values, game)
    alone = method(game, x[1:2], **options)
    close(alone.values, result.values[1:2], game)
    close(alone.stderr, result.stderr[1:2], game)
    close(method(game, x[::-1], **options).values, result.values[::-1], game)


@given(games(), SEEDS)
def test_a_background_is_the_mean_over_its_baselines(game, seed):
    background = np.random.default_rng(seed).integers(0, 2, size=(3, game.n)).astype(float)
    found = exact(game, game.x, baseline=background).values
    each = [exact(game, game.x, baseline=one).values for one in background]
    close(found, np.mean(each, axis=0), game)


@given(games(least=3, outputs=1), SEEDS, st.sampled_from(["random", "stratified", "orthogonal"]))
def test_standard_errors_of_orders_are_honest_and_shrink(game, seed, kind):
    truth = exact(game, game.x).values
    # they come in groups of eight or more
    few = orders(game, game.x, n_paths=256, seed=seed, orders=kind)
    many = orders(game, game.x, n_paths=2048, seed=seed, orders=kind)
    for result in (few, many):
        assert (result.stderr >= 0).all()
        assert (np.abs(result.values - truth) <= 7 * result.stderr + 1e-9 * game.size).all()
    assert many.stderr.mean() <= few.stderr.mean() / 2 + 1e-9 * game.size


@given(games(least=8, most=10, outputs=1), SEEDS)
def test_standard_errors_of_regression_are_honest_and_shrink(game, seed):
    """For a game that is nearly a sum over its players, which is what a regression fits."""
    worth = game.size * np.random.default_rng(seed).normal(size=(game.n, 1))

    def nearly_additive(x):
        return x @ worth + game(x) / 5

    truth = exact(nearly_additive, game.x).values[:, :, 0]
    few, many, all_ = (
        regression(nearly_additive, game.x, 0, budget=budget, seed=seed) for budget in (48, 240, 2**game.n)
    )
    for result in (few, many):
        assert (result.stderr >= 0).all()
        assert (np.abs(result.values - truth) <= 8 * result.stderr).all()
    assert many.stderr.mean() < few.stderr.mean()
    assert all_.method == "exact" and not all_.stderr.any()
    close(all_.values, truth, game)


@given(games(), st.sampled_from(["SII", "k-SII"]))
def test_interactions_are_symmetric_and_sum_to_the_total(game, index):
    result = ks.shapley_interactions(game, game.x, "all", index=index, progress=False)
    close(result.values, np.swapaxes(result.values, 1, 2), game)
    assert not result.stderr.any()
    values = exact(game, game.x).values
    diagonal = np.einsum("biik->bik", result.values)
    if index == "SII":
        close(diagonal, values, game)
    else:
        close(result.values.sum(axis=2), values, game)
        close(result.values.sum(axis=(1, 2)), result.total, game)


@given(games(least=4, outputs=1), st.data())
def test_players_of_separate_games_do_not_interact(game, data):
    """A sum of two games between different players."""
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=game.n, max_size=game.n)))
    result = ks.shapley_interactions(lambda x: game(x * mask) + game(x * ~mask), game.x, 0, progress=False)
    apart = mask[:, None] != mask
    close(result.values[0][apart], 0, game)
    assert pytest.approx(result.values[0], abs=1e-9 * game.size) == result.values[0].T
