"""Several inputs by name: numbers one by one, and a category that is embedded."""

import keras
import numpy as np
import pytest
from keras import layers
from reference.kinds import check_gates, check_relevance, check_values, trained

import keras_shapley as ks

NUMBERS = {"price": 0, "city": 1, "rooms": 2}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = {
        "price": rng.normal(size=(200, 1)).astype("float32"),
        "city": rng.integers(1, 6, size=(200, 1)),
        "rooms": rng.normal(size=(200, 1)).astype("float32"),
    }
    y = x["price"] * (x["city"] > 3) + 0.5 * x["rooms"]
    return x, y.astype("float32")


@pytest.fixture(scope="module")
def model(data):
    inputs = {
        "rooms": keras.Input((1,), name="rooms"),
        "city": keras.Input((1,), name="city", dtype="int32"),
        "price": keras.Input((1,), name="price"),
    }
    city = layers.Flatten()(layers.Embedding(6, 3)(inputs["city"]))
    wide = layers.Concatenate()([inputs["price"], inputs["rooms"]])
    deep = layers.Dense(16, "relu")(layers.Concatenate()([wide, city]))
    y = layers.Dense(1)(layers.Concatenate()([wide, deep]))
    return trained(keras.Model(inputs, y), *data, "mse", 40)


def some(data, n):
    return {name: part[:n] for name, part in data[0].items()}


def numbers():
    return {name: np.array([k]) for name, k in NUMBERS.items()}


def test_lrp(model, data):
    explanation = check_relevance(model, some(data, 8), numbers(), 0, least=0.9)
    assert list(explanation.input) == ["price", "city", "rooms"]


def test_shapley_values(model, data):
    check_values(model, some(data, 8), numbers(), 0)
    frame = pytest.importorskip("pandas").DataFrame({name: part[:8, 0] for name, part in data[0].items()})
    found = ks.shapley_values(model, frame)
    np.testing.assert_allclose(
        found.values, ks.shapley_values(model, some(data, 8), players="inputs").values, atol=1e-5
    )
    assert list(found.heatmap) == ["price", "city", "rooms"]


def test_gate_monitor(model, data):
    check_gates(model, *data, kernels=2, gates=1)


def test_heatmaps(data):
    with pytest.raises(ValueError, match="`shown` must be the input that is drawn.* of which 0 are images"):
        ks.LRPHeatmaps(data[0])


def test_plot(model, data):
    pytest.importorskip("shap")
    found = ks.shapley_values(model, some(data, 5), 0)
    assert found.to_shap().feature_names == ["price", "city", "rooms"]
