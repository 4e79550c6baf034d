"""Each rule on one layer, against dense matrices and against games played out in full, in float64 NumPy."""

import itertools
import math
from functools import partial

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_shapley as ks
from keras_shapley._backend import compiled
from keras_shapley._graph import trace
from keras_shapley.rules import (
    Airport,
    CentredScale,
    EqualSplit,
    Move,
    Pass,
    Proportional,
    Resize,
    Shapley,
    Sum,
    WinnerTakesAll,
)

BIAS = keras.initializers.RandomNormal(stddev=0.3, seed=1)
bias = dict(bias_initializer=BIAS)

LINEAR = [
    (layers.Dense, dict(units=4), (5,)),
    (layers.Dense, dict(units=4, use_bias=False), (5,)),
    (layers.Dense, dict(units=4), (3, 5)),
    (layers.EinsumDense, dict(equation="abc,cd->abd", output_shape=(3, 4), bias_axes="d"), (3, 5)),
    (layers.EinsumDense, dict(equation="...bc,bcd->...d", output_shape=4, bias_axes="d"), (3, 5)),
    (layers.EinsumDense, dict(equation="abc,bcd->abd", output_shape=(3, 4), bias_axes="bd"), (3, 5)),
    (layers.Conv1D, dict(filters=4, kernel_size=3, padding="causal", dilation_rate=2), (6, 2)),
    (layers.Conv1D, dict(filters=4, kernel_size=3, strides=2, padding="same"), (6, 2)),
    (layers.Conv2D, dict(filters=4, kernel_size=3, padding="same"), (5, 4, 2)),
    (layers.Conv2D, dict(filters=4, kernel_size=(3, 2), strides=(2, 1)), (5, 4, 2)),
    (layers.Conv2D, dict(filters=6, kernel_size=3, padding="same", groups=2), (4, 4, 4)),
    (layers.Conv2D, dict(filters=2, kernel_size=3, padding="same", dilation_rate=2), (5, 5, 2)),
    (layers.Conv3D, dict(filters=2, kernel_size=2, padding="same"), (3, 3, 2, 2)),
    (layers.DepthwiseConv2D, dict(kernel_size=3, padding="same", depth_multiplier=2), (4, 4, 3)),
    (layers.DepthwiseConv1D, dict(kernel_size=3, strides=2, padding="same"), (5, 3)),
    (layers.Conv2DTranspose, dict(filters=3, kernel_size=3, strides=2, padding="same"), (3, 3, 2)),
    (layers.Conv1DTranspose, dict(filters=3, kernel_size=3), (4, 2)),
    (layers.SeparableConv2D, dict(filters=3, kernel_size=3, padding="same", depth_multiplier=2), (4, 4, 2)),
    (layers.SeparableConv1D, dict(filters=3, kernel_size=3, strides=2), (7, 2)),
    (ks.SADense, dict(units=4), (5,)),
    (ks.SAConv2D, dict(filters=4, kernel_size=3, strides=2, padding="same"), (5, 5, 2)),
    (ks.ShapLUConv2D, dict(filters=4, kernel_size=3, padding="same"), (4, 4, 2)),
    (ks.ShapLUDepthwiseConv2D, dict(kernel_size=3, padding="same"), (4, 4, 2)),
]


def call_of(layer, *shapes):
    """The layer's call in a model of its own."""
    inputs = [keras.Input(shape) for shape in shapes]
    model = keras.Model(inputs, layer(inputs if len(inputs) > 1 else inputs[0]))
    return trace(model).calls[-1]


def propagate(rule, call, inputs, relevance):
    tensors = [ops.convert_to_tensor(x, dtype="float32") for x in inputs]
    parts = compiled(partial(rule, call), ())(tensors, ops.convert_to_tensor(relevance, dtype="float32"))
    return [ops.convert_to_numpy(part).astype("float64") for part in parts]


def dense_matrix(layer, shape):
    """The layer's linear map as a matrix (inputs, outputs): what its parent gives on every basis vector."""
    parent = next(cls for cls in type(layer).__mro__ if cls.__module__.startswith("keras.src.layers"))
    config = {k: v for k, v in layer.get_config().items() if k not in OPTIONS}
    plain = parent.from_config(config | {"activation": None, "name": "plain"})
    plain.build((None, *shape))

    kernels = layer.get_weights()[: len(layer.weights) - (layer.bias is not None)]
    no_bias = [np.zeros(layer.bias.shape)] if layer.bias is not None else []

    def matrix(kernels):
        plain.set_weights([*kernels, *no_bias])
        basis = np.eye(math.prod(shape), dtype="float32").reshape(-1, *shape)
        return ops.convert_to_numpy(plain(basis)).astype("float64").reshape(len(basis), -1)

    return matrix(kernels), matrix([np.ones_like(kernel) for kernel in kernels]) > 0


OPTIONS = ("second_moment", "moment_gradient", "gradient")


@pytest.mark.parametrize("cls, config, shape", LINEAR)
def test_eq_2_matches_its_dense_matrix(cls, config, shape, rng):
    layer = cls(**config, **(bias if config.get("use_bias", True) else {}))
    call = call_of(layer, shape)
    w, tap = dense_matrix(layer, shape)
    x = rng.normal(size=(3, *shape))
    out_shape = tuple(layer.compute_output_shape((3, *shape)))
    flat = x.reshape(3, -1)
    b = np.zeros(1) if layer.bias is None else ops.convert_to_numpy(layer.bias).astype("float64")
    b = np.broadcast_to(b, out_shape[1:]).ravel()
    n = tap.sum(axis=0)
    # relevance in proportion to the output: no denominator near zero spoils the comparison in float32
    r = (flat @ w + b) * rng.normal(size=(3, len(b)))
    messages = (flat[:, :, None] * w + tap * (b / n)) / (flat @ w + b)[:, None]  # eq. (2), input by output
    expected = (messages * r[:, None]).sum(axis=2)

    (found,) = propagate(Shapley(), call, [x], r.reshape(out_shape))
    assert found.shape == x.shape
    scale = np.abs(messages * r[:, None]).sum(axis=2).max()
    np.testing.assert_allclose(found.reshape(3, -1), expected, atol=1e-4 * scale)
    np.testing.assert_allclose(found.sum(), r.sum(), atol=2e-4 * scale)


def test_bias_never_leaves_the_image():
    """With padding="same", all weights 0 and a bias: a border pixel gets its share, and nothing is lost."""
    layer = layers.Conv2D(1, 3, padding="same", kernel_initializer="zeros", bias_initializer="ones")
    call = call_of(layer, (3, 3, 1))
    (found,) = propagate(Shapley(), call, [np.ones((1, 3, 3, 1))], np.ones((1, 3, 3, 1)))
    corner = 1 / 4 + 2 / 6 + 1 / 9  # windows that hold the corner: its own, two edges, the centre
    np.testing.assert_allclose(found[0, 0, 0, 0], corner, rtol=1e-6)
    np.testing.assert_allclose(found.sum(), 9, rtol=1e-6)


@pytest.mark.parametrize("margins", [((1, 1),), ((1, 0), (0, 2))])
def test_zero_padding_in_front_is_no_player(margins, rng):
    """ZeroPadding + valid convolution shares relevance as the same convolution with padding="same" does."""
    inputs = keras.Input((5, 5, 2))
    x = inputs
    for top, bottom in margins:
        x = layers.ZeroPadding2D(((top, bottom), (top, bottom)))(x)
    conv = layers.Conv2D(3, 3, **bias)
    padded = keras.Model(inputs, conv(x))
    data, relevance = rng.normal(size=(2, 5, 5, 2)), rng.normal(size=(2, *padded.output_shape[1:]))
    calls = trace(padded).calls
    full = np.pad(data, [(0, 0), *[tuple(np.sum(margins, axis=0))] * 2, (0, 0)])
    (found,) = propagate(Shapley(), calls[-1], [full], relevance)
    for call in reversed(calls[:-1]):
        lost = np.abs(found).sum()
        (found,) = propagate(Move(), call, [np.zeros((2, *_shape(call)))], found)
        assert np.abs(found).sum() == pytest.approx(lost, rel=1e-6)  # the margin held nothing
    assert found.shape == data.shape
    np.testing.assert_allclose(found.sum(), relevance.sum(), atol=1e-3)


def _shape(call):
    """Input shape of a ZeroPadding2D call of the test above, from its place in the chain."""
    size = 5
    value, chain = call.inputs[0], []
    while value.producer is not None:
        chain.append(value.producer.op)
        value = value.producer.inputs[0]
    for layer in chain:
        size += sum(layer.padding[0])
    return (size, size, 2)


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
def test_max_pooling_deals_by_the_airport_game(x):
    call = call_of(layers.MaxPooling2D(2), (2, 2, 1))
    (found,) = propagate(Airport(), call, [np.reshape(x, (1, 2, 2, 1))], np.full((1, 1, 1, 1), 7.0))
    top = max(x)
    expected = airport_by_enumeration(x) / top * 7 if top > 0 else np.full(4, 7 / 4)
    np.testing.assert_allclose(found.ravel(), expected, rtol=1e-5)


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
@pytest.mark.parametrize("rule", [Airport(), WinnerTakesAll()])
def test_max_pooling_conserves_in_every_geometry(layer, shape, rule, rng):
    call = call_of(layer, shape)
    x = rng.normal(size=(3, *shape))
    relevance = rng.normal(size=layer.compute_output_shape((3, *shape)))
    (found,) = propagate(rule, call, [x], relevance)
    assert found.shape == x.shape
    np.testing.assert_allclose(found.sum(axis=tuple(range(1, x.ndim))), relevance.reshape(3, -1).sum(axis=1), atol=1e-5)


def test_padding_of_max_pooling_is_no_player():
    """A 3x3 window at the corner of a negative image: 4 real inputs, a quarter each."""
    call = call_of(layers.MaxPooling2D(3, strides=3, padding="same"), (4, 4, 1))
    relevance = np.zeros((1, 2, 2, 1))
    relevance[0, 0, 0] = 1
    (found,) = propagate(Airport(), call, [-np.ones((1, 4, 4, 1))], relevance)
    # TensorFlow's convention pads 1 before and 1 after: the first window holds rows and columns 0 and 1
    expected = np.zeros((4, 4))
    expected[:2, :2] = 1 / 4
    np.testing.assert_allclose(found[0, :, :, 0], expected, atol=1e-6)


def test_zero_padding_in_front_of_max_pooling_is_no_player():
    inputs = keras.Input((2, 2, 1))
    model = keras.Model(inputs, layers.MaxPooling2D(2)(layers.ZeroPadding2D(1)(inputs)))
    padded = np.pad(-np.ones((1, 2, 2, 1)), [(0, 0), (1, 1), (1, 1), (0, 0)])
    (found,) = propagate(Airport(), trace(model).calls[-1], [padded], np.ones((1, 2, 2, 1)))
    np.testing.assert_allclose(found[0, 1:3, 1:3, 0], 1)
    np.testing.assert_allclose(found.sum(), 4)


@pytest.mark.parametrize("layer", [layers.AveragePooling2D(2, padding="same"), layers.GlobalAveragePooling2D()])
def test_average_pooling_shares_in_proportion(layer, rng):
    x = rng.uniform(1, 2, size=(2, 5, 5, 3))
    relevance = rng.normal(size=layer.compute_output_shape((2, 5, 5, 3)))
    (found,) = propagate(Proportional(), call_of(layer, (5, 5, 3)), [x], relevance)
    if isinstance(layer, layers.GlobalAveragePooling2D):
        np.testing.assert_allclose(found, x / x.sum(axis=(1, 2), keepdims=True) * relevance[:, None, None], rtol=1e-4)
    np.testing.assert_allclose(found.sum(axis=(1, 2)), relevance.reshape(2, -1, 3).sum(axis=1), rtol=1e-4, atol=1e-5)


def test_addends_share_in_proportion_also_when_they_broadcast(rng):
    one, other = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 1, 4))
    relevance = rng.normal(size=(2, 3, 4))
    a, b = propagate(Sum(), call_of(layers.Add(), (3, 4), (1, 4)), [one, other], relevance)
    np.testing.assert_allclose(a, one / (one + other) * relevance, rtol=1e-3)
    np.testing.assert_allclose(b, (other / (one + other) * relevance).sum(axis=1, keepdims=True), rtol=1e-3)


def test_a_constant_addend_is_no_player(rng):
    inputs = keras.Input((4,))
    (call,) = trace(keras.Model(inputs, inputs + 5.0)).calls
    relevance = rng.normal(size=(2, 4))
    (found,) = propagate(Sum(), call, [rng.normal(size=(2, 4))], relevance)
    np.testing.assert_allclose(found, relevance, rtol=1e-6)


def test_a_tensor_added_to_itself_gets_all(rng):
    inputs = keras.Input((4,))
    (call,) = trace(keras.Model(inputs, inputs + inputs)).calls
    x, relevance = rng.normal(size=(2, 4)), rng.normal(size=(2, 4))
    found = propagate(Sum(), call, [x, x], relevance)
    np.testing.assert_allclose(sum(found), relevance, rtol=1e-5)


def test_factors_share_equally_as_shapley_values_do(rng):
    """The product of two factors is there when both are: each order gives it to the one that comes last."""
    one, gate = rng.normal(size=(2, 3, 3, 4)), rng.normal(size=(2, 1, 1, 4))
    relevance = rng.normal(size=(2, 3, 3, 4))
    a, b = propagate(EqualSplit(), call_of(layers.Multiply(), (3, 3, 4), (1, 1, 4)), [one, gate], relevance)
    np.testing.assert_allclose(a, relevance / 2, rtol=1e-6)
    np.testing.assert_allclose(b, relevance.sum(axis=(1, 2), keepdims=True) / 2, rtol=1e-5, atol=1e-6)


def test_a_constant_factor_is_no_player(rng):
    inputs = keras.Input((4,))
    (call,) = trace(keras.Model(inputs, inputs * 3.0)).calls
    relevance = rng.normal(size=(2, 4))
    (found,) = propagate(EqualSplit(), call, [rng.normal(size=(2, 4))], relevance)
    np.testing.assert_allclose(found, relevance, rtol=1e-6)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_upsampling_conserves(interpolation, rng):
    x, relevance = rng.uniform(1, 2, size=(2, 3, 4, 2)), rng.normal(size=(2, 6, 8, 2))
    call = call_of(layers.UpSampling2D(2, interpolation=interpolation), (3, 4, 2))
    (found,) = propagate(Resize(), call, [x], relevance)
    np.testing.assert_allclose(found.sum(axis=(1, 2)), relevance.sum(axis=(1, 2)), rtol=1e-4, atol=1e-4)
    if interpolation == "nearest":
        np.testing.assert_allclose(found, relevance.reshape(2, 3, 2, 4, 2, 2).sum(axis=(2, 4)), rtol=1e-4, atol=1e-5)


def test_layer_normalization_with_constant_deviation_is_its_dense_matrix(rng):
    layer = layers.LayerNormalization(beta_initializer=BIAS, gamma_initializer=BIAS)
    call = call_of(layer, (3, 5))
    x = rng.normal(size=(2, 3, 5))
    gamma = keras.ops.convert_to_numpy(layer.gamma).astype("float64")
    deviation = np.sqrt(x.var(axis=-1, keepdims=True) + layer.epsilon)
    matrix = np.eye(5) - 1 / 5  # of centring: outputs by inputs
    y = gamma / deviation * (x @ matrix.T)
    relevance = y * rng.normal(size=y.shape)
    messages = x[..., None, :] * (gamma[:, None] * matrix) / deviation[..., None] / y[..., None] * relevance[..., None]
    (found,) = propagate(CentredScale(), call, [x], relevance)
    np.testing.assert_allclose(found, messages.sum(axis=-2), rtol=1e-3, atol=1e-4)


def test_an_output_over_padding_alone_gives_finite_relevance(rng):
    """3 rows of zeros around a 3x3 window: corners have no real input, and what their bias holds is lost."""
    inputs = keras.Input((2, 2, 1))
    model = keras.Model(inputs, layers.Conv2D(1, 3, bias_initializer="ones")(layers.ZeroPadding2D(3)(inputs)))
    padded = np.pad(rng.uniform(1, 2, size=(1, 2, 2, 1)), [(0, 0), (3, 3), (3, 3), (0, 0)])
    (found,) = propagate(Shapley(), trace(model).calls[-1], [padded], np.ones((1, 6, 6, 1)))
    assert np.isfinite(found).all()
    assert found.sum() == pytest.approx(4 * 4, rel=1e-3)  # the windows that see the image: 4 by 4 of them


def test_elements_that_move_take_their_relevance_along(rng):
    one, other = rng.normal(size=(2, 3, 2)), rng.normal(size=(2, 3, 5))
    relevance = rng.normal(size=(2, 3, 7))
    a, b = propagate(Move(), call_of(layers.Concatenate(), (3, 2), (3, 5)), [one, other], relevance)
    np.testing.assert_allclose(np.concatenate([a, b], axis=2), relevance, rtol=1e-6)
    (back,) = propagate(Move(), call_of(layers.Reshape((6,)), (3, 2)), [one], rng.normal(size=(2, 6)))
    assert back.shape == one.shape


def test_pass_refuses_what_mixes_elements(rng):
    call = call_of(layers.GlobalAveragePooling1D(), (3, 4))
    with pytest.raises(ValueError, match=r"Pass.*'global_average_pooling1d.*\(GlobalAveragePooling1D\)"):
        propagate(Pass(), call, [rng.normal(size=(2, 3, 4))], rng.normal(size=(2, 4)))


def test_a_zero_denominator_gives_finite_relevance():
    call = call_of(layers.Dense(2, use_bias=False), (3,))
    (found,) = propagate(Shapley(), call, [np.zeros((1, 3))], np.ones((1, 2)))
    assert np.isfinite(found).all()
