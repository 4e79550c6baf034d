"""Moments behind operations: masks, functions whose domain ends, and what changes no values."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from reference.marks import MAY_MISS_THE_TOTAL

import keras_shapley as ks

pytestmark = MAY_MISS_THE_TOTAL


def test_a_softmax_with_a_mask_has_no_moments(rng):
    inputs, mask = keras.Input((4,)), keras.Input((4,))
    model = keras.Model([inputs, mask], layers.Dense(2)(layers.Softmax()(layers.Dense(4)(inputs), mask=mask)))
    with pytest.raises(ValueError, match=r"\(Softmax\) has moments for one tensor alone"):
        ks.fast_shapley_values(model, [rng.normal(size=(2, 4)), np.ones((2, 4))], 0)


@pytest.mark.parametrize(
    "end",
    [
        lambda x: ops.sqrt(ops.square(layers.Dense(3)(x)) + 0.1),
        lambda x: ops.sqrt(layers.Dense(3, "relu")(x) + 0.05),
        lambda x: layers.Dense(3, "softplus")(x) ** 0.5,
        lambda x: ops.log(layers.Dense(3, "softplus")(x)),
    ],
    ids=["root of a square", "root", "power", "log"],
)
def test_functions_whose_domain_ends_have_moments(end, rng):
    """A normal distribution reaches beyond the values that the network has."""
    x = keras.Input((4,))
    model = keras.Model(x, layers.Dense(2)(end(x)))
    data = rng.normal(size=(6, 4)).astype("float32")
    values, truth = ks.fast_shapley_values(model, data, 0).values, ks.exact_shapley_values(model, data, 0).values
    assert np.isfinite(values).all()
    assert np.corrcoef(values.ravel(), truth.ravel())[0, 1] > 0.8
    assert np.linalg.norm(values - truth) < 0.7 * np.linalg.norm(truth)


def test_stop_gradient_changes_no_values(rng):
    x = keras.Input((4,))
    hidden, last = layers.Dense(3, "relu"), layers.Dense(2)
    data = rng.normal(size=(3, 4)).astype("float32")
    with_it, without = (
        ks.fast_shapley_values(keras.Model(x, last(stop(hidden(x)))), data, 0).values
        for stop in (ops.stop_gradient, lambda x: x)
    )
    np.testing.assert_allclose(with_it, without)
    assert np.abs(without).max() > 0


@pytest.mark.parametrize("place", [1, 2])
def test_a_constant_among_factors_is_a_factor(place, rng):
    x = keras.Input((5,))
    factors = [layers.Dense(4, "tanh")(x), layers.Dense(4, "sigmoid")(x)]
    factors.insert(place, ops.convert_to_tensor(np.array([[3.0, -2.0, 0.5, 1.0]], "float32")))
    model = keras.Model(x, layers.Dense(1)(layers.Multiply()(factors)))
    data = rng.normal(size=(6, 5)).astype("float32")
    values, truth = ks.fast_shapley_values(model, data, 0).values, ks.exact_shapley_values(model, data, 0).values
    assert np.corrcoef(values.ravel(), truth.ravel())[0, 1] > 0.98
    assert np.linalg.norm(values - truth) < 0.2 * np.linalg.norm(truth)
