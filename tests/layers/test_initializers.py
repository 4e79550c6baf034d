"""The initial scale of SA layers, against numerical integration and a simulation in float64."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import integrate
from scipy.special import ndtr

import keras_shapley as ks


def density(t):
    return np.exp(-(t**2) / 2) / np.sqrt(2 * np.pi)


def test_scale_is_the_integral_of_the_docstring():
    def square(t):
        return (t * ndtr(t * np.sqrt(3 / (2 + t**2)))) ** 2 * density(t)

    kappa, _ = integrate.quad(square, -14, 14, epsabs=1e-13)
    assert ks.SANormal().scale == pytest.approx(1 / kappa, rel=1e-6)


def mean_squares(scale, rng, depth=50, width=400):
    """Of outputs and gradients of a deep network by eq. (5) in u and q, and their derivatives: last over first."""
    x = rng.standard_normal((32, width))
    first, tape = np.mean(x**2), []
    for _ in range(depth):
        w = rng.standard_normal((width, width)) * np.sqrt(scale / width)
        u, q = x @ w, x**2 @ w**2
        sigma = np.sqrt(q / 6 + u**2 / 12)
        z = u / 2 / sigma
        du = ndtr(z) + u * density(z) / sigma * (0.5 - z * u / (12 * sigma))
        dq = -u * density(z) * z / (12 * sigma**2)
        tape.append((x, w, du, dq))
        x = ndtr(z) * u
    forwards = np.mean(x**2) / first
    g = rng.standard_normal(x.shape)
    last = np.mean(g**2)
    for x, w, du, dq in reversed(tape):
        g = (g * du) @ w.T + 2 * x * ((g * dq) @ (w**2).T)
    return forwards, (np.mean(g**2) / last) ** (1 / depth)


def test_fifty_layers_keep_the_scale_where_that_of_relu_loses_it(rng):
    own = np.array([mean_squares(ks.SANormal().scale, rng) for _ in range(4)])
    he = np.array([mean_squares(2.0, rng) for _ in range(4)])
    assert 0.3 < np.exp(np.log(own[:, 0]).mean()) < 3
    assert np.all(he[:, 0] < 1e-3)
    assert np.mean(own[:, 1]) == pytest.approx(1.05, abs=0.02)


@pytest.mark.parametrize(
    ("layer", "fan_in"), [(ks.SADense(64), 500), (ks.SAConv2D(64, 3), 900)], ids=["Dense", "Conv2D"]
)
def test_kernels_have_the_variance(layer, fan_in, numpy):
    keras.utils.set_random_seed(0)
    layer.kernel_initializer = ks.SANormal()
    layer.build((None, 500) if fan_in == 500 else (None, 8, 8, 100))
    kernel = numpy(layer.kernel)
    assert kernel.var() * fan_in == pytest.approx(ks.SANormal().scale, rel=0.03)
    assert abs(kernel.mean()) < 0.01


def test_it_is_saved_by_name_with_its_seed(numpy):
    layer = ks.SADense(3, kernel_initializer=ks.SANormal(seed=7))
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert isinstance(again.kernel_initializer, ks.SANormal)
    for each in (layer, again):
        each.build((None, 5))
    np.testing.assert_array_equal(numpy(layer.kernel), numpy(again.kernel))
    assert np.std(ops.convert_to_numpy(layer.kernel)) > 0
