"""Layer-wise relevance propagation through a whole Keras model, eq. (2)."""

import keras
import numpy as np
from keras import ops, tree

from keras_shapley.utils.validation import classes, one_of


def as_tensor(array, dtype):
    if keras.backend.is_float_dtype(dtype) and ops.is_tensor(array):
        return ops.cast(array, dtype)
    array = ops.convert_to_numpy(array) if ops.is_tensor(array) else np.asarray(array)
    if array.dtype != "bool" and not np.issubdtype(array.dtype, np.number):
        raise ValueError(f"`x` must be numbers. Received: {array.dtype} of shape {array.shape}")
    if "int" in dtype and array.size:
        limits = np.iinfo(dtype)
        if np.any(array != np.floor(array)) or array.min() < limits.min or array.max() > limits.max:
            raise ValueError(
                f"`x` must be whole numbers in the range of {dtype}, which the model takes. Received: {array.dtype} "
                f"from {array.min()} to {array.max()}"
            )
    return ops.convert_to_tensor(array, dtype=dtype)


def of_batch(value, data, y, place, n_images):
    """A target for one batch of `data`: its labels `y`, or the part of an array that belongs to its `place`."""
    if isinstance(value, str):
        one_of("target", value, ("true",))
        if y is None:
            raise ValueError("target='true' needs batches (x, y). Beside arrays, give the labels as `target`.")
        return classes("y", y, n_images)
    one_each = place is not None and np.ndim(value) and len(value) == len(tree.flatten(data)[0])
    return value[place] if one_each else value
