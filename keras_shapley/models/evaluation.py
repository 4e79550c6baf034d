"""Models and functions evaluated on NumPy batches."""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_shapley.backend import COMPILES, COMPILES_ANY_SIZE, compiled
from keras_shapley.models.kept import kept
from keras_shapley.models.keras_internals import input_structure, is_transparent
from keras_shapley.models.outputs import output_index
from keras_shapley.models.tracing import in_order, output_sizes, trace
from keras_shapley.utils.typing import Function, Structure, Tensor
from keras_shapley.utils.wording import count

# values of a model that may be computed at once: half a gigabyte in float32, of which inference keeps a part
_MAX_VALUES = 2**27
# as many as an image classifier has for each element of its input
_VALUES_PER_ELEMENT = 64
# the most inputs in a batch, of a model and of a function
_MOST = 1024
_MOST_OF_A_FUNCTION = 256
# sizes to which batches are padded where each further size would compile anew; above them powers of two
_SIZES = (1, 8, 32, 64)


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

    key = ("inference", index, output is None)
    predict = kept(model, key, lambda: compiled(call, model.variables, any_batch=True))
    return lambda x: predict(tree.map_structure(ops.convert_to_tensor, as_model_takes(model, x)))


def as_model_takes(model: keras.Model, x: Structure) -> Structure:
    """A batch in the structure of the model's own inputs, by position or by name, and with their axes.

    As Keras does it, a last axis of size 1 may be missing, such as that of the channels of grey images.

    Raises:
        ValueError: if the batch has another structure or number of arrays.
    """
    if not is_transparent(model):
        return x
    structure = input_structure(model)
    arrays = tree.flatten(x) if len(model.inputs) == 1 else in_order(model, x)
    if len(arrays) != len(model.inputs):
        expected = count(len(model.inputs), "array")
        raise ValueError(f"`x` must have {expected}, one for each input. Received: {len(arrays)}")
    pairs = zip(arrays, model.inputs)
    # a function compiled for any batch must not see two ranks
    arrays = [a[..., None] if len(a.shape) < len(t.shape) and t.shape[-1] == 1 else a for a, t in pairs]
    return tree.pack_sequence_as(structure, arrays) if tree.is_nested(structure) else arrays[0]


def batch_size_for(fn: Function, x: Structure) -> int:
    """How many inputs a function may be given at once, so that its values stay below half a gigabyte or so.

    Of a model all values for one input are counted. Those of a function are not known, and taken to be as many times
    the input as in an image classifier.

    Args:
        fn: a model, or a function of a batch.
        x: a batch.
    """
    arrays = tree.flatten(x)
    size = sum(math.prod(array.shape[1:]) for array in arrays)
    n_values = None
    if isinstance(fn, keras.Model):
        shapes = tuple((array.shape[1:], str(array.dtype)) for array in arrays)
        n_values = kept(fn, ("values", shapes), lambda: _values_of_one(fn, x))
    if n_values is None:
        return _power_of_two(min(_MAX_VALUES // (_VALUES_PER_ELEMENT * size), _MOST_OF_A_FUNCTION))
    return _power_of_two(min(_MAX_VALUES // n_values, _MOST))


def _values_of_one(model: keras.Model, x: Structure) -> int | None:
    """Number of the values that a model computes for one input; None if it does not say."""
    try:
        graph = trace(model)
        arrays = tree.flatten(x) if len(model.inputs) == 1 else in_order(model, x)
        shapes = [tuple(array.shape[1:]) for array in arrays]
        sizes = output_sizes(graph, shapes, [tensor.dtype for tensor in model.inputs])
    # an estimate must stop no one: a layer may refuse symbolic inputs in a way of its own
    except Exception:
        return None
    return sum(sizes.values()) + sum(map(math.prod, shapes))


def _power_of_two(n: int) -> int:
    """The largest power of two up to n; 1 for less."""
    return 1 << (max(n, 1).bit_length() - 1)


def batch_function(fn: Function, output: str | int | None = None) -> Function:
    """A model's output as `inference` gives it, or a function of a NumPy batch as it is.

    Raises:
        ValueError: if `output` is given for a function, or as in `inference`.
    """
    if isinstance(fn, keras.Model):
        return inference(fn, output)
    if output is not None:
        raise ValueError(f"`output` must be None for a function, which has one output. Received: output={output!r}")
    if not callable(fn):
        raise ValueError(f"`fn` must be a Keras model or a function of a batch. Received: {fn!r}")
    return fn


class FewSizes:
    """The sizes to which batches are padded for a compiled function, which is compiled for each: 4 up to 64.

    They are 1, 8, 32, 64, 128, 256, ...; the size that comes first is one of them, up to 64 in the place of 32. So
    batches that are all of one size are never padded.
    """

    def __init__(self) -> None:
        self._first: int | None = None

    def __call__(self, n: int) -> int:
        """The size of a batch of n, padded; n where nothing is compiled."""
        if not COMPILES:
            return n
        if self._first is None:
            self._first = n
        return padded_size(n, self._first)


def padded_size(n: int, first: int) -> int:
    """The smallest of the `FewSizes` that holds a batch of n, if batches of `first` came first."""
    sizes = [*_SIZES, first]
    if first not in _SIZES and first < _SIZES[-1]:
        sizes.remove(32)
    above = max(_SIZES[-1], 1 << (n - 1).bit_length())
    return min(size for size in (*sizes, above) if size >= n)


def repeated_to(array: np.ndarray, size: int) -> np.ndarray:
    """A batch whose last row is repeated up to a batch of `size`."""
    return np.concatenate([array, np.repeat(array[-1:], size - len(array), axis=0)])


def in_few_sizes(fn: Callable[[Any], Any], largest: int) -> Callable[[Any], Any]:
    """`fn` given batches of few sizes and of `largest` rows only, because each further size would compile anew."""
    if COMPILES_ANY_SIZE:
        return fn

    def padded(inputs: Structure) -> Structure:
        n = len(tree.flatten(inputs)[0])
        size = min(largest, padded_size(n, 1))
        outputs = fn(tree.map_structure(lambda a: repeated_to(a, size), inputs))
        return tree.map_structure(lambda a: a[:n], outputs)

    return padded


def evaluated(fn: Callable[[Any], Any], inputs: Structure, name: str = "fn") -> np.ndarray:
    """The outputs of a function for a batch, as `as_outputs` returns them."""
    return as_outputs(fn(inputs), len(tree.flatten(inputs)[0]), name)


def as_outputs(outputs: Any, n: int, name: str = "fn", given: str = "") -> np.ndarray:
    """What a function returned for n inputs, checked: shape `(n, *output)`, float64; `(n, 1)` for numbers.

    Args:
        outputs: an array or tensor.
        n: number of inputs.
        name: of the function, for an error message.
        given: where the inputs come from, for an error message; with a space in front.

    Raises:
        ValueError: if the outputs are not one row for each input, or not finite.
    """
    if isinstance(outputs, (list, tuple, dict)):
        raise ValueError(f"`{name}` must have one output. Received: {len(outputs)}")
    outputs = ops.convert_to_numpy(outputs)
    if outputs.shape == (n,):
        outputs = outputs[:, None]
    if outputs.ndim < 2 or len(outputs) != n:
        raise ValueError(f"`{name}` must give outputs of shape (batch, ...). Received: {outputs.shape} for {n} inputs")
    if not np.isfinite(outputs).all():
        raise ValueError(f"`{name}` must give finite outputs{given}. Received: NaN or infinity")
    return outputs.astype("float64")


def layers_with_bad_weights(model: keras.Model) -> list[str]:
    """Paths of the weights of a model that hold NaN or infinity."""
    return [weight.path for weight in model.weights if not bool(ops.all(ops.isfinite(ops.cast(weight, "float32"))))]
