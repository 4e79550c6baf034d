"""The reference itself: the paper's numbers, finite differences, and enumeration of permutations."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.signal
import scipy.stats
from reference import geometry, paper

TABLE_1 = np.array([-1.0, 2.0, -1.0]), np.array([1.0, 2.0, 3.0]), -1.0


def neuron(rng, n=5):
    return rng.normal(size=n), rng.normal(size=n), rng.normal()


def derivative(fn, x, step=1e-6):
    """Jacobian of `fn(x)` in the vector `x` by central differences, the derivatives on the last axis."""
    steps = step * np.eye(len(x))
    return np.stack([(np.array(fn(x + h)) - np.array(fn(x - h))) / (2 * step) for h in steps], axis=-1)


@pytest.mark.parametrize("z", [-30.0, -8.0, -1.0, 0.0, 0.3, 9.0])
def test_normal_distribution_is_scipys(z):
    np.testing.assert_allclose(paper.normal_cdf(z), scipy.stats.norm.cdf(z), rtol=1e-12)
    np.testing.assert_allclose(paper.normal_pdf(z), scipy.stats.norm.pdf(z), rtol=1e-12)


def test_table_1_row_by_row():
    rows = {
        (0, 1, 2): (0, 2, -2),
        (0, 2, 1): (0, 0, 0),
        (1, 0, 2): (-1, 3, -2),
        (1, 2, 0): (0, 3, -3),
        (2, 0, 1): (0, 0, 0),
        (2, 1, 0): (0, 0, 0),
    }
    for order, row in rows.items():
        np.testing.assert_array_equal(paper.contributions(*TABLE_1, order), row)
    np.testing.assert_allclose(paper.exact_shapley_values(*TABLE_1), [-1 / 6, 4 / 3, -7 / 6], rtol=1e-14)


def test_eq_1_on_the_neuron_of_table_1():
    np.testing.assert_allclose(paper.shapley_values(*TABLE_1), [-0.421, 1.157, -1.052], atol=5e-4)


def test_exact_values_share_out_what_relu_gains(rng):
    x, w, b = neuron(rng)
    gain = max(w @ x + b, 0) - max(b, 0)
    np.testing.assert_allclose(paper.exact_shapley_values(x, w, b).sum(), gain, atol=1e-14)


def test_eq_1_sums_to_eq_5(rng):
    x, w, b = neuron(rng)
    total = paper.shapley_values(x, w, b).sum()
    np.testing.assert_allclose(total, paper.shapley_activation(x, w, b), rtol=1e-13)


@pytest.mark.parametrize("n", [2, 3, 6])
def test_mu_and_sigma_are_the_moments_over_random_orders(rng, n):
    """Section 2.1: h is uniform on 0..n, the order is uniform, the first h inputs are on. Exact for every n."""
    x, w, _ = neuron(rng, n)
    sums = [np.sum((w * x)[list(order[:h])]) for order in itertools.permutations(range(n)) for h in range(n + 1)]
    mu, variance = paper.mean_and_variance(x, w)
    np.testing.assert_allclose(np.mean(sums), mu, rtol=1e-12)
    np.testing.assert_allclose(np.var(sums), variance, rtol=1e-12)


def test_eq_4_is_the_diagonal_of_the_derivative_of_eq_1(rng):
    x, w, b = neuron(rng)
    dx, dw, db = paper.shapley_gradient(x, w, b)
    np.testing.assert_allclose(dx, np.diag(derivative(lambda x: paper.shapley_values(x, w, b), x)), rtol=1e-7)
    np.testing.assert_allclose(dw, np.diag(derivative(lambda w: paper.shapley_values(x, w, b), w)), rtol=1e-7)
    of_b = derivative(lambda b: paper.shapley_values(x, w, b[0]), np.array([b]))
    np.testing.assert_allclose(db, of_b.sum(), rtol=1e-7)


def test_simplified_gradient_is_eq_4_without_its_last_terms(rng):
    """What is left of the first two lines is `Phi w_k` and `Phi x_k`; the third line stays."""
    x, w, b = neuron(rng)
    mu, variance = paper.mean_and_variance(x, w)
    gate = paper.normal_cdf((mu + b) / math.sqrt(variance))
    dx, dw, db = paper.shapley_gradient(x, w, b, full=False)
    np.testing.assert_allclose(dx, gate * w, rtol=1e-13)
    np.testing.assert_allclose(dw, gate * x, rtol=1e-13)
    assert db == paper.shapley_gradient(x, w, b)[2]


@pytest.mark.parametrize("sites", [None, [0, 0, 1, 1, 1]], ids=["exact", "pooled"])
def test_gradient_of_eq_5_is_its_derivative(rng, sites):
    x, w, b = neuron(rng)
    dx, dw, db = paper.sa_gradient(x, w, b, sites)
    np.testing.assert_allclose(
        dx, derivative(lambda x: paper.shapley_activation(x, w, b, sites), x), rtol=1e-7, atol=1e-9
    )
    np.testing.assert_allclose(
        dw, derivative(lambda w: paper.shapley_activation(x, w, b, sites), w), rtol=1e-7, atol=1e-9
    )
    np.testing.assert_allclose(
        db, derivative(lambda b: paper.shapley_activation(x, w, b[0], sites), np.array([b]))[0], rtol=1e-7
    )


def test_blocked_gradient_holds_the_second_moment_constant(rng, monkeypatch):
    x, w, b = neuron(rng)
    dx, dw, db = paper.sa_gradient(x, w, b, moment_gradient=False)
    q = paper.second_moment(x, w)
    monkeypatch.setattr(paper, "second_moment", lambda *_: q)
    np.testing.assert_allclose(dx, derivative(lambda x: paper.shapley_activation(x, w, b), x), rtol=1e-7)
    np.testing.assert_allclose(dw, derivative(lambda w: paper.shapley_activation(x, w, b), w), rtol=1e-7)
    assert db == paper.sa_gradient(x, w, b)[2]


def test_pooled_moment_is_the_mean_over_pairings_of_inputs_and_weights(rng):
    """Mean field: each input meets each weight of its site equally often."""
    x, w, _ = neuron(rng, 6)
    sites = [0, 0, 0, 1, 1, 1]
    pairings = [
        np.sum((x[:3] * w[:3][list(p)]) ** 2) + np.sum((x[3:] * w[3:][list(r)]) ** 2)
        for p in itertools.permutations(range(3))
        for r in itertools.permutations(range(3))
    ]
    np.testing.assert_allclose(paper.second_moment(x, w, sites), np.mean(pairings), rtol=1e-13)


def test_relevance_of_eq_2_neither_grows_nor_leaks(rng):
    x, w, b = neuron(rng)
    shares = paper.relevance_shares(x, w, b, 0.7)
    np.testing.assert_allclose(shares.sum(), 0.7, rtol=1e-12)
    alpha = paper.shapley_values(x, w, b)
    np.testing.assert_allclose(shares, alpha / alpha.sum() * 0.7, rtol=1e-12)


def conv(**arguments):
    defaults = dict(filters=2, groups=1, strides=(1, 1), dilation_rate=(1, 1), padding="valid")
    return SimpleNamespace(**{**defaults, "data_format": "channels_last", **arguments})


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_neurons_of_a_convolution_are_scipys(rng, padding):
    x, kernel = rng.normal(size=(1, 6, 5, 2)), rng.normal(size=(3, 2, 2, 2))
    cells = geometry.neurons(conv(kernel_size=(3, 2), padding=padding), x.shape)
    y = paper.forward(lambda x, w, b, _: w @ x + b, cells, x, kernel)
    for unit in range(2):
        planes = [
            # scipy centres an even kernel on the later of the two middle taps, TensorFlow and Keras on the earlier
            scipy.signal.correlate2d(np.pad(x[0, :, :, c], ((1, 1), (0, 1))), kernel[:, :, c, unit], "valid")
            if padding == "same"
            else scipy.signal.correlate2d(x[0, :, :, c], kernel[:, :, c, unit], "valid")
            for c in range(2)
        ]
        np.testing.assert_allclose(y[0, :, :, unit], sum(planes), rtol=1e-12, atol=1e-12)


def test_a_tap_on_padding_is_no_player():
    """A 3x3 kernel over a 3x3 image: 4 real taps in the corners, 6 on the edges, 9 in the middle."""
    cells = geometry.neurons(conv(kernel_size=(3, 3), padding="same", filters=1), (1, 3, 3, 1))
    np.testing.assert_array_equal(geometry.fan_in(cells)[0, :, :, 0], [[4, 6, 4], [6, 9, 6], [4, 6, 4]])


def test_inputs_of_another_group_are_no_players():
    cells = geometry.neurons(conv(kernel_size=(1, 1), groups=2, filters=4), (1, 1, 1, 6))
    assert [[index[-1] for index in cell.inputs] for cell in cells] == [[0, 1, 2], [0, 1, 2], [3, 4, 5], [3, 4, 5]]


def test_relevance_of_a_layer_is_conserved_through_the_border(rng):
    x, kernel, bias = rng.normal(size=(2, 4, 4, 2)), rng.normal(size=(3, 3, 2, 2)), rng.normal(size=2)
    cells = geometry.neurons(conv(kernel_size=(3, 3), padding="same", strides=(2, 2)), x.shape)
    r_y = rng.normal(size=geometry.output_shape(cells))
    r_x = paper.relevance(cells, x, kernel, bias, r_y)
    np.testing.assert_allclose(r_x.sum((1, 2, 3)), r_y.sum((1, 2, 3)), rtol=1e-10)


def test_gradients_of_a_layer_are_its_derivative(rng):
    x, kernel, bias = rng.normal(size=(1, 3, 3, 1)), rng.normal(size=(2, 2, 1, 2)), rng.normal(size=2)
    cells = geometry.neurons(conv(kernel_size=(2, 2), padding="same"), x.shape)
    upstream = rng.normal(size=geometry.output_shape(cells))

    def loss(flat):
        x, kernel, bias = flat[:9].reshape(1, 3, 3, 1), flat[9:17].reshape(2, 2, 1, 2), flat[17:]
        return np.sum(upstream * paper.forward(paper.shapley_activation, cells, x, kernel, bias))

    expected = derivative(loss, np.concatenate([x.ravel(), kernel.ravel(), bias]))
    actual = paper.gradients(paper.sa_gradient, cells, x, kernel, bias, upstream)
    np.testing.assert_allclose(np.concatenate([g.ravel() for g in actual]), expected, rtol=1e-6, atol=1e-8)
