"""What the tests of converted models share."""

import keras
import numpy as np
from keras import layers, ops

BIAS = keras.initializers.RandomNormal(stddev=0.5, seed=1)


def outputs(model, x):
    return np.asarray(ops.convert_to_numpy(model(x, training=False)))


def with_statistics(model, rng):
    """The model with moving statistics, scales and shifts that are not those of the beginning."""
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
    return model
