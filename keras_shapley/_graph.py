"""A built Keras model as a list of calls. The only file that knows private parts of Keras."""

import collections
import dataclasses

import keras
from keras import tree
from keras.src.activations.activations import ReLU as ReLUOperation
from keras.src.models.functional import Functional
from keras.src.ops import nn
from keras.src.ops import numpy as operations

from keras_shapley.layers import ShapleyLayer

AddOperation, SubtractOperation, MultiplyOperation = operations.Add, operations.Subtract, operations.Multiply
ELEMENTWISE_OPERATIONS = (
    nn.Elu,
    nn.Gelu,
    nn.LeakyRelu,
    nn.Relu,
    nn.Relu6,
    nn.Selu,
    nn.Sigmoid,
    nn.Silu,
    nn.Softplus,
    operations.Tanh,
    ReLUOperation,
)


class Value:
    """A tensor of the model: a place in the graph, whatever the data. `producer` is its `Call`, None for an input."""

    def __init__(self, producer=None):
        self.producer = producer


@dataclasses.dataclass(eq=False)
class Call:
    """One use of a layer or operation.

    Attributes:
        name: `name`, `name:1` for the second use of a shared layer, `outer/inner` inside a nested model.
        op: the layer or operation.
        arguments: its `(args, kwargs)`, with a `Value` wherever a tensor goes.
        outputs: list of `Value`.
    """

    name: str
    op: object
    arguments: tuple
    outputs: list = dataclasses.field(default_factory=list)

    def __post_init__(self):
        self.inputs = [leaf for leaf in tree.flatten(self.arguments) if isinstance(leaf, Value)]

    def ancestors(self):
        """Set of the calls that this one depends on."""
        return ancestors(self.inputs)

    @property
    def description(self):
        """Name and type, for an error message."""
        kind = "" if isinstance(self.op, keras.layers.Layer) else "operation "
        return f"'{self.name}' ({kind}{type(self.op).__name__})"

    def is_a(self, types):
        """Whether the operation is of one of `types`, or of a subclass that calls as they do.

        The layers of this package count as their parents.
        """
        own = type(self.op)
        return any(
            isinstance(self.op, cls) and (own is cls or own.call is cls.call or issubclass(own, ShapleyLayer))
            for cls in types
        )

    def __call__(self, *tensors):
        """The operation on `tensors`, one for each of `inputs`, in inference mode."""
        args, kwargs = self._fill(tensors)
        if isinstance(self.op, keras.layers.Layer):
            kwargs = {**kwargs, "training": False}
        return self.op(*args, **kwargs)

    def at_full_precision(self, *tensors):
        """As a call, in the dtype of `tensors`, whatever the layer's dtype policy."""
        args, kwargs = self._fill(tensors)
        if getattr(self.op, "_call_has_training_arg", False):
            kwargs = {**kwargs, "training": False}
        return self.op.call(*args, **kwargs)

    def _fill(self, tensors):
        rest = iter(tensors)
        return tree.map_structure(lambda leaf: next(rest) if isinstance(leaf, Value) else leaf, self.arguments)


@dataclasses.dataclass
class Graph:
    """The calls of a model in an order in which they can run, its `Value`s at both ends, and how inputs are nested."""

    inputs: list
    calls: list
    outputs: list
    structure: object

    def run(self, tensors):
        """Every tensor of the model, by `Value`, from one tensor for each of `inputs`."""
        values = dict(zip(self.inputs, tensors))
        for call in self.calls:
            outputs = tree.flatten(call(*(values[value] for value in call.inputs)))
            values.update(zip(call.outputs, outputs))
        return values


def ancestors(values):
    """Set of the calls that `values` depend on."""
    todo, calls = [value.producer for value in values], set()
    while todo:
        call = todo.pop()
        if call is not None and call not in calls:
            calls.add(call)
            todo.extend(value.producer for value in call.inputs)
    return calls


def trace(model):
    """The `Graph` of a built Sequential or Functional model; nested models are opened.

    Raises:
        ValueError: if the model is not built, or is of another kind.
    """
    if not _is_open(model):
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


def _is_open(op):
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
        if _is_open(op):
            args, kwargs = arguments
            x = args[0] if args else next(iter(kwargs.values()))
            return self.open(op, in_order(op, x) if isinstance(x, dict) else call.inputs, name + "/")
        call.outputs = [Value(call) for _ in range(n_outputs)]
        self.calls.append(call)
        return call.outputs
