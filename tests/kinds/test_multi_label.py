"""Several sigmoids: an image may have several labels at once."""

import keras
import numpy as np
import pytest
from keras import layers
from reference.kinds import check_gates, check_heatmaps, check_relevance, check_values, trained

import keras_shapley as ks

QUARTERS = ((np.arange(6) // 3)[:, None] * 2 + np.arange(6) // 3)[..., None]


@pytest.fixture(scope="module")
def data():
    """A label for each quarter of the image that is bright, but the last."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, size=(128, 3))
    x = rng.uniform(0, 0.2, size=(128, 6, 6, 1)).astype("float32")
    for k in range(3):
        x += 0.8 * y[:, k, None, None, None] * (QUARTERS == k)
    return x.astype("float32"), y


@pytest.fixture(scope="module")
def model(data):
    network = [keras.Input((6, 6, 1)), layers.Conv2D(6, 3, activation="relu"), layers.Flatten()]
    return trained(keras.Sequential([*network, layers.Dense(3, "sigmoid")]), *data, "binary_crossentropy")


@pytest.mark.parametrize("target", [0, 2])
def test_lrp(model, data, target):
    x, y = data
    check_relevance(model, x[:6], QUARTERS, target)
    sizes = np.abs(ks.LRP(model).explain(x[:6], target).input).reshape(6, -1)
    shares = sizes @ (QUARTERS.ravel() == target) / sizes.sum(axis=1)
    # an even map would have a quarter there
    assert (shares[y[:6, target] == 1] > 0.5).all()


@pytest.mark.parametrize("target", [0, 2])
def test_shapley_values(model, data, target):
    result = check_values(model, data[0][:6], QUARTERS, target, players=2)
    assert result.values[data[1][:6, target] == 1].argmax(axis=1).tolist() == [target] * data[1][:6, target].sum()


def test_gate_monitor(model, data):
    check_gates(model, *data, kernels=2, gates=1)


def test_heatmaps(model, data, tmp_path):
    x, y = data
    heatmaps = ks.LRPHeatmaps(x[:6], y[:6], directory=tmp_path, save_arrays=True)
    model.fit(x, y, verbose=0, callbacks=[heatmaps])
    with np.load(tmp_path / "epoch_0001.npz") as arrays:
        np.testing.assert_array_equal(arrays["y"], y[:6])


def test_plot(model, data):
    explanation = ks.LRP(model).explain(data[0][:2], [[0, 1, 2]])
    check_heatmaps({f"label {k}": explanation.input[:, k] for k in range(3)}, data[0][:2])
