"""Models that begin with TextVectorization or an Embedding, in two parts."""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_shapley.models.kept import kept
from keras_shapley.models.keras_internals import nodes
from keras_shapley.utils.typing import Function


def behind_text(fn: Function) -> tuple[layers.Layer, keras.Model] | None:
    """The TextVectorization that a model begins with, and the model behind it; None for other models and functions."""
    inputs = getattr(fn, "inputs", None) or ()
    if not isinstance(fn, keras.Model) or len(inputs) != 1 or inputs[0].dtype != "string":
        return None
    return kept(fn, "behind text", lambda: _split(fn, layers.TextVectorization))


def behind_embedding(model: Any) -> tuple[layers.Embedding, keras.Model] | None:
    """The Embedding that a model of tokens begins with, and the model behind it; None for other models.

    None also if the Embedding masks tokens: the model behind it would not know the mask.
    """
    if not isinstance(model, keras.Model) or not model.built or len(getattr(model, "inputs", None) or ()) != 1:
        return None
    found = kept(model, "behind embedding", lambda: _split(model, layers.Embedding))
    return None if found is None or found[0].mask_zero else found


def tokens_of(layer: layers.Layer | None, texts: Any) -> Any:
    """What a TextVectorization makes of texts. Tokens stay as they are, and so do all inputs without such a layer."""
    if layer is None:
        return texts
    array = ops.convert_to_numpy(texts) if ops.is_tensor(texts) else np.asarray(texts)
    return ops.convert_to_numpy(layer(array)) if array.dtype.kind in "OSU" else array


def _split(model: keras.Model, kind: type) -> tuple[Any, keras.Model] | None:
    """The layer of a kind that alone reads a model's input, and the model behind it; None if there is none."""
    readers = [node for node in nodes(model) if any(tensor is model.inputs[0] for tensor in node.input_tensors)]
    if len(readers) != 1 or not isinstance(readers[0].operation, kind):
        return None
    outputs = model.outputs if len(model.outputs) > 1 else model.outputs[0]
    return readers[0].operation, keras.Model(readers[0].output_tensors[0], outputs)
