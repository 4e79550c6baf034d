"""The plain gradient of a classifier's probability, which the scripts draw beside relevance."""

import numpy as np
from keras import ops

from keras_shapley.backend import compiled, vjp


def sensitivities(model):
    """A function `(x, target)` that gives `sensitivity`, compiled once for all its calls."""

    def slope(x, chosen):
        _, pullback = vjp(lambda x: model(x, training=False), x)
        return pullback(chosen)[0]

    slope = compiled(slope, model.variables)

    def of(x, target):
        chosen = np.eye(model.output_shape[-1], dtype="float32")[target]
        return ops.convert_to_numpy(slope(ops.convert_to_tensor(x), ops.convert_to_tensor(chosen)))

    return of


def sensitivity(model, x, target):
    """Gradient of the target's probability with respect to the input.

    Args:
        model: classifier with an output `(batch, classes)`.
        x: array `(batch, ...)`.
        target: class of each image, integers `(batch,)`.

    Returns:
        Array of the shape of `x`.
    """
    return sensitivities(model)(x, target)
