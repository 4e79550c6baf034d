"""A U-Net: a class for each pixel, of which a place or a region is explained."""

import keras
import numpy as np
import pytest
from keras import layers
from reference.kinds import check_gates, check_heatmaps, check_relevance, check_values, trained

import keras_shapley as ks

QUARTERS = ((np.arange(8) // 4)[:, None] * 2 + np.arange(8) // 4)[..., None]


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 0.3, size=(64, 8, 8, 1)).astype("float32")
    for image in x:
        i, j = rng.integers(0, 5, size=2)
        image[i : i + 3, j : j + 3] += 0.7
    # one-hot, as Keras cannot train on sparse labels of a map with PyTorch
    return x, np.eye(2, dtype="float32")[(x[..., 0] > 0.5).astype("int32")]


@pytest.fixture(scope="module")
def model(data):
    x = keras.Input((8, 8, 1))
    fine = layers.Conv2D(6, 3, padding="same", activation="relu")(x)
    coarse = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(fine)
    joined = layers.Concatenate()([fine, layers.Conv2DTranspose(6, 2, strides=2, activation="relu")(coarse)])
    y = layers.Conv2D(2, 3, padding="same", activation="softmax")(joined)
    return trained(keras.Model(x, y), *data, "categorical_crossentropy")


def place(i, j, k):
    return int(np.ravel_multi_index((i, j, k), (8, 8, 2)))


def test_lrp(model, data):
    x, _ = data
    check_relevance(model, x[:4], QUARTERS, place(2, 2, 1), least=0.8)
    # a region: the upper left quarter, as class 1
    region = np.zeros((8, 8, 2), bool)
    region[:4, :4, 1] = True
    explanation = ks.LRP(model).explain(x[:4], region)
    total = model.predict(x[:4], verbose=0) - model.predict(0 * x[:4], verbose=0)
    np.testing.assert_allclose(
        explanation.input.sum(axis=(1, 2, 3)), total[:, region].sum(axis=1), rtol=1e-3, atol=1e-4
    )


def test_shapley_values(model, data):
    x, _ = data
    check_values(model, x[:4], QUARTERS, place(2, 2, 1), players=2)
    region = np.zeros((8, 8, 2))
    region[:4, :4, 1] = 1 / 16
    found = ks.shapley_values(model, x[:4], region, players=2)
    assert (found.values.argmax(axis=1) == 0).mean() >= 0.5 and found.values.shape == (4, 4)


def test_gate_monitor(model, data):
    check_gates(model, *data, kernels=4, gates=3)


def test_heatmaps(model, data, tmp_path):
    region = np.zeros((8, 8, 2))
    region[:4, :4, 1] = 1.0
    heatmaps = ks.LRPHeatmaps(data[0][:4], target=region, directory=tmp_path)
    model.fit(*data, verbose=0, callbacks=[heatmaps])
    assert (tmp_path / "epoch_0001.png").exists()


def test_plot(model, data):
    check_heatmaps(ks.LRP(model).explain(data[0][:2], place(1, 1, 1)).input, data[0][:2])
