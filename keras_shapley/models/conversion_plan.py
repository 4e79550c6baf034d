"""Which layers of a model are converted to Shapley layers, and why the others are not."""

import collections
import dataclasses
from collections.abc import Sequence

from keras import layers

from keras_shapley.layers.base import ShapleyLayer
from keras_shapley.layers.linear_maps import LINEAR_TYPES
from keras_shapley.models.batch_norm import can_merge
from keras_shapley.models.graph import Call, Graph, Value
from keras_shapley.models.keras_internals import RELU_OPERATIONS, is_transparent
from keras_shapley.models.layer_types import activation_layer, activation_name
from keras_shapley.models.tracing import trace
from keras_shapley.utils.typing import Operation


def inner_layer(op: Operation) -> Operation:
    """The layer that TimeDistributed applies to each step; any other operation itself."""
    return inner_layer(op.layer) if is_time_distributed(op) else op


def is_time_distributed(op: Operation) -> bool:
    """Whether an operation is TimeDistributed itself, and not a subclass, which may do anything."""
    return type(op) is layers.TimeDistributed


class Uses:
    """Where each layer or operation of a model is used, also inside TimeDistributed.

    Args:
        graph: of the model.

    Attributes:
        calls: by operation. The call of a layer inside TimeDistributed is that of TimeDistributed.
        users: by value, the calls that take it as input, and None for an output of the model.
        names: by operation, `outer/inner` in nested models and in TimeDistributed.
    """

    def __init__(self, graph: Graph) -> None:
        self.calls: dict[Operation, list[Call]] = collections.defaultdict(list)
        self.users: dict[Value, list[Call | None]] = collections.defaultdict(list)
        self.names: dict[Operation, str] = {}
        self._add(graph, "")

    def _add(self, graph: Graph, prefix: str) -> None:
        for call in graph.calls:
            op = call.op
            # the same for each call of the layer
            name = prefix + call.name.partition(":")[0]
            while is_time_distributed(op):
                op = op.layer
                name = f"{name}/{op.name}"
            if is_transparent(op):
                self._add(trace(op), f"{name}/")
            else:
                self.calls[op].append(call)
                self.names.setdefault(op, name)
            for value in call.inputs:
                self.users[value].append(call)
        for value in graph.outputs:
            self.users[value].append(None)

    def described(self, op: Operation) -> str:
        """Name and type of an operation."""
        return f"'{self.names[op]}' ({type(op).__name__})"


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a linear layer is converted.

    Attributes:
        function: the activation that is replaced.
        norm: the BatchNormalization that is merged into the new layer, or None.
        activation: the separate activation that is left out, or None.
    """

    function: str
    norm: Operation | None = None
    activation: Operation | None = None

    @property
    def absorbed(self) -> list[Operation]:
        """The operations whose work the new layer does."""
        return [op for op in (self.norm, self.activation) if op is not None]


class _NotConvertible(Exception):
    """The reason why a layer stays as it is."""


class Planner:
    """Decides for each layer of a model whether and how it is converted.

    Args:
        uses: of the model's layers.
        replaces: names of the activations that are replaced.
        merge_batch_norm: whether a BatchNormalization may be merged.
    """

    def __init__(self, uses: Uses, replaces: Sequence[str], merge_batch_norm: bool) -> None:
        self._uses = uses
        self._replaces = replaces
        self._merge_batch_norm = merge_batch_norm

    def plans(self) -> tuple[dict[Operation, Plan], dict[Operation, str]]:
        """`(plans, reasons)`: of the layers that are converted, and why the others are not."""
        plans, left = {}, {}
        for op, calls in self._uses.calls.items():
            if isinstance(op, ShapleyLayer):
                left[op] = "it is a Shapley layer already"
            elif isinstance(op, LINEAR_TYPES):
                try:
                    plans[op] = self._plan_of_layer(calls)
                except _NotConvertible as reason:
                    left[op] = str(reason)
        self._drop_shared(plans, left)
        absorbed = {op for plan in plans.values() for op in plan.absorbed}
        for op in set(self._uses.calls) - set(plans) - set(left) - absorbed:
            separate = isinstance(op, (layers.ReLU, layers.Activation, *RELU_OPERATIONS))
            if separate and activation_name(op) in self._replaces:
                left[op] = "no layer of its own is in front of it that can be converted"
            elif isinstance(op, layers.Layer) and op.weights:
                left[op] = f"there is no Shapley layer for {type(op).__name__}"
        return plans, {op: left[op] for op in self._uses.calls if op in left}

    def _plan_of_layer(self, calls: list[Call]) -> Plan:
        """The plan of a layer with these calls; raises `_NotConvertible` with the reason where there is none."""
        plans = [self._plan_of_call(call) for call in calls]
        if len({tuple(plan.absorbed) for plan in plans}) > 1:
            raise _NotConvertible("what follows it differs by call")
        return plans[0]

    def _plan_of_call(self, call: Call) -> Plan:
        """The plan of one call of a linear layer; raises as `_plan_of_layer`."""
        op = inner_layer(call.op)
        if type(op) not in LINEAR_TYPES:
            raise _NotConvertible(f"there is no Shapley layer for {type(op).__name__}")
        if op.quantization_mode is not None:
            raise _NotConvertible("it is quantized")
        function = activation_name(op)
        if function in self._replaces:
            return Plan(function)
        if function != "linear":
            raise _NotConvertible(f"its activation is {function or type(activation_layer(op)).__name__}")
        norm, follower = None, self._only_user(call)
        if follower is not None and type(inner_layer(follower.op)) is layers.BatchNormalization:
            norm, follower = inner_layer(follower.op), self._only_user(follower)
        behind = None if follower is None or len(follower.inputs) > 1 else inner_layer(follower.op)
        if behind is None or isinstance(behind, LINEAR_TYPES):
            raise _NotConvertible("no activation follows it")
        function = activation_name(behind)
        if function not in self._replaces:
            raise _NotConvertible(f"{function or 'no activation'} follows it")
        if norm is None:
            return Plan(function, activation=behind)
        if not self._merge_batch_norm:
            raise _NotConvertible(f"{self._uses.described(norm)} follows it")
        if not can_merge(norm, op):
            raise _NotConvertible(f"{self._uses.described(norm)} cannot be merged into it")
        return Plan(function, norm, behind)

    def _only_user(self, call: Call) -> Call | None:
        users = self._uses.users[call.outputs[0]]
        return users[0] if len(users) == 1 else None

    def _drop_shared(self, plans: dict[Operation, Plan], left: dict[Operation, str]) -> None:
        """Removes the plans whose normalisation or activation serves other layers as well, until none does."""
        while True:
            served = set(plans) | {op for plan in plans.values() for op in plan.absorbed}
            shared = {
                op: other
                for op, plan in plans.items()
                for other in plan.absorbed
                if not self._ops_in_front(other) <= served
            }
            if not shared:
                return
            for op, other in shared.items():
                left[op] = f"{self._uses.described(other)} behind it serves other layers as well"
                del plans[op]

    def _ops_in_front(self, op: Operation) -> set[Operation | None]:
        """The operations that compute the input of any call of `op`; None for an input of the model."""
        producers = [call.inputs[0].producer for call in self._uses.calls[op]]
        return {None if producer is None else inner_layer(producer.op) for producer in producers}


def keep_only(only: set[str], plans: dict[Operation, Plan], left: dict[Operation, str], uses: Uses) -> None:
    """Removes the plans of layers whose names are not in `only`.

    Raises:
        ValueError: if a name is no layer's, or its layer cannot be converted.
    """
    ops = {name: op for op, name in uses.names.items()}
    unknown = sorted(only - set(ops))
    if unknown:
        possible = ", ".join(uses.names[op] for op in plans) or "none"
        raise ValueError(f"`only` names layers that the model has not: {', '.join(unknown)}. Convertible: {possible}")
    reasons = {op: "the layer in front of it takes it in" for plan in plans.values() for op in plan.absorbed} | left
    for name in sorted(only):
        if ops[name] not in plans:
            reason = reasons.get(ops[name], "it has no weights")
            raise ValueError(f"`only` names {uses.described(ops[name])}, which cannot be converted: {reason}.")
    for op in [op for op in plans if uses.names[op] not in only]:
        left[op] = "it was not asked for"
        del plans[op]
