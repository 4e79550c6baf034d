"""Mean and variance of a network's values when each input is present with some probability, carried layer by layer.

A value is summed up by these two, its neighbours are taken to be independent of it, and preactivations to be normal:
assumed density filtering (Minka 2001; Gast & Roth 2018; for Shapley values Ancona et al. 2019). The two moments are
exact behind the first linear layer, where the neurons of the paper have `mu` and `sigma**2`.
"""

import functools
import math

import keras
import numpy as np
from keras import layers, ops

from keras_shapley.layers.activations import shapley_activation
from keras_shapley.layers.base import ShapleyLayer
from keras_shapley.layers.linear_maps import LINEAR_TYPES, linear_map
from keras_shapley.layers.normal import normal_cdf, normal_pdf
from keras_shapley.layers.sa import ShapleyActivation
from keras_shapley.models.keras_internals import MEAN_OPERATIONS
from keras_shapley.models.layer_types import (
    ADDITION,
    ELEMENTWISE,
    MOVING,
    ONE_OPERAND,
    PRODUCT,
    RANDOM,
    SOFTMAX,
    activation_name,
    is_elementwise,
)
from keras_shapley.models.windows import pooling_windows

# Added to a variance before its root: too small to be seen beside that of anything present, large enough for float32.
VARIANCE_FLOOR = 1e-12
# pairs of opposite normal draws, for softmax
_PAIRS = 64
_INSTEAD = "Use fast_shapley_values(..., method='masks')."
# the mean of what padding adds to a window of max pooling: never the maximum
_NEVER = -1e9


def channel_axes(calls):
    """Where the channels are in what each of the calls of a graph gives: as its layer says, or as they come to it."""
    axes = {}
    for call in calls:
        before = [axes[value.producer] for value in call.inputs if value.producer in axes]
        default = 1 if keras.config.image_data_format() == "channels_first" else -1
        axes[call] = _own_axis(call) or (before or [default])[0]
    return axes


def _own_axis(call):
    """The last axis is -1, which it stays where axes go."""
    if isinstance(call.op, layers.BatchNormalization):
        return -1 if call.op.axis == call.op.input_spec.ndim - 1 else call.op.axis
    of_format = {"channels_first": 1, "channels_last": -1}.get(getattr(call.op, "data_format", None))
    return linear_map(call.op).channel_axis if of_format is None and call.is_a(LINEAR_TYPES) else of_format


def affine_sums(call, inputs):
    """What a call sums up of tensors, affinely, and whether that is all it does, without an activation.

    Returns:
        `(list of tensors, bool)`; None if it does something else with them, or if one of them is None.
    """
    function = _carrier(call)
    if function not in (_linear, _affine, _average, _mean, _moved, _unchanged) or any(x is None for x in inputs):
        return None
    if function is not _linear:
        return keras.tree.flatten(call(*inputs)), True
    without = not isinstance(call.op, ShapleyLayer) and call.op.activation is keras.activations.linear
    return [linear_map(call.op).preactivation(*inputs)], without


def carry(call, inputs, samples, axis, variances=None):
    """Moments of the outputs of a call.

    Args:
        call: of a graph.
        inputs: `(mean, variance)` of each of its inputs, tensors of one shape.
        samples: its inputs with random coalitions present, `(samples * batch, ...)`; None for none.
        axis: of the channels in the output, where the variance of samples is to correct that of sums whose addends may
            depend on each other; None where they do not.
        variances: those of its sums, where they are known; None for the rules here.

    Returns:
        `(list of (mean, variance), list of the outputs for the samples)`.
    """
    function = _carrier(call)
    if function is _linear:
        return _linear(call, inputs, samples, axis, variances)
    outputs = function(call, inputs)
    if variances is not None:
        axis, outputs = None, [(m, v) for (m, _), v in zip(outputs, variances)]
    if samples is None:
        return outputs, None
    samples = keras.tree.flatten(call(*samples))
    if axis is not None and function in (_affine, _average, _mean):
        outputs = [(m, _corrected(v, sample, axis)) for (m, v), sample in zip(outputs, samples)]
    return outputs, samples


def check(calls):
    """Raises a `ValueError` that names the first of the calls through which moments cannot be carried."""
    for call in calls:
        if _carrier(call) is None:
            known = sorted({cls.__name__ for types, _ in TABLE for cls in types if issubclass(cls, layers.Layer)})
            raise ValueError(
                f"Layer {call.description} has no moments. {_INSTEAD} Types with moments: {', '.join(known)}."
            )
        function = getattr(call.op, "activation", None)
        if function not in (None, keras.activations.softmax) and not is_elementwise(function):
            raise ValueError(
                f"Layer {call.description} has the activation {getattr(function, '__name__', function)!r}, which has "
                f"no moments. {_INSTEAD}"
            )


def evaluations(call):
    """How many values of an element of its output a call takes at once."""
    carrier = _carrier(call)
    if carrier is _softmax:
        return 2 * _PAIRS
    if carrier in (_average, _maximum):
        # a global one takes its input, once
        return math.prod(getattr(call.op, "pool_size", ()))
    if carrier not in (_linear, _elementwise):
        return 1
    function = _function(call)
    if isinstance(call.op, ShapleyActivation) or function not in _CLOSED_FORMS:
        return len(_NODES[0])
    return 2 * _PAIRS if function in _SOFTMAX else 1


def _function(call):
    """The elementwise function of a call: its activation, ReLU for ShapLU, or all that it does."""
    if isinstance(call.op, ShapleyLayer) or activation_name(call.op) == "relu":
        return ops.relu
    return getattr(call.op, "activation", call.at_full_precision)


def _carrier(call):
    if getattr(call.op, "quantization_mode", None):
        return None
    return next((function for types, function in TABLE if call.is_a(types)), None)


def _linear(call, inputs, samples, axis, variances):
    """`L(m; W) + b` and `L(v; W**2)`, then the activation."""
    ((m, v),), linear = inputs, linear_map(call.op)
    known = variances is not None
    s = linear.preactivation(m)
    variance = variances[0] if known else linear(v, ops.square(ops.cast(linear.kernel, m.dtype)))
    if samples is not None:
        sums = linear.preactivation(ops.cast(samples[0], m.dtype))
        variance = variance if known or axis is None else _corrected(variance, sums, axis)
    if isinstance(call.op, ShapleyActivation):
        outputs = [_of_shapley_activation(call.op, linear, m, v, s, variance)]
        return outputs, None if samples is None else [call(*samples)]
    activation = _function(call)
    return [_of_function(activation, s, variance)], None if samples is None else [activation(sums)]


def _corrected(v, samples, axis):
    """Variances of sums of independent addends, times what samples say of the dependence, a factor for each channel."""
    samples = ops.reshape(ops.cast(samples, v.dtype), (-1, *v.shape))
    # ops.var takes several times as long on PyTorch
    found = ops.sum(ops.square(samples - ops.mean(samples, axis=0)), axis=0) / (samples.shape[0] - 1)
    others = [i for i in range(1, len(v.shape)) if i != axis % len(v.shape)]
    found, expected = (ops.sum(part, axis=others, keepdims=True) for part in (found, v))
    factor = ops.where(expected > 0, found / ops.where(expected > 0, expected, 1), 1)
    return v * ops.stop_gradient(factor)


def _of_shapley_activation(layer, linear, m, v, s, variance):
    """Of eq. (5) as a function of its sum `s = u + b`, with `q` at its mean."""
    kernel = ops.cast(linear.kernel, m.dtype)
    b = ops.zeros((), m.dtype) if linear.bias is None else ops.cast(linear.bias, m.dtype)
    # q is linear in the squares of the inputs, exact or pooled, and has the mean that their means give
    moment = linear.second_moment if layer.second_moment == "exact" else linear.pooled_second_moment
    q = moment(ops.sqrt(ops.square(m) + v + VARIANCE_FLOOR**2), kernel)
    return _by_quadrature(lambda s: shapley_activation(s - b, q, b), s, variance)


def _of_function(function, m, v):
    """Of an activation of normal variables."""
    closed = _CLOSED_FORMS.get(function)
    return closed(m, v) if closed else _by_quadrature(function, m, v)


def _of_relu(m, v):
    return _of_maximum((m, v), (ops.zeros_like(m), ops.zeros_like(v)))


def _of_maximum(a, b):
    """Of the larger of two independent normal variables (Clark 1961, eqs. 2 to 5); with 0 as one of them, of ReLU.

    The variance is written without the difference of two squares of means.
    """
    (m, v), (other, w) = a, b
    s = ops.sqrt(v + w + VARIANCE_FLOOR)
    r = (m - other) / s
    first, second, density = normal_cdf(r), normal_cdf(-r), normal_pdf(r)
    mean = m * first + other * second + s * density
    between = ops.square(r) * first * second + r * density * (second - first) - ops.square(density)
    return mean, ops.maximum(v * first + w * second + (v + w) * between, 0)


def _of_slopes(m, v, slope):
    """Of `max(s, slope s)`, slope < 1: `slope s + (1 - slope) relu(s)`, whose parts have the covariance `v Phi`."""
    mean, variance = _of_relu(m, v)
    rest, covariance = 1 - slope, v * normal_cdf(m / ops.sqrt(v + VARIANCE_FLOOR))
    return slope * m + rest * mean, slope**2 * v + 2 * slope * rest * covariance + rest**2 * variance


def _by_quadrature(function, m, v):
    """Of an elementwise function of normal variables, by the trapezoidal rule: no kink and no step is far from a node.

    Gauss-Hermite nodes lie so far apart that they miss a tanh of a large variance by a tenth.
    """
    z, w = (ops.reshape(ops.convert_to_tensor(part, m.dtype), (-1,) + (1,) * len(m.shape)) for part in _NODES)
    values = function(m + z * ops.sqrt(v + VARIANCE_FLOOR))
    mean = ops.sum(w * values, axis=0)
    return mean, ops.sum(w * ops.square(values - mean), axis=0)


def _nodes(n, last):
    """Nodes and weights of means over the standard normal distribution, exact for straight lines and squares."""
    z = np.linspace(-last, last, n)
    w = np.exp(-np.square(z) / 2)
    w /= w.sum()
    return z / np.sqrt(w @ np.square(z)), w


_NODES = _nodes(24, 4.6)


def _of_softmax(function, m, v):
    """Of a function that mixes elements, over the same normal draws at every call, each with its opposite."""
    draws = np.random.default_rng(0).standard_normal((_PAIRS, 1, *m.shape[1:]))
    draws = ops.convert_to_tensor(np.concatenate([draws, -draws]), m.dtype)
    # to the function they are so many images more
    values = function(ops.reshape(m + draws * ops.sqrt(v + VARIANCE_FLOOR), (-1, *m.shape[1:])))
    values = ops.reshape(values, (2 * _PAIRS, *m.shape))
    mean = ops.mean(values, axis=0)
    return mean, ops.mean(ops.square(values - mean), axis=0)


_SOFTMAX = keras.activations.softmax, ops.softmax
_CLOSED_FORMS = {
    None: lambda m, v: (m, v),
    keras.activations.linear: lambda m, v: (m, v),
    keras.activations.relu: _of_relu,
    ops.relu: _of_relu,
    keras.activations.leaky_relu: functools.partial(_of_slopes, slope=0.2),
    **dict.fromkeys(_SOFTMAX, functools.partial(_of_softmax, ops.softmax)),
}


def _elementwise(call, inputs):
    if len(inputs) > 1:
        raise ValueError(f"Layer {call.description} has moments for one tensor alone. {_INSTEAD}")
    return [_of_function(_function(call), *inputs[0])]


def _two_slopes(call, inputs):
    ((m, v),) = inputs
    slope = ops.cast(call.op.alpha, m.dtype) if isinstance(call.op, layers.PReLU) else call.op.negative_slope
    return [_of_slopes(m, v, slope)]


def _softmax(call, inputs):
    return [_of_softmax(call.at_full_precision, *inputs[0])]


def _affine(call, inputs):
    """Affine in each of its inputs, element by element: variances by the squares of the factors."""
    zeros = [ops.zeros_like(m) for m, _ in inputs]
    shift = call.at_full_precision(*zeros)
    variance = 0
    for i, (m, v) in enumerate(inputs):
        factor = call.at_full_precision(*zeros[:i], ops.ones_like(m), *zeros[i + 1 :]) - shift
        variance = variance + ops.square(factor) * v
    return [(call.at_full_precision(*(m for m, _ in inputs)), variance)]


def _product(call, inputs):
    if len(inputs) == 1:
        return _affine(call, inputs)
    (mean, variance), *others = inputs
    for m, v in others:
        variance = variance * v + variance * ops.square(m) + v * ops.square(mean)
        mean = mean * m
    return [(mean, variance)]


def _moved(call, inputs):
    """Elements go to other places; constants beside them have no variance."""
    means, variances, zeros = (
        keras.tree.flatten(call.at_full_precision(*parts))
        for parts in ([m for m, _ in inputs], [v for _, v in inputs], [ops.zeros_like(m) for m, _ in inputs])
    )
    return [(m, v - zero) for m, v, zero in zip(means, variances, zeros)]


def _unchanged(call, inputs):
    return [inputs[0]]


def _average(call, inputs):
    ((m, v),) = inputs
    mean = call.at_full_precision(m)
    n = ops.sum(pooling_windows(call.op, ops.ones_like(m[:1])), axis=0)
    variance = ops.sum(pooling_windows(call.op, v), axis=0) / ops.square(n)
    return [(mean, ops.reshape(variance, mean.shape))]


def _mean(call, inputs):
    ((m, v),) = inputs
    mean = call.at_full_precision(m)
    return [(mean, call.at_full_precision(v) * (math.prod(mean.shape) / math.prod(m.shape)))]


def _maximum(call, inputs):
    """The taps of a window two by two: those of its one half with those of the other."""
    ((m, v),) = inputs
    real = pooling_windows(call.op, ops.ones_like(m[:1]))
    found = ops.where(real > 0, pooling_windows(call.op, m), _NEVER), pooling_windows(call.op, v)
    while (half := found[0].shape[0] // 2) > 0:
        larger = _of_maximum(*([part[start : start + half] for part in found] for start in (0, half)))
        found = [ops.concatenate([part, rest[2 * half :]], axis=0) for part, rest in zip(larger, found)]
    shape = call.op.compute_output_shape(m.shape)
    return [tuple(ops.reshape(part, shape) for part in found)]


_POOLING = {
    kind: tuple(getattr(layers, f"{name}{kind}Pooling{rank}D") for name in ("", "Global") for rank in (1, 2, 3))
    for kind in ("Average", "Max")
}
_TWO_SLOPES = (layers.LeakyReLU, layers.PReLU)
_WITHOUT_EFFECT = (
    layers.Dropout,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    layers.AlphaDropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.ActivityRegularization,
    layers.Identity,
    *RANDOM,
)
_AFFINE = (layers.BatchNormalization, layers.Rescaling, layers.Normalization, *ADDITION)
TABLE = [
    (LINEAR_TYPES, _linear),
    (_POOLING["Average"], _average),
    (_POOLING["Max"], _maximum),
    (MEAN_OPERATIONS[:1], _mean),
    (_AFFINE, _affine),
    (PRODUCT, _product),
    (MOVING, _moved),
    (SOFTMAX, _softmax),
    (_TWO_SLOPES, _two_slopes),
    (_WITHOUT_EFFECT, _unchanged),
    ((*ELEMENTWISE, *ONE_OPERAND), _elementwise),
]
