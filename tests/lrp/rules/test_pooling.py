"""Rules for maxima against the airport game played in all orders, and against the winner of each window."""

import itertools
import math

import keras
import numpy as np
import pytest
from keras import layers, ops
from reference.calls import call_of, propagate

from keras_shapley import rules
from keras_shapley.models.tracing import trace


def airport_by_enumeration(x):
    """Shapley values of the game `max over present inputs of max(x, 0)`."""
    n, values = len(x), np.zeros(len(x))
    for order in itertools.permutations(range(n)):
        top = 0.0
        for player in order:
            values[player] += max(x[player] - top, 0)
            top = max(top, x[player])
    return values / math.factorial(n)


@pytest.mark.parametrize(
    "x",
    [[3.0, 1, 2, 2], [0.5, -1, 4, -2], [2.0, 2, 2, 2], [-1.0, -3, -2, -5], [0.0, 0, 0, 0], [0.0, -1, -2, 5]],
)
def test_max_pooling_distributes_by_the_airport_game(x):
    call = call_of(layers.MaxPooling2D(2), (2, 2, 1))
    (r_in,) = propagate(rules.Airport(), call, [np.reshape(x, (1, 2, 2, 1))], np.full((1, 1, 1, 1), 7.0))
    top = max(x)
    expected = airport_by_enumeration(x) / top * 7 if top > 0 else np.full(4, 7 / 4)
    np.testing.assert_allclose(r_in.ravel(), expected, rtol=1e-5)


@pytest.mark.parametrize("m", [2, 9, 16, 17, 40])
def test_large_windows_follow_the_same_game(m, rng):
    """By the sum over the sorted values, of ties as well."""
    call = call_of(layers.GlobalMaxPooling1D(), (m, 2))
    x = np.round(rng.normal(size=(3, m, 2)), 1)
    x[:, 0] = 0.7
    (r_in,) = propagate(rules.Airport(), call, [x], np.ones((3, 2)))
    for i, j in np.ndindex(3, 2):
        np.testing.assert_allclose(r_in[i, :, j], airport(x[i, :, j]), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "layer, shape",
    [
        (layers.MaxPooling1D(2), (5, 2)),
        (layers.MaxPooling2D(3, strides=2, padding="same"), (5, 6, 2)),
        (layers.MaxPooling2D((2, 3), strides=1), (4, 5, 2)),
        (layers.MaxPooling3D(2, padding="same"), (3, 3, 3, 2)),
        (layers.GlobalMaxPooling1D(), (4, 2)),
        (layers.GlobalMaxPooling2D(keepdims=True), (3, 2, 2)),
        (layers.GlobalMaxPooling3D(), (2, 2, 2, 2)),
    ],
)
@pytest.mark.parametrize("rule", [rules.Airport(), rules.WinnerTakesAll()])
def test_max_pooling_divides_each_window_in_every_geometry(layer, shape, rule, rng):
    call = call_of(layer, shape)
    x = rng.normal(size=(3, *shape))
    relevance = rng.normal(size=layer.compute_output_shape((3, *shape)))
    (r_in,) = propagate(rule, call, [x], relevance)
    share = winner if isinstance(rule, rules.WinnerTakesAll) else airport
    np.testing.assert_allclose(r_in, by_windows(layer, x, relevance, share), rtol=1e-4, atol=1e-5)


def winner(values):
    return np.eye(len(values))[values.argmax()]


def airport(values):
    """Shares of the game, by its closed form over the sorted values."""
    heights = np.maximum(values, 0)
    if not heights.any():
        return np.full(len(values), 1 / len(values))
    order = np.argsort(heights)
    steps = np.diff(heights[order], prepend=0) / np.arange(len(values), 0, -1)
    shares = np.empty(len(values))
    shares[order] = np.cumsum(steps)
    return shares / heights.max()


def by_windows(layer, x, relevance, share):
    """The relevance of each window, divided by `share(values)` among the elements in it."""
    shape = x.shape[1:-1]
    is_global = not hasattr(layer, "pool_size")
    sizes = shape if is_global else layer.pool_size
    strides = shape if is_global else layer.strides
    pads = [0] * len(shape)
    if not is_global and layer.padding == "same":
        pads = [max((-(-n // s) - 1) * s + k - n, 0) // 2 for n, k, s in zip(shape, sizes, strides)]
    relevance = relevance.reshape(len(x), *([1] * len(shape) if is_global else relevance.shape[1:-1]), x.shape[-1])
    shares = np.zeros_like(x)
    for place in np.ndindex(relevance.shape[1:-1]):
        ranges = [
            range(max(i * s - p, 0), min(i * s - p + k, n)) for i, s, p, k, n in zip(place, strides, pads, sizes, shape)
        ]
        inside = list(itertools.product(*ranges))
        for image, channel in np.ndindex(len(x), x.shape[-1]):
            parts = share(np.array([x[(image, *spot, channel)] for spot in inside]))
            for spot, part in zip(inside, parts):
                shares[(image, *spot, channel)] += part * relevance[(image, *place, channel)]
    return shares


def test_padding_of_max_pooling_receives_nothing():
    """A 3x3 window at the corner of a negative image: 4 real inputs, a quarter each."""
    call = call_of(layers.MaxPooling2D(3, strides=3, padding="same"), (4, 4, 1))
    relevance = np.zeros((1, 2, 2, 1))
    relevance[0, 0, 0] = 1
    (r_in,) = propagate(rules.Airport(), call, [-np.ones((1, 4, 4, 1))], relevance)
    # TensorFlow's convention pads 1 before and 1 after: the first window holds rows and columns 0 and 1
    expected = np.zeros((4, 4))
    expected[:2, :2] = 1 / 4
    np.testing.assert_allclose(r_in[0, :, :, 0], expected, atol=1e-6)


def test_zero_padding_in_front_of_max_pooling_receives_nothing():
    inputs = keras.Input((2, 2, 1))
    model = keras.Model(inputs, layers.MaxPooling2D(2)(layers.ZeroPadding2D(1)(inputs)))
    padded = np.pad(-np.ones((1, 2, 2, 1)), [(0, 0), (1, 1), (1, 1), (0, 0)])
    (r_in,) = propagate(rules.Airport(), trace(model).calls[-1], [padded], np.ones((1, 2, 2, 1)))
    np.testing.assert_allclose(r_in[0, 1:3, 1:3, 0], 1)
    np.testing.assert_allclose(r_in.sum(), 4)


@pytest.mark.parametrize("make", [layers.Maximum(), lambda pair: ops.maximum(*pair)])
def test_the_larger_of_two_tensors_takes_all(make, rng):
    x, y = keras.Input((4,)), keras.Input((4,))
    (call,) = trace(keras.Model([x, y], make([x, y]))).calls
    a, b, relevance = (rng.normal(size=(2, 4)) for _ in range(3))
    shares = propagate(rules.LargerOperand(), call, [a, b], relevance)
    np.testing.assert_allclose(shares[0], np.where(a > b, relevance, 0))
    np.testing.assert_allclose(shares[1], np.where(a > b, 0, relevance))


@pytest.mark.parametrize("size", [2, 5], ids=["by pairs", "by places"])
def test_the_airport_game_conserves_in_float64(float64, size, rng):
    call = call_of(layers.MaxPooling2D(size, dtype="float64"), (10, 10, 2))
    r = rng.normal(size=(2, 10 // size, 10 // size, 2))
    (r_in,) = propagate(rules.Airport(), call, [rng.normal(size=(2, 10, 10, 2))], r, "float64")
    np.testing.assert_allclose(r_in.sum(), r.sum(), rtol=1e-12)
