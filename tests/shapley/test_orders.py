"""Random orders of players: permutations, all equally likely, and unlike each other where that is promised."""

import math

import numpy as np
import pytest

from keras_shapley.shapley import orders


def groups_of(*args):
    return list(orders.groups(*args))


@pytest.mark.parametrize("kind", orders.KINDS)
@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 40])
@pytest.mark.parametrize("size", [1, 5, 64, 100])
def test_groups_are_permutations_of_the_asked_number(kind, n, size):
    groups = groups_of(kind, n, size, 0)
    assert sum(map(len, groups)) == size
    sizes = {len(group) for group in groups}
    assert max(sizes) - min(sizes) <= 1
    for order in np.concatenate(groups):
        np.testing.assert_array_equal(np.sort(order), np.arange(n))


def test_groups_are_many_enough_for_a_standard_error():
    assert len(groups_of("orthogonal", 1000, 64, 0)) == 16
    assert len(groups_of("orthogonal", 5, 64, 0)) == 16
    assert len(groups_of("stratified", 50, 64, 0)) == 16
    assert len(groups_of("random", 50, 64, 0)) == 64
    # of few orders none depend on each other, nor of two players, who have two orders
    assert len(groups_of("orthogonal", 50, 16, 0)) == 16
    assert len(groups_of("stratified", 2, 64, 0)) == len(groups_of("orthogonal", 2, 64, 0)) == 64


def test_three_players_have_two_orders_at_right_angles():
    """Six orders share the plane where coordinates sum to zero, so at 90 degrees their rank correlation is +-1/2."""
    groups = groups_of("orthogonal", 3, 64, 0)
    assert [len(group) for group in groups] == [2] * 32
    for group in groups:
        assert abs(np.corrcoef(np.argsort(group, axis=1))[0, 1]) == pytest.approx(0.5)


@pytest.mark.parametrize("kind", orders.KINDS)
def test_every_order_is_as_likely(kind):
    """The 24 orders of four players, each within five standard deviations of its expected number in 4,800."""
    drawn = np.concatenate([np.concatenate(groups_of(kind, 4, 48, seed)) for seed in range(100)])
    _, counts = np.unique(drawn, axis=0, return_counts=True)
    # the orders of a group are not independent: at most one of four rotations is a given order
    assert len(counts) == 24
    assert np.abs(counts - 200).max() < 5 * math.sqrt(200)


def test_the_same_seed_gives_the_same_orders():
    for kind in orders.KINDS:
        first, again, other = (np.concatenate(groups_of(kind, 9, 20, seed)) for seed in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()


def test_stratified_orders_bring_each_player_once_in_each_quarter():
    for group in orders.groups("stratified", 20, 8, 0):
        quarters = np.sort(np.argsort(group, axis=1) // 5, axis=0)
        np.testing.assert_array_equal(quarters, np.arange(4)[:, None].repeat(20, axis=1))


def test_orthogonal_orders_are_less_alike_than_random_ones():
    """The mean absolute rank correlation between the orders of a group."""

    def likeness(group):
        places = np.argsort(group, axis=1)
        return np.abs(np.corrcoef(places)[np.triu_indices(len(places), 1)]).mean()

    rng = np.random.default_rng(0)
    orthogonal = np.mean([likeness(orders.orthogonal(rng, 12, 11)) for _ in range(50)])
    assert orthogonal < 0.6 * np.mean([likeness(orders.random(rng, 12, 11)) for _ in range(50)])
