"""Maxima and products of two against the exact Shapley values of two players, quotients, and maxima of windows."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_shapley as ks

PAIRS = {
    "maximum": lambda a, b: ops.maximum(a, b),
    "minimum": lambda a, b: ops.minimum(a, b),
    "layer of maxima": lambda a, b: layers.Maximum()([a, b]),
    "layer of minima": lambda a, b: layers.Minimum()([a, b]),
    "product": lambda a, b: a * b,
    "layer of products": lambda a, b: layers.Multiply()([a, b]),
    "matrix product": lambda a, b: ops.matmul(a, b),
    "dot": lambda a, b: layers.Dot(axes=1)([a, b]),
}


def model_of(function):
    x = keras.Input((2,))
    return keras.Model(x, function(x[:, :1], x[:, 1:]))


def explained(model, x, baseline):
    return ks.LRP(model, rules="auto", baseline=baseline).explain(x, 0).input


@pytest.mark.parametrize("name", PAIRS)
def test_a_function_of_two_has_the_shapley_values_of_two_players(name, rng):
    if name == "matrix product":
        value = keras.Input((2,))
        pairs = [layers.Reshape((1, 1))(part) for part in (value[:, :1], value[:, 1:])]
        model = keras.Model(value, layers.Flatten()(ops.matmul(*pairs)))
    else:
        model = model_of(PAIRS[name])
    x = rng.normal(size=(12, 2))
    baseline = np.array([0.4, 0.9], "float32")
    exact = ks.exact_shapley_values(model, x, 0, baseline=baseline, progress=False).values
    np.testing.assert_allclose(explained(model, x, baseline), exact, atol=2e-6)


def test_a_quotient_conserves_and_stays_small_where_its_denominator_is_small_at_the_baseline(rng):
    model = model_of(lambda a, b: a / b)
    x = rng.uniform(0.5, 2.0, size=(12, 2))
    near = explained(model, x, np.array([0.4, 0.9], "float32"))
    np.testing.assert_allclose(near.sum(axis=1), x[:, 0] / x[:, 1] - 0.4 / 0.9, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(near[:, 0], (x[:, 0] - 0.4) * 2 / (x[:, 1] + 0.9), rtol=1e-5)
    # where the denominator changes by a few percent, these are nearly Shapley values
    close = np.stack([x[:, 0], np.linspace(0.85, 0.95, 12)], axis=1).astype("float32")
    baseline = np.array([0.4, 0.9], "float32")
    exact = ks.exact_shapley_values(model, close, 0, baseline=baseline, progress=False).values
    np.testing.assert_allclose(explained(model, close, baseline), exact, atol=2e-3 * np.abs(exact).max())
    # the quotient of both is 1 there, and its factors are 1e6 times as large as those of x
    far = explained(model, x, np.array([1e-6, 1e-6], "float32"))
    np.testing.assert_allclose(far.sum(axis=1), x[:, 0] / x[:, 1] - 1, rtol=1e-4, atol=1e-5)
    assert np.abs(far).max() < 10


@pytest.mark.parametrize("name", ["maximum", "minimum"])
@pytest.mark.parametrize("first", [True, False])
def test_a_maximum_with_a_constant_is_a_function_of_one(name, first, rng):
    extreme = PAIRS[name]
    value = keras.Input((3,))
    output = extreme(value, 0.25) if first else extreme(0.25, value)
    x = rng.normal(size=(5, 3))
    model = keras.Model(value, ops.sum(output, axis=1, keepdims=True))
    function = np.maximum if name == "maximum" else np.minimum
    relevance = explained(model, x, -0.5)
    np.testing.assert_allclose(relevance, function(x, 0.25) - function(-0.5, 0.25), atol=1e-6)


@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_multipliers_of_a_maximum_lie_between_0_and_1(name, rng):
    x, baseline = rng.normal(size=(500, 2)).astype("float32"), rng.normal(size=2).astype("float32")
    # differences as small as rounding, and ties
    x[:100] = baseline + 1e-7 * rng.normal(size=(100, 2))
    x[100:150, 1] = x[100:150, 0]
    multipliers = explained(model_of(PAIRS[name]), x, baseline)[100:] / (x - baseline)[100:]
    assert multipliers.min() > -1e-5 and multipliers.max() < 1 + 1e-5
    relevance = explained(model_of(PAIRS[name]), x, baseline)
    assert np.all(np.abs(relevance) <= np.abs(x - baseline) * (1 + 1e-5))


def test_a_product_of_a_tensor_with_itself_is_its_square(rng):
    value, x = keras.Input((3,)), rng.normal(size=(4, 3))
    model = keras.Model(value, layers.Dense(1, kernel_initializer="ones")(layers.Multiply()([value, value])))
    np.testing.assert_allclose(explained(model, x, 0.5), x**2 - 0.25, atol=1e-5)


def test_a_sum_of_a_tensor_with_itself_is_twice_the_tensor(rng):
    value, x = keras.Input((3,)), rng.normal(size=(4, 3))
    model = keras.Model(value, layers.Dense(1, kernel_initializer="ones")(layers.Add()([value, value])))
    np.testing.assert_allclose(explained(model, x, 0.5), 2 * (x - 0.5), atol=1e-5)


def test_a_difference_has_the_opposite_multiplier(rng):
    value, x = keras.Input((2,)), rng.normal(size=(4, 2))
    for output in (layers.Subtract()([value[:, :1], value[:, 1:]]), value[:, :1] - value[:, 1:]):
        relevance = explained(keras.Model(value, output), x, 0.5)
        np.testing.assert_allclose(relevance, (x - 0.5) * [1, -1], atol=1e-6)
    relevance = explained(keras.Model(value, 3.0 - value[:, :1]), x, 0.5)
    np.testing.assert_allclose(relevance, (x - 0.5) * [-1, 0], atol=1e-6)


@pytest.mark.parametrize("size", [2, 3, 5, 8])
def test_the_maximum_of_a_window_conserves_with_multipliers_of_at_most_1(size, rng):
    model = keras.Sequential([keras.Input((size, 1)), layers.GlobalMaxPooling1D()])
    x, baseline = rng.normal(size=(50, size, 1)).astype("float32"), rng.normal(size=(size, 1)).astype("float32")
    relevance = explained(model, x, baseline)
    np.testing.assert_allclose(relevance.sum(axis=(1, 2)), x.max(axis=1)[:, 0] - baseline.max(), atol=1e-5)
    multipliers = relevance / (x - baseline)
    assert multipliers.min() > -1e-5 and multipliers.max() < 1 + 1e-5


@pytest.mark.parametrize("size", [2, 3, 4, 5, 6, 7, 8, 9, 13])
def test_a_tie_is_shared(size):
    """Equally where the size is a power of two; else nobody gets twice his share, or less than half of it."""
    model = keras.Sequential([keras.Input((size, 1)), layers.GlobalMaxPooling1D()])
    relevance = explained(model, np.full((1, size, 1), 3.0), 1.0)
    if size in (2, 4, 8):
        np.testing.assert_allclose(relevance, 2.0 / size, atol=1e-6)
    np.testing.assert_allclose(relevance.sum(), 2.0, atol=1e-6)
    assert 0.5 < relevance.min() * size / 2 and relevance.max() * size / 2 < 2


def test_no_place_of_a_window_is_preferred(rng):
    """Windows of 3 x 3, as behind the first convolution of ResNet50: the mean over many of them is even."""
    model = keras.Sequential([keras.Input((3, 3, 1)), layers.MaxPooling2D(3), layers.Flatten()])
    mean = explained(model, rng.uniform(size=(4000, 3, 3, 1)), 0.0).mean(axis=0)
    np.testing.assert_allclose(mean, mean.mean(), rtol=0.35)


def test_places_that_padding_adds_never_win(rng):
    model = keras.Sequential([keras.Input((3, 3, 1)), layers.MaxPooling2D(2, padding="same"), layers.Flatten()])
    x = rng.uniform(-3, -2, size=(2, 3, 3, 1))
    relevance = ks.LRP(model, rules="auto", baseline=-4.0).explain(x, 3).input
    expected = np.zeros((2, 3, 3, 1))
    expected[:, 2, 2] = x[:, 2, 2] + 4.0
    np.testing.assert_allclose(relevance, expected, atol=1e-5)


@pytest.mark.parametrize("size", [60, 75, 90, 200, 1e4])
@pytest.mark.parametrize("function", [ops.softmax, ops.log_softmax])
def test_a_softmax_conserves_wherever_its_logits_are(function, size):
    """Far from the baseline float32 leaves nothing of the smaller sum of exponentials."""
    x = keras.Input((3,))
    last = layers.Dense(1, use_bias=False)
    model = keras.Model(x, last(function(x)))
    last.kernel.assign([[1.0], [2.0], [4.0]])
    data = np.array([[0.0, size, 0.0], [size, -size, 0.0], [0.3 * size, 0.0, size]], "float32")
    difference = model.predict(data, verbose=0)[:, 0] - model.predict(0 * data[:1], verbose=0)[0, 0]
    np.testing.assert_allclose(explained(model, data, 0.0).sum(axis=1), difference, rtol=1e-4)


def test_attention_to_large_values_conserves(rng):
    x = keras.Input((6, 16))
    model = keras.Model(x, layers.Dense(2)(layers.Flatten()(layers.MultiHeadAttention(2, 8)(x, x))))
    data = 20 * rng.normal(size=(8, 6, 16))
    explanation = ks.LRP(model).explain(data, 0)
    gap = explanation.input.sum(axis=(1, 2)) - explanation.head_total
    assert np.abs(gap / explanation.head_total).max() < 1e-3


def test_logits_that_cancel_have_opposite_relevance():
    """Two inputs that change a logit by 1 and by -1: nothing changes, and each has its Shapley value."""
    kernel = np.array([[1.0, 0.0], [-1.0, 0.0]])
    for end in (lambda x: layers.Softmax()(x), lambda x: ops.softmax(x)):
        x = keras.Input((2,))
        hidden = end(layers.Dense(2, use_bias=False, name="logits")(x))
        model = keras.Model(x, layers.Dense(1, use_bias=False, name="last")(hidden))
        model.get_layer("logits").set_weights([kernel])
        model.get_layer("last").set_weights([np.array([[1.0], [0.0]])])
        data = np.array([[1.0, 1.0], [0.0, 0.0]], "float32")
        truth = ks.exact_shapley_values(model, data, 0).values
        np.testing.assert_allclose(ks.LRP(model).explain(data, 0).input, truth, atol=0.03)
        assert truth[0, 0] > 0.2
