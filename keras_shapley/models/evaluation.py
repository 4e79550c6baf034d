"""What Keras has no common word for: derivatives and compiled functions. The only file that names a backend."""

import keras
import numpy as np
from keras import ops

from keras_shapley.backend import compiled


def inference(model):
    """A Keras model as a compiled function of a batch, without training, at its present weights.

    Raises:
        ValueError: if it has no weights yet: made while it is compiled, they would be of no use afterwards.
    """
    if not model.built:
        raise ValueError(f"Model '{model.name}' is not built: call it on a batch first, or begin it with keras.Input.")
    call = compiled(lambda x: model(x, training=False), model.variables, any_batch=True)
    return lambda x: call(keras.ops.convert_to_tensor(x))


def evaluated(fn, inputs, name="fn"):
    """What a function gives for a batch, NumPy array `(batch, outputs)` in float64.

    Raises:
        ValueError: if it is of another shape, or not finite; by the function's `name`.
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
