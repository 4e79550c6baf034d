"""Guesses of sums for every coalition: right where they are of the form that is assumed, local where the sums are."""

import dataclasses

import numpy as np
import pytest

from keras_shapley.shapley.coalitions import Pairs, joined, random_pairs
from keras_shapley.shapley.last_sums import Guess, Parts, Places, Settings, likely_settings, odd_and_even

N = 10


def parts_of(sums, n_pairs, distances=None, seed=0, groups=None):
    """What is seen of sums, a function of coalitions that returns `(coalitions, places, sums)`."""
    pairs = random_pairs(N, n_pairs, np.random.default_rng(seed))
    pairs = joined([pairs, Pairs(np.ones((1, N), bool), np.ones(1))])
    one, other = sums(pairs.present).swapaxes(0, 1), sums(~pairs.present).swapaxes(0, 1)
    if distances is None:
        places, one, other = None, one.sum(axis=0, keepdims=True), other.sum(axis=0, keepdims=True)
    else:
        places = Places(distances, list(np.arange(len(distances))[:, None]) if groups is None else groups)
    return Parts(2.0 * pairs.present - 1, np.sqrt(pairs.weights), *odd_and_even(one, other, places), places)


def polynomial(rng, places=1, n_sums=3, *, interactions=0.0):
    """Sums that are additive, with pairs of players."""
    constant, single = rng.normal(size=(places, n_sums)), rng.normal(size=(N, places, n_sums))
    double = interactions * rng.normal(size=(N, N, places, n_sums))

    def sums(present):
        z = present.astype("float64")
        return constant + np.einsum("ci,ips->cps", z, single) + np.einsum("ci,cj,ijps->cps", z, z, double)

    return sums


@pytest.mark.parametrize("places", [1, 4])
@pytest.mark.parametrize("n_pairs", [60, 300])
def test_additive_sums_are_found(rng, places, n_pairs):
    sums = polynomial(rng, places)
    parts = parts_of(sums, n_pairs)
    guess = Guess(parts, likely_settings(parts))
    present = rng.random((50, N)) < 0.5
    for found, expected in zip(guess(present), (sums(present), sums(~present))):
        np.testing.assert_allclose(found, expected.sum(axis=1), atol=0.01 * np.abs(expected).max())


def test_pairs_of_players_are_found(rng):
    sums = polynomial(rng, interactions=1.0)
    parts = parts_of(sums, 400)
    settings = likely_settings(parts)
    assert settings.interactions > 0
    present = rng.random((200, N)) < 0.5
    expected = sums(present).sum(axis=1)
    found, _ = Guess(parts, settings)(present)
    without, _ = Guess(parts, Settings(**{**vars(settings), "interactions": 0.0}))(present)
    assert np.std(found - expected) < 0.05 * np.std(expected)
    assert np.std(without - expected) > 0.3 * np.std(expected)


def test_sums_of_local_parts_need_fewer_coalitions(rng):
    """Players in a row; the part of a place depends on its two nearest players."""
    distances = np.abs(np.arange(N)[:, None] - np.arange(N)) / N
    weights = rng.normal(size=(N, N, 1)) * (distances < 0.11)[:, :, None]

    def sums(present):
        return np.einsum("ci,pis->cps", present.astype("float64"), weights)

    present = rng.random((100, N)) < 0.5
    expected = sums(present).sum(axis=1)
    errors = {}
    for name, given in (("near", distances), ("anywhere", None)):
        parts = parts_of(sums, 5, given)
        settings = likely_settings(parts)
        assert settings.reach <= 0.15 if name == "near" else np.isinf(settings.reach)
        # the units of the sums are of no account
        assert likely_settings(dataclasses.replace(parts, odd=1e-3 * parts.odd, even=1e-3 * parts.even)) == settings
        errors[name] = np.std(Guess(parts, settings)(present)[0] - expected)
    assert errors["near"] < 0.3 * errors["anywhere"]


@pytest.mark.parametrize("has_places", [True, False])
def test_variances_of_the_players_sum_to_one(has_places, rng):
    parts = parts_of(polynomial(rng, 3), 8, rng.random((3, N)) if has_places else None)
    assert parts.variances(0.3, 0.03).sum(axis=1).mean() == pytest.approx(1)


def test_the_ridge_is_that_of_dense_formulas(rng):
    """Against the normal equations of the stacked design: players with variances, and a term of the size."""
    sums = polynomial(rng, 2, interactions=0.3)
    distances = rng.random((2, N))
    parts = parts_of(sums, 8, distances)
    settings = Settings(reach=0.3, floor=0.03, noise=0.2, interactions=0.0, noise_of_even=0.4)
    guess = Guess(parts, settings)
    variances = np.exp(-0.5 * np.square(distances / 0.3)) + 0.03
    variances /= variances.sum(axis=1).mean()
    rows = parts.signs * parts.roots[:, None]
    odd = 0.0
    for place, variance in enumerate(variances):
        y = parts.odd[place] * parts.roots[:, None]
        odd = odd + np.linalg.solve(rows.T @ rows + 0.2 * np.diag(1 / variance), rows.T @ y)
    size = np.square(parts.signs.mean(axis=1))
    centred = size - size.mean()
    even = parts.even.sum(axis=0)
    slope = centred @ even / (centred @ centred + 0.4 / 0.1)
    present = rng.random((20, N)) < 0.5
    signs = 2.0 * present - 1
    base = even.mean(axis=0) + (np.square(signs.mean(axis=1)) - size.mean())[:, None] * slope
    one, other = guess(present)
    np.testing.assert_allclose(one, base + signs @ odd, atol=1e-4)
    np.testing.assert_allclose(other, base - signs @ odd, atol=1e-4)


@pytest.mark.parametrize("n_pairs", [30, 80], ids=["fewer pairs than features", "more"])
@pytest.mark.parametrize("groups", [[[0], [1], [2]], [[0, 2], [1]]], ids=["places", "groups"])
def test_interactions_are_those_of_a_ridge_regression_on_products(groups, n_pairs, rng):
    """Against the primal problem: a coefficient for the size and for each pair of players, of each group of places."""
    sums, distances = polynomial(rng, 3, interactions=0.3), rng.random((3, N))
    parts = parts_of(sums, n_pairs, distances, groups=list(map(np.array, groups)))
    settings = Settings(reach=0.3, floor=0.03, noise=0.2, interactions=0.7, noise_of_even=0.4)
    variances = np.exp(-0.5 * np.square(distances / 0.3)) + 0.03
    shares = variances / variances.sum(axis=1, keepdims=True)
    i, j = np.triu_indices(N, 1)

    def features(signs, share):
        size = np.sqrt(0.1) * np.square(signs.mean(axis=1, keepdims=True))
        return np.concatenate([size, np.sqrt(2 * 0.7 * share[i] * share[j]) * signs[:, i] * signs[:, j]], axis=1)

    present = rng.random((20, N)) < 0.5
    even = (sums(parts.signs > 0) + sums(parts.signs < 0)) / 2
    expected = 0.0
    for group in groups:
        share, y = shares[group].mean(axis=0), even[:, group].sum(axis=1)
        seen, new = features(parts.signs, share), features(2.0 * present - 1, share)
        centred = seen - seen.mean(axis=0)
        slopes = np.linalg.solve(centred.T @ centred + 0.4 * np.eye(len(centred.T)), centred.T @ (y - y.mean(axis=0)))
        expected = expected + y.mean(axis=0) + (new - seen.mean(axis=0)) @ slopes
    one, other = Guess(parts, settings)(present)
    np.testing.assert_allclose((one + other) / 2, expected, atol=1e-4)


def test_settings_are_found_on_the_sums_that_vary_most(rng):
    """Sums that hardly change are as many as the settings are found on, and say nothing of the others."""
    parts = parts_of(polynomial(rng, 4, interactions=1.0), 60, rng.random((4, N)))
    odd, even = (np.concatenate([np.zeros((4, 61, 70)), part], axis=2) for part in (parts.odd, parts.even))
    many = Parts(parts.signs, parts.roots, odd, even, parts.places)
    assert likely_settings(many) == likely_settings(parts)


def test_a_sum_that_never_changes(rng):
    def sums(present):
        return np.full((len(present), 2, 3), 4.0)

    parts = parts_of(sums, 12)
    one, other = Guess(parts, likely_settings(parts))(rng.random((5, N)) < 0.5)
    np.testing.assert_allclose(one, 8.0, atol=1e-5)
    np.testing.assert_allclose(other, 8.0, atol=1e-5)


def test_parts_in_float32_are_enough(rng):
    sums = polynomial(rng, 2, interactions=0.3)
    exact = parts_of(sums, 500)
    settings = Settings(reach=np.inf, floor=1.0, noise=1e-4, interactions=0.5, noise_of_even=1e-4)
    rounded = Parts(exact.signs, exact.roots, exact.odd.astype("float32"), exact.even.astype("float32"), None)
    present = rng.random((50, N)) < 0.5
    for found, expected in zip(Guess(rounded, settings)(present), Guess(exact, settings)(present)):
        np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())
