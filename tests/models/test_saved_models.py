"""Models from files: what they declare is counted before it is made, and models that are whole load as they were."""

import json
import os
import zipfile

import h5py
import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_shapley as ks
from keras_shapley.models import saved_models
from keras_shapley.models.keras_internals import declared_weights


def image_model():
    parts = [layers.Rescaling(2.0), layers.Conv2D(3, 3), layers.BatchNormalization(), layers.Dropout(0.3)]
    return keras.Sequential([keras.Input((6, 6, 1)), *parts, layers.Flatten(), ks.SADense(4), layers.Dense(2)])


def text_model():
    words = keras.Input((5,), dtype="int32")
    x = layers.Embedding(11, 4)(words)
    x = layers.MultiHeadAttention(2, 3)(x, x)
    x = layers.Bidirectional(layers.LSTM(3, dropout=0.1, recurrent_dropout=0.1))(x)
    return keras.Model(words, layers.Dense(2)(x))


def nested_model():
    x = keras.Input((6, 6, 1))
    y = layers.TimeDistributed(layers.Dense(3))(image_model()(x)[:, None])
    scale = layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0])
    return keras.Model(x, scale(ops.relu(y) + 1.0))


@pytest.mark.parametrize("make", [image_model, text_model, nested_model])
def test_weights_are_counted_without_being_made(make):
    model = make()
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(model)))
    # with the states of random layers, and a layer of which a Bidirectional one makes two
    assert model.count_params() <= declared_weights(config) <= 2 * model.count_params()
    # a model that is made afterwards is made as always
    keras.utils.set_random_seed(0)
    assert np.isfinite(ops.convert_to_numpy(layers.Dense(2)(np.ones((1, 3), "float32")))).all()


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_model_that_is_whole_loads_as_it_was(suffix, tmp_path):
    model = image_model()
    path = tmp_path / f"model.{suffix}"
    model.save(path)
    x = np.ones((2, 6, 6, 1), "float32")
    loaded = saved_models.load(path)
    np.testing.assert_allclose(loaded.predict_on_batch(x), model.predict_on_batch(x), rtol=1e-6)


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.parametrize("units", [10**8, 10**12])
def test_a_small_file_declares_no_large_model(suffix, units, tmp_path):
    """The number of units in the file is another."""
    model = keras.Sequential([keras.Input((1,)), layers.Dense(11111)])
    path = tmp_path / f"model.{suffix}"
    model.save(path)
    if suffix == "keras":
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        members["config.json"] = members["config.json"].replace(b'"units": 11111', f'"units": {units}'.encode())
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
    else:
        with h5py.File(path, "r+") as file:
            text = file.attrs["model_config"]
            file.attrs["model_config"] = text.replace('"units": 11111', f'"units": {units}')
    with pytest.raises(ValueError, match="it declares .* bytes of data, and a file of its size may hold"):
        saved_models.load(path)


def test_what_is_no_file_of_a_model_is_named(tmp_path):
    (tmp_path / "model.txt").write_text("words")
    (tmp_path / "model.keras").write_text("words")
    os.mkfifo(tmp_path / "pipe.keras")
    for name, message in {
        "model.txt": "it must be a .keras or .h5 file",
        "model.keras": "not a zip file",
        "pipe.keras": "it is not a file",
    }.items():
        with pytest.raises(ValueError, match=message):
            saved_models.load(tmp_path / name)
