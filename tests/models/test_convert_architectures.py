"""Whole architectures, and models in models, converted to Shapley activations and back."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from reference.conversion import BIAS, outputs, with_statistics

import keras_shapley as ks


def nested():
    inner = keras.Sequential(
        [keras.Input((6,)), layers.Dense(6, "relu", bias_initializer=BIAS, name="first"), layers.Dense(6, name="last")],
        name="inner",
    )
    a = keras.Input((6,))
    branch = keras.Model(
        a, layers.ReLU(name="relu")(layers.Dense(6, bias_initializer=BIAS, name="only")(a)), name="branch"
    )
    x = keras.Input((6,), name="x")
    # the ReLU behind the inner model is that of its last layer; the branch is used twice
    y = layers.Activation("relu", name="behind")(inner(x))
    return keras.Model(x, layers.Dense(2, name="out")(layers.Concatenate()([branch(y), branch(branch(x))])))


def test_nested_and_shared_models(rng):
    model = nested()
    x = rng.normal(size=(3, 6)).astype("float32")
    new, report = ks.to_shapley(model, "shaplu")
    assert list(report.changed) == ["inner/first", "inner/last", "branch/only"]
    np.testing.assert_allclose(outputs(new, x), outputs(model, x), atol=1e-6)
    assert type(new.get_layer("branch").get_layer("only")) is ks.ShapLUDense
    assert len(new.get_layer("branch").layers) == 2
    back, _ = ks.to_relu(new)
    np.testing.assert_array_equal(outputs(back, x), outputs(new, x))
    only, report = ks.to_shapley(model, only=["branch/only"])
    assert list(report.changed) == ["branch/only"]


def test_a_relu_that_serves_others_stays(rng):
    relu = layers.ReLU(name="shared_relu")
    x = keras.Input((4,))
    y = relu(layers.Dense(4, name="a")(x))
    z = relu(layers.Add()([y, x]))
    once = layers.ReLU(name="own_relu")(layers.Dense(4, name="b")(z))
    taken = layers.Dense(4, name="c")(once)
    model = keras.Model(x, [layers.ReLU()(taken), taken])
    new, report = ks.to_shapley(model, "shaplu")
    assert list(report.changed) == ["b"]
    assert report.left["a"] == "'shared_relu' (ReLU) behind it serves other layers as well"
    assert report.left["c"] == "no activation follows it"
    values = rng.normal(size=(2, 4)).astype("float32")
    for one, other in zip(new(values), model(values)):
        np.testing.assert_allclose(ops.convert_to_numpy(one), ops.convert_to_numpy(other), atol=1e-6)


def test_one_relu_for_two_layers_that_both_convert(rng):
    relu = layers.ReLU(name="shared_relu")
    model = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="a"), relu, layers.Dense(4, name="b")])
    x = keras.Input((4,))
    model = keras.Model(x, relu(model.layers[2](relu(model.layers[0](x)))))
    new, report = ks.to_shapley(model, "shaplu")
    assert list(report.changed) == ["a", "b"]
    values = rng.normal(size=(2, 4)).astype("float32")
    np.testing.assert_allclose(outputs(new, values), outputs(model, values), atol=1e-6)


def normalized(x, layer, name):
    return layers.ReLU(name=f"{name}_relu")(layers.BatchNormalization(name=f"{name}_bn")(layer(x)))


def mobile_net():
    """As MobileNet and Xception: depthwise and separable convolutions, each normalised and then rectified."""
    x = keras.Input((8, 8, 3))
    y = normalized(x, layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False), "stem")
    y = normalized(y, layers.DepthwiseConv2D(3, padding="same", use_bias=False), "depthwise")
    y = normalized(y, layers.Conv2D(6, 1, use_bias=False), "pointwise")
    y = normalized(y, layers.SeparableConv2D(8, 3, depth_multiplier=2, padding="same", bias_initializer=BIAS), "both")
    y = normalized(y, layers.SeparableConv2D(8, 3, padding="same", use_bias=False), "again")
    return keras.Model(x, layers.Dense(3, "softmax")(layers.GlobalAveragePooling2D()(y)))


def u_net():
    """As U-Net: transposed convolutions up, and skip connections."""
    x = keras.Input((8, 8, 3))
    high = layers.Conv2D(4, 3, padding="same", activation="relu", bias_initializer=BIAS)(x)
    low = layers.Conv2D(6, 3, padding="same", activation="relu")(layers.MaxPooling2D()(high))
    bottom = normalized(layers.MaxPooling2D()(low), layers.SeparableConv2D(8, 3, padding="same"), "bottom")
    up = layers.Conv2DTranspose(6, 3, strides=2, padding="same", activation="relu", bias_initializer=BIAS)(bottom)
    up = layers.Concatenate()([up, low])
    up = normalized(up, layers.Conv2DTranspose(4, 2, strides=2, use_bias=False), "up")
    return keras.Model(x, layers.Conv2D(2, 1, activation="sigmoid", name="map")(layers.Concatenate()([up, high])))


def signals():
    """A model of series with each of the convolutions in one dimension."""
    x = keras.Input((16, 3))
    y = normalized(x, layers.SeparableConv1D(6, 3, strides=2, padding="same"), "separable")
    y = normalized(y, layers.DepthwiseConv1D(3, depth_multiplier=2, padding="same", use_bias=False), "depthwise")
    y = normalized(y, layers.Conv1DTranspose(4, 4, strides=2, padding="same"), "transposed")
    return keras.Model(x, layers.Conv1D(1, 1)(y))


@pytest.mark.parametrize("make, changed, left", [(mobile_net, 5, 1), (u_net, 5, 1), (signals, 3, 1)])
def test_every_convolution_is_converted(make, changed, left, rng):
    """ShapLU keeps the outputs, SA has the layers of eq. (5) with the same weights, and the way back is exact."""
    model = with_statistics(make(), rng)
    x = rng.normal(size=(3, *model.inputs[0].shape[1:])).astype("float32")
    new, report = ks.to_shapley(model, "shaplu")
    assert (len(report.changed), len(report.left)) == (changed, left)
    np.testing.assert_allclose(outputs(new, x), outputs(model, x), rtol=1e-5, atol=1e-5)
    assert not any(isinstance(layer, (layers.BatchNormalization, layers.ReLU)) for layer in new.layers)
    back, report = ks.to_relu(new, x=x)
    # with Keras 3.12 and TensorFlow 2.18, one-dimensional convolutions are rounded otherwise
    assert max(report.difference) <= (1e-6 if keras.backend.backend() == "tensorflow" else 0)
    assert not any(type(layer).__module__.startswith("keras_shapley") for layer in back.layers)
    sa, _ = ks.to_shapley(model)
    for layer, same in zip(sa.layers, new.layers):
        assert type(layer).__name__.removeprefix("SA") == type(same).__name__.removeprefix("ShapLU")
        for weight, other in zip(layer.get_weights(), same.get_weights(), strict=True):
            np.testing.assert_array_equal(weight, other)
    assert np.isfinite(outputs(sa, x)).all() and np.abs(outputs(sa, x) - outputs(new, x)).max() > 1e-3


def test_einsum_dense_with_a_bias_of_two_axes_takes_in_a_normalisation(rng):
    def model(bias_axes):
        layer = layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes=bias_axes, bias_initializer=BIAS)
        return with_statistics(
            keras.Sequential([keras.Input((4, 5)), layer, layers.BatchNormalization(name="bn"), layers.ReLU()]), rng
        )

    x = rng.normal(size=(3, 4, 5)).astype("float32")
    whole = model("de")
    new, report = ks.to_shapley(whole, "shaplu")
    assert len(report.changed) == 1
    np.testing.assert_allclose(outputs(new, x), outputs(whole, x), atol=1e-5)
    # a bias for each head has no place for a shift of each channel
    for bias_axes in ("d", None):
        _, report = ks.to_shapley(model(bias_axes))
        assert "'bn' (BatchNormalization) cannot be merged into it" in report.left.values()


def test_a_normalisation_of_an_axis_that_no_kernel_has_cannot_be_merged(rng):
    layer = layers.EinsumDense("abc,bd->adc", (5, 4))
    model = keras.Sequential([keras.Input((6, 4)), layer, layers.BatchNormalization(), layers.ReLU(), layers.Flatten()])
    explainer = ks.LRP(model, rules="paper", merge_batch_norm=True)
    with pytest.raises(ValueError, match=f"cannot be merged into layer {layer.name!r}.*Use merge_batch_norm=False"):
        explainer(rng.normal(size=(2, 6, 4)))


@pytest.mark.once
@pytest.mark.parametrize(
    "name, changed, options",
    [("ResNet50V2", 32, {}), ("MobileNetV2", 35, {"replaces": "relu6"}), ("VGG16", 15, {})],
)
def test_keras_applications(name, changed, options, rng, tmp_path):
    """Outputs before and after, save and load, one training step, and back."""
    make = getattr(keras.applications, name)
    model = with_statistics(make(weights=None, input_shape=(32, 32, 3), classes=5), rng)
    x = rng.uniform(0, 1, size=(2, 32, 32, 3)).astype("float32")
    new, report = ks.to_shapley(model, "shaplu", **options)
    assert len(report.changed) == changed
    if not options:
        np.testing.assert_allclose(outputs(new, x), outputs(model, x), atol=1e-5)
    sa, _ = ks.to_shapley(model, **options)
    sa.compile("sgd", "sparse_categorical_crossentropy")
    history = sa.fit(x, np.array([0, 1]), verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    new.save(tmp_path / "new.keras")
    np.testing.assert_array_equal(outputs(keras.models.load_model(tmp_path / "new.keras"), x), outputs(new, x))
    back, report = ks.to_relu(new, x=x)
    assert report.difference == (0, 0)
    assert not any(type(layer).__module__.startswith("keras_shapley") for layer in back.layers)
