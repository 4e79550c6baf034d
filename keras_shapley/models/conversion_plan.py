"""Which layers of a model are converted to Shapley layers, and why the others are not."""

import collections
import dataclasses
from collections.abc import Sequence

from keras import layers

from keras_shapley.layers.base import ShapleyLayer
from keras_shapley.layers.linear_maps import LINEAR_TYPES
from keras_shapley.models.batch_norm import normalizes_channels
from keras_shapley.models.graph import Call, Graph, Value
from keras_shapley.models.keras_internals import RELU_OPERATIONS
from keras_shapley.models.layer_types import activation_layer, activation_name
from keras_shapley.utils.typing import Operation

# the types that have a Shapley layer
CONVERTIBLE = (
    layers.Dense,
    layers.EinsumDense,
    layers.Conv1D,
    layers.Conv2D,
    layers.Conv3D,
    layers.DepthwiseConv2D,
)


def layer_name(call: Call) -> str:
    """The name of a call's layer, the same for each of its calls."""
    return call.name.partition(":")[0]


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a linear layer is converted.

    Attributes:
        function: the activation that is replaced.
        norm: call of the BatchNormalization that is merged into the new layer, or None.
        activation: call of the separate activation that is left out, or None.
    """

    function: str
    norm: Call | None = None
    activation: Call | None = None

    @property
    def absorbed(self) -> list[Call]:
        """The calls whose work the new layer does."""
        return [call for call in (self.norm, self.activation) if call is not None]


class _NotConvertible(Exception):
    """The reason why a layer stays as it is."""


class Planner:
    """Decides for each layer of a graph whether and how it is converted.

    Args:
        graph: of the model.
        replaces: names of the activations that are replaced.
        merge_batch_norm: whether a BatchNormalization may be merged.
    """

    def __init__(self, graph: Graph, replaces: Sequence[str], merge_batch_norm: bool) -> None:
        self._replaces = replaces
        self._merge_batch_norm = merge_batch_norm
        self._calls: dict[Operation, list[Call]] = collections.defaultdict(list)
        self._users: dict[Value, list[Call | None]] = collections.defaultdict(list)
        for call in graph.calls:
            self._calls[call.op].append(call)
            for value in call.inputs:
                self._users[value].append(call)
        for value in graph.outputs:
            self._users[value].append(None)

    def plans(self) -> tuple[dict[Operation, Plan], dict[Operation, str]]:
        """`(plans, reasons)`: of the layers that are converted, and why the others are not."""
        plans, left = {}, {}
        for op, calls in self._calls.items():
            if isinstance(op, ShapleyLayer):
                left[op] = "it is a Shapley layer already"
            elif isinstance(op, LINEAR_TYPES):
                try:
                    plans[op] = self._plan_of_layer(calls)
                except _NotConvertible as reason:
                    left[op] = str(reason)
        self._drop_shared(plans, left)
        absorbed = {call.op for plan in plans.values() for call in plan.absorbed}
        for op in self._calls:
            separate = isinstance(op, (layers.ReLU, layers.Activation, *RELU_OPERATIONS))
            if separate and activation_name(op) in self._replaces and op not in absorbed:
                left[op] = "no layer of its own is in front of it that can be converted"
        return plans, left

    def _plan_of_layer(self, calls: list[Call]) -> Plan:
        """The plan of a layer with these calls; raises `_NotConvertible` with the reason where there is none."""
        plans = [self._plan_of_call(call) for call in calls]
        if len({tuple(call.op for call in plan.absorbed) for plan in plans}) > 1:
            raise _NotConvertible("what follows it differs by call")
        return plans[0]

    def _plan_of_call(self, call: Call) -> Plan:
        """The plan of one call of a linear layer; raises as `_plan_of_layer`."""
        op = call.op
        if type(op) not in CONVERTIBLE:
            raise _NotConvertible(f"there is no Shapley layer for {type(op).__name__}")
        if op.quantization_mode is not None:
            raise _NotConvertible("it is quantized")
        function = activation_name(op)
        if function in self._replaces:
            return Plan(function)
        if function != "linear":
            raise _NotConvertible(f"its activation is {function or type(activation_layer(op)).__name__}")
        norm, follower = None, self._only_user(call)
        if follower is not None and type(follower.op) is layers.BatchNormalization:
            norm, follower = follower, self._only_user(follower)
        if follower is None or len(follower.inputs) > 1 or isinstance(follower.op, LINEAR_TYPES):
            raise _NotConvertible("no activation follows it")
        function = activation_name(follower.op)
        if function not in self._replaces:
            raise _NotConvertible(f"{function or 'no activation'} follows it")
        if norm is None:
            return Plan(function, activation=follower)
        if not self._merge_batch_norm:
            raise _NotConvertible(f"'{norm.name}' (BatchNormalization) follows it")
        if op.bias is None and type(op) is layers.EinsumDense or not normalizes_channels(norm, call):
            raise _NotConvertible(f"'{norm.name}' (BatchNormalization) cannot be merged into it")
        return Plan(function, norm, follower)

    def _only_user(self, call: Call) -> Call | None:
        users = self._users[call.outputs[0]]
        return users[0] if len(users) == 1 else None

    def _drop_shared(self, plans: dict[Operation, Plan], left: dict[Operation, str]) -> None:
        """Removes the plans whose normalisation or activation serves other layers as well, until none does."""
        while True:
            served = set(plans) | {call.op for plan in plans.values() for call in plan.absorbed}
            shared = {
                op: call
                for op, plan in plans.items()
                for call in plan.absorbed
                if not self._ops_in_front(call.op) <= served
            }
            if not shared:
                return
            for op, call in shared.items():
                left[op] = f"'{call.name}' ({type(call.op).__name__}) behind it serves other layers as well"
                del plans[op]

    def _ops_in_front(self, op: Operation) -> set[Operation | None]:
        """The operations that compute the input of any call of `op`; None for an input of the model."""
        producers = [call.inputs[0].producer for call in self._calls[op]]
        return {None if producer is None else producer.op for producer in producers}


def keep_only(
    only: set[str], plans: dict[Operation, Plan], left: dict[Operation, str], names: dict[Operation, str], graph: Graph
) -> None:
    """Removes the plans of layers whose names are not in `only`.

    Raises:
        ValueError: if a name is no layer's, or its layer cannot be converted.
    """
    unknown = sorted(only - set(names.values()))
    if unknown:
        possible = ", ".join(names[op] for op in plans) or "none"
        raise ValueError(f"`only` names layers that the model has not: {', '.join(unknown)}. Convertible: {possible}")
    for name in sorted(only - {names[op] for op in plans}):
        reason = next((reason for op, reason in left.items() if names[op] == name), "it has no weights")
        call = next(call for call in reversed(graph.calls) if layer_name(call) == name)
        raise ValueError(f"`only` names {call.description}, which cannot be converted: {reason}.")
    for op in [op for op in plans if names[op] not in only]:
        left[op] = "it was not asked for"
        del plans[op]
