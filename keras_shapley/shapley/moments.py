"""Shapley values of a whole network by moments: mean and variance of every value, from its multilinear extension.

With `F(p)` the expected output when player k is present with probability `p_k`, independently of the others,
`phi_k = integral over t in [0, 1] of dF/dp_k at p = (t, ..., t)` (Owen 1972).
"""

import dataclasses
import math

import keras
import numpy as np
from keras import layers, ops

from keras_shapley.backend import compiled, matmul, vjp
from keras_shapley.layers.linear_maps import LINEAR_TYPES, linear_map
from keras_shapley.models.graph import Call, Value, ancestors
from keras_shapley.models.tracing import output_sizes, trace
from keras_shapley.shapley.moment_rules import MomentRule, moment_rule
from keras_shapley.shapley.normal_moments import Moments
from keras_shapley.shapley.players import Players
from keras_shapley.utils.typing import Tensor

# Largest number of a network's values in a batch, unless a single image has more. For each value a few numbers are
# held: its mean, its variance, and what their gradients need.
_MAX_VALUES = 2**22


@dataclasses.dataclass
class ForwardPass:
    """One pass through the network: what is known of each value of its graph.

    Attributes:
        moments: mean and variance, `(batch * nodes, ...)`.
        sampled: the value in each sampled coalition, `(samples * batch * nodes, ...)`; empty without samples.
        alone: the value without players and with each group alone, `(batch * (1 + groups), ...)`. Only values that are
            affine in the input are held; there are none if players are elements.
        presence_variance: `p (1 - p)`, the variance of each group's presence, `(batch, nodes, groups)`; None if players
            are elements.
    """

    moments: dict[Value, Moments]
    sampled: dict[Value, Tensor] = dataclasses.field(default_factory=dict)
    alone: dict[Value, Tensor] = dataclasses.field(default_factory=dict)
    presence_variance: Tensor = None

    def carry(self, call: Call, rule: MomentRule, channel_axis: int | None) -> None:
        """Adds the outputs of a call.

        Args:
            call: of the graph; its inputs are known.
            rule: of the call.
            channel_axis: axis of the output's channels, along which sampled variances correct those of the sums; None
                if addends are independent.
        """
        inputs = [self.moments[value] for value in call.inputs]
        sampled_sums = self._carry_samples(call, rule, inputs[0].mean.dtype)
        variances = self._group_variances(call, rule)
        if variances is None:
            variances = rule.variances(call, [variance for _, variance in inputs])
            if sampled_sums and rule.adds and channel_axis is not None:
                variances = [corrected(v, sample, channel_axis) for v, sample in zip(variances, sampled_sums)]
        means = rule.means(call, [mean for mean, _ in inputs])
        sums = [Moments(*pair) for pair in zip(means, variances)]
        self.moments.update(zip(call.outputs, rule.moments(call, sums, inputs)))

    def _carry_samples(self, call: Call, rule: MomentRule, dtype: str) -> list[Tensor]:
        """The sums of the call in the sampled coalitions; empty without samples."""
        if not self.sampled:
            return []
        tensors = [ops.cast(self.sampled[value], dtype) for value in call.inputs]
        sums = rule.sums(call, tensors)
        self.sampled.update(zip(call.outputs, rule.outputs(call, sums, tensors)))
        return sums

    def _group_variances(self, call: Call, rule: MomentRule) -> list[Tensor] | None:
        """Exact variances of the sums over groups; None if players are elements, or sums not affine in the input."""
        if not self.alone or not rule.affine or any(value not in self.alone for value in call.inputs):
            return None
        sums = rule.sums(call, [self.alone[value] for value in call.inputs])
        if not rule.has_activation(call):
            self.alone.update(zip(call.outputs, sums))
        return [self._group_variance(part) for part in sums]

    def _group_variance(self, alone: Tensor) -> Tensor:
        """Sum over groups of the variance of presence times the square of what the group adds."""
        presence = self.presence_variance
        values = ops.reshape(ops.cast(alone, presence.dtype), (-1, 1 + presence.shape[2], math.prod(alone.shape[1:])))
        variance = matmul(presence, ops.square(values[:, 1:] - values[:, :1]))
        return ops.reshape(variance, (-1, *alone.shape[1:]))


class MomentPropagation:
    """Estimates Shapley values as gradients of the expected output, by mean and variance of every value.

    Args:
        model: Sequential or Functional, with one input.
        players: of the input.
        n: number of Gauss-Legendre nodes in t.
        n_samples: number of random coalitions at each node; 0 for none.
        seed: of the coalitions.
        output: index of the model's output.

    Raises:
        ValueError: if the model cannot be traced, or if moments cannot pass through one of its layers.
    """

    def __init__(self, model: keras.Model, players: Players, n: int, n_samples: int, seed: int, output: int) -> None:
        self.graph = trace(model)
        self.output = self.graph.outputs[output]
        self.dtype = model.inputs[0].dtype
        needed = ancestors([self.output])
        self.calls = [call for call in self.graph.calls if call in needed]
        self.rules = {call: moment_rule(call) for call in self.calls}
        # behind a linear layer, addends may depend on each other
        self.channel_axes = {
            call: axis
            for call, axis in channel_axes(self.calls).items()
            if any(before.is_a(LINEAR_TYPES) for before in call.ancestors())
        }
        nodes, node_weights = np.polynomial.legendre.leggauss(n)
        self.t = (nodes + 1) / 2
        self.node_weights = node_weights / 2
        self.players = players
        draws = np.random.default_rng(seed).uniform(size=(n_samples, 1, n, *players.shape))
        self.present = players.spread(draws < self._at_nodes(players.shape))
        # nobody, then each group alone
        self.alone = np.empty((0, *players.shape), bool)
        if players.are_groups:
            self.alone = players.spread(np.eye(players.n + 1, dtype=bool)[:, 1:])
        self.gradient = compiled(self._gradient, model.variables)

    @property
    def images_at_once(self) -> int:
        """Number of images in a batch; 0 if a single one takes more than the limit.

        It counts the values that have a gradient, and the largest layer's values for the samples and the groups. Groups
        pass only as far as the first activation; counting them behind it makes batches smaller than necessary.
        """
        sizes = output_sizes(self.graph, self.players.numbers.shape, self.dtype)
        input_size = self.players.numbers.size
        n = len(self.t)
        differentiated = n * (input_size + sum(sizes[call] * self.rules[call].n_values(call) for call in self.calls))
        largest = max([input_size, *(sizes[call] for call in self.calls)])
        return _MAX_VALUES // (differentiated + largest * max(len(self.present) * n, len(self.alone)))

    def __call__(self, x: np.ndarray, baseline: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, None]:
        """The values of a batch, `(batch, *players.shape)`, and None for their standard errors.

        Args:
            x: inputs, `(batch, *shape)`.
            baseline: values of absent elements, in the shape of one input.
            weights: of the outputs of each image, `(batch, *output)`.
        """
        # the rows of a batch are every image at every node; each sample is another such batch
        shape = x.shape[1:]
        rows = (len(x), len(self.t))
        difference = np.broadcast_to((x - baseline)[:, None], (*rows, *shape))
        p = np.broadcast_to(self._at_nodes(self.players.shape), (*rows, *self.players.shape))
        samples = baseline + self.present * difference
        alone = np.where(self.alone, x[:, None], baseline)
        output_shape = weights.shape[1:]
        node_weights = self.node_weights.reshape(-1, *(1 for _ in output_shape))
        arrays = (
            p.reshape(-1, *self.players.shape),
            *(array.reshape(-1, *shape) for array in (difference, samples, alone)),
            baseline,
            (weights[:, None] * node_weights).reshape(-1, *output_shape),
        )
        gradient = self.gradient(*(ops.convert_to_tensor(array, x.dtype) for array in arrays))
        return ops.convert_to_numpy(gradient).astype("float64").reshape(p.shape).sum(axis=1), None

    def _at_nodes(self, shape: tuple[int, ...]) -> np.ndarray:
        """The time of each node, `(nodes, 1, ...)`, with an axis of size 1 for each axis of the shape."""
        return self.t.reshape(-1, *(1 for _ in shape))

    def _gradient(
        self, p: Tensor, difference: Tensor, samples: Tensor, alone: Tensor, baseline: Tensor, cotangent: Tensor
    ) -> Tensor:
        """Gradient of the expected outputs, times the cotangent, by the players' probabilities `p`."""

        def expected(p: Tensor) -> Tensor:
            state = self._start(p, difference, samples, alone, baseline)
            for call in self.calls:
                state.carry(call, self.rules[call], self.channel_axes.get(call))
            # a model may give numbers, without an axis of outputs
            return ops.reshape(state.moments[self.output].mean, cotangent.shape)

        _, pullback = vjp(expected, p)
        return pullback(cotangent)[0]

    def _start(self, p: Tensor, difference: Tensor, samples: Tensor, alone: Tensor, baseline: Tensor) -> ForwardPass:
        """The pass before its first call."""
        (image,) = self.graph.inputs
        chance = p
        presence_variance = None
        if self.players.are_groups:
            chance = ops.reshape(ops.take(p, self.players.numbers.ravel(), axis=1), difference.shape)
            presence_variance = ops.reshape(p * (1 - p), (-1, len(self.t), self.players.n))
        return ForwardPass(
            {image: Moments(baseline + chance * difference, chance * (1 - chance) * ops.square(difference))},
            {image: samples} if samples.shape[0] else {},
            {image: alone} if alone.shape[0] else {},
            presence_variance,
        )


def corrected(variance: Tensor, samples: Tensor, channel_axis: int) -> Tensor:
    """Variance of sums of independent addends, times a factor for each channel by which samples show dependence.

    Args:
        variance: `(batch, ...)`.
        samples: the sums in sampled coalitions, `(samples * batch, ...)`.
        channel_axis: of both.
    """
    samples = ops.reshape(ops.cast(samples, variance.dtype), (-1, *variance.shape))
    # ops.var takes several times as long on PyTorch
    sampled = ops.sum(ops.square(samples - ops.mean(samples, axis=0)), axis=0) / (samples.shape[0] - 1)
    others = [axis for axis in range(1, len(variance.shape)) if axis != channel_axis % len(variance.shape)]
    sampled = ops.sum(sampled, axis=others, keepdims=True)
    independent = ops.sum(variance, axis=others, keepdims=True)
    factor = ops.where(independent > 0, sampled / ops.where(independent > 0, independent, 1), 1)
    return variance * ops.stop_gradient(factor)


def channel_axes(calls: list[Call]) -> dict[Call, int]:
    """Axis of the channels in the output of each call of a graph: its layer's own, or that of its first input."""
    default = 1 if keras.config.image_data_format() == "channels_first" else -1
    axes: dict[Call, int] = {}
    for call in calls:
        before = [axes[value.producer] for value in call.inputs if value.producer in axes]
        axes[call] = _own_channel_axis(call) or (before or [default])[0]
    return axes


def _own_channel_axis(call: Call) -> int | None:
    """Axis of a layer's channels, None if the layer does not say. The last axis is -1, whatever the number of axes."""
    if isinstance(call.op, layers.BatchNormalization):
        is_last = call.op.axis == call.op.input_spec.ndim - 1
        return -1 if is_last else call.op.axis
    data_format = getattr(call.op, "data_format", None)
    if data_format in ("channels_first", "channels_last"):
        return 1 if data_format == "channels_first" else -1
    return linear_map(call.op).channel_axis if call.is_a(LINEAR_TYPES) else None
