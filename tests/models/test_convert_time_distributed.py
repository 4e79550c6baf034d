"""Layers inside TimeDistributed, and inside models with code of their own, converted to Shapley activations."""

import keras
import numpy as np
import pytest
from keras import layers
from reference.conversion import BIAS, outputs

import keras_shapley as ks


def every_frame():
    """Layers, and a model, on each frame of a film."""
    head = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(6, name="dense"),
            layers.BatchNormalization(name="bn"),
            layers.Activation("relu", name="relu"),
            layers.LayerNormalization(name="norm"),
            layers.Dense(4, "tanh", name="tanh"),
        ],
        name="head",
    )
    each = layers.TimeDistributed
    x = keras.Input((5, 6, 6, 2))
    y = each(layers.Conv2D(3, 3, activation="relu", bias_initializer=BIAS, name="conv"), name="inside")(x)
    y = each(layers.SeparableConv2D(6, 3, name="separable"), name="before")(y)
    y = each(layers.BatchNormalization(name="norm"), name="normalized")(y)
    y = each(layers.ReLU(name="relu"), name="behind")(y)
    y = each(layers.GlobalAveragePooling2D(name="pool"), name="pooled")(y)
    y = each(each(head, name="deep"), name="deeper")(layers.Reshape((5, 1, 6))(y))
    y = layers.LSTM(4, name="memory")(layers.Reshape((5, 4))(y))
    return keras.Model(x, layers.Dense(2, name="out")(y))


@pytest.mark.parametrize("kind", ["sa", "shaplu"])
def test_layers_inside_time_distributed_are_converted_and_reported(kind, rng, tmp_path):
    model = every_frame()
    weights = [rng.uniform(0.5, 1.5, w.shape) * rng.choice([-1, 1], w.shape) for w in model.get_weights()]
    model.set_weights([np.abs(w) if "variance" in v.path else w for w, v in zip(weights, model.weights)])
    prefix = {"sa": "SA", "shaplu": "ShapLU"}[kind]
    new, report = ks.to_shapley(model, kind)
    assert report.changed == {
        "inside/conv": f"Conv2D with relu -> {prefix}Conv2D",
        "before/separable": "SeparableConv2D, 'normalized/norm' (BatchNormalization), 'behind/relu' (ReLU) -> "
        f"{prefix}SeparableConv2D",
        "deeper/deep/head/dense": "Dense, 'deeper/deep/head/bn' (BatchNormalization), 'deeper/deep/head/relu' "
        f"(Activation) -> {prefix}Dense",
    }
    assert report.left == {
        "deeper/deep/head/norm": "there is no Shapley layer for LayerNormalization",
        "deeper/deep/head/tanh": "its activation is tanh",
        "memory": "there is no Shapley layer for LSTM",
        "out": "no activation follows it",
    }
    assert list(report.left)[-1] == "out"
    assert type(new.get_layer("inside").layer) is getattr(ks, f"{prefix}Conv2D")
    assert {layer.name for layer in new.layers}.isdisjoint({"normalized", "behind"})
    x = rng.normal(size=(3, 5, 6, 6, 2)).astype("float32")
    if kind == "shaplu":
        np.testing.assert_allclose(outputs(new, x), outputs(model, x), atol=1e-5)
        back, _ = ks.to_relu(new)
        np.testing.assert_array_equal(outputs(back, x), outputs(new, x))
    else:
        assert np.abs(outputs(new, x) - outputs(model, x)).max() > 1e-3
        with pytest.raises(ValueError, match="SA layers, which are not ReLU: before/separable, deeper/deep/head/dense"):
            ks.to_relu(new)
    new.save(tmp_path / "new.keras")
    np.testing.assert_array_equal(outputs(keras.models.load_model(tmp_path / "new.keras"), x), outputs(new, x))


def test_only_names_a_layer_inside_time_distributed():
    new, report = ks.to_shapley(every_frame(), only="deeper/deep/head/dense")
    assert list(report.changed) == ["deeper/deep/head/dense"]
    assert report.left["inside/conv"] == "it was not asked for"
    assert type(new.get_layer("inside").layer) is layers.Conv2D
    with pytest.raises(ValueError, match=r"`only` names 'memory' \(LSTM\).*: there is no Shapley layer for LSTM"):
        ks.to_shapley(every_frame(), only="memory")


def test_a_layer_inside_and_outside_of_time_distributed_stays_one(rng):
    dense = layers.Dense(4, "relu", bias_initializer=BIAS, name="dense")
    x = keras.Input((3, 4))
    model = keras.Model(x, layers.Dense(2)(dense(layers.TimeDistributed(dense, name="steps")(x))))
    new, report = ks.to_shapley(model, "shaplu")
    assert list(report.changed) == ["steps/dense"]
    assert new.get_layer("steps").layer is new.get_layer("dense")
    values = rng.normal(size=(2, 3, 4)).astype("float32")
    np.testing.assert_allclose(outputs(new, values), outputs(model, values), atol=1e-6)


def test_what_follows_a_shared_layer_inside_and_outside_of_time_distributed_must_be_the_same():
    dense = layers.Dense(4, name="dense")
    x = keras.Input((3, 4))
    steps = layers.TimeDistributed(layers.ReLU())(layers.TimeDistributed(dense, name="steps")(x))
    _, report = ks.to_shapley(keras.Model(x, dense(steps)))
    assert not report.changed and report.left["steps/dense"] == "no activation follows it"


@keras.saving.register_keras_serializable(package="tests")
class Inner(keras.Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.dense = layers.Dense(4)

    def build(self, input_shape):
        self.dense.build(input_shape)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], 4)

    def call(self, inputs):
        return self.dense(inputs)


@pytest.mark.parametrize("steps", [False, True])
def test_a_model_with_code_of_its_own_inside_keeps_its_weights_and_is_reported(steps, rng):
    inner = Inner(name="inner")
    x = keras.Input((3, 4))
    y = layers.TimeDistributed(inner, name="steps")(x) if steps else inner(x)
    model = keras.Model(x, layers.Dense(2, "relu", name="dense")(y))
    new, report = ks.to_shapley(model, "shaplu")
    assert list(report.changed) == ["dense"]
    assert report.left == {"steps/inner" if steps else "inner": "there is no Shapley layer for Inner"}
    values = rng.normal(size=(2, 3, 4)).astype("float32")
    np.testing.assert_array_equal(outputs(new, values), outputs(model, values))


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="no convolution with channels first on a CPU")
def test_a_normalisation_is_merged_if_its_axis_is_that_of_the_channels(rng):
    """Where channels are first, axis 1 inside TimeDistributed is that of the rows."""
    x = keras.Input((4, 4, 4))
    y = layers.Conv2D(4, 1, data_format="channels_first", bias_initializer=BIAS, name="conv")(x)
    inside = layers.TimeDistributed(layers.BatchNormalization(axis=1, name="bn"), name="rows")(y)
    beside = layers.BatchNormalization(axis=1, name="bn")(y)
    values = rng.normal(size=(2, 4, 4, 4)).astype("float32")
    for normalized, merged in ((inside, False), (beside, True)):
        model = keras.Model(x, layers.ReLU()(normalized))
        model.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in model.get_weights()])
        new, report = ks.to_shapley(model, "shaplu")
        assert bool(report.changed) == merged
        np.testing.assert_allclose(outputs(new, values), outputs(model, values), atol=1e-5)


@keras.saving.register_keras_serializable(package="tests")
class Doubled(keras.Sequential):
    def call(self, inputs, training=None, mask=None):
        return 2 * super().call(inputs, training=training, mask=mask)


def test_a_sequential_model_with_code_of_its_own_inside_keeps_it(rng):
    inner = Doubled([keras.Input((3,)), layers.Dense(3)], name="inner")
    x = keras.Input((3,))
    model = keras.Model(x, layers.Dense(4, "relu", name="dense")(inner(x)))
    new, report = ks.to_shapley(model, "shaplu")
    assert list(report.changed) == ["dense"]
    values = rng.normal(size=(2, 3)).astype("float32")
    np.testing.assert_allclose(outputs(new, values), outputs(model, values), atol=1e-6)
