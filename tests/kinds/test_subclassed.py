"""A model whose `call` is code: Shapley values, and clear words where a graph of layers is needed."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from reference.kinds import check_values, trained
from reference.marks import MASKS_OF_FEW_PLAYERS, MAY_MISS_THE_TOTAL

import keras_shapley as ks


class Network(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden = layers.Dense(8)
        self.head = layers.Dense(2, "softmax")

    def call(self, x):
        return self.head(ops.abs(self.hidden(x)) ** 1.5)


@pytest.fixture(scope="module")
def data():
    x = np.random.default_rng(0).normal(size=(96, 4)).astype("float32")
    return x, (x[:, 0] * x[:, 1] > 0).astype("int32")


@pytest.fixture(scope="module")
def model(data):
    return trained(Network(), *data, "sparse_categorical_crossentropy")


def test_lrp(model):
    with pytest.raises(ValueError, match="shapley_values"):
        ks.LRP(model)


@MASKS_OF_FEW_PLAYERS
@MAY_MISS_THE_TOTAL
def test_shapley_values(model, data):
    check_values(model, data[0][:6], np.arange(4), 1)
    assert ks.fast_shapley_values(model, data[0][:6], method="masks", n=2, players=[0, 0, 1, 1]).values.shape == (6, 2)


def test_gate_monitor(model, data):
    with pytest.raises(ValueError, match="Functional"):
        model.fit(*data, verbose=0, callbacks=[ks.GateMonitor(*data)])


def test_heatmaps(model, data, tmp_path):
    heatmaps = ks.LRPHeatmaps(data[0][:2], images=np.zeros((2, 2, 2)), directory=tmp_path)
    with pytest.raises(ValueError, match="shapley_values"):
        model.fit(*data, verbose=0, callbacks=[heatmaps])


def test_plot(model, data):
    pytest.importorskip("shap")
    assert ks.shapley_values(model, data[0][:3], 1).to_shap().values.shape == (3, 4)
