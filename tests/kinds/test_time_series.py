"""Time series through recurrent layers: the sum of two marked numbers (Arras et al. 2019)."""

import keras
import numpy as np
import pytest
from keras import layers
from reference.kinds import check_relevance, check_values, trained

import keras_shapley as ks

STEPS = 6


@pytest.fixture(scope="module")
def data():
    """Numbers, and beside them marks at the two that are added."""
    rng = np.random.default_rng(0)
    numbers = rng.uniform(-1, 1, size=(512, STEPS))
    marks = np.zeros((512, STEPS))
    for row in marks:
        row[rng.choice(STEPS, size=2, replace=False)] = 1
    x = np.stack([numbers, marks], axis=2).astype("float32")
    return x, (numbers * marks).sum(axis=1, keepdims=True).astype("float32")


@pytest.fixture(scope="module", params=["LSTM", "GRU in both directions"])
def model(request, data):
    recurrent = layers.LSTM(12) if request.param == "LSTM" else layers.Bidirectional(layers.GRU(8))
    return trained(keras.Sequential([keras.Input((STEPS, 2)), recurrent, layers.Dense(1)]), *data, "mse", 30)


@pytest.fixture
def steps():
    return np.broadcast_to(np.arange(STEPS)[:, None], (STEPS, 2))


def test_lrp(model, data, steps):
    x, _ = data
    explanation = check_relevance(model, x[:16], steps, 0, least=0.7)
    by_step = np.abs(explanation.input.sum(axis=2))
    marked = (by_step * x[:16, :, 1]).sum(axis=1) / by_step.sum(axis=1)
    assert np.median(marked) > 0.5


def test_shapley_values(model, data, steps):
    check_values(model, data[0][:8], steps, 0, players="tokens")


def test_gate_monitor(model, data):
    x, y = data
    assert model.fit(x, y, verbose=0, callbacks=[ks.GateMonitor(x[:64], y[:64])]).history["loss"]


def test_heatmaps(model, data, tmp_path):
    """A series is drawn as an image: a row for each step."""
    x, y = data
    model.fit(x[:64], y[:64], verbose=0, callbacks=[ks.LRPHeatmaps(x[:4], y[:4], directory=tmp_path)])
    assert (tmp_path / "epoch_0001.png").exists()


def test_plot(model, data):
    assert ks.plot_series(ks.LRP(model).explain(data[0][:2], 0), data[0][:2]).axes
