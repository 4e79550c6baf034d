"""A classifier of the rows of a table, given as a data frame."""

import keras
import numpy as np
import pytest
from keras import layers
from reference.kinds import check_gates, check_relevance, check_values, trained

import keras_shapley as ks

pandas = pytest.importorskip("pandas")
NAMES = ["age", "height", "weight", "pulse", "noise"]


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 5)).astype("float32")
    return pandas.DataFrame(x, columns=NAMES), (x[:, 0] + x[:, 1] * x[:, 2] > 0).astype("int32")


@pytest.fixture(scope="module")
def model(table):
    x, y = table
    network = keras.Sequential([keras.Input((5,)), layers.Dense(16, "relu"), layers.Dense(2, "softmax")])
    return trained(network, x.to_numpy(), y, "sparse_categorical_crossentropy", 40)


def test_lrp(model, table):
    check_relevance(model, table[0].to_numpy()[:8], np.arange(5), 1, least=0.9)
    assert ks.LRP(model).explain(table[0][:8]).input.shape == (8, 5)


def test_shapley_values(model, table):
    x, _ = table
    check_values(model, x.to_numpy()[:8], np.arange(5), 1)
    found = ks.shapley_values(model, x[:40], 1, baseline=x[100:120])
    assert found.feature_names == NAMES
    size = np.abs(found.values).mean(axis=0)
    assert size.argmax() == 0 and size[4] < size[:3].min()


def test_gate_monitor(model, table):
    x, y = table
    check_gates(model, x.to_numpy(), y, kernels=2, gates=1, monitor=ks.GateMonitor(x, y))


def test_heatmaps(table):
    with pytest.raises(ValueError, match="`x` cannot be shown as it is, so `images=` must say what to show"):
        ks.LRPHeatmaps(table[0].to_numpy())


def test_plot(model, table):
    shap = pytest.importorskip("shap")
    found = ks.shapley_values(model, table[0][:5], 1)
    explanation = found.to_shap()
    assert isinstance(explanation, shap.Explanation) and explanation.feature_names == NAMES
