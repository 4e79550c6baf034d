"""Models and functions evaluated on NumPy batches."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_shapley.backend import compiled
from keras_shapley.models.outputs import output_index
from keras_shapley.utils.typing import Function, Tensor


def inference(model: keras.Model, output: str | int | None = None) -> Callable[[Any], Tensor]:
    """One output of a Keras model as a compiled function of a batch, in inference mode, at its present weights.

    Raises:
        ValueError: if the model is not built, as its weights would be made while it is compiled, and lost afterwards;
            if it has no such output, or several and `output` is None.
    """
    if not model.built:
        raise ValueError(f"Model '{model.name}' is not built: call it on a batch first, or begin it with keras.Input.")

    index = output_index(model, output)

    def call(x: Tensor) -> Tensor:
        outputs = tree.flatten(model(x, training=False))
        # a model whose call is code of its own does not say how many it has
        if output is None and len(outputs) > 1:
            raise ValueError(
                f"Model '{model.name}' has {len(outputs)} outputs: give a function that returns one of them, such as "
                "lambda x: model(x)[0]."
            )
        return outputs[index]

    predict = compiled(call, model.variables, any_batch=True)
    return lambda x: predict(ops.convert_to_tensor(x))


def batch_function(fn: Function, output: str | int | None = None) -> Function:
    """A model's output as `inference` gives it, or a function of a NumPy batch as it is.

    Raises:
        ValueError: if `output` is given for a function, or as in `inference`.
    """
    if isinstance(fn, keras.Model):
        return inference(fn, output)
    if output is not None:
        raise ValueError(f"`output` must be None for a function, which has one output. Received: output={output!r}")
    return fn


def evaluated(fn: Callable[[Any], Any], inputs: np.ndarray, name: str = "fn") -> np.ndarray:
    """The outputs of a function for a batch, shape `(batch, *output)`, in float64; `(batch, 1)` for numbers.

    Args:
        fn: function of a batch.
        inputs: shape `(batch, ...)`.
        name: of the function, for an error message.

    Raises:
        ValueError: if the outputs are not one row for each input, or not finite.
    """
    outputs = fn(inputs)
    if isinstance(outputs, (list, tuple, dict)):
        raise ValueError(f"`{name}` must have one output. Received: {len(outputs)}")
    outputs = ops.convert_to_numpy(outputs)
    if outputs.shape == (len(inputs),):
        outputs = outputs[:, None]
    if outputs.ndim < 2 or len(outputs) != len(inputs):
        raise ValueError(
            f"`{name}` must give outputs of shape (batch, ...). Received: {outputs.shape} for {len(inputs)} inputs"
        )
    if not np.isfinite(outputs).all():
        raise ValueError(f"`{name}` must give finite outputs. Received: NaN or infinity")
    return outputs.astype("float64")


def layers_with_bad_weights(model: keras.Model) -> list[str]:
    """Paths of the weights of a model that hold NaN or infinity."""
    return [weight.path for weight in model.weights if not bool(ops.all(ops.isfinite(ops.cast(weight, "float32"))))]
