"""Fixtures: a conv net with a residual branch, and a batch of images for it."""

import keras
import pytest
from keras import layers

import keras_shapley as ks

BIAS = keras.initializers.RandomNormal(stddev=0.2, seed=1)


@pytest.fixture
def convnet(rng):
    """Convolutions, BatchNormalization, padding, pooling, a residual branch, a constant, and biases that are not 0."""
    x = keras.Input((9, 9, 3), name="image")
    y = layers.Conv2D(4, 3, padding="same", activation="relu", bias_initializer=BIAS, name="conv")(x)
    y = layers.BatchNormalization(name="bn")(y)
    y = layers.ZeroPadding2D(1, name="pad")(y)
    y = ks.SAConv2D(6, 3, strides=2, bias_initializer=BIAS, name="sa")(y)
    z = layers.DepthwiseConv2D(3, padding="same", depthwise_initializer="he_normal", name="depthwise")(y)
    y = layers.Add(name="residual")([y, layers.LeakyReLU(name="leaky")(z)])
    y = (y + z) + 0.5
    y = layers.Concatenate(name="concat")(
        [layers.MaxPooling2D(2, padding="same", name="max")(y), layers.AveragePooling2D(2, padding="same")(y)]
    )
    y = layers.Dropout(0.5, name="dropout")(y)
    y = layers.Flatten(name="flatten")(layers.Reshape((9, 12), name="reshape")(y))
    y = ks.ShapLUDense(8, bias_initializer=BIAS, name="shaplu")(y)
    return keras.Model(x, layers.Dense(5, "softmax", bias_initializer=BIAS, name="classes")(y))


@pytest.fixture
def images(rng):
    return rng.uniform(0.1, 1, size=(4, 9, 9, 3)).astype("float32")
