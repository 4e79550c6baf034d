"""What a user asks `LRP` for: a batch of inputs, and what is explained of its outputs."""

import dataclasses
import numbers
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_shapley.lrp.start import TargetPair
from keras_shapley.models.evaluation import repeated_to
from keras_shapley.models.graph import Graph
from keras_shapley.models.layer_types import EMBEDDING
from keras_shapley.models.outputs import ModelOutput
from keras_shapley.models.tracing import in_order
from keras_shapley.utils.data import Batch
from keras_shapley.utils.structures import ordered_as
from keras_shapley.utils.targets import class_labels, is_weights, parse_targets
from keras_shapley.utils.typing import Structure, Tensor
from keras_shapley.utils.validation import background, finite, numpy_of, one_of
from keras_shapley.utils.wording import count


def input_tensors(model: keras.Model, x: Structure) -> list[Tensor]:
    """A batch as finite tensors, one for each of `model.inputs`, in their order.

    Raises:
        ValueError: if the structure, a shape or a dtype is not the model's, or a value is not finite.
    """
    arrays = in_order(model, x)
    if len(arrays) != len(model.inputs):
        expected = count(len(model.inputs), "array")
        raise ValueError(f"`x` must have {expected}, one for each input. Received: {len(arrays)}")
    tensors = [_as_tensor(array, expected.dtype) for array, expected in zip(arrays, model.inputs)]
    if not all(len(tensor.shape) for tensor in tensors):
        raise ValueError("`x` must be a batch of inputs, shape (batch, ...). Received: a number")
    batch = tensors[0].shape[0]
    for array, tensor, expected in zip(arrays, tensors, model.inputs):
        if tensor.shape[0] == 0 or tensor.shape[0] != batch or not _has_shape(tensor, expected.shape):
            raise ValueError(
                f"`x` must be a batch of shape {(None, *expected.shape[1:])}, of one image or more. Received: "
                f"{tuple(tensor.shape)}"
            )
        if keras.backend.is_float_dtype(expected.dtype):
            # an array by NumPy, as operations on tensors would be compiled for each size
            finite("x", tensor if ops.is_tensor(array) else ops.convert_to_numpy(tensor))
    return tensors


def baseline_tensors(model: keras.Model, baseline: Structure, tensors: list[Tensor]) -> list[list[Tensor]]:
    """The inputs of a background, each as a batch of one for each of `model.inputs`.

    Args:
        model: the model.
        baseline: a number, an array of the shape of one input or of several; for several inputs in their structure.
        tensors: the batch that is explained.

    Raises:
        ValueError: if a baseline has another shape or dtype than the input, is not finite, or baselines of several
            inputs differ in number.
    """
    parts = [baseline] * len(tensors) if np.isscalar(baseline) else in_order(model, baseline, "baseline")
    if len(parts) != len(tensors):
        expected = count(len(tensors), "array")
        raise ValueError(f"`baseline` must have {expected}, one for each input. Received: {len(parts)}")
    arrays = [_background(part, tensor, spec.dtype) for part, tensor, spec in zip(parts, tensors, model.inputs)]
    n = max(len(array) for array in arrays)
    if any(len(array) not in (1, n) for array in arrays):
        raise ValueError(f"`baseline` must be as many of each input. Received: {[len(array) for array in arrays]}")
    return [[array[min(i, len(array) - 1)][None] for array in arrays] for i in range(n)]


def masked_at_baseline(graph: Graph, baseline: Any) -> str | None:
    """A warning if an Embedding that reads an input masks the baseline, a number; None for other models and baselines.

    A walk keeps the mask of the input, so that relevance is then measured from a vector that the model never uses.

    Raises:
        ValueError: if the baseline is no token that the Embedding knows.
    """
    for call in graph.calls if isinstance(baseline, numbers.Real) else ():
        if not call.is_a(EMBEDDING) or not any(value in graph.inputs for value in call.inputs):
            continue
        if not 0 <= float(baseline) < call.op.input_dim:
            raise ValueError(
                f"`baseline` must be a token from 0 to {call.op.input_dim - 1}, which {call.description} knows. "
                f"Received: baseline={baseline!r}"
            )
        if call.op.mask_zero and not baseline:
            return (
                f"{call.description} masks the token 0, and relevance is measured from its vector, which the model "
                "never uses. Give the id of another token, such as that of an unknown word: LRP(model, baseline=1); or "
                "use ks.shapley_values(model, x)."
            )
    return None


def _background(baseline: Any, x: Tensor, dtype: str) -> Tensor:
    """The baselines of one input, `(n, ...)`."""
    is_float = keras.backend.is_float_dtype(dtype)
    # NumPy may not know a low-precision dtype
    values = background(baseline, tuple(x.shape[1:]), "float64" if is_float else dtype)
    # a copy: a number is a view for all elements, which PyTorch warns of
    tensor = ops.convert_to_tensor(values.copy(), dtype=dtype)
    return finite("baseline", tensor) if is_float else tensor


def shapes_or_number(baseline: Structure | None) -> str:
    """A baseline in short: a number or None as it is, arrays by their shape."""
    if baseline is None or np.isscalar(baseline):
        return repr(baseline)
    shapes = tree.map_structure(lambda part: part if np.isscalar(part) else f"<{tuple(np.shape(part))}>", baseline)
    return str(shapes).replace("'", "") if isinstance(shapes, (list, tuple, dict)) else shapes


def added(structure: Structure, other: Structure) -> Structure:
    """The sums of the float tensors of two structures; other tensors are those of the first."""
    return tree.map_structure(lambda a, b: a + b if _is_float(a) else a, structure, other)


def divided(structure: Structure, n: int) -> Structure:
    """The float tensors of a structure over a number."""
    return tree.map_structure(lambda a: a / n if _is_float(a) else a, structure)


def _is_float(tensor: Tensor) -> bool:
    return keras.backend.is_float_dtype(keras.backend.standardize_dtype(tensor.dtype))


def as_structure(model: keras.Model, structure: Structure, x: Structure, relevance: list[Tensor]) -> Structure:
    """The relevance of each of `model.inputs`, nested as the user's batch `x` is.

    Args:
        model: the model.
        structure: how the model's inputs are nested.
        x: the batch.
        relevance: one tensor for each input.
    """
    if isinstance(x, dict) and not isinstance(structure, dict):
        return ordered_as(x, {tensor.name: part for tensor, part in zip(model.inputs, relevance)})
    is_nested = isinstance(structure, (dict, list, tuple))
    return ordered_as(x, tree.pack_sequence_as(x, relevance)) if is_nested else relevance[0]


def _as_tensor(array: Any, dtype: str) -> Tensor:
    """An array in the dtype of a model's input; raises a `ValueError` where that would change what it says."""
    if keras.backend.is_float_dtype(dtype) and ops.is_tensor(array):
        return ops.cast(array, dtype)
    array = numpy_of(array)
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


def output_shape(model: keras.Model, output: ModelOutput, structure: Structure, x: list[Tensor]) -> tuple[int, ...]:
    """The shape of one output for a batch `x`, also where the model leaves sizes open.

    Args:
        model: the model.
        output: the explained output.
        structure: how the model's inputs are nested.
        x: one tensor for each input.
    """
    if output.n_units is not None:
        return tuple(size for size in output.shape if size is not None)
    shapes = [tuple(tensor.shape) for tensor in x]
    is_nested = isinstance(structure, (dict, list, tuple))
    output_shapes = model.compute_output_shape(tree.pack_sequence_as(structure, shapes) if is_nested else shapes[0])
    # a shape is a leaf only inside a tensor
    symbolic = tree.flatten(tree.map_shape_structure(keras.KerasTensor, output_shapes))
    return tuple(symbolic[output.index].shape[1:])


@dataclasses.dataclass
class TargetPairs:
    """What is explained of each sample of a batch.

    Attributes:
        pairs: for each of its targets `(target, versus)`.
        has_axis: whether the results have an axis of targets.
    """

    pairs: list[TargetPair]
    has_axis: bool


def target_pairs(target: Any, versus: Any, batch: int, shape: tuple[int, ...], dtype: str) -> TargetPairs:
    """The `TargetPairs` of a batch, from `target` and `versus` as a call of `LRP` takes them.

    Args:
        target: what a user gave.
        versus: what a user gave.
        batch: number of samples.
        shape: of one output.
        dtype: of weights.

    Raises:
        ValueError: if one of them is no target, or they have different numbers of targets.
    """
    parsed = parse_targets(target, batch, shape)
    others = parse_targets(versus, batch, shape, name="versus")
    n, n_others = len(parsed.columns), len(others.columns)
    k = max(n, n_others)
    if not {n, n_others} <= {1, k}:
        raise ValueError(f"`target` and `versus` must be as many a sample. Received: {n} and {n_others}")

    def tensor(column: np.ndarray | None) -> Tensor | None:
        if column is None:
            return None
        # a copy: weights of one output are a view for all samples, which PyTorch warns of
        return ops.convert_to_tensor(column.astype(dtype if is_weights(column) else "int32"))

    pairs = zip(parsed.columns * (k // n), others.columns * (k // n_others))
    pairs = [(tensor(column), tensor(other)) for column, other in pairs]
    return TargetPairs(pairs, parsed.has_axis or others.has_axis)


def batch_target(name: str, value: Any, data: Any, batch: Batch, output: ModelOutput, shape: tuple[int, ...]) -> Any:
    """The `target` or `versus` of one batch of a data set.

    Args:
        name: of the argument.
        value: of the whole data set; `"true"` for the labels.
        data: the data set.
        batch: of the data set.
        output: the explained output.
        shape: of one output.

    Raises:
        ValueError: if `value` is no target of the data set, or there are no labels where they are asked for.
    """
    x, y, place = batch
    if isinstance(value, str):
        one_of(name, value, ("true",))
        if y is None:
            raise ValueError(f"{name}='true' needs data with labels, as (x, y). Beside arrays, give them as `{name}`.")
        return _labelled_units(y, len(tree.flatten(x)[0]), output)
    if value is None or not np.ndim(value):
        return value
    array = ops.convert_to_numpy(value) if ops.is_tensor(value) else np.asarray(value)
    if array.shape == shape and not np.issubdtype(array.dtype, np.integer):
        return array
    if place is None:
        if len(array) == 1:
            return array
        raise ValueError(
            f"`{name}` with a row for each sample needs arrays as `data`. Beside a data set it may be an int, ints of "
            f"shape (1, k), weights of one output, or 'true'. Received: {array.dtype} of shape {array.shape}"
        )
    n = len(tree.flatten(data)[0])
    if place.start == 0:
        parse_targets(array, n, shape, name=name)
    return array[place] if len(array) == n else array


def _labelled_units(y: Any, n: int, output: ModelOutput) -> np.ndarray:
    """The output that speaks for each label: for one unit it is 0, whatever the label."""
    labels = class_labels("y", y, n)
    if output.n_units != 1:
        return labels
    if labels.max() > 1:
        raise ValueError(f"Labels of a single output unit must be 0 and 1. Received: {labels.max()}")
    return np.zeros_like(labels)


def filled_up(tensors: list[Tensor], targets: TargetPairs, size: int) -> tuple[list[Tensor], TargetPairs]:
    """A batch and its targets, whose last rows are repeated up to a batch of `size`."""

    def filled(tensor: Tensor | None) -> Tensor | None:
        if tensor is None or len(tensor) == size:
            return tensor
        # by NumPy, as operations on tensors would be compiled for each size
        return ops.convert_to_tensor(repeated_to(ops.convert_to_numpy(tensor), size))

    pairs = [(filled(target), filled(versus)) for target, versus in targets.pairs]
    return list(map(filled, tensors)), TargetPairs(pairs, targets.has_axis)


def first_rows(tensor: Tensor, n: int) -> Tensor:
    """The first rows of a tensor, without those that filled up a batch."""
    return tensor if len(tensor) == n else ops.convert_to_tensor(ops.convert_to_numpy(tensor)[:n])
