"""A small network, and its exact Shapley values."""

import keras
import numpy as np
from keras import layers

import keras_shapley as ks


def network(rng, activation="relu", units=(12, 8), outputs=3):
    """Ten inputs, a few kinks, a softmax."""
    hidden = [layers.Dense(n, activation, bias_initializer="normal") for n in units]
    return keras.Sequential([keras.Input((10,)), *hidden, layers.Dense(outputs, "softmax")])


def exact(model, x, target, **kwargs):
    values = ks.exact_shapley_values(model, x, **kwargs).values
    return np.stack([of_image[:, k] for of_image, k in zip(values, target)])
