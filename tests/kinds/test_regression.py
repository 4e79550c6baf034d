"""Numbers as outputs: one, and several."""

import keras
import numpy as np
import pytest
from keras import layers
from reference.kinds import check_gates, check_heatmaps, check_relevance, check_values, trained

import keras_shapley as ks

QUARTERS = ((np.arange(6) // 3)[:, None] * 2 + np.arange(6) // 3)[..., None]


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).uniform(size=(128, 6, 6, 1)).astype("float32")


@pytest.fixture(scope="module", params=[1, 2])
def case(request, x):
    n = request.param
    y = np.stack([x[:, :3, :3].mean(axis=(1, 2, 3)), -x[:, 3:].mean(axis=(1, 2, 3))], axis=1)[:, :n]
    network = [keras.Input((6, 6, 1)), layers.Conv2D(6, 3, activation="relu"), layers.Flatten(), layers.Dense(n)]
    return trained(keras.Sequential(network), x, y, "mse"), y


def test_lrp(case, x):
    model, y = case
    for target in range(y.shape[1]):
        explanation = check_relevance(model, x[:6], QUARTERS, target)
        assert explanation.probability is None


def test_shapley_values(case, x):
    model, y = case
    for target in range(y.shape[1]):
        check_values(model, x[:6], QUARTERS, target, players=2)


def test_gate_monitor(case, x):
    model, y = case
    check_gates(model, x, y, kernels=2, gates=1)


def test_heatmaps(case, x, tmp_path, monkeypatch):
    """No class and no percentage."""
    model, y = case
    heatmaps = ks.LRPHeatmaps(x[:4], y[:4], directory=tmp_path)
    model.fit(x, y, verbose=0, callbacks=[heatmaps])
    titles = heatmaps._subject.titles(ks.LRP(model).explain(x[:4], heatmaps._subject.request()))
    assert all("true: " in title and "%" not in title and "class" not in title for title in titles)
    assert (tmp_path / "epoch_0001.png").exists()


def test_plot(case, x):
    check_heatmaps(ks.LRP(case[0]).explain(x[:2], 0).input, x[:2])
