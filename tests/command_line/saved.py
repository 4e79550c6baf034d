"""Saved models."""

import keras
import numpy as np
from keras import layers


def save(model, path):
    model.save(path)
    return str(path)


def constant(path, activation, *outputs):
    """A saved model of grey images whose logits are these numbers for every image."""
    model = keras.Sequential([keras.Input((8, 8)), layers.Flatten(), layers.Dense(len(outputs), activation)])
    model.layers[-1].set_weights([np.zeros((64, len(outputs))), np.array(outputs)])
    return save(model, path)
