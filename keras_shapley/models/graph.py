"""A model as a graph of calls: what it does, whatever the data."""

import dataclasses
import inspect
from collections.abc import Iterable, Sequence
from typing import Any

import keras
from keras import tree

from keras_shapley.layers.base import ShapleyLayer
from keras_shapley.models.keras_internals import (
    INDEXING_OPERATIONS,
    SELECTION_OPERATIONS,
    attached_mask,
    in_dtype,
    takes_training,
)
from keras_shapley.utils.typing import Operation, Structure, Tensor

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


@dataclasses.dataclass(eq=False)
class Value:
    """A place in the graph where a tensor is.

    Attributes:
        producer: the `Call` that computes it, None for an input of the model.
        constant: whether no data of the model's inputs pass on to it, as behind a comparison.
    """

    # not in the repr, which would hold all that comes before
    producer: "Call | None" = dataclasses.field(default=None, repr=False)
    constant: bool = False


@dataclasses.dataclass(eq=False)
class Call:
    """One use of a layer or operation in a model.

    Attributes:
        name: `name`, `name:1` for the second use of a shared layer, `outer/inner` inside a nested model.
        op: the layer or operation.
        arguments: its `(args, kwargs)`, with a `Value` wherever a tensor goes.
        outputs: the `Value`s that it computes.
        inputs: the `Value`s among the arguments.
        data_inputs: the inputs that carry data. Constants, masks, indices and conditions do not: they say what is done
            with it.
    """

    name: str
    op: Operation
    arguments: Arguments = dataclasses.field(repr=False)
    outputs: list[Value] = dataclasses.field(default_factory=list, repr=False)
    inputs: list[Value] = dataclasses.field(init=False, repr=False)
    data_inputs: list[Value] = dataclasses.field(init=False, repr=False)
    _is_flat: bool = dataclasses.field(init=False, repr=False)

    def __post_init__(self) -> None:
        args, kwargs = self.arguments
        # as most calls; on PyTorch, Keras takes long for structures
        self._is_flat = all(isinstance(arg, Value) for arg in args) and all(map(_is_setting, kwargs.values()))
        leaves = args if self._is_flat else tree.flatten(self.arguments)
        self.inputs = [leaf for leaf in leaves if isinstance(leaf, Value)]
        controls = self._controls()
        self.data_inputs = [value for value in self.inputs if not value.constant and value not in controls]

    def _controls(self) -> set[Value]:
        """The inputs that are masks, indices or conditions."""
        if len(self.inputs) < 2:
            return set()
        named = self.named(self.inputs)
        names = [name for name in named if name in ("mask", "indices") or name.endswith("_mask")]
        if isinstance(self.op, INDEXING_OPERATIONS):
            names.append("key")
        if isinstance(self.op, SELECTION_OPERATIONS):
            names.append("condition")
        return {leaf for leaf in tree.flatten([named[name] for name in names]) if isinstance(leaf, Value)}

    @property
    def operands(self) -> list[Any]:
        """All that the operation is given: a `Value` for each of `inputs`, and constants."""
        return [leaf for leaf in tree.flatten(self.arguments) if leaf is not None]

    @property
    def constants(self) -> list[Any]:
        """The operands that are no `Value`."""
        return [leaf for leaf in self.operands if not isinstance(leaf, Value)]

    @property
    def description(self) -> str:
        """Name and type, for an error message."""
        kind = "" if isinstance(self.op, keras.layers.Layer) else "operation "
        return f"'{self.name}' ({kind}{type(self.op).__name__})"

    def is_a(self, types: tuple[type, ...]) -> bool:
        """Whether the operation is of one of `types`, or of a subclass that computes as its parent does.

        The layers of this package count as their parents.
        """
        own = type(self.op)

        def inherits(cls: type, method: str) -> bool:
            return getattr(own, method, None) is getattr(cls, method, None)

        def computes_as(cls: type) -> bool:
            if issubclass(own, ShapleyLayer):
                # a user's subclass of such a layer computes as it, or not
                cls = next(parent for parent in own.__mro__ if parent.__module__.startswith("keras_shapley."))
            return own is cls or inherits(cls, "call") and inherits(cls, "convolution_op")

        return any(isinstance(self.op, cls) and computes_as(cls) for cls in types)

    def ancestors(self) -> "set[Call]":
        """The calls whose data reach this one."""
        return ancestors(self.data_inputs, through_data=True)

    def __call__(self, *tensors: Tensor) -> Structure:
        """The operation on `tensors`, one for each of `inputs`, in inference mode."""
        args, kwargs = self.fill(tensors)
        if isinstance(self.op, keras.layers.Layer):
            kwargs = {**kwargs, "training": False}
        # TensorFlow takes no layer's name that begins with an underscore unless it is inside of another
        with keras.name_scope("keras_shapley"):
            return self.op(*args, **kwargs)

    def at_full_precision(self, *tensors: Tensor) -> Structure:
        """As a call, in the dtype of `tensors`, whatever the layer's dtype policy."""
        args, kwargs = self.fill(tensors)
        if takes_training(self.op):
            kwargs = {**kwargs, "training": False}
        return in_dtype(self.op, tensors[0].dtype).call(*args, **kwargs)

    def fill(self, tensors: Iterable[Any]) -> Arguments:
        """The arguments with one of `tensors` for each of `inputs`."""
        if self._is_flat:
            return tuple(tensors), dict(self.arguments[1])
        rest = iter(tensors)
        leaves = [next(rest) if isinstance(leaf, Value) else leaf for leaf in tree.flatten(self.arguments)]
        # map_structure sorts the keyword arguments on PyTorch
        return tree.pack_sequence_as(self.arguments, leaves)

    def named(self, tensors: Iterable[Any]) -> dict[str, Any]:
        """The operation's arguments by name, with one of `tensors` for each of `inputs`."""
        args, kwargs = self.fill(tensors)
        return inspect.signature(self.op.call).bind(*args, **kwargs).arguments

    def bind_controls(self, tensors: Sequence[Tensor]) -> Arguments:
        """The arguments with `data_inputs` left open, and every other input replaced by its tensor.

        Masks that Keras attaches to `tensors` become arguments, as Keras itself would add them.
        """
        args, kwargs = self.fill(
            value if value in self.data_inputs else tensor for value, tensor in zip(self.inputs, tensors)
        )
        masks = [attached_mask(tensor) for tensor in tensors]
        attached = {id(mask) for mask in masks if mask is not None}
        if not attached or not isinstance(self.op, keras.layers.Layer):
            return args, kwargs
        parameters = inspect.signature(self.op.call).parameters
        for name, mask in self.named(masks).items():
            if isinstance(mask, list) and any(id(each) in attached for each in mask):
                # the masks of a list of tensors are a list
                if "mask" in parameters and kwargs.get("mask") is None:
                    kwargs["mask"] = mask
                continue
            for parameter in ("mask", f"{name}_mask"):
                if id(mask) in attached and parameter in parameters and kwargs.get(parameter) is None:
                    kwargs[parameter] = mask
        return args, kwargs


def _is_setting(value: Any) -> bool:
    """Whether an argument is neither a tensor nor holds any."""
    return value is None or isinstance(value, (bool, int, float, str))


@dataclasses.dataclass
class Graph:
    """The calls of a model.

    Attributes:
        inputs: the model's inputs.
        calls: all calls, in an order in which they can run.
        outputs: the model's outputs.
        structure: how the inputs are nested.
    """

    inputs: list[Value]
    calls: list[Call]
    outputs: list[Value]
    structure: Structure


def ancestors(values: Iterable[Value], *, through_data: bool = False) -> set[Call]:
    """The calls that `values` depend on; with `through_data`, those whose data reach them."""
    todo = [value.producer for value in values]
    calls = set()
    while todo:
        call = todo.pop()
        if call is not None and call not in calls:
            calls.add(call)
            todo.extend(value.producer for value in (call.data_inputs if through_data else call.inputs))
    return calls


def run(calls: Iterable[Call], tensors: dict[Value, Tensor]) -> dict[Value, Tensor]:
    """The tensors at all values that calls compute from those that are known, and these."""
    tensors = dict(tensors)
    for call in calls:
        outputs = tree.flatten(call(*(tensors[value] for value in call.inputs)))
        tensors.update(zip(call.outputs, outputs))
    return tensors
