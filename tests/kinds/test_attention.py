"""A small vision transformer: patches, attention, layer normalisation."""

import keras
import numpy as np
import pytest
from keras import layers
from reference.kinds import check_gates, check_heatmaps, check_relevance, check_values, trained

import keras_shapley as ks

QUARTERS = ((np.arange(8) // 4)[:, None] * 2 + np.arange(8) // 4)[..., None]


@pytest.fixture(scope="module")
def data():
    """The class is the quarter of the image that is bright."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 0.4, size=(128, 8, 8, 1)).astype("float32")
    y = np.arange(128) % 4
    for k in range(4):
        x[y == k] += (0.6 * (QUARTERS == k)).astype("float32")
    return x, y


@pytest.fixture(scope="module")
def model(data):
    x = keras.Input((8, 8, 1))
    patches = layers.Reshape((4, 12))(layers.Conv2D(12, 4, strides=4)(x))
    normalized = layers.LayerNormalization()(patches)
    patches = layers.Add()([patches, layers.MultiHeadAttention(2, 6)(normalized, normalized)])
    hidden = layers.Dense(16, "gelu")(layers.LayerNormalization()(patches))
    y = layers.Dense(4, "softmax")(layers.Flatten()(layers.Add()([patches, layers.Dense(12)(hidden)])))
    return trained(keras.Model(x, y), *data, "sparse_categorical_crossentropy", 15)


def test_lrp(model, data):
    x, y = data
    explanation = check_relevance(model, x[:8], QUARTERS, 1, least=0.6)
    assert explanation.input.shape == x[:8].shape


def test_shapley_values(model, data):
    check_values(model, data[0][:8], QUARTERS, 1, players=2)


def test_gate_monitor(model, data):
    check_gates(model, *data, kernels=4, gates=1)


def test_heatmaps(model, data, tmp_path):
    x, y = data
    model.fit(x, y, verbose=0, callbacks=[ks.LRPHeatmaps(x[:4], y[:4], directory=tmp_path)])
    assert (tmp_path / "epoch_0001.png").exists()


def test_plot(model, data):
    check_heatmaps(ks.LRP(model).explain(data[0][:2]).input, data[0][:2])
