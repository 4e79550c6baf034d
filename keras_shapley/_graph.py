"""A built Keras model as a list of calls. The only file that knows private parts of Keras."""

import collections
import dataclasses
import inspect
from math import prod

import keras
from keras import tree
from keras.src.activations.activations import ReLU as ReLUOperation
from keras.src.applications import convnext, inception_resnet_v2
from keras.src.backend import compute_output_spec, get_keras_mask, set_keras_mask
from keras.src.models.functional import Functional
from keras.src.ops import core, math, nn
from keras.src.ops import numpy as operations

from keras_shapley.layers import ShapleyLayer
from keras_shapley.linear import LINEAR_TYPES


def _classes(module, names):
    return tuple(getattr(module, name) for name in names.split())


class AttachMask:
    """What a model inside another does with the mask that it is called with."""

    name = "mask"

    def call(self, x, mask):
        if get_keras_mask(x) is not None:
            return x
        # a copy: others may use the tensor without the mask
        x = keras.ops.copy(x)
        set_keras_mask(x, mask)
        return x

    __call__ = call


RELU_OPERATIONS = (nn.Relu, ReLUOperation)

# What stands in a graph for `keras.ops` functions, and layers without a public name, by what they do to their input
ELEMENTWISE_OPERATIONS = (
    *_classes(
        nn,
        "Celu Elu Gelu HardShrink HardSigmoid HardSilu HardTanh LeakyRelu LogSigmoid Relu6 Selu Sigmoid Silu "
        "SoftShrink Softplus Softsign SparsePlus SparseSigmoid Squareplus TanhShrink Threshold",
    ),
    *_classes(
        operations,
        "Absolute Abs Arctan Arcsinh Cbrt Clip Copy Cos Cosh Exp Exp2 Expm1 Log Log10 Log1p Log2 Negative Reciprocal "
        "Sin Sinh Sqrt Square Tanh",
    ),
    *_classes(math, "Erf Erfc Rsqrt"),
    *_classes(core, "Cast StopGradient"),
    AttachMask,
    convnext.LayerScale,
    convnext.StochasticDepth,
    *RELU_OPERATIONS,
)
ADDITION_OPERATIONS = (*_classes(operations, "Add Subtract"), inception_resnet_v2.CustomScaleLayer)
PRODUCT_OPERATIONS = _classes(operations, "Multiply")
ONE_OPERAND_OPERATIONS = _classes(operations, "Divide TrueDivide Power")
PAIR_EXTREME_OPERATIONS = _classes(operations, "Maximum Minimum")
BILINEAR_OPERATIONS = _classes(operations, "Dot Einsum Matmul Tensordot")
EXTREME_OPERATIONS = _classes(operations, "Amax Amin Max Min")
MEAN_OPERATIONS = (operations.Mean, operations.Sum, nn.AveragePool)
MOVING_OPERATIONS = (
    *_classes(
        operations,
        "BroadcastTo Concatenate ExpandDims Flip GetItem Hstack Moveaxis Pad Ravel Repeat Reshape Roll Rot90 Split "
        "Squeeze Stack Swapaxes Tile Transpose Vstack",
    ),
    *_classes(core, "Slice Unstack"),
    *_classes(nn, "DepthToSpace SpaceToDepth"),
)
LOOKUP_OPERATIONS = _classes(operations, "Take")
SOFTMAX_OPERATIONS = (nn.Softmax,)
CONSTANT_OPERATIONS = _classes(
    operations,
    "Argmax Argmin Equal Greater GreaterEqual Isfinite Isinf Isnan Less LessEqual LogicalAnd LogicalNot LogicalOr "
    "LogicalXor NotEqual OnesLike Sign ZerosLike",
)


class Value:
    """A tensor of the model: a place in the graph, whatever the data.

    Attributes:
        producer: its `Call`, None for an input of the model.
        constant: whether no relevance can go through it to an input, as through a comparison.
    """

    def __init__(self, producer=None, constant=False):
        self.producer, self.constant = producer, constant


@dataclasses.dataclass(eq=False)
class Call:
    """One use of a layer or operation.

    Attributes:
        name: `name`, `name:1` for the second use of a shared layer, `outer/inner` inside a nested model.
        op: the layer or operation.
        arguments: its `(args, kwargs)`, with a `Value` wherever a tensor goes.
        outputs: list of `Value`.
        inputs: the `Value`s among the arguments.
        players: those of `inputs` that can have relevance: no constants, masks or indices.
        linear: the `LinearMap` to use for it where that is not the layer's own.
        preactivation: in a walk, `u + b` of the linear layer and its pullback, if the forward pass left them.
    """

    name: str
    op: object
    arguments: tuple
    outputs: list = dataclasses.field(default_factory=list)
    linear: object = None
    preactivation: tuple = None

    def __post_init__(self):
        self.inputs = [leaf for leaf in tree.flatten(self.arguments) if isinstance(leaf, Value)]
        roles = self._roles()
        self.players = [value for value in self.inputs if not value.constant and id(value) not in roles]

    def _roles(self):
        """Identities of those of `inputs` that say what is done with the others: masks and indices."""
        if len(self.inputs) < 2:
            return set()
        named = self.named(self.inputs)
        roles = [name for name in named if name in ("mask", "indices") or name.endswith("_mask")]
        if isinstance(self.op, operations.GetItem):
            roles.append("key")
        return set(map(id, tree.flatten([named[name] for name in roles])))

    def ancestors(self):
        """Set of the calls that relevance can reach from this one."""
        return ancestors(self.players, players=True)

    @property
    def description(self):
        """Name and type, for an error message."""
        kind = "" if isinstance(self.op, keras.layers.Layer) else "operation "
        return f"'{self.name}' ({kind}{type(self.op).__name__})"

    def is_a(self, types):
        """Whether the operation is of one of `types`, or of a subclass that computes as they do.

        The layers of this package count as their parents.
        """
        own = type(self.op)

        def same(cls, method):
            return getattr(own, method, None) is getattr(cls, method, None)

        return any(
            isinstance(self.op, cls)
            and (own is cls or issubclass(own, ShapleyLayer) or (same(cls, "call") and same(cls, "convolution_op")))
            for cls in types
        )

    def __call__(self, *tensors):
        """The operation on `tensors`, one for each of `inputs`, in inference mode."""
        args, kwargs = self.fill(tensors)
        if isinstance(self.op, keras.layers.Layer):
            kwargs = {**kwargs, "training": False}
        return self.op(*args, **kwargs)

    def at_full_precision(self, *tensors):
        """As a call, in the dtype of `tensors`, whatever the layer's dtype policy."""
        args, kwargs = self.fill(tensors)
        if getattr(self.op, "_call_has_training_arg", False):
            kwargs = {**kwargs, "training": False}
        return _of_dtype(self.op, tensors[0].dtype).call(*args, **kwargs)

    def bound(self, tensors):
        """The call with `players` as its only `inputs`: masks and indices are the tensors that they are.

        Masks that Keras attaches to `tensors` are among its arguments, as Keras itself would add them.
        """
        players = self.players
        args, kwargs = self.fill([v if v in players else tensor for v, tensor in zip(self.inputs, tensors)])
        masks = [get_keras_mask(tensor) for tensor in tensors]
        if isinstance(self.op, keras.layers.Layer) and any(mask is not None for mask in masks):
            parameters = inspect.signature(self.op.call).parameters
            for name, mask in self.named(masks).items():
                for parameter in ("mask", f"{name}_mask"):
                    own = any(mask is m for m in masks if m is not None)
                    if own and parameter in parameters and kwargs.get(parameter) is None:
                        kwargs[parameter] = mask
        return dataclasses.replace(self, arguments=(args, kwargs))

    def named(self, tensors):
        """Dict of the operation's arguments by name, with one of `tensors` for each of `inputs`."""
        args, kwargs = self.fill(tensors)
        return inspect.signature(self.op.call).bind(*args, **kwargs).arguments

    def fill(self, tensors):
        """The arguments `(args, kwargs)` with one of `tensors` for each of `inputs`."""
        rest = iter(tensors)
        leaves = [next(rest) if isinstance(leaf, Value) else leaf for leaf in tree.flatten(self.arguments)]
        # not by map_structure, whose order of keyword arguments is another one on PyTorch
        return tree.pack_sequence_as(self.arguments, leaves)


@dataclasses.dataclass
class Graph:
    """The calls of a model in an order in which they can run, its `Value`s at both ends, and how inputs are nested."""

    inputs: list
    calls: list
    outputs: list
    structure: object


def copy_mask(source, target):
    """Attaches the Keras mask of one tensor, if there is one, to another, as a layer that supports masking does."""
    mask = get_keras_mask(source)
    if mask is not None:
        set_keras_mask(target, mask)


def ancestors(values, players=False):
    """Set of the calls that `values` depend on; with `players`, of those that their relevance can reach."""
    todo, calls = [value.producer for value in values], set()
    while todo:
        call = todo.pop()
        if call is not None and call not in calls:
            calls.add(call)
            todo.extend(value.producer for value in (call.players if players else call.inputs))
    return calls


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


def activation_name(op):
    """Name of the elementwise function that an operation is, or a linear layer ends with; empty for others."""
    if isinstance(op, RELU_OPERATIONS):
        return "relu"
    if isinstance(op, keras.layers.ReLU):
        plain = not op.negative_slope and not op.threshold
        return {None: "relu", 6: "relu6"}.get(op.max_value, "another relu") if plain else "another relu"
    function = getattr(op, "activation", None)
    if isinstance(op, (keras.layers.Activation, *LINEAR_TYPES)):
        return getattr(function, "__name__", str(function))
    return ""


def _of_dtype(op, dtype):
    """The operation, or a layer with the same weights that computes in this float dtype, not in its policy's."""
    dtype = keras.backend.standardize_dtype(dtype)
    casts = isinstance(op, keras.layers.Layer) and keras.backend.is_float_dtype(dtype) and op.compute_dtype != dtype
    if not casts:
        return op
    # copy.copy would build a new layer, with weights of its own
    twin = object.__new__(type(op))
    twin.__dict__.update(op.__dict__)
    twin.__dict__["_dtype_policy"] = keras.DTypePolicy(dtype)
    return twin


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
        constant = isinstance(op, CONSTANT_OPERATIONS) or bool(call.inputs and not call.players)
        call.outputs = [Value(call, constant) for _ in range(n_outputs)]
        self.calls.append(call)
        return call.outputs
