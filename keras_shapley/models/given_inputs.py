"""Whatever holds a model's inputs, as arrays: data sets, data frames, and columns."""

from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_shapley.backend import is_traced
from keras_shapley.models.tracing import in_order
from keras_shapley.utils.data import batches, is_data_set
from keras_shapley.utils.structures import arrays_of, is_nested
from keras_shapley.utils.typing import Structure


def inputs_of(fn: Any, data: Any) -> Structure:
    """The inputs in `data`, arrays as a model or function takes them; see `inputs_and_labels`."""
    return inputs_and_labels(fn, data)[0]


def inputs_and_labels(fn: Any, data: Any) -> tuple[Structure, Structure | None]:
    """The inputs in `data`, arrays as a model or function takes them, and the labels beside them, or None.

    Args:
        fn: a model, or a function of a batch.
        data: arrays; a tuple `(x, y)` or `(x, y, sample_weight)`; a data set of batches of these, of which all are
            joined; or a data frame, of which a model with several inputs takes a column for each, by name. A column of
            shape `(n,)` receives the axis that the model's input has.

    Raises:
        ValueError: if a data set has no batch or no end, a column holds no numbers, a model's input has no column, or
            a tensor has no values yet.
    """
    y = None
    if is_data_set(data):
        data, y = _joined(data)
    elif _is_pair(fn, data):
        data, y = data[:2]
    if is_frame(data):
        data = _of_frame(fn, data)
    if any(map(is_traced, arrays_of(data))):
        raise ValueError(
            "`x` must have values. Received: a tensor inside of a function that is compiled or transformed, as by "
            "jax.jit, tf.function or torch.func. Call this outside: it compiles what it runs by itself."
        )
    return _with_axes(fn, data), y


def is_frame(data: Any) -> bool:
    """Whether this is a data frame, as of pandas."""
    return hasattr(data, "columns") and hasattr(data, "to_numpy")


def columns_of(data: Any) -> list[Any] | None:
    """The names of the columns of a data frame, alone or with labels, or of the entries of a row; None for others."""
    named: Any = data[0] if isinstance(data, tuple) and data else data
    if is_frame(named):
        return list(named.columns)
    return list(named.index) if hasattr(named, "index") and hasattr(named, "to_numpy") else None


def check_same_columns(x: Any, baseline: Any) -> None:
    """Raises a `ValueError` if a baseline names columns in another order than the inputs."""
    columns, others = columns_of(x), columns_of(baseline)
    if columns is not None and others is not None and columns != others:
        raise ValueError(
            f"`baseline` must have the columns of `x` in their order, {columns}. Received: {others}. Give "
            "baseline[x.columns]."
        )


def _is_pair(fn: Any, data: Any) -> bool:
    """Whether a tuple is inputs with their labels, rather than several inputs."""
    inputs = getattr(fn, "inputs", None)
    if not isinstance(data, tuple) or len(data) not in (2, 3) or not inputs:
        return False
    return len(inputs) == 1 or is_nested(data[0]) or is_frame(data[0])


def _joined(data: Any) -> tuple[Structure, Structure | None]:
    """All batches of a data set as one."""
    # only a data set of TensorFlow knows that it has no end
    if hasattr(data, "cardinality") and int(data.cardinality()) == -1:
        raise ValueError("`data` has no end: give a part of it, such as data.take(10).")
    parts = [(x, y) for x, y, _ in batches(data, 1)[1]]
    if not parts:
        raise ValueError("`data` has no batch.")
    xs, ys = zip(*parts)
    has_labels = all(y is not None for y in ys)
    return _concatenated(xs), _concatenated(ys) if has_labels else None


def _concatenated(structures: tuple[Structure, ...]) -> Structure:
    def joined(*parts: Any) -> np.ndarray:
        arrays = [ops.convert_to_numpy(part) for part in parts]
        if any(array.ndim == 0 for array in arrays):
            raise ValueError(
                "`data` must be a data set of batches. Received: one of single samples. Give data.batch(32)."
            )
        if len({array.shape[1:] for array in arrays}) > 1:
            shapes = ", ".join(sorted({str(array.shape) for array in arrays}))
            raise ValueError(
                f"`data` must have batches of one shape, to be joined. Received: {shapes}. `LRP.explain_batches` takes "
                "each by itself."
            )
        return np.concatenate(arrays)

    return tree.map_structure(joined, *structures)


def _of_frame(fn: Any, frame: Any) -> Structure:
    """The columns of a frame: one array `(n, columns)`, or for a model with several inputs one for each, by name."""
    wanted = [tensor.name for tensor in getattr(fn, "inputs", None) or ()]
    names = list(frame.columns)
    if len(wanted) < 2:
        return np.stack([_numbers(frame, name) for name in names], axis=1)
    missing = [name for name in wanted if name not in names]
    if missing:
        raise ValueError(f"`x` must have a column for each of the model's inputs. It lacks {missing}; it has {names}")
    # in the user's order
    return {name: _numbers(frame, name) for name in names if name in wanted}


def _numbers(frame: Any, name: Any) -> np.ndarray:
    column = np.asarray(frame[name])
    if column.dtype.kind not in "biuf":
        raise ValueError(f"`x` must have columns of numbers. Received: column {name!r} of {column.dtype}")
    return column


def _with_axes(fn: Any, x: Structure) -> Structure:
    """The inputs, where a model takes columns `(n, 1)` for those of shape `(n,)`."""
    inputs = getattr(fn, "inputs", None)
    if not isinstance(fn, keras.Model) or not inputs:
        return x
    if not isinstance(x, (dict, list, tuple)):
        return _with_axis(x, inputs[0]) if len(inputs) == 1 else x
    is_batch = len(inputs) == 1 and not isinstance(x, dict) and not is_nested(x)
    if len(x) != len(inputs) or is_batch:
        return x
    keys = list(x) if isinstance(x, dict) else list(range(len(x)))
    in_place = dict(zip(keys, keys)) if isinstance(x, dict) else keys
    specs = dict(zip(in_order(fn, in_place), inputs))
    parts = {key: _with_axis(x[key], specs[key]) for key in keys}
    return parts if isinstance(x, dict) else type(x)(parts.values())


def _with_axis(array: Any, spec: keras.KerasTensor) -> Any:
    """An array as the model's input has it."""
    if tuple(spec.shape[1:]) != (1,) or len(getattr(array, "shape", None) or np.shape(array)) != 1:
        return array
    return (array if ops.is_tensor(array) else np.asarray(array))[:, None]
