"""Models in two parts: the parts add up to the sums, and the sums make the outputs."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_shapley as ks
from keras_shapley.models.last_layers import last_layers


def conv(*rest, shape=(8, 8, 1)):
    return keras.Sequential([keras.Input(shape), layers.Conv2D(4, 3, activation="relu"), *rest])


def functional(build, shape=(8,)):
    x = keras.Input(shape)
    return keras.Model(x, build(x))


def wide_and_deep(x):
    hidden = layers.Dense(5, "relu")(x)
    return layers.Dense(2)(layers.Concatenate()([hidden, layers.Dense(5, "relu")(hidden)]))


# model, shape of the places, number of sums
FOUND = {
    "hidden, flat map": (
        lambda: conv(layers.Flatten(), layers.Dense(5, "relu"), layers.Dense(3, "softmax")),
        (6, 6),
        5,
    ),
    "hidden, pooled": (
        lambda: conv(layers.GlobalAveragePooling2D(), layers.Dense(5), layers.ReLU(), layers.Dense(3)),
        (6, 6),
        5,
    ),
    "logits, pooled": (lambda: conv(layers.GlobalAveragePooling2D(), layers.Dense(3)), (6, 6), 3),
    "logits, pooled and reshaped": (
        lambda: conv(layers.GlobalAveragePooling2D(keepdims=True), layers.Flatten(), layers.Dense(3, "softmax")),
        (6, 6),
        3,
    ),
    "logits, flat map, softmax apart": (lambda: conv(layers.Flatten(), layers.Dense(3), layers.Softmax()), (6, 6), 3),
    "a softmax behind an average": (
        lambda: conv(layers.GlobalAveragePooling2D(), layers.Activation("softmax")),
        (),
        4,
    ),
    "hidden, normalised": (
        lambda: keras.Sequential(
            [keras.Input((8,)), layers.Dense(6), layers.BatchNormalization(), layers.ReLU(), layers.Dense(1, "sigmoid")]
        ),
        (),
        6,
    ),
    "hidden, GELU, two outputs": (
        lambda: functional(lambda x: layers.Dense(2)(ops.gelu(layers.Dense(6)(x)))),
        (),
        6,
    ),
    "one sigmoid": (lambda: keras.Sequential([keras.Input((8,)), layers.Dense(1, "sigmoid")]), (), 1),
    # a gate is no function of the sum
    "SA": (lambda: keras.Sequential([keras.Input((8,)), ks.SADense(6), layers.Dense(4, "softmax")]), (), 4),
    "ShapLU": (lambda: keras.Sequential([keras.Input((8,)), ks.ShapLUDense(6), layers.Dense(4, "softmax")]), (), 6),
    "a large map": (
        lambda: conv(layers.Flatten(), layers.Dense(3, "softmax"), shape=(14, 24, 1)),
        (8, 8),
        3,
    ),
    "a large map, pooled": (
        lambda: conv(layers.GlobalAveragePooling2D(), layers.Dense(3), shape=(9, 32, 1)),
        (7, 8),
        3,
    ),
    "a sequence": (
        lambda: keras.Sequential(
            [
                keras.Input((7, 4)),
                layers.Conv1D(5, 3, activation="relu"),
                layers.GlobalAveragePooling1D(),
                layers.Dense(2),
            ]
        ),
        (5,),
        2,
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_the_parts_add_up_and_the_sums_make_the_outputs(name, rng):
    build, places, n_sums = FOUND[name]
    model = build()
    for variable in model.trainable_variables:
        variable.assign(rng.normal(size=variable.shape, scale=0.5))
    found = last_layers(model)
    assert found.places == places and found.n_sums == n_sums
    x = rng.normal(size=(3, *model.input_shape[1:])).astype("float32")
    expected = ops.convert_to_numpy(model(x))
    parts, outputs = found(x)
    assert parts.shape == (3, max(np.prod(places, dtype=int), 1), n_sums)
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
    np.testing.assert_allclose(found.outputs(parts.sum(axis=1)), expected, atol=1e-5)


def test_a_place_sees_its_own_window(rng):
    """A pixel changes the parts of the places whose windows hold it, and no others."""
    found = last_layers(conv(layers.Flatten(), layers.Dense(3, "softmax")))
    x = rng.normal(size=(1, 8, 8, 1)).astype("float32")
    changed = x.copy()
    changed[0, 0, 7] += 10
    difference = np.abs(found(changed)[0] - found(x)[0])[0].sum(axis=1).reshape(6, 6)
    assert difference[0, 5] > 0
    difference[0, 5] = 0
    assert not difference.any()


@pytest.mark.parametrize(
    "model",
    [
        lambda: functional(wide_and_deep),
        lambda: keras.Sequential([keras.Input((8,)), layers.Dense(2)]),
        lambda: functional(lambda x: layers.Add()([layers.Dense(3)(x), layers.Dense(3)(layers.Dense(4, "relu")(x))])),
    ],
    ids=["a hidden layer beside others", "a linear model", "a sum"],
)
def test_a_model_without(model):
    assert last_layers(model()) is None


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="no channels_first on a CPU")
def test_channels_first_behind_a_dropout(rng):
    model = keras.Sequential(
        [
            keras.Input((2, 8, 7)),
            layers.Conv2D(4, 3, data_format="channels_first"),
            layers.Flatten(data_format="channels_first"),
            layers.Dropout(0.5),
            layers.Dense(3, "softmax"),
        ]
    )
    x = rng.normal(size=(3, 2, 8, 7)).astype("float32")
    found = last_layers(model)
    assert found.places == (6, 5)
    parts, outputs = found(x)
    np.testing.assert_allclose(found.outputs(parts.sum(axis=1)), outputs, atol=1e-5)


def test_new_weights_are_seen(rng):
    model = conv(layers.GlobalAveragePooling2D(), layers.Dense(3, "softmax"))
    x = rng.normal(size=(2, 8, 8, 1)).astype("float32")
    found = last_layers(model)
    found(x)
    model.layers[-1].kernel.assign(3 * model.layers[-1].kernel)
    parts, outputs = last_layers(model)(x)
    assert last_layers(model) is found
    np.testing.assert_allclose(found.outputs(parts.sum(axis=1)), outputs, atol=1e-5)
