"""From a built Keras model to its graph, and from a user's batch to the tensors of that graph."""

import collections
import math
from typing import Any

import keras
from keras import tree

from keras_shapley.models.graph import Arguments, Call, Graph, Value, run
from keras_shapley.models.keras_internals import (
    CONSTANT_OPERATIONS,
    EXPAND_DIMS_OPERATION,
    MERGE_LAYERS,
    AttachMask,
    build_activations,
    input_structure,
    is_transparent,
    nodes,
    output_specs,
)
from keras_shapley.utils.structures import leaves, ordered_as, skeleton_of
from keras_shapley.utils.typing import Operation, Structure, Tensor


def trace(model: keras.Model) -> Graph:
    """The `Graph` of a built Sequential or Functional model; nested models are opened.

    Raises:
        ValueError: if the model is subclassed, or not built.
    """
    if not is_transparent(model):
        raise ValueError(
            "This needs the graph of layers that Sequential and Functional models have. Received: model "
            f"'{model.name}' of type {type(model).__name__}, whose call is code of its own. Use "
            "shapley_values(model, x), which takes any model, or rebuild it with keras.Model(inputs, outputs)."
        )
    if not model.built:
        raise ValueError(
            f"Model '{model.name}' is not built: give it an Input, call it on data, or call model.build(input_shape)."
        )
    build_activations(model)
    tracer = _Tracer()
    inputs = [Value() for _ in model.inputs]
    outputs = tracer.open(model, inputs, "")
    return Graph(inputs, tracer.calls, outputs, input_structure(model))


def output_sizes(graph: Graph, shapes: list[tuple[int, ...]], dtypes: list[str]) -> dict[Call, int]:
    """The number of elements of each call's largest output for one input, without computing anything.

    Args:
        graph: of a model.
        shapes: of its inputs, without the batch.
        dtypes: of its inputs.
    """

    def outputs_by_call(*x: Tensor) -> list[list[Tensor]]:
        tensors = run(graph.calls, dict(zip(graph.inputs, x)))
        return [[tensors[value] for value in call.outputs] for call in graph.calls]

    specs = output_specs(outputs_by_call, [(1, *shape) for shape in shapes], dtypes)
    return {call: max(math.prod(spec.shape) for spec in parts) for call, parts in zip(graph.calls, specs)}


def in_order(model: keras.Model, x: Structure, argument: str = "x") -> list[Any]:
    """The arrays of a batch in the order of `model.inputs`: by position, or by name if the batch is a dict.

    Args:
        model: the model.
        x: the batch.
        argument: its name in errors.

    Raises:
        ValueError: if the batch is nested otherwise than the model's inputs.
    """
    structure = input_structure(model)
    if isinstance(x, dict) and not isinstance(structure, dict):
        names = [tensor.name for tensor in model.inputs]
        if sorted(names) != sorted(x):
            raise ValueError(f"`{argument}` must have the names of the model's inputs, {names}. Received: {list(x)}")
        return [x[name] for name in names]
    if isinstance(structure, dict) and (not isinstance(x, dict) or sorted(x) != sorted(structure)):
        received = list(x) if isinstance(x, dict) else type(x).__name__
        raise ValueError(
            f"`{argument}` must be a dict of the model's inputs, {sorted(structure)}. Received: {received}"
        )
    return tree.flatten(x) if isinstance(structure, (dict, list, tuple)) else [x]


def takes_integers(fn: Any, x: Structure) -> list[bool]:
    """Whether a model takes integers, for each array of a batch, in the batch's own order.

    Empty for a function, for a model with code of its own or not built, and for a batch that is nested otherwise.
    """
    if not is_transparent(fn) or not fn.built:
        return []
    structure = input_structure(fn)
    if isinstance(x, dict) and not isinstance(structure, dict):
        structure = {tensor.name: tensor for tensor in fn.inputs}
    try:
        tensors = leaves(ordered_as(skeleton_of(x), structure))
    except (KeyError, TypeError):
        return []
    return ["int" in str(tensor.dtype) for tensor in tensors]


class _Tracer:
    """Records the calls of a model.

    Attributes:
        calls: recorded so far.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._uses: collections.Counter[str] = collections.Counter()

    def open(self, model: Any, inputs: list[Value], prefix: str) -> list[Value]:
        """Records the calls inside `model` on `inputs`; returns its outputs."""
        if isinstance(model, keras.Sequential):
            values = inputs
            for layer in model.layers:
                values = self._record(layer, (tuple(values), {}), 1, prefix)
            return values

        values_by_tensor = {id(tensor): value for tensor, value in zip(model.inputs, inputs)}
        for node in nodes(model):
            arguments = node.arguments.fill_in(values_by_tensor)
            if isinstance(node.operation, MERGE_LAYERS):
                ranks = {values_by_tensor[id(tensor)]: len(tensor.shape) for tensor in node.input_tensors}
                arguments = self._of_one_rank(arguments, ranks, prefix + node.operation.name + "/")
            outputs = self._record(node.operation, arguments, len(node.outputs), prefix)
            values_by_tensor.update(zip(map(id, node.outputs), outputs))
        return [values_by_tensor[id(tensor)] for tensor in model.outputs]

    def _of_one_rank(self, arguments: Arguments, ranks: dict[Value, int], prefix: str) -> Arguments:
        """Records what a merge layer does before it merges: it gives all inputs the same number of axes."""
        constants = [leaf for leaf in tree.flatten(arguments) if not isinstance(leaf, Value) and hasattr(leaf, "shape")]
        rank = max([*ranks.values(), *(len(constant.shape) for constant in constants)])

        def expanded(value: Any) -> Any:
            if not isinstance(value, Value):
                axes = range(1, 1 + rank - len(value.shape)) if hasattr(value, "shape") else ()
                return keras.ops.expand_dims(value, tuple(axes)) if axes else value
            for _ in range(rank - ranks[value]):
                expand = EXPAND_DIMS_OPERATION(axis=1, name="expand_dims")
                (value,) = self._record(expand, ((value,), {}), 1, prefix)
            return value

        return tree.map_structure(expanded, arguments)

    def _record(self, op: Operation, arguments: Arguments, n_outputs: int, prefix: str) -> list[Value]:
        """Records a call, or the calls inside a nested model; returns the outputs."""
        path = prefix + op.name
        name = f"{path}:{self._uses[path]}" if self._uses[path] else path
        self._uses[path] += 1
        call = Call(name, op, arguments)
        if is_transparent(op):
            return self.open(op, self._inner_inputs(call), name + "/")
        constant = isinstance(op, CONSTANT_OPERATIONS) or bool(call.inputs and not call.data_inputs)
        call.outputs = [Value(call, constant) for _ in range(n_outputs)]
        self.calls.append(call)
        return call.outputs

    def _inner_inputs(self, call: Call) -> list[Value]:
        """What a nested model is called on."""
        named = call.named(call.inputs)
        x = named["inputs"]
        if isinstance(x, Value) and isinstance(named.get("mask"), Value):
            (x,) = self._record(AttachMask(), ((x,), {"mask": named["mask"]}), 1, call.name + "/")
        values = in_order(call.op, x) if isinstance(x, dict) else tree.flatten(x)
        if not all(isinstance(value, Value) for value in values):
            raise ValueError(
                f"Model {call.description} is called on a constant inside another model, which cannot be walked. "
                "Make the constant an Input, or part of the inner model."
            )
        return values
