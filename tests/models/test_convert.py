"""Models converted to Shapley activations and back: weights, outputs, what is changed, what is left and why."""

import json
import zipfile

import keras
import numpy as np
import pytest
from keras import layers, ops
from reference.conversion import BIAS, outputs, with_statistics

import keras_shapley as ks


def mixed():
    """An activation inside, one behind, one behind a normalisation, and what cannot be converted."""
    x = keras.Input((8, 8, 3), name="image")
    y = layers.Conv2D(4, 3, activation="relu", bias_initializer=BIAS, name="inside")(x)
    y = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(y)
    y = layers.BatchNormalization(name="bn")(y)
    y = layers.ReLU(name="relu_behind_bn")(y)
    z = layers.Conv2D(4, 1, name="to_add")(y)
    y = layers.Activation("relu", name="relu_behind_add")(layers.Add(name="add")([y, z]))
    y = layers.GlobalAveragePooling2D()(y)
    y = layers.Dense(6, bias_initializer=BIAS, name="before")(y)
    y = layers.Activation("relu", name="relu_behind")(y)
    y = layers.Dense(5, "gelu", name="gelu")(y)
    return keras.Model(x, layers.Dense(3, "softmax", name="classes")(y))


@pytest.fixture
def images(rng):
    return rng.normal(size=(4, 8, 8, 3)).astype("float32")


def test_shaplu_changes_no_output_and_says_what_was_done(images, rng):
    model = with_statistics(mixed(), rng)
    before = outputs(model, images)
    new, report = ks.to_shapley(model, "shaplu")
    np.testing.assert_allclose(outputs(new, images), before, atol=1e-6)
    assert report.changed == {
        "inside": "Conv2D with relu -> ShapLUConv2D",
        "depthwise": "DepthwiseConv2D, 'bn' (BatchNormalization), 'relu_behind_bn' (ReLU) -> ShapLUDepthwiseConv2D",
        "before": "Dense, 'relu_behind' (Activation) -> ShapLUDense",
    }
    assert report.left == {
        "to_add": "no activation follows it",
        "relu_behind_add": "no layer of its own is in front of it that can be converted",
        "gelu": "its activation is gelu",
        "classes": "its activation is softmax",
    }
    assert "3 layers changed, 4 left" in str(report) and "to_add: no activation" in str(report)
    names = {layer.name for layer in new.layers}
    assert {"bn", "relu_behind_bn"}.isdisjoint(names) and "relu_behind_add" in names
    # the old one is as it was, and shares nothing with the new one
    np.testing.assert_array_equal(outputs(model, images), before)
    new.get_layer("inside").set_weights([2 * weight for weight in new.get_layer("inside").get_weights()])
    np.testing.assert_array_equal(outputs(model, images), before)


def test_a_relu_that_is_no_layer_but_an_operation(rng):
    x = keras.Input((5,))
    model = keras.Model(x, layers.Dense(2)(ops.relu(layers.Dense(6, bias_initializer=BIAS, name="before")(x))))
    new, report = ks.to_shapley(model, "shaplu")
    assert list(report.changed) == ["before"] and len(new.layers) == 3
    values = rng.normal(size=(3, 5)).astype("float32")
    np.testing.assert_allclose(outputs(new, values), outputs(model, values), atol=1e-6)


def test_sa_is_eq_5_with_the_weights_of_the_old_model(images, rng):
    model = with_statistics(mixed(), rng)
    new, _ = ks.to_shapley(model, second_moment="pooled", only=["inside"])
    layer = new.get_layer("inside")
    assert type(layer) is ks.SAConv2D and layer.second_moment == "pooled"
    alone = ks.SAConv2D(4, 3, second_moment="pooled")
    alone.build((None, 8, 8, 3))
    alone.set_weights(model.get_layer("inside").get_weights())
    np.testing.assert_allclose(outputs(layer, images), outputs(alone, images), atol=1e-6)
    assert np.abs(outputs(new, images) - outputs(model, images)).max() > 1e-4


def test_only_what_is_named_is_converted(images):
    model = mixed()
    new, report = ks.to_shapley(model, only="before")
    assert list(report.changed) == ["before"] and report.left["inside"] == "it was not asked for"
    assert type(new.get_layer("inside")) is layers.Conv2D
    with pytest.raises(ValueError, match="not: dense_99. Convertible: inside, depthwise, before"):
        ks.to_shapley(model, only=["before", "dense_99"])
    with pytest.raises(ValueError, match=r"`only` names 'to_add' \(Conv2D\).*: no activation follows it"):
        ks.to_shapley(model, only=["to_add"])
    with pytest.raises(ValueError, match=r"`only` names 'add' \(Add\).*: it has no weights"):
        ks.to_shapley(model, only=["add"])
    with pytest.raises(ValueError, match=r"`only` names 'bn' .*: the layer in front of it takes it in"):
        ks.to_shapley(model, only=["bn", "depthwise"])


def test_normalisations_stay_on_request(images, rng):
    new, report = ks.to_shapley(with_statistics(mixed(), rng), "shaplu", merge_batch_norm=False)
    assert report.left["depthwise"] == "'bn' (BatchNormalization) follows it"
    assert type(new.get_layer("bn")) is layers.BatchNormalization


def test_gelu_and_relu6_are_replaced_on_request(rng):
    model = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(6, "gelu", name="a"),
            layers.Dense(6, name="b"),
            layers.ReLU(max_value=6.0, name="clip"),
            layers.Dense(6, "relu6", name="c"),
            layers.Dense(6, name="d"),
            layers.ReLU(max_value=2.0),
            layers.Dense(6, "relu", name="e"),
        ]
    )
    _, report = ks.to_shapley(model, replaces=("gelu", "relu6"))
    assert list(report.changed) == ["a", "b", "c"]
    assert report.left == {"d": "another relu follows it", "e": "its activation is relu"}
    new, _ = ks.to_shapley(model, "shaplu", replaces="relu6")
    x = rng.uniform(-1, 1, size=(3, 5)).astype("float32")
    # nothing here comes near the bound
    np.testing.assert_allclose(outputs(new, x), outputs(model, x), atol=1e-6)


def test_other_layers_keep_their_state(rng):
    """An adapted Normalization, statistics, a frozen layer, and the settings of compile."""
    normalization = layers.Normalization()
    normalization.adapt(rng.normal(3, 2, size=(50, 4)).astype("float32"))
    model = keras.Sequential(
        [
            keras.Input((4,), name="in"),
            normalization,
            layers.Dense(5, "relu", name="a", trainable=False, kernel_regularizer="l2"),
            layers.LayerNormalization(),
            layers.BatchNormalization(),
            layers.Dense(2, "softmax"),
        ]
    )
    with_statistics(model, rng).compile("adam", "sparse_categorical_crossentropy")
    new, _ = ks.to_shapley(model, "shaplu")
    x = rng.normal(size=(6, 4)).astype("float32")
    np.testing.assert_allclose(outputs(new, x), outputs(model, x), atol=1e-6)
    assert not new.get_layer("a").trainable and new.get_layer("a").kernel_regularizer is not None
    assert new.compiled and new.name == model.name and new.inputs[0].name == "in"
    new.fit(x, np.zeros(6), verbose=0)


@pytest.mark.parametrize(
    "layer, shape",
    [
        (layers.Dense(3, activation="relu", bias_initializer=BIAS), (5,)),
        (layers.Dense(3, activation="relu", use_bias=False), (4, 5)),
        (layers.EinsumDense("abc,cd->abd", (None, 3), activation="relu", bias_axes="d"), (4, 5)),
        (layers.Conv1D(3, 2, padding="causal", activation="relu", bias_initializer=BIAS), (6, 4)),
        (layers.Conv2D(4, 3, strides=2, groups=2, activation="relu", bias_initializer=BIAS), (7, 7, 4)),
        (layers.Conv3D(2, 2, activation="relu", bias_initializer=BIAS), (4, 4, 4, 2)),
        (layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same", activation="relu"), (5, 5, 3)),
        (layers.DepthwiseConv1D(3, depth_multiplier=2, activation="relu", bias_initializer=BIAS), (5, 3)),
        (layers.SeparableConv1D(4, 3, strides=2, activation="relu", bias_initializer=BIAS), (7, 3)),
        (layers.SeparableConv2D(4, 3, depth_multiplier=2, activation="relu", use_bias=False), (5, 5, 3)),
        (layers.Conv1DTranspose(4, 3, dilation_rate=2, activation="relu", bias_initializer=BIAS), (5, 3)),
        (layers.Conv2DTranspose(4, 3, strides=2, padding="same", output_padding=1, activation="relu"), (4, 4, 3)),
        (layers.Conv3DTranspose(2, 2, activation="relu", bias_initializer=BIAS), (3, 3, 3, 2)),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_there_and_back_is_the_same_layer_bit_by_bit(layer, shape, rng):
    model = keras.Sequential([keras.Input(shape), layer])
    x = rng.normal(size=(3, *shape)).astype("float32")
    back, report = ks.to_relu(ks.to_shapley(model, "shaplu")[0], x=x)
    np.testing.assert_array_equal(outputs(back, x), outputs(model, x))
    assert type(back.layers[0]) is type(layer)
    own, old = back.layers[0].get_config(), layer.get_config()
    assert {**own, "build_config": None} == {**old, "build_config": None}
    # with Keras 3.12 and TensorFlow 2.18, one-dimensional convolutions are rounded otherwise
    assert max(report.difference) <= (1e-6 if keras.backend.backend() == "tensorflow" else 0)


def test_every_layer_with_weights_is_reported():
    x = keras.Input((4,), dtype="int32")
    y = layers.Embedding(9, 6, name="tokens")(x)
    y = layers.MultiHeadAttention(2, 3, name="attention")(y, y)
    y = layers.Bidirectional(layers.GRU(3, return_sequences=True), name="both_ways")(y)
    y = layers.Dropout(0.5)(layers.BatchNormalization(name="bn")(y))
    model = keras.Model(x, layers.Dense(2, "relu", name="dense")(layers.Flatten()(y)))
    _, report = ks.to_shapley(model)
    assert report.left == {
        "tokens": "there is no Shapley layer for Embedding",
        "attention": "there is no Shapley layer for MultiHeadAttention",
        "both_ways": "there is no Shapley layer for Bidirectional",
        "bn": "there is no Shapley layer for BatchNormalization",
    }


@pytest.mark.parametrize("kind", ["sa", "shaplu"])
def test_save_load_and_one_training_step(kind, images, rng, tmp_path):
    new, _ = ks.to_shapley(with_statistics(mixed(), rng), kind)
    new.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    before = new.get_weights()
    new.fit(images, np.array([0, 1, 2, 0]), verbose=0)
    moved = [np.abs(a - b).max() for a, b in zip(before, new.get_weights())]
    assert np.isfinite(moved).all() and max(moved) > 0
    new.save(tmp_path / "new.keras")
    loaded = keras.models.load_model(tmp_path / "new.keras")
    np.testing.assert_array_equal(outputs(loaded, images), outputs(new, images))


def test_back_to_plain_keras(images, rng, tmp_path):
    """Nothing of this package is in the file, not even the initializer that it has for SA."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            ks.SAConv2D(4, 3, kernel_initializer=ks.SANormal(), moment_gradient=False, name="conv"),
            layers.Flatten(),
            ks.ShapLUDense(3, gradient="full", name="dense"),
        ]
    )
    with pytest.raises(ValueError, match="has SA layers, which are not ReLU: conv. With approximate=True"):
        ks.to_relu(model)
    plain, report = ks.to_relu(model, approximate=True, x=images)
    difference = np.abs(outputs(plain, images) - outputs(model, images))
    np.testing.assert_allclose(report.difference, (difference.mean(), difference.max()), rtol=1e-4)
    assert report.difference[1] > 1e-3
    assert report.changed == {
        "conv": "SAConv2D -> Conv2D with relu",
        "dense": "ShapLUDense -> Dense with relu",
    }
    assert "outputs differ by" in str(report)
    plain.save(tmp_path / "plain.keras")
    with zipfile.ZipFile(tmp_path / "plain.keras") as file:
        config = file.read("config.json").decode()
    assert "shapley" not in config.lower() and json.loads(config)["class_name"] == "Sequential"


class OwnModel(keras.Model):
    def call(self, inputs):
        return inputs


class OwnDense(layers.Dense):
    pass


class OwnConvolution(layers.Conv2DTranspose):
    pass


def test_what_cannot_be_converted_is_left_with_a_reason(rng):
    quantized = layers.Dense(4, "relu", name="quantized")
    model = keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            OwnConvolution(4, 3, activation="relu", name="own_convolution"),
            ks.SAConv2D(4, 3, name="already"),
            layers.GlobalMaxPooling2D(),
            OwnDense(4, "relu", name="own"),
            quantized,
        ]
    )
    quantized.quantize("int8")
    new, report = ks.to_shapley(model)
    assert not report.changed
    assert report.left == {
        "own_convolution": "there is no Shapley layer for OwnConvolution",
        "already": "it is a Shapley layer already",
        "own": "there is no Shapley layer for OwnDense",
        "quantized": "it is quantized",
    }


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (keras.Sequential([layers.Dense(3, "relu")], name="waits"), "Model 'waits' is not built"),
        (OwnModel(name="own"), "model 'own' of type OwnModel, whose call is code of its own"),
        (layers.Dense(3), "`model` must be a keras.Model. Received: <Dense"),
    ],
)
def test_bad_models_are_named(model, message):
    for convert in (ks.to_shapley, ks.to_relu):
        with pytest.raises(ValueError, match=message):
            convert(model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": "silu"}, "`activation` must be one of 'sa', 'shaplu'. Received: activation='silu'"),
        ({"second_moment": "mean"}, "`second_moment` must be one of"),
        ({"replaces": "tanh"}, "`replaces` must be one of 'relu', 'relu6', 'gelu'. Received: replaces='tanh'"),
        ({"merge_batch_norm": None}, "`merge_batch_norm` must be one of"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        ks.to_shapley(mixed(), **options)


@pytest.mark.parametrize("options", [{"max_value": 0.5}, {"negative_slope": 0.3}, {"threshold": 0.4}])
def test_a_relu_with_options_is_left(options):
    x = keras.Input((5,))
    model = keras.Model(x, keras.activations.relu(layers.Dense(3, name="hidden")(x), **options))
    _, report = ks.to_shapley(model)
    assert not report.changed
    assert report.left == {"hidden": "another relu follows it"}
