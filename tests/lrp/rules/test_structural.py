"""Each rule for layers without weights, against games played out in full and dense matrices, in float64 NumPy."""

import itertools
import math

import keras
import numpy as np
import pytest
from keras import layers, ops
from reference.calls import BIAS, call_of, propagate

import keras_shapley as ks
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
def test_max_pooling_deals_by_the_airport_game(x):
    call = call_of(layers.MaxPooling2D(2), (2, 2, 1))
    (found,) = propagate(rules.Airport(), call, [np.reshape(x, (1, 2, 2, 1))], np.full((1, 1, 1, 1), 7.0))
    top = max(x)
    expected = airport_by_enumeration(x) / top * 7 if top > 0 else np.full(4, 7 / 4)
    np.testing.assert_allclose(found.ravel(), expected, rtol=1e-5)


@pytest.mark.parametrize("m", [2, 9, 16, 17, 40])
def test_large_windows_are_dealt_as_small_ones_are(m, rng):
    """By the sum over the sorted values, of ties as well."""
    call = call_of(layers.GlobalMaxPooling1D(), (m, 2))
    x = np.round(rng.normal(size=(3, m, 2)), 1)
    x[:, 0] = 0.7
    (found,) = propagate(rules.Airport(), call, [x], np.ones((3, 2)))
    for i, j in np.ndindex(3, 2):
        values = np.sort(np.maximum(x[i, :, j], 0))
        steps = np.diff(values, prepend=0) / np.arange(m, 0, -1)
        expected = [steps[values <= value + 1e-9].sum() / values[-1] for value in np.maximum(x[i, :, j], 0)]
        np.testing.assert_allclose(found[i, :, j], expected, rtol=1e-4, atol=1e-6)


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
    (found,) = propagate(rules.Airport(), call, [-np.ones((1, 4, 4, 1))], relevance)
    # TensorFlow's convention pads 1 before and 1 after: the first window holds rows and columns 0 and 1
    expected = np.zeros((4, 4))
    expected[:2, :2] = 1 / 4
    np.testing.assert_allclose(found[0, :, :, 0], expected, atol=1e-6)


def test_zero_padding_in_front_of_max_pooling_is_no_player():
    inputs = keras.Input((2, 2, 1))
    model = keras.Model(inputs, layers.MaxPooling2D(2)(layers.ZeroPadding2D(1)(inputs)))
    padded = np.pad(-np.ones((1, 2, 2, 1)), [(0, 0), (1, 1), (1, 1), (0, 0)])
    (found,) = propagate(rules.Airport(), trace(model).calls[-1], [padded], np.ones((1, 2, 2, 1)))
    np.testing.assert_allclose(found[0, 1:3, 1:3, 0], 1)
    np.testing.assert_allclose(found.sum(), 4)


@pytest.mark.parametrize("layer", [layers.AveragePooling2D(2, padding="same"), layers.GlobalAveragePooling2D()])
def test_average_pooling_shares_in_proportion(layer, rng):
    x = rng.uniform(1, 2, size=(2, 5, 5, 3))
    relevance = rng.normal(size=layer.compute_output_shape((2, 5, 5, 3)))
    (found,) = propagate(rules.Proportional(), call_of(layer, (5, 5, 3)), [x], relevance)
    if isinstance(layer, layers.GlobalAveragePooling2D):
        np.testing.assert_allclose(found, x / x.sum(axis=(1, 2), keepdims=True) * relevance[:, None, None], rtol=1e-4)
    np.testing.assert_allclose(found.sum(axis=(1, 2)), relevance.reshape(2, -1, 3).sum(axis=1), rtol=1e-4, atol=1e-5)


def test_addends_share_in_proportion_also_when_they_broadcast(rng):
    one, other = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 1, 4))
    relevance = rng.normal(size=(2, 3, 4))
    a, b = propagate(rules.Sum(), call_of(layers.Add(), (3, 4), (1, 4)), [one, other], relevance)
    np.testing.assert_allclose(a, one / (one + other) * relevance, rtol=1e-3)
    np.testing.assert_allclose(b, (other / (one + other) * relevance).sum(axis=1, keepdims=True), rtol=1e-3)


@pytest.mark.parametrize("layer", [layers.Add(), layers.Subtract(), layers.Average()])
def test_addends_can_share_by_their_absolute_values(layer, rng):
    one, other = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 1, 4))
    one[0, 0, 0] = other[0, 0, 0] = 0
    relevance = rng.normal(size=(2, 3, 4))
    a, b = propagate(rules.AbsoluteSum(), call_of(layer, (3, 4), (1, 4)), [one, other], relevance)
    size = np.abs(one) + np.abs(other)
    share = np.where(size > 0, np.abs(one) / np.where(size > 0, size, 1), 1 / 2)
    np.testing.assert_allclose(a, share * relevance, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(b, ((1 - share) * relevance).sum(axis=1, keepdims=True), rtol=1e-4, atol=1e-5)


def test_a_constant_addend_is_no_player(rng):
    inputs = keras.Input((4,))
    (call,) = trace(keras.Model(inputs, inputs + 5.0)).calls
    relevance = rng.normal(size=(2, 4))
    (found,) = propagate(rules.Sum(), call, [rng.normal(size=(2, 4))], relevance)
    np.testing.assert_allclose(found, relevance, rtol=1e-6)


@pytest.mark.parametrize("rule", [rules.Sum(), rules.AbsoluteSum()])
def test_of_several_addends_a_constant_one_is_no_player(rule, rng):
    inputs, constant = keras.Input((4,)), rng.normal(size=(1, 4)).astype("float32")
    model = keras.Model(inputs, layers.Add()([inputs, 2.0 * inputs, constant]))
    relevance, x = rng.normal(size=(2, 4)), rng.normal(size=(2, 4))
    found = propagate(rule, trace(model).calls[-1], [x, 2 * x], relevance)
    np.testing.assert_allclose(found[0], relevance / 3, rtol=1e-4)
    np.testing.assert_allclose(found[1], relevance * 2 / 3, rtol=1e-4)


def test_of_several_factors_a_constant_one_is_no_player(rng):
    inputs, constant = keras.Input((4,)), rng.normal(size=(1, 4)).astype("float32")
    model = keras.Model(inputs, layers.Multiply()([inputs, inputs, constant]))
    relevance, x = rng.normal(size=(2, 4)), rng.normal(size=(2, 4))
    found = propagate(rules.EqualSplit(), trace(model).calls[-1], [x, x], relevance)
    np.testing.assert_allclose(found, [relevance / 2] * 2, rtol=1e-6)


def test_a_tensor_added_to_itself_gets_all(rng):
    inputs = keras.Input((4,))
    (call,) = trace(keras.Model(inputs, inputs + inputs)).calls
    x, relevance = rng.normal(size=(2, 4)), rng.normal(size=(2, 4))
    found = propagate(rules.Sum(), call, [x, x], relevance)
    np.testing.assert_allclose(sum(found), relevance, rtol=1e-5)


def test_factors_share_equally_as_shapley_values_do(rng):
    """The product of two factors is there when both are: each order gives it to the one that comes last."""
    one, gate = rng.normal(size=(2, 3, 3, 4)), rng.normal(size=(2, 1, 1, 4))
    relevance = rng.normal(size=(2, 3, 3, 4))
    a, b = propagate(rules.EqualSplit(), call_of(layers.Multiply(), (3, 3, 4), (1, 1, 4)), [one, gate], relevance)
    np.testing.assert_allclose(a, relevance / 2, rtol=1e-6)
    np.testing.assert_allclose(b, relevance.sum(axis=(1, 2), keepdims=True) / 2, rtol=1e-5, atol=1e-6)


def test_a_constant_factor_is_no_player(rng):
    inputs = keras.Input((4,))
    (call,) = trace(keras.Model(inputs, inputs * 3.0)).calls
    relevance = rng.normal(size=(2, 4))
    (found,) = propagate(rules.EqualSplit(), call, [rng.normal(size=(2, 4))], relevance)
    np.testing.assert_allclose(found, relevance, rtol=1e-6)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_upsampling_conserves(interpolation, rng):
    x, relevance = rng.uniform(1, 2, size=(2, 3, 4, 2)), rng.normal(size=(2, 6, 8, 2))
    call = call_of(layers.UpSampling2D(2, interpolation=interpolation), (3, 4, 2))
    (found,) = propagate(rules.Resize(), call, [x], relevance)
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
    (found,) = propagate(rules.CentredScale(), call, [x], relevance)
    np.testing.assert_allclose(found, messages.sum(axis=-2), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("groups, axis, shape", [(2, -1, (2, 3, 4)), (4, -1, (3, 4)), (1, -1, (4,)), (2, 1, (4, 3))])
def test_group_normalization_with_constant_deviation_is_its_dense_matrix(groups, axis, shape, rng):
    layer = layers.GroupNormalization(groups, axis=axis, beta_initializer=BIAS, gamma_initializer=BIAS)
    call = call_of(layer, shape)
    x = rng.normal(size=(2, *shape))
    gamma = keras.ops.convert_to_numpy(layer.gamma).astype("float64")
    relevance = rng.normal(size=x.shape)
    (found,) = propagate(rules.CentredScale(), call, [x], relevance)

    n = int(np.prod(shape))
    channel = (np.indices(shape)[axis % len(x.shape) - 1]).ravel()
    group = channel // (shape[axis if axis < 0 else axis - 1] // groups)
    for i in range(2):
        expected = np.zeros(n)
        flat = x[i].ravel()
        for j in range(n):
            members = np.flatnonzero(group == group[j])
            scale = gamma[channel[j]] / np.sqrt(flat[members].var() + layer.epsilon)
            z = np.zeros(n)
            z[members] = -flat[members] / len(members)
            z[j] += flat[j]
            y = scale * z.sum()
            expected += scale * z / y * relevance[i].ravel()[j]
        np.testing.assert_allclose(found[i].ravel(), expected, rtol=2e-3, atol=2e-4 * np.abs(expected).max())


@pytest.mark.parametrize("layer", [layers.UnitNormalization(), layers.RMSNormalization()])
def test_a_norm_without_a_centre_is_a_constant(layer, rng):
    relevance = rng.normal(size=(2, 4))
    (found,) = propagate(rules.CentredScale(), call_of(layer, (4,)), [rng.normal(size=(2, 4))], relevance)
    np.testing.assert_allclose(found, relevance, rtol=1e-6)


def test_a_token_takes_the_relevance_of_its_vector(rng):
    model = keras.Sequential([keras.Input((3,), dtype="int32"), layers.Embedding(7, 4)])
    relevance = rng.normal(size=(2, 3, 4))
    (found,) = propagate(rules.Lookup(), trace(model).calls[-1], [rng.integers(7, size=(2, 3))], relevance)
    np.testing.assert_allclose(found, relevance.sum(axis=2), rtol=1e-5)


def test_each_step_is_explained_as_it_is_alone(rng):
    """A convolution on the images of a film, and a Dense layer on the steps of a sequence."""
    x = rng.uniform(size=(2, 3, 4, 4, 2))
    conv, dense = layers.Conv2D(3, 3, activation="relu", bias_initializer=BIAS), layers.Dense(2, bias_initializer=BIAS)
    film = keras.Sequential([keras.Input((3, 4, 4, 2)), layers.TimeDistributed(conv), layers.Reshape((3, 12))])
    film.add(layers.TimeDistributed(dense, name="steps"))
    film.add(layers.GlobalAveragePooling1D())
    image = keras.Sequential([keras.Input((4, 4, 2)), conv, layers.Reshape((12,)), dense])
    found = ks.LRP(film).explain(x, 1)
    relevance = found.layers["steps"]
    for step in range(3):
        explainer = ks.LRP(image, head=lambda logits, target, step=step: ops.convert_to_tensor(relevance[:, step]))
        np.testing.assert_allclose(found.input[:, step], explainer.explain(x[:, step]).input, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "make, rule",
    [
        (lambda x: x / 255.0, rules.OneOperand()),
        (lambda x: x**2, rules.OneOperand()),
        (lambda x: 1.0 / x, rules.OneOperand()),
        (lambda x: ops.maximum(x, 1.5), rules.LargerOperand()),
    ],
)
def test_one_tensor_beside_constants_is_n_equal_to_1(make, rule, rng):
    inputs = keras.Input((4,))
    (call,) = trace(keras.Model(inputs, make(inputs))).calls
    relevance = rng.normal(size=(2, 4))
    (found,) = propagate(rule, call, [rng.uniform(1, 2, size=(2, 4))], relevance)
    np.testing.assert_allclose(found, relevance, rtol=1e-6)


def test_a_quotient_of_tensors_has_no_rule(rng):
    one, other = keras.Input((4,)), keras.Input((4,))
    (call,) = trace(keras.Model([one, other], one / other)).calls
    with pytest.raises(ValueError, match=r"OneOperand.*(Divide|TrueDivide)\) of 2 tensors"):
        propagate(rules.OneOperand(), call, [rng.normal(size=(2, 4))] * 2, rng.normal(size=(2, 4)))


@pytest.mark.parametrize("make", [layers.Maximum(), lambda pair: ops.maximum(*pair)])
def test_the_larger_of_two_tensors_takes_all(make, rng):
    one, other = keras.Input((4,)), keras.Input((4,))
    (call,) = trace(keras.Model([one, other], make([one, other]))).calls
    a, b, relevance = (rng.normal(size=(2, 4)) for _ in range(3))
    found = propagate(rules.LargerOperand(), call, [a, b], relevance)
    np.testing.assert_allclose(found[0], np.where(a > b, relevance, 0))
    np.testing.assert_allclose(found[1], np.where(a > b, 0, relevance))


MOVES = {
    "reshape": lambda x: ops.reshape(x, (-1, 6)),
    "transpose": lambda x: ops.transpose(x, (0, 2, 1)),
    "get_item": lambda x: x[:, 1:, 0],
    "expand_and_squeeze": lambda x: ops.squeeze(ops.expand_dims(x, 1), 1),
    "stack": lambda x: ops.stack([x, x], axis=1),
    "flip": lambda x: ops.flip(x, axis=1),
    "repeat": lambda x: ops.repeat(x, 2, axis=1),
    "split": lambda x: ops.split(x, 3, axis=2)[1],
    "unstack": lambda x: ops.unstack(x, axis=1)[0],
    "mean": lambda x: ops.mean(x, axis=1),
    "sum": lambda x: ops.sum(x, axis=2),
    "max": lambda x: ops.max(x, axis=1),
    "einsum": lambda x: ops.einsum("bij->bj", x),
    "arithmetic": lambda x: -((x - 1.0) * 2.0 + 3.0) / 4.0,
    "slice": lambda x: ops.slice(x, (0, 1, 0), (2, 1, 3)),
}


@pytest.mark.parametrize("name", MOVES)
def test_operations_in_a_graph_lose_nothing(name, rng):
    """`keras.ops` between layers: what is dealt out arrives, and only at the elements that were used."""
    x = keras.Input((2, 3), batch_size=2)
    y = MOVES[name](x)
    model = keras.Model(x, layers.Dense(2, bias_initializer=BIAS)(layers.Flatten()(y)))
    data = rng.uniform(1, 2, size=(2, 2, 3))
    found = ks.LRP(model).explain(data, 1)
    np.testing.assert_allclose(found.input.sum(axis=(1, 2)), found.head_total, rtol=1e-3, atol=1e-3)
    for index in np.ndindex(2, 3):
        other = data.copy()
        other[(slice(None), *index)] += 0.01
        unused = np.allclose(ops.convert_to_numpy(model(other)), ops.convert_to_numpy(model(data)), atol=1e-7)
        assert unused == (not found.input[(slice(None), *index)].any())


def elementwise(cls):
    """An operation of a type that relevance passes through."""
    arguments = {
        "Activation": ("gelu",),
        "Rescaling": (2.0,),
        "Clip": (-1.0, 1.0),
        "Cast": ("float32",),
        "Threshold": (0.5, 0.0),
        "LayerScale": (1.0, 3),
    }
    arguments |= dict.fromkeys(("Dropout", "AlphaDropout", "GaussianDropout", "GaussianNoise"), (0.5,))
    return cls(*arguments.get(cls.__name__, ()))


OTHERS = ("Attach", "Random", "Spatial", "Stochastic")
PASSED = [cls for cls in ks.presets.ELEMENTWISE if not cls.__name__.startswith(OTHERS)]


@pytest.mark.parametrize("cls", PASSED, ids=lambda cls: f"{cls.__module__.split('.')[-1]}.{cls.__name__}")
def test_what_relevance_passes_unchanged_mixes_no_elements(cls, rng):
    """Each output changes with its own input alone."""
    op = elementwise(cls)
    call = call_of(op, (2, 3))
    x = rng.uniform(0.1, 0.9, size=(1, 2, 3)).astype("float32")
    before = ops.convert_to_numpy(call(ops.convert_to_tensor(x)))
    for index in np.ndindex(2, 3):
        other = x.copy()
        other[(0, *index)] += 0.05
        changed = ops.convert_to_numpy(call(ops.convert_to_tensor(other))) != before
        changed[(0, *index)] = False
        assert not changed.any()


@pytest.mark.parametrize(
    "cls", [layers.RandomFlip, layers.RandomContrast, layers.RandomRotation, layers.SpatialDropout2D]
)
def test_augmentation_does_nothing_in_inference(cls, rng):
    layer = cls() if cls is layers.RandomFlip else cls(0.3)
    model = keras.Sequential([keras.Input((4, 4, 3)), layer, layers.Flatten(), layers.Dense(2)])
    x = rng.uniform(size=(2, 4, 4, 3)).astype("float32")
    plain = keras.Sequential([keras.Input((4, 4, 3)), *model.layers[1:]])
    np.testing.assert_allclose(ks.LRP(model).explain(x, 0).input, ks.LRP(plain).explain(x, 0).input, rtol=1e-6)


def test_elements_that_move_take_their_relevance_along(rng):
    one, other = rng.normal(size=(2, 3, 2)), rng.normal(size=(2, 3, 5))
    relevance = rng.normal(size=(2, 3, 7))
    a, b = propagate(rules.Move(), call_of(layers.Concatenate(), (3, 2), (3, 5)), [one, other], relevance)
    np.testing.assert_allclose(np.concatenate([a, b], axis=2), relevance, rtol=1e-6)
    (back,) = propagate(rules.Move(), call_of(layers.Reshape((6,)), (3, 2)), [one], rng.normal(size=(2, 6)))
    assert back.shape == one.shape


def test_pass_refuses_what_mixes_elements(rng):
    call = call_of(layers.GlobalAveragePooling1D(), (3, 4))
    with pytest.raises(ValueError, match=r"Pass.*'global_average_pooling1d.*\(GlobalAveragePooling1D\)"):
        propagate(rules.Pass(), call, [rng.normal(size=(2, 3, 4))], rng.normal(size=(2, 4)))
