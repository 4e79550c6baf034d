"""The head of a model: which function of which players is explained, and the relevance that they start with."""

import dataclasses

import keras
import numpy as np
from keras import layers, ops

from keras_shapley.layers.activations import shapley_activation
from keras_shapley.layers.linear_maps import LINEAR_TYPES, linear_map
from keras_shapley.layers.sa import ShapleyActivation
from keras_shapley.layers.shaplu import ShapleyLinearUnit
from keras_shapley.models.graph import ancestors
from keras_shapley.models.layer_types import activation_name
from keras_shapley.shapley import softmax
from keras_shapley.shapley.exact import MAX_PLAYERS
from keras_shapley.shapley.orders import random
from keras_shapley.utils.validation import one_of

# Above this many players x classes x paths an image, sampling may stop early: once the root sum of squares of the
# standard errors is below TOLERANCE of that of the values, in every image. Coalitions are not enumerated beyond either.
MAX_SAMPLES = 1e7
TOLERANCE = 0.05
_SEPARATE = (layers.Activation, layers.Softmax, layers.ReLU)
_RESHAPES = (layers.Flatten, layers.Reshape, layers.Dropout, layers.Identity)
_FUNCTIONS = {
    keras.activations.softmax: "softmax",
    keras.activations.sigmoid: "sigmoid",
    keras.activations.relu: "relu",
    keras.activations.linear: "linear",
}


@dataclasses.dataclass
class Start:
    """What a head hands to the walk, tensors with a leading batch axis.

    Attributes:
        players: the `Value` that gets `relevance`.
        relevance: of the players, in their shape.
        stderr: standard error of `relevance`, zeros where it is exact, NaN where it is not known.
        total: what is explained; the gaps of conservation are against it.
        baseline: the target's probability without any player; zeros for a linear head.
        target: class of each image.
        n_paths: random paths walked, 0 where none were needed.
        call: the `Call` that takes the difference between `total` and the sum of `relevance`.
    """

    players: object
    relevance: object
    stderr: object
    total: object
    baseline: object
    target: object
    n_paths: object
    call: object

    def minus(self, other):
        """The start of the difference; its standard error is a bound, as both come from the same paths."""
        return dataclasses.replace(
            self,
            relevance=self.relevance - other.relevance,
            stderr=self.stderr + other.stderr,
            total=self.total - other.total,
            baseline=self.baseline - other.baseline,
            n_paths=ops.maximum(self.n_paths, other.n_paths),
        )


class Head:
    """Finds the logits of a model, and starts the relevance there or at the features below.

    Args:
        output: `Value` of the output that is explained.
        head: `"auto"`, `"softmax"`, `"sigmoid"`, `"linear"`, or a callable `head(logits, target)` that returns the
            relevance of the logits.
        head_players: `"features"` or `"logits"`.
        method: of the Shapley values of a probability, `"auto"`, `"exact"`, `"sampled"` or `"quadrature"`.
        n_paths: even number of antithetic paths.
        seed: of the paths.

    Attributes:
        kind: what is explained: `"softmax"`, `"sigmoid"`, `"relu"`, `"linear"`, or the callable.
        logits: `Value` of the logits: what the last linear layer gives before its activation.
        linear_call: that layer's call, or None.
    """

    def __init__(self, output, head, head_players, method, n_paths, seed):
        self.by_features, self.method = head_players == "features", method
        self.n_paths, self.seed = n_paths, seed
        self.output = output
        self.logits, self.link_call, link = _find_logits(self.output)
        self.linear_call = _linear_call(self.logits, self.link_call)
        if link == "relu" and self.linear_call is None:
            link = "other"
        if link == "other":
            # an activation without a game of its own: what it gives is explained as a linear output
            self.logits, self.link_call, self.linear_call, link = self.output, None, None, "linear"
        self.kind, self._link = _kind(head, link), link

    @property
    def walked(self):
        """The calls whose rules may be needed, as a set: those the logits depend on, without the head's own layer."""
        return ancestors(self.linear_call.data_inputs if self.linear_call else [self.logits], through_data=True)

    def n_targets(self, n_outputs):
        """Number of classes that a target can name: of a single unit, both."""
        return max(n_outputs, 2)

    def probability(self, output):
        """The model's output as probabilities: of one that ends in logits, their softmax, or sigmoid for one unit."""
        if self._link in ("softmax", "sigmoid"):
            return output
        return ops.sigmoid(output) if output.shape[1] == 1 else ops.softmax(output)

    def start(self, values, target, dtype):
        """The `Start` of a walk.

        Args:
            values: every tensor of the model, by `Value`.
            target: int tensor of shape `(batch,)`, or None for the predicted class; of a single unit, class 1.
            dtype: of the relevance.
        """
        output = ops.reshape(values[self.output], (values[self.output].shape[0], -1))
        if target is None:
            target = ops.ones(output.shape[:1], "int32") if output.shape[1] == 1 else ops.argmax(output, axis=1)
        target = ops.cast(target, "int32")
        if self.kind in ("softmax", "sigmoid"):
            return self._game(values, target, dtype)

        logits = self._logits(values, dtype)
        if callable(self.kind):
            relevance = ops.cast(self.kind(logits, target), dtype)
            if tuple(relevance.shape) != tuple(logits.shape):
                raise ValueError(
                    f"`head` must return relevance in the shape of the logits, {tuple(logits.shape)}. "
                    f"Received: {tuple(relevance.shape)}"
                )
        else:
            # a single unit speaks for class 1, and against class 0
            one_unit = output.shape[1] == 1
            chosen = 2 * target[:, None] - 1 if one_unit else ops.one_hot(target, output.shape[1])
            relevance = logits * ops.reshape(ops.cast(chosen, dtype), logits.shape)
        total = ops.sum(ops.reshape(relevance, output.shape), axis=1)
        zeros = ops.zeros_like(total)
        return Start(
            self.logits, relevance, ops.zeros_like(relevance), total, zeros, target, ops.zeros((), "int32"), None
        )

    def _logits(self, values, dtype):
        """The logits; for a ReLU head `Phi(z) (u + b)`, what eq. (1) sums to."""
        call = self.linear_call
        if call is None or (self.link_call is not call and self.kind != "relu"):
            return ops.cast(values[self.logits], dtype)
        linear, x = linear_map(call.op), ops.cast(values[call.inputs[0]], dtype)
        kernel = ops.cast(linear.kernel, dtype)
        b = 0.0 if linear.bias is None else ops.cast(linear.bias, dtype)
        u = linear(x, kernel)
        if self.kind != "relu":
            return u + b
        return shapley_activation(u, linear(ops.square(x), ops.square(kernel)), b)

    def _check_game(self, values):
        """Raises a `ValueError` where the probabilities are not one distribution over all outputs."""
        shape = values[self.link_call.outputs[0] if self.link_call else self.output].shape
        axis = getattr(self.link_call.op, "axis", -1) if self.link_call else -1
        others = (size for i, size in enumerate(shape) if i not in (0, axis % len(shape)))
        if self.kind == "softmax" and self.link_call and any(size != 1 for size in others):
            raise ValueError(
                f"The softmax of {self.link_call.description} acts on parts of its output of shape {tuple(shape)}, one "
                "by one: there is no single distribution over the model's outputs. Explain it with head='linear'."
            )
        if self.kind == "softmax" and values[self.output].shape[-1] == 1:
            instead = "linear" if self.link_call else "sigmoid"
            raise ValueError(f"head='softmax' of a single output is always 1. Explain it with head='{instead}'.")

    def _game(self, values, target, dtype):
        """Shapley values of the target's probability."""
        self._check_game(values)
        by_features = self.by_features and self.linear_call is not None
        if by_features:
            x = ops.cast(values[self.linear_call.inputs[0]], dtype)
            by_features = _feeds_every_logit(self.linear_call.op, x)
        if by_features:
            players, gap_call = self.linear_call.inputs[0], self.linear_call
            linear = linear_map(self.linear_call.op)
            kernel = ops.reshape(ops.cast(linear.kernel, dtype), linear.kernel.shape[-2:])
            n_outputs = kernel.shape[1]
            bias = ops.zeros((n_outputs,), dtype) if linear.bias is None else ops.cast(self.linear_call.op.bias, dtype)
        else:
            players, gap_call = self.logits, self.link_call or self.logits.producer
            x = self._logits(values, dtype)
            n_outputs = values[self.output].shape[-1]
            kernel, bias = ops.eye(n_outputs, dtype=dtype), ops.zeros((n_outputs,), dtype)

        flat = ops.reshape(x, (x.shape[0], -1))
        a, b = (_softmax_logits if self.kind == "softmax" else _sigmoid_logits)(flat, kernel, bias, target)
        phi, stderr, n_pairs = self._values(a, b)
        phi, stderr = ops.reshape(phi, x.shape), ops.reshape(stderr, x.shape)
        baseline, total = softmax.ends(a, b)
        return Start(players, phi, stderr, total, baseline, target, ops.cast(2 * n_pairs, "int32"), gap_call)

    def _values(self, a, b):
        """`(values, stderr, pairs of paths)` of a softmax's players."""
        n_players, n_classes = a.shape[1:]
        method = self.method
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
            values = softmax.by_quadrature(a, b, self.seed)
            return values, ops.full_like(values, float("nan")), 0
        large = n_players * n_classes * self.n_paths > MAX_SAMPLES
        orders = random(np.random.default_rng(self.seed), n_players, self.n_paths // 2).astype("int32")
        return softmax.sampled(a, b, ops.convert_to_tensor(orders), tolerance=TOLERANCE if large else 0.0)


def _softmax_logits(x, kernel, bias, target):
    """What each player adds to each logit less the target's, and the logits of no player, likewise."""
    a = x[:, :, None] * (kernel - ops.transpose(ops.take(kernel, target, axis=1))[:, :, None])
    return a, bias - ops.take(bias, target)[:, None]


def _sigmoid_logits(x, kernel, bias, target):
    """A sigmoid is the softmax of two classes, 0 and its logit. Of one unit, target 0 is the other class."""
    unit, sign = target, ops.ones_like(x[:, :1])
    if kernel.shape[1] == 1:
        unit, sign = ops.zeros_like(target), ops.cast(2 * target - 1, x.dtype)[:, None]
    a = -sign * x * ops.transpose(ops.take(kernel, unit, axis=1))
    b = -sign * ops.take(bias, unit)[:, None]
    return ops.stack([ops.zeros_like(a), a], axis=2), ops.concatenate([ops.zeros_like(b), b], axis=1)


def _find_logits(output):
    """`(logits, call of the function that follows, its name)`; the call is None where none follows."""
    value = _below_reshapes(output)
    call = value.producer
    if call is not None and call.is_a(_SEPARATE):
        return _below_reshapes(call.inputs[0]), call, _function(call.op)
    if call is not None and call.is_a(LINEAR_TYPES):
        function = _function(call.op)
        return value, None if function == "linear" else call, function
    return output, None, "linear"


def _linear_call(logits, link_call):
    """The linear layer that gives the logits, if nothing but the link itself is between."""
    call = logits.producer
    if call is None or not call.is_a(LINEAR_TYPES):
        return None
    return call if call is link_call or _function(call.op) == "linear" else None


def _below_reshapes(value):
    """The value before everything that changes no number: reshapes, dropout, and casts by a linear Activation."""
    while value.producer is not None and (value.producer.is_a(_RESHAPES) or _is_linear_activation(value.producer)):
        value = value.producer.inputs[0]
    return value


def _is_linear_activation(call):
    return call.is_a((layers.Activation,)) and call.op.activation is keras.activations.linear


def _function(op):
    """Name of the function with which a layer ends: softmax, sigmoid, relu, linear or other."""
    if isinstance(op, ShapleyLinearUnit):
        return "relu"
    if isinstance(op, ShapleyActivation):
        return "other"
    if isinstance(op, layers.Softmax):
        return "softmax" if op.axis in (-1, 1) else "other"
    if isinstance(op, layers.ReLU):
        return "relu" if activation_name(op) == "relu" else "other"
    return _FUNCTIONS.get(op.activation, "other")


def _kind(head, link):
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


def _feeds_every_logit(layer, x):
    """Whether the inputs `x` of a layer are one vector that every logit sees: Dense, or a 1x1 convolution of 1x1."""
    if isinstance(layer, layers.Dense):
        return len(x.shape) == 2
    if isinstance(layer, (layers.Conv1D, layers.Conv2D, layers.Conv3D)):
        places = x.shape[2:] if layer.data_format == "channels_first" else x.shape[1:-1]
        return layer.groups == 1 and all(size == 1 for size in (*layer.kernel_size, *places))
    return False
