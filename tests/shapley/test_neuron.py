"""Shapley values of a neuron, against enumeration."""

import functools
import itertools
import math

import numpy as np
import pytest
from keras import ops
from reference.permutations import by_permutations

import keras_shapley as ks

TABLE_1 = {
    "exact": (-1 / 6, 4 / 3, -7 / 6),
    "gaussian": (-0.421, 1.157, -1.052),
    "quadrature": (-0.298, 1.301, -0.963),
}


@pytest.mark.parametrize("method", TABLE_1)
def test_table_1(method):
    x, kernel, bias = np.array([[-1.0, 2, -1]]), np.array([[1.0], [2], [3]]), np.array([-1.0])
    values = ops.convert_to_numpy(ks.neuron_shapley_values(x, kernel, bias, method=method))
    assert values.shape == (1, 3, 1)
    np.testing.assert_allclose(values[0, :, 0], TABLE_1[method], atol=5e-4)


def coalition_value(a, b, present):
    return max(a[present].sum() + b, 0)


def test_exact_values_are_the_mean_over_all_orders(rng):
    x, kernel, bias = rng.normal(size=(2, 5)), rng.normal(size=(5, 3)), rng.normal(size=3)
    values = ops.convert_to_numpy(ks.neuron_shapley_values(x, kernel, bias, method="exact"))
    for image, unit in itertools.product(range(2), range(3)):
        expected = by_permutations(functools.partial(coalition_value, x[image] * kernel[:, unit], bias[unit]), 5)
        np.testing.assert_allclose(values[image, :, unit], expected, atol=1e-5)


def test_each_method_sums_to_its_documented_total(rng):
    x, kernel, bias = rng.normal(size=(7, 9)), rng.normal(size=(9, 4)), rng.normal(size=4)
    a = x[:, :, None] * kernel
    u, q = a.sum(axis=1), (a**2).sum(axis=1)
    exact = np.maximum(u + bias, 0) - np.maximum(bias, 0)
    z = (u / 2 + bias) / np.sqrt(q / 6 + u**2 / 12)
    gaussian = np.vectorize(lambda z: 0.5 * math.erfc(-z / math.sqrt(2)))(z) * (u + bias)
    for method, total in (("exact", exact), ("gaussian", gaussian)):
        values = ops.convert_to_numpy(ks.neuron_shapley_values(x, kernel, bias, method=method))
        np.testing.assert_allclose(values.sum(axis=1), total, atol=1e-5)
    for method in TABLE_1:
        values = ops.convert_to_numpy(ks.neuron_shapley_values(x, kernel, bias, method=method, normalize=True))
        np.testing.assert_allclose(values.sum(axis=1), exact, atol=1e-5)


def test_quadrature_is_nearer_the_truth_than_the_single_gaussian(rng):
    x, kernel, bias = rng.normal(size=(10, 9)), rng.normal(size=(9, 60)), 0.3 * rng.normal(size=60)
    exact, gaussian, quadrature = (
        ops.convert_to_numpy(ks.neuron_shapley_values(x, kernel, bias, method=method)) for method in TABLE_1
    )
    worst, better = (np.sqrt(np.mean((v - exact) ** 2) / np.mean(exact**2)) for v in (gaussian, quadrature))
    assert worst < 0.15
    assert better < 0.05
    assert better < worst / 2.5


@pytest.mark.parametrize("method", TABLE_1)
def test_dead_inputs_give_finite_values(method):
    values = ks.neuron_shapley_values(np.zeros((1, 4)), np.ones((4, 2)), np.array([-1.0, 2.0]), method=method)
    values = ops.convert_to_numpy(values)
    assert np.isfinite(values).all()
    normalized = ks.neuron_shapley_values(np.zeros((1, 4)), np.ones((4, 2)), np.array([-1.0, 2.0]), normalize=True)
    np.testing.assert_allclose(ops.convert_to_numpy(normalized), 0, atol=1e-6)


@pytest.mark.parametrize(
    "arguments, word",
    [
        (dict(x=np.zeros((1, 3)), kernel=np.zeros((3, 2)), method="shap"), "method"),
        (dict(x=np.zeros((1, 3)), kernel=np.zeros((4, 2))), "kernel"),
        (dict(x=np.zeros(3), kernel=np.zeros((3, 2))), "shapes"),
        (dict(x=np.zeros((1, 3)), kernel=np.zeros((3, 2)), bias=np.zeros(3)), "bias"),
        (dict(x=np.array([[0, np.nan, 1]]), kernel=np.zeros((3, 2))), "`x`"),
        (dict(x=np.zeros((1, 3)), kernel=np.full((3, 2), np.inf)), "`kernel`"),
        (dict(x=np.zeros((1, 17)), kernel=np.zeros((17, 2)), method="exact"), "16"),
    ],
)
def test_bad_input_is_named(arguments, word):
    with pytest.raises(ValueError, match=word):
        ks.neuron_shapley_values(**arguments)
