"""A model in two parts: sums of weighted inputs near its end, and the outputs as a function of them.

The sums are those of the last hidden Dense layer or, where there is none, the logits.
"""

import math
from typing import Any

import keras
import numpy as np
from keras import layers, ops, tree

from keras_shapley.backend import compiled
from keras_shapley.layers.base import ShapleyLayer
from keras_shapley.layers.sa import ShapleyActivation
from keras_shapley.models.evaluation import as_model_takes
from keras_shapley.models.graph import Call, Graph, Value, ancestors, run
from keras_shapley.models.kept import kept
from keras_shapley.models.keras_internals import RESHAPING_OPERATIONS, output_specs
from keras_shapley.models.layer_types import ELEMENTWISE, ORDER_KEEPING, activation_function, activation_of
from keras_shapley.models.model_end import before_reshapes, model_ends
from keras_shapley.models.tracing import trace
from keras_shapley.utils.typing import Operation, Structure, Tensor

_GLOBAL_AVERAGE = (
    layers.GlobalAveragePooling1D,
    layers.GlobalAveragePooling2D,
    layers.GlobalAveragePooling3D,
)
_VECTOR_TO_VECTOR = (*ELEMENTWISE, layers.LayerNormalization)
# of more places, neighbours are taken together
_MOST_PLACES = 64
# with more sums than this, a surrogate takes longer than most networks
_MOST_SUMS = 8192


class LastLayers:
    """A model's sums, in parts, and its outputs as a function of the sums.

    A Dense layer behind an average over places, or behind a flattened map, sums up what each place contributes. Large
    maps are divided into a grid.

    Args:
        model: a model.
        graph: of the model.
        output: of the graph.
        cut: the call of the Dense layer whose sums are taken, or the place of the logits.

    Attributes:
        places: the shape of the grid of places that contribute, 64 or fewer; `()` if the parts of a sum are not known.
        n_sums: number of sums.

    Raises:
        ValueError: if the model cannot be divided there.
    """

    def __init__(self, model: keras.Model, graph: Graph, output: Value, cut: Call | Value) -> None:
        self._model = model
        self._graph = graph
        self._output = output
        self._dense = cut if isinstance(cut, Call) else None
        self._start = cut.outputs[0] if isinstance(cut, Call) else cut
        self._pool, self._read = (None, cut) if isinstance(cut, Value) else _what_is_read(cut)
        self._behind = _calls_behind(graph, self._start, output)
        needed = ancestors([self._read, output])
        self._calls = [call for call in graph.calls if call in needed]
        shapes = [(1, *tensor.shape[1:]) for tensor in model.inputs]
        read, _ = output_specs(self._read_and_output, shapes, [tensor.dtype for tensor in model.inputs])
        self._shape = tuple(read.shape[1:])
        self.places: tuple[int, ...] = ()
        self.n_sums = math.prod(self._shape)
        if self._dense is not None:
            mover = self._pool or _first_mover(self._dense)
            self._is_channels_first = mover is not None and getattr(mover.op, "data_format", "") == "channels_first"
            shape = self._shape_of_map(self._dense.op.kernel.shape[0])
            self._groups = neighbours(shape, _MOST_PLACES)
            self.places = _sides(shape, _MOST_PLACES)
            self.n_sums = self._dense.op.units
        if self.n_sums > _MOST_SUMS:
            raise ValueError(f"{self.n_sums} sums are too many")
        self._in_two = compiled(self._read_and_output, model.variables, any_batch=True)
        self._rest = compiled(self._outputs_from_sums, model.variables, any_batch=True)

    def __call__(self, inputs: Structure) -> tuple[np.ndarray, np.ndarray]:
        """For a batch the parts of the sums, `(batch, places, sums)`, and the outputs, `(batch, *output)`.

        It is one place where the parts are not known.
        """
        arrays = tree.flatten(as_model_takes(self._model, inputs))
        # as a model casts its inputs
        tensors = [ops.convert_to_tensor(array, tensor.dtype) for array, tensor in zip(arrays, self._model.inputs)]
        read, outputs = map(ops.convert_to_numpy, self._in_two(*tensors))
        n = len(read)
        if self._dense is None:
            return read.reshape(n, 1, self.n_sums), outputs
        kernel, bias = _weights(self._dense.op)
        if self._is_channels_first and self.places:
            read = np.moveaxis(read, 1, -1)
        n_places = math.prod(read.shape[1:-1])
        read = read.reshape(n, n_places, -1)
        parts = np.empty((n, len(self._groups), self.n_sums), "float32")
        for part, group in enumerate(self._groups):
            if self._pool is None:
                rows = kernel.reshape(n_places, -1, self.n_sums)[group]
                parts[:, part] = read[:, group].reshape(n, -1) @ rows.reshape(-1, self.n_sums)
            else:
                parts[:, part] = read[:, group].sum(axis=1) @ kernel / n_places
        return parts + bias / len(self._groups), outputs

    def outputs(self, sums: np.ndarray) -> np.ndarray:
        """The model's outputs `(batch, *output)` for sums `(batch, sums)`."""
        return ops.convert_to_numpy(self._rest(ops.convert_to_tensor(sums.astype("float32"))))

    @property
    def are_outputs(self) -> bool:
        """Whether the sums are the outputs, with nothing behind them."""
        return not self._behind and (self._dense is None or _is_linear(self._dense.op))

    def _shape_of_map(self, n_inputs: int) -> tuple[int, ...]:
        """The places of the map that the Dense layer reads; `()` for a vector."""
        if self._pool is None and math.prod(self._shape) != n_inputs:
            raise ValueError("the layer is applied at several positions")
        if len(self._shape) == 1:
            return ()
        return self._shape[1:] if self._is_channels_first else self._shape[:-1]

    def _read_and_output(self, *inputs: Tensor) -> list[Tensor]:
        tensors = run(self._calls, dict(zip(self._graph.inputs, inputs)))
        return [tensors[self._read], tensors[self._output]]

    def _outputs_from_sums(self, sums: Tensor) -> Tensor:
        if self._dense is None:
            first = ops.reshape(sums, (-1, *self._shape))
        else:
            first = activated(self._dense.op, sums)
        return run(self._behind, {self._start: first})[self._output]


def last_layers(model: keras.Model, output: int = 0) -> LastLayers | None:
    """The `LastLayers` of a model in float32 for one of its outputs; None for a model that has none."""
    return kept(model, ("last layers", output), lambda: _found(model, output))


def _found(model: keras.Model, output: int) -> LastLayers | None:
    try:
        graph = trace(model)
    except ValueError:
        # a model whose call is code of its own is evaluated as a whole
        return None
    ends = model_ends(graph.outputs[output])
    if len(ends) > 1:
        return None
    (end,) = ends
    cuts: list[Call | Value] = [end.logits]
    if end.linear_call is not None and _is_function_of_sums(end.linear_call):
        hidden = _hidden(end.linear_call)
        cuts = [*([hidden] if hidden else []), end.linear_call, end.logits]
    for cut in cuts:
        try:
            found = LastLayers(model, graph, graph.outputs[output], cut)
        except ValueError:
            continue
        # without parts, a guess of the outputs is a regression
        return None if found.are_outputs and not found.places else found
    return None


def _hidden(call: Call) -> Call | None:
    """The Dense layer whose activations a Dense layer reads, if there is one."""
    hidden = call.inputs[0].producer
    while hidden is not None and hidden.is_a(_VECTOR_TO_VECTOR) and len(hidden.inputs) == 1:
        hidden = hidden.inputs[0].producer
    return hidden if hidden is not None and _is_function_of_sums(hidden) else None


def _what_is_read(dense: Call) -> tuple[Call | None, Value]:
    """The global average that a Dense layer reads, or None, and the map or vector that is averaged or flattened."""
    read = before_reshapes(dense.inputs[0])
    pool = read.producer
    if pool is not None and pool.is_a(_GLOBAL_AVERAGE) and len(pool.inputs) == 1:
        return pool, pool.inputs[0]
    return None, read


def neighbours(shape: tuple[int, ...], most: int) -> list[np.ndarray]:
    """The numbers of the places of a map, in groups of neighbours that make a grid of at most `most` cells."""
    sides = _sides(shape, most)
    number = np.zeros(shape, int)
    for axis, (size, side) in enumerate(zip(shape, sides)):
        cell = np.arange(size) * side // size
        number = number * side + cell.reshape([-1 if other == axis else 1 for other in range(len(shape))])
    flat = number.ravel()
    return [np.flatnonzero(flat == k) for k in range(math.prod(sides))]


def _sides(shape: tuple[int, ...], most: int) -> tuple[int, ...]:
    """The shape of such a grid."""
    side = int(most ** (1 / max(len(shape), 1)) + 1e-9)
    return tuple(min(size, side) for size in shape)


def _first_mover(dense: Call) -> Call | None:
    """Of the calls before a Dense layer that keep the order of the elements, the first that changes their shape."""
    call, mover = dense.inputs[0].producer, None
    while call is not None and call.is_a((*ORDER_KEEPING, *RESHAPING_OPERATIONS)):
        mover = mover if call.is_a((layers.Dropout, layers.Identity)) else call
        call = call.inputs[0].producer
    return mover


def _calls_behind(graph: Graph, start: Value, output: Value) -> list[Call]:
    """The calls that lead from a value to the output; nothing else of the inputs may reach it."""
    needed = ancestors([output])
    before = ancestors([start])
    behind = [call for call in graph.calls if call in needed and call not in before]
    known = {start, *(value for call in behind for value in call.outputs)}
    if output not in known or any(value not in known for call in behind for value in call.inputs):
        raise ValueError("the output depends on other values too")
    return behind


def is_plain_dense(call: Call) -> bool:
    """Whether this is a Dense layer in float32, a Shapley one among them."""
    return call.is_a((layers.Dense,)) and not call.op.quantization_mode and call.op.compute_dtype == "float32"


def _is_function_of_sums(call: Call) -> bool:
    """Whether this is a Dense layer whose output its sums tell; those of SA need second moments."""
    return is_plain_dense(call) and not isinstance(call.op, ShapleyActivation)


def _weights(dense: Operation) -> tuple[np.ndarray, Any]:
    """Kernel and bias of a Dense layer; a bias of zero if it has none."""
    return ops.convert_to_numpy(dense.kernel), 0.0 if dense.bias is None else ops.convert_to_numpy(dense.bias)


def _is_linear(dense: Operation) -> bool:
    return not isinstance(dense, ShapleyLayer) and activation_of(dense) in (None, keras.activations.linear)


def activated(dense: Operation, sums: Tensor) -> Tensor:
    """The output of a Dense layer, or of ShapLU's, for its sums."""
    if isinstance(dense, ShapleyLayer):
        return ops.relu(sums)
    function = activation_function(dense)
    return sums if function is None else function(sums)
