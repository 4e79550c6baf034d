"""Time series through recurrent layers: the sum of two marked numbers (Arras et al. 2019)."""

import keras
import numpy as np
import pytest
from keras import layers
from reference.kinds import check_gates, check_relevance, check_values, trained

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
    check_gates(model, x, y, kernels=1, gates=0, monitor=ks.GateMonitor(x[:64], y[:64]))


def test_heatmaps(model, data, tmp_path):
    """A series is drawn as an image: a row for each step."""
    x, y = data
    model.fit(x[:64], y[:64], verbose=0, callbacks=[ks.LRPHeatmaps(x[:4], y[:4], directory=tmp_path)])
    assert (tmp_path / "epoch_0001.png").exists()


def test_plot(model, data):
    x, explanation = data[0][:2], ks.LRP(model).explain(data[0][:2], 0)
    panels = [axes for axes in ks.plot_series(explanation, x).axes if axes.images]
    # two features of two samples
    for axes, i, feature in zip(panels, [0, 0, 1, 1], [0, 1, 0, 1], strict=True):
        values = explanation.input[i]
        np.testing.assert_array_equal(axes.lines[0].get_ydata(), x[i, :, feature])
        np.testing.assert_allclose(axes.images[0].get_array()[0], values[:, feature] / np.abs(values).max(), rtol=1e-5)
