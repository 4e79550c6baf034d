"""Shapley values of a whole network by moments: mean and variance of every value, from its multilinear extension.

With `F(p)` the expected output when player k is present with probability `p_k`, independently of the others,
`phi_k = integral over t in [0, 1] of dF/dp_k at p = (t, ..., t)` (Owen 1972).
"""

import dataclasses
import math

import keras
import numpy as np
from keras import layers, ops, tree

from keras_shapley.backend import compiled, matmul, vjp
from keras_shapley.layers.linear_maps import LINEAR_TYPES, linear_map
from keras_shapley.models.evaluation import FewSizes
from keras_shapley.models.graph import Call, Value, ancestors
from keras_shapley.models.kept import kept
from keras_shapley.models.tracing import in_order, output_sizes, trace
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


class MomentNetwork:
    """A model as the moments pass through it; it holds nothing of the players.

    Args:
        model: Sequential or Functional.
        output: index of the model's output.

    Raises:
        ValueError: if the model cannot be traced, or if moments cannot pass through one of its layers.
    """

    def __init__(self, model: keras.Model, output: int) -> None:
        self.graph = trace(model)
        self.output = self.graph.outputs[output]
        self.dtypes = [tensor.dtype for tensor in model.inputs]
        needed = ancestors([self.output])
        self.calls = [call for call in self.graph.calls if call in needed]
        self.rules = {call: moment_rule(call) for call in self.calls}
        # behind a linear layer, addends may depend on each other
        self.channel_axes = {
            call: axis
            for call, axis in channel_axes(self.calls).items()
            if any(before.is_a(LINEAR_TYPES) for before in call.ancestors())
        }
        self.gradient = compiled(self._gradient, model.variables)
        self.padded_size = FewSizes()

    def _gradient(
        self,
        p: Tensor,
        numbers: list[Tensor] | None,
        differences: list[Tensor],
        samples: list[Tensor],
        alone: list[Tensor],
        baselines: list[Tensor],
        cotangent: Tensor,
    ) -> Tensor:
        """Gradient of the expected outputs, times the cotangent, by the players' probabilities.

        Args:
            p: the probabilities, `(batch, nodes, players)`.
            numbers: number of each element's player, flat, for each input; None if all elements, in order, are players.
            differences: input less baseline for each input, `(batch * nodes, *shape)`.
            samples: inputs in sampled coalitions, `(samples * batch * nodes, *shape)`; empty without samples.
            alone: inputs without players and with each group alone, `(batch * (1 + groups), *shape)`; empty if players
                are elements.
            baselines: values of absent elements, `shape`.
            cotangent: of the outputs, `(batch * nodes, *output)`.
        """

        def expected(p: Tensor) -> Tensor:
            state = self._start(p, numbers, differences, samples, alone, baselines)
            for call in self.calls:
                state.carry(call, self.rules[call], self.channel_axes.get(call))
            # a model may give numbers, without an axis of outputs
            return ops.reshape(state.moments[self.output].mean, cotangent.shape)

        _, pullback = vjp(expected, p)
        return pullback(cotangent)[0]

    def _start(
        self,
        p: Tensor,
        numbers: list[Tensor] | None,
        differences: list[Tensor],
        samples: list[Tensor],
        alone: list[Tensor],
        baselines: list[Tensor],
    ) -> ForwardPass:
        """The pass before its first call."""
        flat = ops.reshape(p, (-1, p.shape[2]))
        state = ForwardPass({}, presence_variance=None if numbers is None else p * (1 - p))
        first = 0
        for i, (value, difference) in enumerate(zip(self.graph.inputs, differences)):
            size = math.prod(difference.shape[1:])
            own = flat[:, first : first + size] if numbers is None else ops.take(flat, numbers[i], axis=1)
            first += size
            chance = ops.reshape(own, difference.shape)
            variance = chance * (1 - chance) * ops.square(difference)
            state.moments[value] = Moments(baselines[i] + chance * difference, variance)
            if samples[i].shape[0]:
                state.sampled[value] = samples[i]
            if alone[i].shape[0]:
                state.alone[value] = alone[i]
        return state


class MomentPropagation:
    """Estimates Shapley values as gradients of the expected output, by mean and variance of every value.

    Args:
        model: Sequential or Functional, whose inputs are floats.
        players: of an input.
        n: number of Gauss-Legendre nodes in t.
        n_samples: number of random coalitions at each node; 0 for none.
        seed: of the coalitions.
        output: index of the model's output.

    Raises:
        ValueError: if the model cannot be traced, or if moments cannot pass through one of its layers.
    """

    def __init__(self, model: keras.Model, players: Players, n: int, n_samples: int, seed: int, output: int) -> None:
        self.model = model
        self.output = output
        self.network = kept(model, ("moments", output), lambda: MomentNetwork(model, output))
        self.padded_size = self.network.padded_size
        nodes, node_weights = np.polynomial.legendre.leggauss(n)
        self.t = (nodes + 1) / 2
        self.node_weights = node_weights / 2
        self.players = players
        # the model's inputs, by their places in the user's structure
        self.order = in_order(model, players.skeleton) if len(players.parts) > 1 else [0]
        self.parts = [players.parts[place] for place in self.order]
        draws = np.random.default_rng(seed).uniform(size=(n_samples, 1, n, players.n))
        self.present = draws < self.t[:, None]
        # nobody, then each group alone
        self.alone = np.eye(players.n + 1, dtype=bool)[:, 1:] if players.are_groups else np.empty((0, players.n), bool)

    @property
    def images_at_once(self) -> int:
        """Number of images in a batch; 0 if a single one takes more than the limit.

        It counts the values that have a gradient, and the largest layer's values for the samples and the groups. Groups
        pass only as far as the first activation; counting them behind it makes batches smaller than necessary.
        """
        network = self.network
        shapes = [part.shape for part in self.parts]
        key = ("output sizes", self.output, tuple(shapes))
        sizes = kept(self.model, key, lambda: output_sizes(network.graph, shapes, network.dtypes))
        input_size = sum(part.size for part in self.parts)
        n = len(self.t)
        values = sum(sizes[call] * network.rules[call].n_values(call) for call in network.calls)
        largest = max([input_size, *(sizes[call] for call in network.calls)])
        return _MAX_VALUES // (n * (input_size + values) + largest * max(len(self.present) * n, len(self.alone)))

    @property
    def n_passes(self) -> int:
        """How many forward passes an image takes as long as: mean and variance forward and back, and the samples."""
        return len(self.t) * (6 + len(self.present))

    def __call__(self, x: list[np.ndarray], baseline: list[np.ndarray], weights: np.ndarray) -> tuple[np.ndarray, None]:
        """The values of a batch, `(batch, players)`, and None for their standard errors.

        Args:
            x: inputs, an array `(batch, *shape)` for each of the user's.
            baseline: values of absent elements, arrays in the shapes of one input.
            weights: of the outputs of each image, `(batch, *output)`.
        """
        # the rows of a batch are every image at every node; each sample is another such batch
        rows = (len(weights), len(self.t))
        dtype = x[0].dtype
        p = np.broadcast_to(self.t[:, None], (*rows, self.players.n)).astype(dtype)
        differences, samples, alone, baselines = [], [], [], []
        for place, part in zip(self.order, self.parts):
            image, absent, shape = x[place], baseline[place], part.shape
            difference = np.broadcast_to((image - absent)[:, None], (*rows, *shape))
            differences.append(difference.reshape(-1, *shape))
            samples.append((absent + self.present[..., part] * difference).reshape(-1, *shape).astype(dtype))
            alone.append(np.where(self.alone[:, part], image[:, None], absent).reshape(-1, *shape))
            baselines.append(np.array(absent))
        are_in_order = not self.players.are_groups and self.order == sorted(self.order)
        numbers = None if are_in_order else [part.ravel().astype("int32") for part in self.parts]
        output_shape = weights.shape[1:]
        node_weights = self.node_weights.reshape(-1, *(1 for _ in output_shape))
        cotangent = (weights[:, None] * node_weights).reshape(-1, *output_shape).astype(dtype)
        arrays = (p, numbers, differences, samples, alone, baselines, cotangent)
        tensors = tree.map_structure(lambda a: None if a is None else ops.convert_to_tensor(a), arrays)
        gradient = self.network.gradient(*tensors)
        return ops.convert_to_numpy(gradient).astype("float64").sum(axis=1), None


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
