"""The head of a softmax or of sigmoids: Shapley values of the probability.

Each position of the output is a game of its own: a softmax over the channels of a map has one at every pixel. The
players are the inputs of the last linear layer ("features"), or the logits where that layer does not feed all logits of
a position with the same inputs.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from keras import layers, ops

from keras_shapley.backend import matmul
from keras_shapley.layers.linear_maps import linear_map
from keras_shapley.lrp.start import Start, as_weights, logits_tensor
from keras_shapley.models.graph import Call, Value
from keras_shapley.models.model_end import ModelEnd
from keras_shapley.shapley.exact import MAX_PLAYERS
from keras_shapley.shapley.orders import random
from keras_shapley.shapley.probability import DRAWS, ProbabilityGame, by_quadrature, enumerated, sampled
from keras_shapley.utils.targets import is_weights
from keras_shapley.utils.typing import Operation, Tensor

# Above this many players x classes x paths an image, sampling may stop early: once, in every image, the root sum of
# squares of the standard errors is below TOLERANCE times that of the values. By default larger games are not
# enumerated.
MAX_SAMPLES = 1e7
TOLERANCE = 0.05
# largest number of elements of a tensor of a block of games, where an output has several positions
_MAX_ELEMENTS = 8_000_000


class ShapleyOptions(NamedTuple):
    """How the Shapley values of a probability are computed.

    Attributes:
        players: `"features"` or `"logits"`.
        method: `"auto"`, `"exact"`, `"sampled"` or `"quadrature"`.
        n_paths: even number of antithetic paths.
        seed: seed of the paths, and of the draws of the quadrature.
        conserves: whether what the values of the quadrature leave of the total is distributed in proportion to them.
            Without it the remainder is a gap.
    """

    players: str
    method: str
    n_paths: int
    seed: int
    conserves: bool = False


class ProbabilityHead:
    """Starts the relevance of a weighted sum of probabilities.

    Args:
        end: the end of the model.
        output: the output that is explained.
        link: `"softmax"` or `"sigmoid"`.
        options: how the Shapley values are computed.
    """

    def __init__(self, end: ModelEnd, output: Value, link: str, options: ShapleyOptions) -> None:
        self.end = end
        self.output = output
        self.link = link
        self.options = options

    def start(
        self, tensors: dict[Value, Tensor], target: Tensor, dtype: str, baselines: dict[Value, Tensor] | None = None
    ) -> Start:
        """The `Start` at the players.

        Args:
            tensors: every tensor of the model.
            target: what is explained, indices `(batch,)` or weights `(batch, *output)`.
            dtype: dtype of the relevance.
            baselines: every tensor at the baseline, whose values absent players take; None if they are zero.
        """
        players = self._players(tensors, dtype, baselines)
        layout = players.layout
        if is_weights(target):
            games = self._games_of_weights(players, target)
            is_explained = None
        else:
            games = self._games_of_indices(players, target)
            # the other positions have no relevance, also where that of the target's is unknown
            is_explained = ops.equal(ops.arange(layout.positions)[None], layout.position(target)[:, None])
        values, stderr, total, baseline, missed, n_pairs = self._solve(games, layout.positions)
        batch = players.x.shape[0]

        def relevance(values: Tensor) -> Tensor:
            by_position = ops.reshape(values, (batch, -1, values.shape[-1]))
            if is_explained is not None:
                by_position = ops.where(is_explained[:, :, None], by_position, 0)
            return ops.reshape(layout.restored(by_position), players.shape)

        return Start(
            value=players.value,
            relevance=relevance(values),
            stderr=relevance(stderr),
            total=ops.sum(ops.reshape(total, (batch, -1)), axis=1),
            baseline=ops.sum(ops.reshape(baseline, (batch, -1)), axis=1),
            missed=ops.sum(ops.reshape(missed, (batch, -1)), axis=1),
            n_paths=2 * ops.max(n_pairs),
            gap_call=players.gap_call,
        )

    def _players(self, tensors: dict[Value, Tensor], dtype: str, baselines: dict[Value, Tensor] | None) -> "_Players":
        """The players: the features, or the logits, each of which adds to one logit alone."""
        layout = self._layout(tensors)
        call = self.end.linear_call
        if self.options.players == "features" and call is not None and _maps_rows(call.op, tensors[call.inputs[0]]):
            value = call.inputs[0]
            weights = linear_map(call.op).kernel
            kernel = ops.reshape(ops.cast(weights, dtype), weights.shape[-2:])
            n_players, units = kernel.shape
            if self.link == "sigmoid":
                layout = _Layout(layout.positions // units, units, 1)
            if layout.after == 1 and layout.classes == units:
                x = ops.reshape(ops.cast(tensors[value], dtype), (-1, layout.positions, n_players))
                bias = ops.zeros((units,), dtype) if call.op.bias is None else ops.cast(call.op.bias, dtype)
                absent = ops.broadcast_to(bias, (1, layout.positions, units))
                if baselines is not None:
                    x0 = ops.reshape(ops.cast(baselines[value], dtype), (-1, layout.positions, n_players))
                    x, absent = x - x0, matmul(x0, kernel) + bias
                return _Players(value, tensors[value].shape, x, kernel, absent, layout, call)
        logits = logits_tensor(self.end, tensors, dtype)
        x = layout.rows(logits)
        absent = ops.zeros_like(x[:1])
        if baselines is not None:
            absent = layout.rows(logits_tensor(self.end, baselines, dtype))
            x = x - absent
        return _Players(
            value=self.end.logits,
            shape=logits.shape,
            x=x,
            kernel=ops.eye(layout.classes, dtype=dtype),
            absent=absent,
            layout=layout,
            gap_call=self.end.link_call or self.end.logits.producer,
        )

    def _layout(self, tensors: dict[Value, Tensor]) -> "_Layout":
        """Where the classes of each softmax are; each sigmoid is a position of its own."""
        call = self.end.link_call
        shape = tensors[self.output if call is None else call.outputs[0]].shape
        if self.link == "sigmoid":
            return _Layout(math.prod(shape[1:]), 1, 1)
        axis = self.end.axis % len(shape)
        if shape[axis] == 1:
            instead = "sigmoid" if call is None else "linear"
            raise ValueError(f"head='softmax' of a single output is always 1. Explain it with head='{instead}'.")
        return _Layout(math.prod(shape[1:axis]), shape[axis], math.prod(shape[axis + 1 :]))

    def _games_of_weights(self, players: "_Players", target: Tensor) -> "_Games":
        """The games of all positions."""
        layout = players.layout
        n_outputs = layout.positions * layout.classes
        weights = layout.rows(as_weights(target, n_outputs, players.x.dtype))
        absent = ops.broadcast_to(players.absent, weights.shape)
        x, absent, weights = (ops.reshape(rows, (-1, rows.shape[-1])) for rows in (players.x, absent, weights))
        return _Games(x, players.kernel, absent, weights)

    def _games_of_indices(self, players: "_Players", target: Tensor) -> "_Games":
        """The game of each sample at the position of its target; of sigmoids it has the target's logit alone."""
        batch, _, n_players = players.x.shape
        layout = players.layout
        unit = layout.class_number(target)

        def at_target(rows: Tensor) -> Tensor:
            places = ops.broadcast_to(layout.position(target)[:, None, None], (batch, 1, rows.shape[-1]))
            return ops.take_along_axis(ops.broadcast_to(rows, (batch, *rows.shape[1:])), places, axis=1)[:, 0]

        x, absent = at_target(players.x), at_target(players.absent)
        if self.link == "sigmoid":
            x = x * ops.transpose(ops.take(players.kernel, unit, axis=1))
            ones = ops.ones((max(batch, n_players), 1), x.dtype)
            return _Games(x, ones[:n_players], ops.take_along_axis(absent, unit[:, None], axis=1), ones[:batch])
        return _Games(x, players.kernel, absent, unit)

    def _solve(self, games: "_Games", positions: int) -> tuple[Tensor, ...]:
        """`(values, stderr, total, baseline, missed, number of pairs of paths)`, each with the games as first axis."""
        n_players, n_classes = games.kernel.shape
        method = self._method(n_players, n_classes, positions)

        def solve(rows: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            x, bias, weights = rows
            a = x[:, :, None] * games.kernel
            if is_weights(weights):
                game = ProbabilityGame(a, bias, weights, self.link)
            else:
                game = ProbabilityGame.of_class(a, bias, weights)
            values, stderr, n_pairs = self._shapley_values(game, method, positions)
            baseline, total = game.ends()
            missed = total - ops.sum(values, axis=1)
            if method == "quadrature" and self.options.conserves:
                # players that change nothing get nothing, also where all values are zero
                sizes = ops.abs(values) + 1e-30 * ops.abs(x)
                values = values + sizes * (missed / (ops.sum(sizes, axis=1) + 1e-37))[:, None]
            return values, stderr, total, baseline, missed, ops.broadcast_to(ops.cast(n_pairs, "int32"), total.shape)

        rows = games.x, games.bias, games.weights
        if positions == 1:
            return solve(rows)
        return _in_blocks(solve, rows, _MAX_ELEMENTS // (max(n_players, 2 * DRAWS) * n_classes))

    def _method(self, n_players: int, n_classes: int, positions: int) -> str:
        """The method of these games. It does not depend on the target."""
        method = self.options.method
        if method == "exact" and n_players > MAX_PLAYERS:
            raise ValueError(
                f"head_method='exact' enumerates 2**players coalitions and takes up to {MAX_PLAYERS} players. "
                f"Received: a head with {n_players}. Use head_method='sampled' or 'quadrature'."
            )
        if method != "auto":
            return method
        # a target of sigmoids may need one of them or all
        n_classes = 1 if self.link == "sigmoid" else n_classes
        if n_players <= MAX_PLAYERS and 2**n_players * n_classes * positions <= MAX_SAMPLES:
            return "exact"
        return "quadrature"

    def _shapley_values(
        self, game: ProbabilityGame, method: str, positions: int
    ) -> tuple[Tensor, Tensor, Tensor | int]:
        """`(values, stderr, number of pairs of paths)`."""
        if method == "exact":
            values = enumerated(game)
            return values, ops.zeros_like(values), 0
        if method == "quadrature":
            values = by_quadrature(game, self.options.seed)
            return values, ops.full_like(values, float("nan")), 0
        _, n_players, n_classes = game.a.shape
        may_stop_early = n_players * n_classes * positions * self.options.n_paths > MAX_SAMPLES
        orders = random(np.random.default_rng(self.options.seed), n_players, self.options.n_paths // 2)
        tolerance = TOLERANCE if may_stop_early else 0.0
        return sampled(game, ops.convert_to_tensor(orders.astype("int32")), tolerance=tolerance)


class _Layout(NamedTuple):
    """Where an output, in the order of its elements, has its classes: the middle one of three axes.

    Attributes:
        before: size of the axis before the classes.
        classes: number of classes.
        after: size of the axis behind the classes.
    """

    before: int
    classes: int
    after: int

    @property
    def positions(self) -> int:
        return self.before * self.after

    def rows(self, x: Tensor) -> Tensor:
        """A tensor of the output's elements as `(batch, positions, classes)`."""
        x = ops.transpose(ops.reshape(x, (-1, *self)), (0, 1, 3, 2))
        return ops.reshape(x, (-1, self.positions, self.classes))

    def restored(self, rows: Tensor) -> Tensor:
        """`(batch, positions, players)` in the order of the elements."""
        return ops.transpose(ops.reshape(rows, (-1, self.before, self.after, rows.shape[-1])), (0, 1, 3, 2))

    def position(self, index: Tensor) -> Tensor:
        """The position of an output."""
        return index // (self.classes * self.after) * self.after + index % self.after

    def class_number(self, index: Tensor) -> Tensor:
        """The class of an output."""
        return index // self.after % self.classes


class _Players(NamedTuple):
    """The players of the games on a probability, and the linear layer that makes logits of them.

    Attributes:
        value: their place in the graph.
        shape: of the tensor there.
        x: that tensor, less that at the baseline, shape `(batch, positions, players)`.
        kernel: shape `(players, classes)`.
        absent: the logits without players, shape `(1 or batch, positions, classes)`.
        layout: of the output.
        gap_call: the call whose gap is what their Shapley values miss of the total.
    """

    value: Value
    shape: tuple[int, ...]
    x: Tensor
    kernel: Tensor
    absent: Tensor
    layout: _Layout
    gap_call: Call | None


class _Games(NamedTuple):
    """What players add to logits, and what is explained of their probabilities.

    Attributes:
        x: shape `(games, players)`.
        kernel: shape `(players, classes)`.
        bias: shape `(games, classes)`.
        weights: shape `(games, classes)`; or the number of one class of a softmax, ints of shape `(games,)`.
    """

    x: Tensor
    kernel: Tensor
    bias: Tensor
    weights: Tensor


def _maps_rows(layer: Operation, x: Tensor) -> bool:
    """Whether a layer maps each row `x[..., :]` to a row of logits: a Dense, or a 1x1 convolution."""
    if isinstance(layer, layers.Dense):
        return True
    if not isinstance(layer, (layers.Conv1D, layers.Conv2D, layers.Conv3D)):
        return False
    is_last = layer.data_format == "channels_last"
    has_one_place = all(size == 1 for size in (x.shape[1:-1] if is_last else x.shape[2:]))
    keeps_places = is_last and all(stride == 1 for stride in layer.strides)
    is_pointwise = layer.groups == 1 and all(size == 1 for size in layer.kernel_size)
    return is_pointwise and (has_one_place or keeps_places)


def _in_blocks(
    function: Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]], rows: tuple[Tensor, ...], length: int
) -> tuple[Tensor, ...]:
    """`function(rows)`, computed for blocks of at most `length` rows, or of one."""
    n = rows[0].shape[0]
    n_blocks = -(-n // max(length, 1))
    if n_blocks == 1:
        return function(rows)
    block = -(-n // n_blocks)

    def in_blocks(x: Tensor) -> Tensor:
        margins = [[0, n_blocks * block - n]] + [[0, 0]] * (len(x.shape) - 1)
        return ops.reshape(ops.pad(x, margins), (n_blocks, block, *x.shape[1:]))

    results = ops.map(function, tuple(map(in_blocks, rows)))
    return tuple(ops.reshape(part, (-1, *part.shape[2:]))[:n] for part in results)
