"""An image beside features of a table, with two outputs: a class, and a number."""

import keras
import numpy as np
import pytest
from keras import layers
from reference.kinds import JIT, check_gates, check_heatmaps, check_relevance, check_values

import keras_shapley as ks


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    scan = rng.uniform(0, 0.2, size=(128, 6, 6, 1)).astype("float32")
    label = np.arange(128) % 2
    scan[label == 1, 1:4, 1:4] += 0.8
    age = rng.uniform(size=(128, 2)).astype("float32")
    return {"scan": scan, "age": age}, {"kind": label, "risk": (label * age[:, 0])[:, None].astype("float32")}


@pytest.fixture(scope="module")
def model(data):
    keras.utils.set_random_seed(0)
    scan, age = keras.Input((6, 6, 1), name="scan"), keras.Input((2,), name="age")
    maps = layers.MaxPooling2D()(layers.Conv2D(6, 3, activation="relu")(scan))
    hidden = layers.Dense(12, "relu")(layers.Concatenate()([layers.Flatten()(maps), age]))
    outputs = {"kind": layers.Dense(2, "softmax", name="kind")(hidden), "risk": layers.Dense(1, name="risk")(hidden)}
    network = keras.Model({"scan": scan, "age": age}, outputs)
    losses = {"kind": "sparse_categorical_crossentropy", "risk": "mse"}
    network.compile(keras.optimizers.Adam(0.02), losses, jit_compile=JIT)
    network.fit(*data, epochs=10, verbose=0)
    return network


def some(data, n=6):
    return {name: part[:n] for name, part in data[0].items()}


def numbers():
    """Four quarters of the image, and the two features."""
    quarters = (np.arange(6) // 3)[:, None] * 2 + np.arange(6) // 3
    return {"scan": quarters[..., None], "age": np.array([4, 5])}


@pytest.mark.parametrize("output, target", [("kind", 1), ("risk", 0)])
def test_lrp(model, data, output, target):
    explanation = check_relevance(model, some(data), numbers(), target, output=output, least=0.9)
    assert explanation.input["scan"].shape == (6, 6, 6, 1)


@pytest.mark.parametrize("output, target", [("kind", 1), ("risk", 0)])
def test_shapley_values(model, data, output, target):
    check_values(model, some(data), numbers(), target, output=output)
    grid = ks.shapley_values(model, some(data), target, output=output, players={"scan": 2, "age": None})
    assert grid.values.shape == (6, 6) and grid.heatmap["scan"].shape == (6, 6, 6, 1)


def test_gate_monitor(model, data):
    check_gates(model, *data, kernels=4, gates=2)


def test_heatmaps(model, data, tmp_path):
    labels = data[1]["kind"][:6]
    heatmaps = ks.LRPHeatmaps(some(data), labels, output="kind", directory=tmp_path, save_arrays=True)
    model.fit(*data, verbose=0, callbacks=[heatmaps])
    with np.load(tmp_path / "epoch_0001.npz") as arrays:
        assert arrays["relevance.scan"].shape == (6, 6, 6, 1) and arrays["relevance.age"].shape == (6, 2)


def test_plot(model, data):
    explanation = ks.LRP(model, output="kind").explain(some(data))
    check_heatmaps(explanation.input["scan"], some(data)["scan"])
