"""Small models with every kind of head, for images of 2 x 2 pixels.

Every hidden unit is open for every coalition of pixels, so that the logits are linear in the pixels and their Shapley
values are known; behind them is the head.
"""

import keras
import numpy as np
from keras import layers, ops

SHAPE = (2, 2, 1)
# the smallest is well away from zero
IMAGES = np.float32([[0.9, 0.3, 0.6, 0.4], [0.2, 0.8, 0.5, 0.7], [1.0, 0.4, 0.2, 0.6]]).reshape(3, *SHAPE)


def hidden():
    image = keras.Input(SHAPE, name="image")
    x = layers.Dense(5, "relu", use_bias=False, name="hidden")(layers.Flatten(name="flat")(image))
    return image, x


def with_head(*names_and_units, activation=None):
    """A model with linear layers of these units behind its hidden layer, and `activation` of their outputs."""
    image, x = hidden()
    logits = [layers.Dense(units, use_bias=False, name=name)(x) for name, units in names_and_units]
    return filled(keras.Model(image, activation(*logits) if activation else logits[0]))


def filled(model, seed=0):
    """The model with positive weights in its hidden layers, and others of both signs."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        is_hidden = "hidden" in weight.path
        values = rng.uniform(0.1, 1.0, weight.shape) if is_hidden else rng.normal(0, 0.7, weight.shape)
        weight.assign(values)
    return model


def several_outputs():
    image, x = hidden()
    colour = layers.Dense(2, use_bias=False, name="colour")(x)
    kind = layers.Dense(3, "softmax", use_bias=False, name="kind")(x)
    return filled(keras.Model(image, {"colour": colour, "kind": kind}))


def segmentation(activation):
    image = keras.Input(SHAPE, name="image")
    x = layers.Conv2D(4, 2, padding="same", activation="relu", use_bias=False, name="hidden")(image)
    maps = layers.Conv2D(3, 1, use_bias=False, activation=activation, name="maps")(x)
    return filled(keras.Model(image, maps))


def average_of_two(*logits):
    return layers.Average()([layers.Softmax()(part) for part in logits])


def half_the_sum(*logits):
    first, second = map(ops.softmax, logits)
    return (first + second) / 2


# by name: a function that builds the model, the output that is explained (None if there is one), and what the graph
# says that the output is
HEADS = {
    "softmax, a layer": (lambda: with_head(("logits", 3), activation=layers.Softmax()), None, "softmax"),
    "softmax, `activation=`": (
        lambda: with_head(("logits", 3), activation=layers.Activation("softmax")),
        None,
        "softmax",
    ),
    "softmax, `keras.activations`": (
        lambda: with_head(("logits", 3), activation=keras.activations.softmax),
        None,
        "softmax",
    ),
    "softmax, `keras.ops`": (lambda: with_head(("logits", 3), activation=ops.softmax), None, "softmax"),
    "average of softmaxes, a layer": (
        lambda: with_head(("first", 3), ("second", 3), activation=average_of_two),
        None,
        "softmax",
    ),
    "average of softmaxes, `+` and `/`": (
        lambda: with_head(("first", 3), ("second", 3), activation=half_the_sum),
        None,
        "softmax",
    ),
    "logits": (lambda: with_head(("logits", 3)), None, None),
    "one sigmoid": (lambda: with_head(("logit", 1), activation=layers.Activation("sigmoid")), None, "sigmoid"),
    "one sigmoid, `keras.ops`": (lambda: with_head(("logit", 1), activation=ops.sigmoid), None, "sigmoid"),
    "several sigmoids": (lambda: with_head(("logits", 3), activation=layers.Activation("sigmoid")), None, "sigmoid"),
    "regression, one unit": (lambda: with_head(("price", 1)), None, None),
    "regression, several units": (lambda: with_head(("prices", 2)), None, None),
    "several outputs": (several_outputs, "kind", "softmax"),
    "segmentation, logits": (lambda: segmentation(None), None, None),
    "segmentation, softmax": (lambda: segmentation("softmax"), None, "softmax"),
}


def outputs(model, output, x):
    """The explained output of a model for a batch, a NumPy array."""
    result = model(x, training=False)
    return ops.convert_to_numpy(result if output is None else result[output])


def shapley_values(fn, image):
    """Shapley values of a function of batches at one image over a black baseline, by their definition.

    Returns:
        Shape `(pixels, *output)`, float64.
    """
    pixels = image.reshape(-1)
    n = len(pixels)
    coalitions = np.arange(2**n)
    present = (coalitions[:, None] >> np.arange(n)) & 1
    values = fn((present * pixels).reshape(-1, *image.shape).astype("float32")).astype("float64")
    size = present.sum(axis=1)
    factorial = np.cumprod([1, *range(1, n + 1)])
    result = np.zeros((n, *values.shape[1:]))
    for k in range(n):
        without = coalitions[present[:, k] == 0]
        weights = factorial[size[without]] * factorial[n - 1 - size[without]] / factorial[n]
        result[k] = np.tensordot(weights, values[without | (1 << k)] - values[without], axes=1)
    return result
