"""Rules for calls without weights: sums, pooling, elementwise operations, and those that move elements.

What a rule is, `keras_shapley.rules` says.
"""

import math

import keras
from keras import ops

from keras_shapley._backend import signed, vjp
from keras_shapley._graph import Value


def stabilize(x, epsilon):
    """`x + epsilon sign(x)` with sign(0) = +1, the denominator of eq. (2) as the paper keeps it from vanishing."""
    return x + signed(epsilon, x)


def in_proportion(fn, inputs, relevance, epsilon):
    """Relevance of the inputs of a linear `fn`, or one linear in each: `x df/dx` of what it gives over what it is."""
    y, transpose = vjp(fn, *inputs)
    return [x * part for x, part in zip(inputs, transpose(relevance / stabilize(y, epsilon)))]


class Proportional:
    """Eq. (2) where no weights or bias are: every addend of an output gets relevance in proportion to itself.

    For pooling by average, and for Add. Where all addends of an output are zero its relevance is lost.

    Args:
        epsilon: stabiliser of the denominator, in units of the output.
    """

    def __init__(self, epsilon=1e-9):
        self.epsilon = epsilon

    def __call__(self, call, inputs, relevance):
        return in_proportion(call.at_full_precision, inputs, relevance, self.epsilon)


class Sum(Proportional):
    """Addition: in proportion, as `Proportional`. A constant addend is no player: the others get everything."""

    def __call__(self, call, inputs, relevance):
        if len(inputs) == 1:
            return [_gathered(relevance, inputs[0])]
        constant = call.at_full_precision(*map(ops.zeros_like, inputs))
        return in_proportion(lambda *x: call.at_full_precision(*x) - constant, inputs, relevance, self.epsilon)


class AbsoluteSum:
    """Addition, in proportion to absolute values: `r_k = |x_k| / sum_i |x_i| r`, so that no addend amplifies.

    The ratio-based splitting of Otsuki et al. (2024) for residual networks, where addends of opposite signs abound.
    Where all are zero they share equally. A constant addend is no player.
    """

    def __call__(self, call, inputs, relevance):
        zeros = [ops.zeros_like(x) for x in inputs]
        constant = call.at_full_precision(*zeros)
        alone = [call.at_full_precision(*zeros[:i], x, *zeros[i + 1 :]) for i, x in enumerate(inputs)]
        addends = [ops.abs(y - constant) for y in alone]
        total = sum(addends)
        shares = [ops.where(total > 0, addend / ops.where(total > 0, total, 1), 1 / len(inputs)) for addend in addends]
        return [_gathered(share * relevance, x) for share, x in zip(shares, inputs)]


class Resize(Proportional):
    """UpSampling: copies give their relevance back to the original, interpolated values in proportion to their parts.

    Args:
        epsilon: stabiliser of the denominator.
    """

    def __call__(self, call, inputs, relevance):
        if getattr(call.op, "interpolation", "nearest") == "nearest":
            return Move()(call, inputs, relevance)
        return super().__call__(call, inputs, relevance)


class CentredScale:
    """LayerNormalization and GroupNormalization with their standard deviation held constant, after Ali et al. (2022).

    What is left is linear, `y = gamma (x - mean(x))/std + beta`: `beta` is dealt as by n = 1, the rest in proportion.
    Where nothing is centred (RMSNormalization, UnitNormalization, `rms_scaling`) that is n = 1, and relevance passes.

    Args:
        epsilon: stabiliser of the denominator.
    """

    def __init__(self, epsilon=1e-9):
        self.epsilon = epsilon

    def __call__(self, call, inputs, relevance):
        (x,), layer = inputs, call.op
        if getattr(layer, "rms_scaling", isinstance(layer, UNCENTRED)):
            return [relevance]
        shape, axes, features = _normalized(layer, x)
        scale = ops.rsqrt(ops.var(ops.reshape(x, shape), axis=axes, keepdims=True) + layer.epsilon)
        gamma = 1.0
        if layer.gamma is not None:
            sizes = [size if axis in features else 1 for axis, size in enumerate(x.shape)]
            gamma = ops.reshape(ops.cast(layer.gamma, x.dtype), sizes)

        def centred(x):
            parts = ops.reshape(x, shape)
            return gamma * ops.reshape(scale * (parts - ops.mean(parts, axis=axes, keepdims=True)), x.shape)

        return in_proportion(centred, [x], relevance, self.epsilon)


def _normalized(layer, x):
    """How a layer normalises: the shape in which it looks at `x`, the axes of a mean there, and those of `gamma`."""
    rank = len(x.shape)
    if isinstance(layer, keras.layers.GroupNormalization):
        axis, channels = layer.axis % rank, x.shape[layer.axis]
        shape = (*x.shape[:axis], layer.groups, channels // layer.groups, *x.shape[axis + 1 :])
        return shape, [i for i in range(1, rank + 1) if i != axis], [axis]
    axes = [axis % rank for axis in (layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis])]
    return x.shape, axes, axes


class EqualSplit:
    """Product of `n` tensors: `1/n` of the relevance each, the Shapley values where an absent factor is 0.

    For gates, as in squeeze-and-excite blocks; also the uniform rule of Achtibat et al. (2024) for products. A constant
    factor is no player.
    """

    def __call__(self, call, inputs, relevance):
        return [_gathered(relevance, x) / len(inputs) for x in inputs]


def _gathered(relevance, x):
    """Relevance of what `x` was broadcast to, summed back to the shape of `x`."""
    _, transpose = vjp(lambda x: ops.broadcast_to(x, relevance.shape), x)
    return transpose(relevance)[0]


class Pass:
    """Elementwise operations have one input an output (n = 1 in eq. (2)): the relevance passes unchanged.

    Raises:
        ValueError: if input and output differ in shape.
    """

    def __call__(self, call, inputs, relevance):
        if len(inputs) != 1 or tuple(inputs[0].shape) != tuple(relevance.shape):
            raise ValueError(
                f"Rule Pass is for operations on one input that keep its shape. Received: {call.description} with "
                f"inputs of shape {[tuple(x.shape) for x in inputs]} and output {tuple(relevance.shape)}."
            )
        return [relevance]


class Move:
    """Operations that move elements to other places (Reshape, Concatenate, ZeroPadding, ...): each takes its relevance.

    Relevance on places that no input element fills, as the margin of ZeroPadding, is lost and shows as a gap.
    """

    def __call__(self, call, inputs, relevance):
        def moved(*inputs):
            return _flat(call.at_full_precision(*inputs))

        _, transpose = vjp(moved, *inputs)
        return list(transpose(_flat(relevance)))


def _flat(tensors):
    """All elements of a tensor or list of tensors in one vector."""
    return ops.concatenate([ops.reshape(tensor, (-1,)) for tensor in keras.tree.flatten(tensors)], axis=0)


class WinnerTakesAll(Move):
    """Maxima and minima, as in max pooling: the winning input takes the relevance of its output."""


class OneOperand:
    """An operation on one tensor and constants (`x / 255`, `x ** 2`) has n = 1: the relevance passes unchanged.

    Raises:
        ValueError: if more than one operand is a tensor of the model.
    """

    def __call__(self, call, inputs, relevance):
        if len(inputs) != 1:
            raise ValueError(
                f"Rule OneOperand is for one tensor and constants. Received: {call.description} of {len(inputs)} "
                f"tensors. Give it a rule of its own: LRP(model, rules=[({call.op.name!r}, rule)])."
            )
        return [_gathered(relevance, inputs[0])]


class LargerOperand(WinnerTakesAll):
    """`maximum` and `minimum` of two tensors: the winner takes all; beside a constant, as `OneOperand`."""

    def __call__(self, call, inputs, relevance):
        return (super().__call__ if len(inputs) > 1 else OneOperand())(call, inputs, relevance)


class Lookup:
    """Embedding: a token takes the relevance of its vector. The walk ends there."""

    def __call__(self, call, inputs, relevance):
        return [ops.sum(relevance, axis=-1)]


class Gather(Move):
    """`take`: elements take their relevance along; of a constant table, as `Lookup`."""

    def __call__(self, call, inputs, relevance):
        if isinstance(call.named(call.inputs)["x"], Value):
            return super().__call__(call, inputs, relevance)
        rank = len(inputs[0].shape)
        if tuple(relevance.shape[:rank]) != tuple(inputs[0].shape):
            raise ValueError(
                f"Rule Gather is for rows of a constant table. Received: {call.description} on another axis."
            )
        return [ops.sum(relevance, axis=tuple(range(rank, len(relevance.shape))))]


class EachStep:
    """TimeDistributed: a rule on every step by itself.

    Args:
        call: the wrapped layer's call.
        rule: its rule.
    """

    def __init__(self, call, rule):
        self.call, self.rule = call, rule

    def __call__(self, call, inputs, relevance):
        (x,) = inputs
        (part,) = self.rule(self.call, [_steps(x)], _steps(relevance))
        return [ops.reshape(part, x.shape)]


def _steps(x):
    return ops.reshape(x, (x.shape[0] * x.shape[1], *x.shape[2:]))


class Airport:
    """Max pooling as a game whose Shapley values have a closed form.

    With absent inputs at 0 the window's value is `max(x, 0)`, the airport game of Littlechild & Owen (1973): sorted
    upwards, `phi_(i) = sum over l <= i of (x_(l) - x_(l-1))/(m - l + 1)`. Relevance is dealt in proportion to `phi`;
    equally, `1/m` each, where no input of the window is positive. Places that padding adds are no players.
    """

    def __call__(self, call, inputs, relevance):
        (x,) = inputs
        windows, gather = vjp(lambda x: pooling_windows(call.op, x), ops.maximum(x, 0))
        real = pooling_windows(call.op, players(call, x))

        costs, m = ops.sort(windows, axis=0), windows.shape[0]
        phi = (_airport_by_pairs if m <= 16 else _airport_by_places)(windows, costs)

        top = costs[-1]
        dealt = ops.where(top > 0, phi / ops.where(top > 0, top, 1), real / ops.maximum(ops.sum(real, axis=0), 1))
        return list(gather(dealt * ops.reshape(relevance, top.shape)))


def _airport_by_pairs(windows, costs):
    """`phi` of small windows: the sum over l <= i, rearranged into one over all l of `min(x_i, x_(l))`."""
    m = windows.shape[0]
    weights = [1 / (m - i) - 1 / (m - i - 1) for i in range(m - 1)] + [1.0]
    return sum(weight * ops.minimum(windows, costs[i]) for i, weight in enumerate(weights))


def _airport_by_places(windows, costs):
    """`phi` of large windows, where sorting twice costs less than all pairs: the sum, put back to where it belongs."""
    m = windows.shape[0]
    remaining = ops.reshape(ops.arange(m, 0, -1, dtype=windows.dtype), (m,) + (1,) * (len(windows.shape) - 1))
    steps = (costs - ops.concatenate([ops.zeros_like(costs[:1]), costs[:-1]], axis=0)) / remaining
    places = ops.argsort(ops.argsort(windows, axis=0), axis=0)
    return ops.take_along_axis(ops.cumsum(steps, axis=0), places, axis=0)


def players(call, x):
    """Ones of the shape of `x`, the call's input, with one image; zeros where ZeroPadding layers in front put zeros."""
    padding, value = [], call.inputs[0]
    while value.producer is not None and isinstance(value.producer.op, ZERO_PADDING):
        padding.append(value.producer)
        value = value.producer.inputs[0]
    if not padding:
        return ops.ones_like(x[:1])
    margins = [sum(axis) for axis in zip(*(_margins(pad.op, len(x.shape)) for pad in padding))]
    inside = [1] + [size - margin for size, margin in zip(x.shape[1:], margins[1:])]
    ones = ops.ones(inside, x.dtype)
    for pad in reversed(padding):
        ones = pad.at_full_precision(ones)
    return ones


def _margins(layer, rank):
    """What a ZeroPadding layer adds to each axis, in all."""
    padding = layer.padding if isinstance(layer.padding[0], tuple) else (layer.padding,)
    spatial = [sum(pair) for pair in padding]
    first = getattr(layer, "data_format", "channels_last") == "channels_first"
    return [0, 0, *spatial] if first else [0, *spatial, 0]


def pooling_windows(layer, x):
    """Elements behind each output of a pooling layer, `(taps, batch, ...)`; 0 where `same` padding adds a tap."""
    rank = len(x.shape) - 2
    axes = range(2, rank + 2) if layer.data_format == "channels_first" else range(1, rank + 1)
    if not hasattr(layer, "pool_size"):  # global pooling: one window
        x = ops.moveaxis(x, list(axes), list(range(rank)))
        return ops.reshape(x, (math.prod(x.shape[:rank]), *x.shape[rank:]))

    margins, counts = [(0, 0)] * len(x.shape), []
    for axis, size, stride in zip(axes, layer.pool_size, layer.strides):
        length = x.shape[axis]
        if layer.padding == "same":
            count = -(-length // stride)
            missing = max((count - 1) * stride + size - length, 0)
            margins[axis] = (missing // 2, missing - missing // 2)
        else:
            count = (length - size) // stride + 1
        counts.append(count)
    x = ops.pad(x, margins)

    slices = [(slice(None),) * (axes[0])]
    for size, stride, count in zip(layer.pool_size, layer.strides, counts):
        slices = [
            (*rest, slice(start, start + (count - 1) * stride + 1, stride)) for rest in slices for start in range(size)
        ]
    return ops.stack([x[window] for window in slices], axis=0)


UNCENTRED = (keras.layers.RMSNormalization, keras.layers.UnitNormalization)
ZERO_PADDING = (keras.layers.ZeroPadding1D, keras.layers.ZeroPadding2D, keras.layers.ZeroPadding3D)
