"""Models and functions evaluated on NumPy batches."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_shapley.backend import compiled
from keras_shapley.utils.typing import Structure, Tensor


def inference(model: keras.Model) -> Callable[[Any], Structure]:
    """A Keras model as a compiled function of a batch, in inference mode, at its present weights.

    Raises:
        ValueError: if the model is not built. Its weights would be made while it is compiled, and lost afterwards.
    """
    if not model.built:
        raise ValueError(f"Model '{model.name}' is not built: call it on a batch first, or begin it with keras.Input.")

    def call(x: Tensor) -> Structure:
        return model(x, training=False)

    predict = compiled(call, model.variables, any_batch=True)
    return lambda x: predict(ops.convert_to_tensor(x))


def evaluated(fn: Callable[[Any], Structure], inputs: np.ndarray, name: str = "fn") -> np.ndarray:
    """The outputs of a function for a batch, shape `(batch, outputs)`, in float64.

    Args:
        fn: function of a batch.
        inputs: shape `(batch, ...)`.
        name: of the function, for an error message.

    Raises:
        ValueError: if the outputs are of another shape, or not finite.
    """
    outputs = fn(inputs)
    if isinstance(outputs, (list, tuple, dict)):
        raise ValueError(f"`{name}` must have one output. Received: {len(outputs)}")
    outputs = ops.convert_to_numpy(outputs)
    if outputs.shape == (len(inputs),):
        outputs = outputs[:, None]
    if outputs.ndim != 2 or len(outputs) != len(inputs):
        raise ValueError(
            f"`{name}` must give outputs of shape (batch, outputs). Received: {outputs.shape} for {len(inputs)} inputs"
        )
    if not np.isfinite(outputs).all():
        raise ValueError(f"`{name}` must give finite outputs. Received: NaN or infinity")
    return outputs.astype("float64")
