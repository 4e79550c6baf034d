"""A built Keras model as a list of calls. The only file that knows private parts of Keras."""

import dataclasses
import inspect

import keras
from keras import tree
from keras.src.backend import get_keras_mask, set_keras_mask
from keras.src.ops import numpy as operations

from keras_shapley.layers.base import ShapleyLayer


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
        self.data_inputs = [value for value in self.inputs if not value.constant and id(value) not in roles]

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
        return ancestors(self.data_inputs, through_data=True)

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
        data = self.data_inputs
        args, kwargs = self.fill([v if v in data else tensor for v, tensor in zip(self.inputs, tensors)])
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


def ancestors(values, through_data=False):
    """Set of the calls that `values` depend on; with `players`, of those that their relevance can reach."""
    todo, calls = [value.producer for value in values], set()
    while todo:
        call = todo.pop()
        if call is not None and call not in calls:
            calls.add(call)
            todo.extend(value.producer for value in (call.data_inputs if through_data else call.inputs))
    return calls


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
