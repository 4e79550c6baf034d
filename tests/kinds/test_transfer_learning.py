"""A frozen model inside a model, with preprocessing in front and a new head."""

import keras
import numpy as np
import pytest
from keras import layers
from reference.kinds import check_gates, check_heatmaps, check_relevance, check_values, trained

import keras_shapley as ks

QUARTERS = np.broadcast_to(((np.arange(8) // 4)[:, None] * 2 + np.arange(8) // 4)[..., None], (8, 8, 3))


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 60, size=(96, 8, 8, 3)).astype("uint8")
    y = np.arange(96) % 2
    x[y == 1, :4, :4, 0] += 150
    return x, y


LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.fixture(scope="module")
def model(data):
    images = keras.Input((8, 8, 3))
    maps = layers.BatchNormalization()(layers.Conv2D(8, 3)(images))
    maps = layers.DepthwiseConv2D(3, padding="same")(layers.ReLU(6.0)(maps))
    base = keras.Model(images, layers.ReLU(6.0)(maps), name="base")
    # what the base learns before somebody takes it over
    features = layers.GlobalAveragePooling2D()(base.output)
    trained(keras.Model(images, layers.Dense(2)(features)), data[0] / 127.5 - 1, data[1], LOSS)
    base.trainable = False
    x = keras.Input((8, 8, 3))
    y = layers.RandomFlip()(layers.Rescaling(1 / 127.5, offset=-1)(x))
    y = layers.GlobalAveragePooling2D()(base(y, training=False))
    return trained(keras.Model(x, layers.Dense(2)(layers.Dropout(0.2)(y))), *data, LOSS)


def test_lrp(model, data):
    check_relevance(model, data[0][:6].astype("float32"), QUARTERS, 1, baseline=127.5, least=0.98)


def test_shapley_values(model, data):
    check_values(model, data[0][:6].astype("float32"), QUARTERS, 1, baseline=127.5, players=2)
    # pixels as they come, and the largest output
    assert ks.shapley_values(model, data[0][:2], players=2).values.shape == (2, 4)


def test_gate_monitor(model, data):
    check_gates(model, *data, kernels=1, gates=0)


def test_heatmaps(model, data, tmp_path):
    x, y = data
    model.fit(x, y, verbose=0, callbacks=[ks.LRPHeatmaps(x[:4], y[:4], directory=tmp_path)])
    assert (tmp_path / "epoch_0001.png").exists()


def test_plot(model, data):
    check_heatmaps(ks.LRP(model).explain(data[0][:2]).input, data[0][:2])
