"""The head of a model: what is explained, and the relevance with which the walk starts.

- Softmax and sigmoid: the probability of the target, by Shapley values. The players are the inputs of the last linear
  layer ("features"), or the logits where that layer does not feed all of them with the same inputs.
- A linear output: the logit of the target, which is then its relevance.
- ReLU: `Phi(z) (u + b)`, the sum of eq. (1) over the inputs.
- A callable: the relevance of the logits that it returns.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
from keras import layers, ops

from keras_shapley.layers.activations import shapley_activation
from keras_shapley.layers.linear_maps import linear_map
from keras_shapley.lrp.model_end import model_end
from keras_shapley.models.graph import Call, Value, ancestors
from keras_shapley.shapley import softmax
from keras_shapley.shapley.exact import MAX_PLAYERS
from keras_shapley.shapley.orders import random
from keras_shapley.utils.typing import Operation, Tensor
from keras_shapley.utils.validation import one_of

# Above this many players x classes x paths an image, sampling may stop early: once, in every image, the root sum of
# squares of the standard errors is below TOLERANCE times that of the values. By default larger games are not
# enumerated.
MAX_SAMPLES = 1e7
TOLERANCE = 0.05

HeadFunction: TypeAlias = Callable[[Tensor, Tensor], Tensor]


@dataclasses.dataclass
class Start:
    """The relevance with which a walk starts. Tensors have a leading batch axis.

    Attributes:
        value: the place in the graph that has the relevance.
        relevance: relevance of the tensor there, in its shape.
        stderr: standard error of `relevance`, same shape; 0 where it is exact, NaN where it is unknown.
        total: what is explained, shape `(batch,)`; conservation gaps are relative to it.
        baseline: the target's probability without any player, shape `(batch,)`; zeros for a linear head.
        target: the explained class, shape `(batch,)`.
        n_paths: number of random paths, an int scalar; 0 where none were needed.
        gap_call: the call whose gap is the difference between `total` and the sum of `relevance`; None if they are
            equal by definition.
    """

    value: Value
    relevance: Tensor
    stderr: Tensor
    total: Tensor
    baseline: Tensor
    target: Tensor
    n_paths: Tensor
    gap_call: Call | None

    def minus(self, other: "Start") -> "Start":
        """The start of the difference. Its standard error is a bound, as both are sampled on the same paths."""
        return dataclasses.replace(
            self,
            relevance=self.relevance - other.relevance,
            stderr=self.stderr + other.stderr,
            total=self.total - other.total,
            baseline=self.baseline - other.baseline,
            n_paths=ops.maximum(self.n_paths, other.n_paths),
        )


class Head:
    """Starts the relevance of a model at its logits or at the features below.

    Args:
        output: the output that is explained.
        head: `"auto"`, `"softmax"`, `"sigmoid"`, `"linear"`, or a callable `head(logits, target)` that returns the
            relevance of the logits.
        head_players: `"features"` or `"logits"`.
        method: method of the Shapley values of a probability, `"auto"`, `"exact"`, `"sampled"` or `"quadrature"`.
        n_paths: even number of antithetic paths.
        seed: seed of the paths, and of the draws of the quadrature.

    Attributes:
        kind: what is explained, `"softmax"`, `"sigmoid"`, `"relu"`, `"linear"`, or the callable.
        logits: the place of the logits in the graph.
        linear_call: the call of the last linear layer, whose output before its activation the logits are; None where
            the logits come from elsewhere.
    """

    def __init__(
        self, output: Value, head: str | HeadFunction, head_players: str, method: str, n_paths: int, seed: int
    ) -> None:
        end = model_end(output)
        self.output = output
        self.logits = end.logits
        self.linear_call = end.linear_call
        self.kind = _kind(head, end.link)
        self._link = end.link
        self._link_call = end.link_call
        self._prefers_features = head_players == "features"
        self._method = method
        self._n_paths = n_paths
        self._seed = seed

    @property
    def calls_below(self) -> set[Call]:
        """The calls that relevance can reach from the head, without the last linear layer."""
        below = self.linear_call.data_inputs if self.linear_call else [self.logits]
        return ancestors(below, through_data=True)

    def probability(self, output: Tensor) -> Tensor:
        """The model's output as probabilities: of one that ends in logits, their softmax, or sigmoid for one unit."""
        if self._link in ("softmax", "sigmoid"):
            return output
        return ops.sigmoid(output) if output.shape[1] == 1 else ops.softmax(output)

    def start(self, tensors: dict[Value, Tensor], target: Tensor | None, dtype: str) -> Start:
        """The `Start` of a walk.

        Args:
            tensors: every tensor of the model.
            target: the class to explain, ints of shape `(batch,)`, or None, which `_resolve` resolves.
            dtype: dtype of the relevance.
        """
        resolved = _resolve(target, tensors[self.output], dtype)
        if self.kind in ("softmax", "sigmoid"):
            return self._start_at_players(tensors, resolved, dtype)
        return self._start_at_logits(tensors, resolved, dtype)

    def _start_at_logits(self, tensors: dict[Value, Tensor], target: "_Target", dtype: str) -> Start:
        """The target's logit, or what the callable returns."""
        logits = self._logits(tensors, dtype)
        if callable(self.kind):
            relevance = ops.cast(self.kind(logits, target.classes), dtype)
            if tuple(relevance.shape) != tuple(logits.shape):
                raise ValueError(
                    f"`head` must return relevance in the shape of the logits, {tuple(logits.shape)}. "
                    f"Received: {tuple(relevance.shape)}"
                )
        else:
            n_units = tensors[self.output].shape[-1]
            chosen = target.sign[:, None] * ops.one_hot(target.unit, n_units, dtype=dtype)
            relevance = logits * ops.reshape(chosen, logits.shape)
        total = ops.sum(ops.reshape(relevance, (relevance.shape[0], -1)), axis=1)
        return Start(
            value=self.logits,
            relevance=relevance,
            stderr=ops.zeros_like(relevance),
            total=total,
            baseline=ops.zeros_like(total),
            target=target.classes,
            n_paths=ops.zeros((), "int32"),
            gap_call=None,
        )

    def _logits(self, tensors: dict[Value, Tensor], dtype: str) -> Tensor:
        """The logits; for a ReLU head `Phi(z) (u + b)`, the sum of eq. (1) over the inputs."""
        call = self.linear_call
        # a layer with the link as its activation does not give its logits
        if call is None or (call is not self._link_call and self.kind != "relu"):
            return ops.cast(tensors[self.logits], dtype)
        linear = linear_map(call.op)
        x = ops.cast(tensors[call.inputs[0]], dtype)
        kernel = ops.cast(linear.kernel, dtype)
        b = linear.bias_or_zero(dtype)
        u = linear(x, kernel)
        if self.kind != "relu":
            return u + b
        return shapley_activation(u, linear(ops.square(x), ops.square(kernel)), b)

    def _start_at_players(self, tensors: dict[Value, Tensor], target: "_Target", dtype: str) -> Start:
        """Shapley values of the target's probability."""
        self._check_distribution(tensors)
        players = self._players(tensors, dtype)
        x = ops.reshape(players.x, (players.x.shape[0], -1))
        logits_less_targets = _softmax_logits if self.kind == "softmax" else _sigmoid_logits
        a, b = logits_less_targets(x, players.kernel, players.bias, target)
        values, stderr, n_pairs = self._shapley_values(a, b)
        baseline, total = softmax.ends(a, b)
        return Start(
            value=players.value,
            relevance=ops.reshape(values, players.x.shape),
            stderr=ops.reshape(stderr, players.x.shape),
            total=total,
            baseline=baseline,
            target=target.classes,
            n_paths=ops.cast(2 * n_pairs, "int32"),
            gap_call=players.gap_call,
        )

    def _check_distribution(self, tensors: dict[Value, Tensor]) -> None:
        """Raises a `ValueError` unless the probabilities are one distribution over all outputs."""
        if self.kind != "softmax":
            return
        if self._link_call is not None:
            shape = tensors[self._link_call.outputs[0]].shape
            axis = getattr(self._link_call.op, "axis", -1)
            if any(size != 1 for i, size in enumerate(shape) if i not in (0, axis % len(shape))):
                raise ValueError(
                    f"The softmax of {self._link_call.description} acts on parts of its output of shape "
                    f"{tuple(shape)}, one by one: there is no single distribution over the model's outputs. Explain it "
                    "with head='linear'."
                )
        if tensors[self.output].shape[-1] == 1:
            instead = "linear" if self._link_call else "sigmoid"
            raise ValueError(f"head='softmax' of a single output is always 1. Explain it with head='{instead}'.")

    def _players(self, tensors: dict[Value, Tensor], dtype: str) -> "_Players":
        """The players of the game: the features, or the logits, each of which adds to one logit alone."""
        call = self.linear_call
        if self._prefers_features and call is not None and _feeds_all_logits(call.op, tensors[call.inputs[0]]):
            weights = linear_map(call.op).kernel
            kernel = ops.reshape(ops.cast(weights, dtype), weights.shape[-2:])
            bias = ops.zeros(kernel.shape[1:], dtype) if call.op.bias is None else ops.cast(call.op.bias, dtype)
            return _Players(call.inputs[0], ops.cast(tensors[call.inputs[0]], dtype), kernel, bias, call)
        n_outputs = tensors[self.output].shape[-1]
        return _Players(
            value=self.logits,
            x=self._logits(tensors, dtype),
            kernel=ops.eye(n_outputs, dtype=dtype),
            bias=ops.zeros((n_outputs,), dtype),
            gap_call=self._link_call or self.logits.producer,
        )

    def _shapley_values(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor | int]:
        """`(values, stderr, number of pairs of paths)` of the players of a softmax; `a` and `b` as in `softmax.py`."""
        n_players, n_classes = a.shape[1:]
        method = self._method
        if method == "exact" and n_players > MAX_PLAYERS:
            raise ValueError(
                f"head_method='exact' enumerates 2**players coalitions and takes up to {MAX_PLAYERS} players. "
                f"Received: a head with {n_players}. Use head_method='sampled' or 'quadrature'."
            )
        if method == "auto":
            few = n_players <= MAX_PLAYERS and 2**n_players * n_classes <= MAX_SAMPLES
            method = "exact" if few else "sampled"
        if method == "exact":
            values = softmax.enumerated(a, b)
            return values, ops.zeros_like(values), 0
        if method == "quadrature":
            values = softmax.by_quadrature(a, b, self._seed)
            return values, ops.full_like(values, float("nan")), 0
        may_stop_early = n_players * n_classes * self._n_paths > MAX_SAMPLES
        orders = random(np.random.default_rng(self._seed), n_players, self._n_paths // 2).astype("int32")
        tolerance = TOLERANCE if may_stop_early else 0.0
        return softmax.sampled(a, b, ops.convert_to_tensor(orders), tolerance=tolerance)


class _Target(NamedTuple):
    """The explained class of each image, and the output unit that decides on it; tensors of shape `(batch,)`.

    Attributes:
        classes: number of the class.
        unit: number of the output unit. A single unit is unit 0 of the classes 0 and 1.
        sign: 1, or -1 for class 0 of a single unit, whose large outputs mean class 1.
    """

    classes: Tensor
    unit: Tensor
    sign: Tensor


def _resolve(target: Tensor | None, output: Tensor, dtype: str) -> _Target:
    """The target of an output `(batch, units)`; None is the largest output, or class 1 of a single unit."""
    is_single_unit = output.shape[1] == 1
    if target is None:
        target = ops.ones(output.shape[:1], "int32") if is_single_unit else ops.argmax(output, axis=1)
    classes = ops.cast(target, "int32")
    if is_single_unit:
        return _Target(classes, ops.zeros_like(classes), ops.cast(2 * classes - 1, dtype))
    return _Target(classes, classes, ops.ones_like(classes, dtype))


class _Players(NamedTuple):
    """The players of the game on a probability, and the linear layer that makes logits of them.

    Attributes:
        value: their place in the graph.
        x: the tensor there, with a leading batch axis.
        kernel: shape `(players, logits)`.
        bias: shape `(logits,)`.
        gap_call: the call whose gap is what their Shapley values miss of the total.
    """

    value: Value
    x: Tensor
    kernel: Tensor
    bias: Tensor
    gap_call: Call | None


def _softmax_logits(x: Tensor, kernel: Tensor, bias: Tensor, target: _Target) -> tuple[Tensor, Tensor]:
    """What each player adds to each logit less the target's, and the logits without players, likewise."""
    target_kernel = ops.transpose(ops.take(kernel, target.unit, axis=1))
    return x[:, :, None] * (kernel - target_kernel[:, :, None]), bias - ops.take(bias, target.unit)[:, None]


def _sigmoid_logits(x: Tensor, kernel: Tensor, bias: Tensor, target: _Target) -> tuple[Tensor, Tensor]:
    """The same for a sigmoid, which is the softmax of two classes with the logits 0 and its own."""
    sign = target.sign[:, None]
    a = -sign * x * ops.transpose(ops.take(kernel, target.unit, axis=1))
    b = -sign * ops.take(bias, target.unit)[:, None]
    return ops.stack([ops.zeros_like(a), a], axis=2), ops.concatenate([ops.zeros_like(b), b], axis=1)


def _feeds_all_logits(layer: Operation, x: Tensor) -> bool:
    """Whether all logits of a layer have the same inputs `x`: a Dense on vectors, or a 1x1 convolution of 1x1."""
    if isinstance(layer, layers.Dense):
        return len(x.shape) == 2
    if isinstance(layer, (layers.Conv1D, layers.Conv2D, layers.Conv3D)):
        places = x.shape[2:] if layer.data_format == "channels_first" else x.shape[1:-1]
        return layer.groups == 1 and all(size == 1 for size in (*layer.kernel_size, *places))
    return False


def _kind(head: str | HeadFunction, link: str) -> str | HeadFunction:
    """What is explained of a model that ends in `link`."""
    if callable(head):
        return head
    one_of("head", head, ("auto", "softmax", "sigmoid", "linear"))
    if head == "auto":
        return link
    if head == "linear" or link in (head, "linear"):
        return head
    raise ValueError(
        f"head={head!r} explains a model that ends in logits or in {head}. Received: one that ends in {link}."
    )
