"""Merge layers whose inputs have different numbers of axes: Keras inserts axes behind the batch's."""

import keras
import numpy as np
import pytest
from keras import layers
from reference.marks import MAY_MISS_THE_TOTAL

import keras_shapley as ks

MERGES = [layers.Add, layers.Subtract, layers.Average, layers.Multiply, layers.Maximum, layers.Minimum]
# as many images as a map has columns: the axes of another broadcast fit by accident
BATCH = COLUMNS = 3


def network(merge, reshapes):
    """A map of three channels, merged with a vector of its averages; `reshapes` makes a 1 x 1 map of it first."""
    keras.utils.set_random_seed(0)
    x = keras.Input((4, COLUMNS, 2))
    y = layers.Conv2D(3, 1, activation="relu", bias_initializer="normal")(x)
    average = layers.Dense(3, "tanh", bias_initializer="normal")(layers.GlobalAveragePooling2D()(y))
    average = layers.Reshape((1, 1, 3))(average) if reshapes else average
    return keras.Model(x, layers.Dense(2)(layers.Flatten()(merge()([average, y]))))


@pytest.fixture
def x(rng):
    return rng.normal(size=(BATCH, 4, COLUMNS, 2)).astype("float32")


@pytest.mark.parametrize("rules", ["auto", "paper", "epsilon_plus"])
@pytest.mark.parametrize("merge", MERGES)
def test_relevance_is_that_of_the_vector_as_a_map(merge, rules, x):
    found, expected = (ks.LRP(network(merge, reshapes), rules=rules).explain(x, 0) for reshapes in (False, True))
    np.testing.assert_allclose(found.input, expected.input, atol=1e-4 * np.abs(expected.input).max())
    if rules == "auto":
        np.testing.assert_allclose(found.input.sum(axis=(1, 2, 3)), found.head_total, atol=1e-4)


@MAY_MISS_THE_TOTAL
@pytest.mark.parametrize("merge", MERGES[:4])
def test_moments_are_those_of_the_vector_as_a_map(merge, x):
    options = {"players": 2, "n": 2, "n_samples": 2}
    found, expected = (ks.fast_shapley_values(network(merge, each), x, 0, **options) for each in (False, True))
    np.testing.assert_allclose(found.values, expected.values, atol=1e-4)
