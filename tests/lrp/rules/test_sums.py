"""Rules for sums, products and means against their formulas on the addends and factors, in float64 NumPy."""

import keras
import numpy as np
import pytest
from keras import layers
from reference.calls import call_of, propagate

from keras_shapley import rules
from keras_shapley.models.tracing import trace


@pytest.mark.parametrize("layer", [layers.AveragePooling2D(2, padding="same"), layers.GlobalAveragePooling2D()])
def test_average_pooling_shares_in_proportion(layer, rng):
    x = rng.uniform(1, 2, size=(2, 5, 5, 3))
    relevance = rng.normal(size=layer.compute_output_shape((2, 5, 5, 3)))
    (r_in,) = propagate(rules.Proportional(), call_of(layer, (5, 5, 3)), [x], relevance)
    if isinstance(layer, layers.GlobalAveragePooling2D):
        expected = x / x.sum(axis=(1, 2), keepdims=True) * relevance[:, None, None]
    else:
        # windows of 2 x 2, of which the last row and column are cut
        expected = np.zeros_like(x)
        for i, j in np.ndindex(3, 3):
            window = (slice(None), slice(2 * i, 2 * i + 2), slice(2 * j, 2 * j + 2))
            sums = x[window].sum(axis=(1, 2), keepdims=True)
            expected[window] = x[window] / sums * relevance[:, i : i + 1, j : j + 1]
    np.testing.assert_allclose(r_in, expected, rtol=1e-4, atol=1e-6)


def test_addends_share_in_proportion_also_when_they_broadcast(rng):
    a, b = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 1, 4))
    relevance = rng.normal(size=(2, 3, 4))
    r_a, r_b = propagate(rules.Sum(), call_of(layers.Add(), (3, 4), (1, 4)), [a, b], relevance)
    np.testing.assert_allclose(r_a, a / (a + b) * relevance, rtol=1e-3)
    np.testing.assert_allclose(r_b, (b / (a + b) * relevance).sum(axis=1, keepdims=True), rtol=1e-3)


@pytest.mark.parametrize("layer", [layers.Add(), layers.Subtract(), layers.Average()])
def test_addends_can_share_by_their_absolute_values(layer, rng):
    a, b = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 1, 4))
    a[0, 0, 0] = b[0, 0, 0] = 0
    relevance = rng.normal(size=(2, 3, 4))
    r_a, r_b = propagate(rules.AbsoluteSum(), call_of(layer, (3, 4), (1, 4)), [a, b], relevance)
    size = np.abs(a) + np.abs(b)
    share = np.where(size > 0, np.abs(a) / np.where(size > 0, size, 1), 1 / 2)
    np.testing.assert_allclose(r_a, share * relevance, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(r_b, ((1 - share) * relevance).sum(axis=1, keepdims=True), rtol=1e-4, atol=1e-5)


def test_three_addends_share_by_their_absolute_values(rng):
    addends, relevance = rng.normal(size=(3, 2, 4)), rng.normal(size=(2, 4))
    shares = propagate(rules.AbsoluteSum(), call_of(layers.Add(), (4,), (4,), (4,)), list(addends), relevance)
    expected = np.abs(addends) / np.abs(addends).sum(axis=0) * relevance
    np.testing.assert_allclose(shares, expected, rtol=1e-5, atol=1e-6)


def test_a_constant_addend_receives_nothing(rng):
    inputs = keras.Input((4,))
    (call,) = trace(keras.Model(inputs, inputs + 5.0)).calls
    relevance = rng.normal(size=(2, 4))
    (r_in,) = propagate(rules.Sum(), call, [rng.normal(size=(2, 4))], relevance)
    np.testing.assert_allclose(r_in, relevance, rtol=1e-6)


@pytest.mark.parametrize("rule", [rules.Sum(), rules.AbsoluteSum()])
def test_of_several_addends_the_constant_receives_nothing(rule, rng):
    inputs, constant = keras.Input((4,)), rng.normal(size=(1, 4)).astype("float32")
    model = keras.Model(inputs, layers.Add()([inputs, 2.0 * inputs, constant]))
    relevance, x = rng.normal(size=(2, 4)), rng.normal(size=(2, 4))
    shares = propagate(rule, trace(model).calls[-1], [x, 2 * x], relevance)
    np.testing.assert_allclose(shares[0], relevance / 3, rtol=1e-4)
    np.testing.assert_allclose(shares[1], relevance * 2 / 3, rtol=1e-4)


def test_a_tensor_added_to_itself_gets_all(rng):
    inputs = keras.Input((4,))
    (call,) = trace(keras.Model(inputs, inputs + inputs)).calls
    x, relevance = rng.normal(size=(2, 4)), rng.normal(size=(2, 4))
    shares = propagate(rules.Sum(), call, [x, x], relevance)
    np.testing.assert_allclose(sum(shares), relevance, rtol=1e-5)


def test_factors_share_equally_as_shapley_values_do(rng):
    """The product of two factors is there when both are: each order gives it to the one that comes last."""
    x, gate = rng.normal(size=(2, 3, 3, 4)), rng.normal(size=(2, 1, 1, 4))
    relevance = rng.normal(size=(2, 3, 3, 4))
    r_x, r_gate = propagate(rules.EqualSplit(), call_of(layers.Multiply(), (3, 3, 4), (1, 1, 4)), [x, gate], relevance)
    np.testing.assert_allclose(r_x, relevance / 2, rtol=1e-6)
    np.testing.assert_allclose(r_gate, relevance.sum(axis=(1, 2), keepdims=True) / 2, rtol=1e-5, atol=1e-6)


def test_a_constant_factor_receives_nothing(rng):
    inputs = keras.Input((4,))
    (call,) = trace(keras.Model(inputs, inputs * 3.0)).calls
    relevance = rng.normal(size=(2, 4))
    (r_in,) = propagate(rules.EqualSplit(), call, [rng.normal(size=(2, 4))], relevance)
    np.testing.assert_allclose(r_in, relevance, rtol=1e-6)


def test_of_several_factors_the_constant_receives_nothing(rng):
    inputs, constant = keras.Input((4,)), rng.normal(size=(1, 4)).astype("float32")
    model = keras.Model(inputs, layers.Multiply()([inputs, inputs, constant]))
    relevance, x = rng.normal(size=(2, 4)), rng.normal(size=(2, 4))
    shares = propagate(rules.EqualSplit(), trace(model).calls[-1], [x, x], relevance)
    np.testing.assert_allclose(shares, [relevance / 2] * 2, rtol=1e-6)
