"""A built Keras model as a list of calls. The only file that knows private parts of Keras."""

import collections
from math import prod

import keras
from keras import tree
from keras.src.backend import compute_output_spec
from keras.src.models.functional import Functional

from keras_shapley.models.graph import Call, Graph, Value
from keras_shapley.models.keras_internals import CONSTANT_OPERATIONS, AttachMask


def trace(model):
    """The `Graph` of a built Sequential or Functional model; nested models are opened.

    Raises:
        ValueError: if the model is not built, or is of another kind.
    """
    if not is_open(model):
        raise ValueError(
            f"Only Sequential and Functional models can be walked. Received: model '{model.name}' of type "
            f"{type(model).__name__}, whose call is code of its own. Rebuild it with keras.Model(inputs, outputs)."
        )
    if not model.built:
        raise ValueError(
            f"Model '{model.name}' is not built: give it an Input, call it on data, or call model.build(input_shape)."
        )
    tracer = _Tracer()
    inputs = [Value() for _ in model.inputs]
    outputs = tracer.open(model, inputs, "")
    return Graph(inputs, tracer.calls, outputs, _structure(model))


def output_sizes(graph, shape, dtype):
    """By call of a graph with one input, the elements of its largest output for an image; nothing is computed."""
    (image,) = graph.inputs

    def outputs(x):
        found = {image: x}
        for call in graph.calls:
            found.update(zip(call.outputs, tree.flatten(call(*(found[value] for value in call.inputs)))))
        return [[found[value] for value in call.outputs] for call in graph.calls]

    found = compute_output_spec(outputs, keras.KerasTensor((1, *shape), dtype))
    return {call: max(prod(part.shape) for part in parts) for call, parts in zip(graph.calls, found)}


def in_order(model, x):
    """The parts of `x`, a batch or a structure, in the order of `model.inputs`: by position, in a dict by name.

    Raises:
        ValueError: if the structure is not the model's.
    """
    structure = _structure(model)
    if isinstance(x, dict) and not isinstance(structure, dict):
        names = [tensor.name for tensor in model.inputs]
        if sorted(names) != sorted(x):
            raise ValueError(f"`x` must have the names of the model's inputs, {names}. Received: {list(x)}")
        return [x[name] for name in names]
    if isinstance(structure, dict) and (not isinstance(x, dict) or sorted(x) != sorted(structure)):
        received = list(x) if isinstance(x, dict) else type(x).__name__
        raise ValueError(f"`x` must be a dict of the model's inputs, {sorted(structure)}. Received: {received}")
    return tree.flatten(x) if isinstance(structure, (dict, list, tuple)) else [x]


def _structure(model):
    """The nesting of a model's inputs, a single tensor for a Sequential model."""
    return model.inputs[0] if isinstance(model, keras.Sequential) else model._inputs_struct


def is_open(op):
    """Whether an operation is a model made of layers alone, without code of its own."""
    if isinstance(op, keras.Sequential):
        return type(op).call is keras.Sequential.call
    return isinstance(op, keras.Function) and type(op).call in (keras.Function.call, Functional.call)


class _Tracer:
    def __init__(self):
        self.calls = []
        self.uses = collections.Counter()

    def open(self, model, inputs, prefix):
        """Records the calls of `model` on `inputs`; returns its outputs."""
        if isinstance(model, keras.Sequential):
            values = inputs
            for layer in model.layers:
                values = self.record(layer, (tuple(values), {}), 1, prefix)
            return values

        values = {id(tensor): value for tensor, value in zip(model.inputs, inputs)}
        for depth in sorted(model._nodes_by_depth, reverse=True):
            for node in model._nodes_by_depth[depth]:
                if not node.is_input:
                    outputs = self.record(node.operation, node.arguments.fill_in(values), len(node.outputs), prefix)
                    values.update(zip(map(id, node.outputs), outputs))
        return [values[id(tensor)] for tensor in model.outputs]

    def record(self, op, arguments, n_outputs, prefix):
        path = prefix + op.name
        name = f"{path}:{self.uses[path]}" if self.uses[path] else path
        self.uses[path] += 1
        call = Call(name, op, arguments)
        if is_open(op):
            named = call.named(call.inputs)
            x = named["inputs"]
            if isinstance(x, Value) and isinstance(named.get("mask"), Value):
                (x,) = self.record(AttachMask(), ((x,), {"mask": named["mask"]}), 1, name + "/")
            parts = in_order(op, x) if isinstance(x, dict) else tree.flatten(x)
            if not all(isinstance(part, Value) for part in parts):
                raise ValueError(
                    f"Model {call.description} is called on a constant inside another model, which cannot be walked. "
                    "Make the constant an Input, or part of the inner model."
                )
            return self.open(op, parts, name + "/")
        constant = isinstance(op, CONSTANT_OPERATIONS) or bool(call.inputs and not call.data_inputs)
        call.outputs = [Value(call, constant) for _ in range(n_outputs)]
        self.calls.append(call)
        return call.outputs
