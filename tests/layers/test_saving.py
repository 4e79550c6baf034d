"""Saving, loading, exporting and copying of models that hold the layers."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers
from reference.paths import FIXTURES, ROOT

import keras_shapley as ks

# every layer, with options that are not the default
ARGUMENTS = {
    "Dense": dict(units=3, use_bias=False),
    "Conv1D": dict(filters=3, kernel_size=2, padding="causal", kernel_regularizer="l2"),
    "Conv2D": dict(filters=4, kernel_size=3, strides=2, padding="same", kernel_constraint="max_norm"),
    "Conv3D": dict(filters=2, kernel_size=2, bias_initializer="ones"),
    "DepthwiseConv2D": dict(kernel_size=3, depth_multiplier=2),
    "DepthwiseConv1D": dict(kernel_size=2, depth_multiplier=2, depthwise_regularizer="l2"),
    "SeparableConv1D": dict(filters=3, kernel_size=2, depth_multiplier=2, pointwise_constraint="max_norm"),
    "SeparableConv2D": dict(filters=4, kernel_size=3, padding="same", use_bias=False),
    "Conv1DTranspose": dict(filters=3, kernel_size=2, dilation_rate=2),
    "Conv2DTranspose": dict(filters=4, kernel_size=3, strides=2, padding="same", output_padding=1),
    "Conv3DTranspose": dict(filters=2, kernel_size=2, kernel_initializer="he_normal"),
    "EinsumDense": dict(equation="abc,cd->abd", output_shape=(6, 3), bias_axes="d"),
}
OPTIONS = {
    "SA": dict(second_moment="pooled", moment_gradient=False),
    "ShapLU": dict(gradient="full"),
}
LAYERS = [(prefix, name) for prefix in OPTIONS for name in ARGUMENTS]


def new(prefix, name):
    return getattr(ks, prefix + name)(**ARGUMENTS[name], **OPTIONS[prefix])


@pytest.fixture(params=OPTIONS)
def model(request, rng):
    """A network that holds every layer of one kind, with random weights."""
    prefix = request.param
    volume = keras.Input((3, 4, 4, 2), name="volume")
    x = new(prefix, "Conv3D")(volume)
    x = new(prefix, "Conv3DTranspose")(x)
    x = new(prefix, "Conv3D")(x)
    x = layers.Reshape((6, 3, 2))(x)
    x = new(prefix, "DepthwiseConv2D")(x)
    x = layers.ZeroPadding2D(1)(x)
    x = new(prefix, "Conv2D")(x)
    x = new(prefix, "Conv2DTranspose")(x)
    x = new(prefix, "SeparableConv2D")(x)
    x = new(prefix, "Conv2D")(x)
    x = layers.Reshape((6, 4))(x)
    x = new(prefix, "Conv1D")(x)
    x = new(prefix, "SeparableConv1D")(x)
    x = new(prefix, "Conv1DTranspose")(x)
    x = new(prefix, "DepthwiseConv1D")(x)
    x = new(prefix, "EinsumDense")(x)
    x = new(prefix, "Dense")(x)
    model = keras.Model(volume, layers.Dense(2)(layers.Flatten()(x)))
    model.set_weights([rng.normal(size=w.shape) / 2 for w in model.get_weights()])
    return model


@pytest.fixture
def x(rng):
    return rng.normal(size=(5, 3, 4, 4, 2)).astype("float32")


def same_output(model, other, x, numpy):
    np.testing.assert_allclose(numpy(model(x)), numpy(other(x)), rtol=1e-5, atol=1e-6)


def test_keras_file_comes_back_in_safe_mode(model, x, tmp_path, numpy):
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    same_output(model, loaded, x, numpy)
    assert [type(layer) for layer in loaded.layers] == [type(layer) for layer in model.layers]
    assert [layer.get_config() for layer in loaded.layers] == [layer.get_config() for layer in model.layers]


@pytest.mark.parametrize("prefix", OPTIONS)
def test_trained_model_comes_back_with_its_optimizer_and_goes_on(prefix, rng, tmp_path, numpy):
    model = keras.Sequential([keras.Input((4,)), getattr(ks, prefix + "Dense")(3), layers.Dense(2)])
    model.compile("adam", "mse", jit_compile=False)
    x, y = rng.normal(size=(8, 4)).astype("float32"), rng.normal(size=(8, 2)).astype("float32")
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for each in (model, loaded):
        each.fit(x, y, verbose=0, shuffle=False)
    same_output(model, loaded, x, numpy)


def test_weights_file_comes_back(model, x, tmp_path, numpy):
    model.save_weights(tmp_path / "model.weights.h5")
    other = keras.models.clone_model(model)
    assert np.abs(numpy(model(x)) - numpy(other(x))).max() > 1e-3
    other.load_weights(tmp_path / "model.weights.h5")
    same_output(model, other, x, numpy)


def test_file_loads_in_a_process_that_has_only_imported_the_package(rng, tmp_path, numpy):
    small = [
        ks.SAConv2D(3, 2),
        ks.ShapLUConv2D(2, 2, gradient="full"),
        layers.Flatten(),
        ks.SADense(4),
        ks.ShapLUDense(2),
    ]
    model = keras.Sequential([keras.Input((4, 4, 2)), *small])
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    x = rng.normal(size=(5, 4, 4, 2)).astype("float32")
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", x)
    code = f"""
import numpy as np
import keras_shapley
import keras
model = keras.models.load_model({str(tmp_path / "model.keras")!r})
np.save({str(tmp_path / "y.npy")!r}, model.predict(np.load({str(tmp_path / "x.npy")!r}), verbose=0))
"""
    environment = {**os.environ, "KERAS_BACKEND": keras.backend.backend()}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), numpy(model(x)), rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="SavedModel is TensorFlow's")
def test_saved_model_gives_the_same_output_without_keras(model, x, tmp_path, numpy):
    import tensorflow as tf

    model.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(tmp_path / "exported")
    np.testing.assert_allclose(exported.serve(x).numpy(), numpy(model(x)), rtol=1e-5, atol=1e-6)
    # the batch was not fixed by the export
    np.testing.assert_allclose(exported.serve(x[:2]).numpy(), numpy(model(x[:2])), rtol=1e-5, atol=1e-6)


def test_clone_has_the_same_layers(model, x, numpy):
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    same_output(model, clone, x, numpy)


@pytest.mark.parametrize("prefix, name", LAYERS)
def test_layer_comes_back_from_its_configuration(prefix, name):
    layer = new(prefix, name)
    config = layer.get_config()
    assert "activation" not in config
    assert {key: config[key] for key in OPTIONS[prefix]} == OPTIONS[prefix]
    copy = type(layer).from_config(config)
    assert copy.get_config() == config
    assert {key: getattr(copy, key) for key in OPTIONS[prefix]} == OPTIONS[prefix]


@pytest.mark.parametrize("prefix, name", LAYERS)
def test_layer_is_registered_under_the_packages_name(prefix, name):
    serialized = keras.saving.serialize_keras_object(new(prefix, name))
    assert serialized["registered_name"] == f"keras_shapley>{prefix}{name}"
    assert type(keras.saving.deserialize_keras_object(serialized)) is getattr(ks, prefix + name)


@pytest.mark.parametrize("prefix", OPTIONS)
def test_lora_comes_back_as_the_parents_does(prefix, rng, tmp_path, numpy):
    """Keras saves the merged kernel, and LoRA anew from zero."""
    x = rng.normal(size=(5, 4)).astype("float32")
    outputs = {}
    for cls in (getattr(ks, prefix + "Dense"), layers.Dense):
        layer = cls(3)
        model = keras.Sequential([keras.Input((4,)), layer])
        layer.kernel.assign(np.resize([0.3, -0.2, 0.5, -0.7, 0.1], (4, 3)))
        layer.enable_lora(2)
        layer.lora_kernel_a.assign(np.resize([1.0, -2.0, 0.5], (4, 2)))
        layer.lora_kernel_b.assign(np.resize([0.2, 0.1, -0.3, 0.4, 0.5], (2, 3)))
        model.save(tmp_path / f"{cls.__name__}.keras")
        loaded = keras.models.load_model(tmp_path / f"{cls.__name__}.keras")
        same_output(model, loaded, x, numpy)
        outputs[cls.__name__] = [numpy(w) for w in loaded.weights]
    ours, parents = outputs.values()
    assert [w.shape for w in ours] == [w.shape for w in parents]
    np.testing.assert_allclose(ours[0], parents[0], rtol=1e-6)


@pytest.mark.skipif(keras.__version__ < "3.15", reason="Keras loads what older versions saved: the files are from 3.15")
@pytest.mark.parametrize("name", ["mlp", "conv"])
def test_a_model_saved_by_version_0_1_still_loads(name):
    """Every layer and option, and the outputs that version 0.1 computed."""
    saved = np.load(FIXTURES / f"version_0_1_{name}.npz")
    model = keras.models.load_model(FIXTURES / f"version_0_1_{name}.keras")
    np.testing.assert_allclose(model.predict(saved["x"], verbose=0), saved["y"], rtol=1e-5, atol=1e-6)
