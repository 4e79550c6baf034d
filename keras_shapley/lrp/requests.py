"""What a user asks `LRP` for: one of the model's outputs, a batch of inputs, and the classes to explain."""

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_shapley.models.tracing import in_order
from keras_shapley.utils.typing import Structure, Tensor
from keras_shapley.utils.validation import classes, finite, integer, one_of


def output_index(model: keras.Model, output: str | int | None) -> int:
    """Index of the output to explain, from its name or index; None for a model with one output.

    Raises:
        ValueError: if the model has no such output, or the output is not of shape `(batch, classes)`.
    """
    names = getattr(model, "output_names", None) or [model.layers[-1].name]
    n_outputs = len(model.outputs)
    if output is None and n_outputs > 1:
        raise ValueError(f"`output` must say which output of model '{model.name}' to explain: one of {names}.")
    index = 0 if output is None else output
    if isinstance(index, str):
        index = names.index(one_of("output", index, names))
    elif integer("output", index, 0) >= n_outputs:
        raise ValueError(f"`output` must be below {n_outputs}, the number of outputs. Received: {index}")
    shape = model.outputs[index].shape
    if len(shape) != 2:
        raise ValueError(
            f"`model` must have an output of shape (batch, classes). Received: model '{model.name}' with output "
            f"'{names[index]}' of shape {shape}"
        )
    return index


def input_tensors(model: keras.Model, x: Structure) -> list[Tensor]:
    """A batch as finite tensors, one for each of `model.inputs`, in their order.

    Raises:
        ValueError: if the structure, a shape or a dtype is not the model's, or a value is not finite.
    """
    arrays = in_order(model, x)
    if len(arrays) != len(model.inputs):
        raise ValueError(f"`x` must have {len(model.inputs)} arrays, one for each input. Received: {len(arrays)}")
    tensors = [_as_tensor(array, expected.dtype) for array, expected in zip(arrays, model.inputs)]
    batch = tensors[0].shape[0]
    for tensor, expected in zip(tensors, model.inputs):
        if tensor.shape[0] == 0 or tensor.shape[0] != batch or not _has_shape(tensor, expected.shape):
            raise ValueError(
                f"`x` must be a batch of shape {(None, *expected.shape[1:])}, of one image or more. Received: "
                f"{tuple(tensor.shape)}"
            )
        if keras.backend.is_float_dtype(expected.dtype):
            finite("x", tensor)
    return tensors


def as_structure(model: keras.Model, structure: Structure, x: Structure, relevance: list[Tensor]) -> Structure:
    """The relevance of each of `model.inputs`, nested as the user's batch `x` is.

    Args:
        model: the model.
        structure: how the model's inputs are nested.
        x: the batch.
        relevance: one tensor for each input.
    """
    if isinstance(x, dict) and not isinstance(structure, dict):
        return {tensor.name: part for tensor, part in zip(model.inputs, relevance)}
    is_nested = isinstance(structure, (dict, list, tuple))
    return tree.pack_sequence_as(x, relevance) if is_nested else relevance[0]


def _as_tensor(array: Any, dtype: str) -> Tensor:
    """An array in the dtype of a model's input; raises a `ValueError` where that would change what it says."""
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


def _has_shape(tensor: Tensor, shape: tuple[int | None, ...]) -> bool:
    """Whether a batch has the shape of a model's input, whose unknown sizes are None."""
    pairs = zip(tensor.shape[1:], shape[1:])
    return len(tensor.shape) == len(shape) and all(expected in (None, size) for size, expected in pairs)


@dataclasses.dataclass
class Targets:
    """The classes for which a batch is explained.

    Attributes:
        pairs: for each of its targets `(target, versus)`, int tensors of shape `(batch,)`. A target that is None is
            the predicted class; a versus that is None compares with nothing.
        several: whether the results have an axis of targets.
    """

    pairs: list[tuple[Tensor | None, Tensor | None]]
    several: bool


def parse_targets(target: Any, versus: Any, n_images: int, n_classes: int) -> Targets:
    """The `Targets` of a batch, from `target` and `versus` as a call of `LRP` takes them.

    Raises:
        ValueError: if one of them is no class number of the right shape, or they have different numbers of targets.
    """
    targets, target_has_axis = _columns("target", target, n_images, n_classes)
    others, versus_has_axis = _columns("versus", versus, n_images, n_classes)
    k = max(len(targets), len(others))
    if not {len(targets), len(others)} <= {1, k}:
        raise ValueError(f"`target` and `versus` must be as many an image. Received: {len(targets)} and {len(others)}")
    pairs = list(zip(targets * (k // len(targets)), others * (k // len(others))))
    return Targets(pairs, target_has_axis or versus_has_axis)


def _columns(name: str, value: Any, n_images: int, n_classes: int) -> tuple[list[Tensor | None], bool]:
    """The class of each image, for each target; and whether the results have an axis of targets."""
    if value is None:
        return [None], False
    array = np.asarray(ops.convert_to_numpy(value) if ops.is_tensor(value) else value)
    shapes = [(), (n_images,)] + [(n, *array.shape[1:2]) for n in (n_images, 1)]
    if not np.issubdtype(array.dtype, np.integer) or array.shape not in shapes or not array.size:
        raise ValueError(
            f"`{name}` must be None, an int, or ints of shape ({n_images},), ({n_images}, k) or (1, k). Received: "
            f"{array.dtype} of shape {array.shape}"
        )
    if array.min() < 0 or array.max() >= n_classes:
        raise ValueError(f"`{name}` must be in [0, {n_classes}). Received: {array.min()} to {array.max()}")
    has_axis = array.ndim == 2
    rows = array if has_axis else array.reshape(-1, 1)
    rows = np.broadcast_to(rows, (n_images, rows.shape[1]))
    return [ops.convert_to_tensor(column.astype("int32")) for column in rows.T], has_axis


def batch_target(value: Any, data: Any, y: Any, place: slice | None, n_images: int) -> Any:
    """The `target` or `versus` of one batch of a data set.

    Args:
        value: of the whole data set; `"true"` for the labels.
        data: the data set.
        y: the labels of the batch, or None.
        place: which part of the arrays `data` the batch is; None if the data set comes in batches.
        n_images: length of the batch.

    Raises:
        ValueError: if there are no labels where they are asked for.
    """
    if isinstance(value, str):
        one_of("target", value, ("true",))
        if y is None:
            raise ValueError("target='true' needs batches (x, y). Beside arrays, give the labels as `target`.")
        return classes("y", y, n_images)
    is_per_image = place is not None and np.ndim(value) and len(value) == len(tree.flatten(data)[0])
    return value[place] if is_per_image else value


def fill_up(tensors: Structure, size: int) -> Structure:
    """Tensors of a batch, repeated at their end up to a batch of `size`; None stays None."""

    def filled(tensor: Tensor | None) -> Tensor | None:
        if tensor is None or len(tensor) == size:
            return tensor
        return ops.concatenate([tensor, ops.repeat(tensor[-1:], size - len(tensor), axis=0)], axis=0)

    return tree.map_structure(filled, tensors)
