"""The plain gradient of a classifier's probability, which the scripts compare with relevance."""

from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from keras_shapley.backend import compiled, vjp


def input_gradients(model: keras.Model) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A function `(x, target)` that computes `input_gradient`, compiled once for all its calls."""

    def weighted_gradient(x, weights):
        _, pullback = vjp(lambda x: model(x, training=False), x)
        return pullback(weights)[0]

    weighted_gradient = compiled(weighted_gradient, model.variables)

    def gradient(x: np.ndarray, target: np.ndarray) -> np.ndarray:
        weights = np.eye(model.output_shape[-1], dtype="float32")[target]
        return ops.convert_to_numpy(weighted_gradient(ops.convert_to_tensor(x), ops.convert_to_tensor(weights)))

    return gradient


def along_path(
    gradient: Callable[[np.ndarray, np.ndarray], np.ndarray],
    x: np.ndarray,
    target: np.ndarray,
    steps: int,
    baseline: np.ndarray | float = 0.0,
) -> np.ndarray:
    """Integrated gradients from a baseline (Sundararajan et al. 2017), by the midpoint rule.

    Args:
        gradient: as `input_gradients` returns it.
        x: array `(batch, ...)`.
        target: class of each image, integers `(batch,)`.
        steps: points on the path.
        baseline: where the path begins.

    Returns:
        Array of the shape of `x`.
    """
    times, difference = (np.arange(steps) + 0.5) / steps, x - baseline
    return difference * np.mean(
        [gradient((baseline + t * difference).astype("float32"), target) for t in times], axis=0
    )


def input_gradient(model: keras.Model, x: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Gradient of the target's probability with respect to the input.

    Args:
        model: classifier with an output `(batch, classes)`.
        x: array `(batch, ...)`.
        target: class of each image, integers `(batch,)`.

    Returns:
        Array of the shape of `x`.
    """
    return input_gradients(model)(x, target)
