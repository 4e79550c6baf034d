"""Rules for operations that move elements: relevance arrives where the elements came from, tried element by element."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from reference.calls import BIAS, call_of, propagate, total

import keras_shapley as ks
from keras_shapley import rules
from keras_shapley.models.tracing import trace


def test_elements_that_move_take_their_relevance_along(rng):
    a, b = rng.normal(size=(2, 3, 2)), rng.normal(size=(2, 3, 5))
    relevance = rng.normal(size=(2, 3, 7))
    r_a, r_b = propagate(rules.Move(), call_of(layers.Concatenate(), (3, 2), (3, 5)), [a, b], relevance)
    np.testing.assert_allclose(np.concatenate([r_a, r_b], axis=2), relevance, rtol=1e-6)
    (back,) = propagate(rules.Move(), call_of(layers.Reshape((6,)), (3, 2)), [a], rng.normal(size=(2, 6)))
    assert back.shape == a.shape


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
    """`keras.ops` between layers: all relevance arrives, and only at the elements that were used."""
    x = keras.Input((2, 3), batch_size=2)
    y = MOVES[name](x)
    model = keras.Model(x, layers.Dense(2, bias_initializer=BIAS)(layers.Flatten()(y)))
    data = rng.uniform(1, 2, size=(2, 2, 3))
    explanation = ks.LRP(model, rules="paper").explain(data, 1)
    np.testing.assert_allclose(explanation.input.sum(axis=(1, 2)), explanation.head_total, rtol=1e-3, atol=1e-3)
    for index in np.ndindex(2, 3):
        shifted = data.copy()
        shifted[(slice(None), *index)] += 0.01
        unused = np.allclose(ops.convert_to_numpy(model(shifted)), ops.convert_to_numpy(model(data)), atol=1e-7)
        assert unused == (not explanation.input[(slice(None), *index)].any())


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_upsampling_conserves(interpolation, rng):
    x, relevance = rng.uniform(1, 2, size=(2, 3, 4, 2)), rng.normal(size=(2, 6, 8, 2))
    call = call_of(layers.UpSampling2D(2, interpolation=interpolation), (3, 4, 2))
    (r_in,) = propagate(rules.Resize(), call, [x], relevance)
    np.testing.assert_allclose(r_in.sum(axis=(1, 2)), relevance.sum(axis=(1, 2)), rtol=1e-4, atol=1e-4)
    # the layer as a matrix, from its outputs for unit images
    units = np.eye(12).reshape(12, 3, 4, 1)
    matrix = ops.convert_to_numpy(layers.UpSampling2D(2, interpolation=interpolation)(units)).reshape(12, 48)
    rows = x.transpose(0, 3, 1, 2).reshape(4, 12)
    shares = rows[:, :, None] * matrix / (rows @ matrix)[:, None]
    expected = np.einsum("bko,bo->bk", shares, relevance.transpose(0, 3, 1, 2).reshape(4, 48))
    np.testing.assert_allclose(r_in.transpose(0, 3, 1, 2).reshape(4, 12), expected, rtol=1e-3, atol=1e-4)


def test_a_token_takes_the_relevance_of_its_vector(rng):
    model = keras.Sequential([keras.Input((3,), dtype="int32"), layers.Embedding(7, 4)])
    relevance = rng.normal(size=(2, 3, 4))
    (r_in,) = propagate(rules.Lookup(), trace(model).calls[-1], [rng.integers(7, size=(2, 3))], relevance)
    np.testing.assert_allclose(r_in, relevance.sum(axis=2), rtol=1e-5)


def test_a_constant_table_is_looked_up_in(rng):
    tokens = keras.Input((4,), dtype="int32")
    table = rng.normal(size=(5, 3)).astype("float32")
    model = keras.Model(tokens, layers.Dense(2)(layers.Flatten()(ops.take(table, tokens, axis=0))))
    explanation = ks.LRP(model, rules="paper").explain(np.array([[0, 1, 4, 4]]), 0)
    np.testing.assert_allclose(explanation.input.sum(axis=1), explanation.head_total, rtol=1e-4)


def test_masks_and_indices_receive_nothing(rng):
    """No relevance can reach the input through a comparison, so a factor made from one is a constant."""
    x = keras.Input((4, 3))
    kept = ops.cast(x > 1.2, "float32")
    z = layers.Multiply()([ops.take(x, [2, 0], axis=1), kept[:, :2]])
    model = keras.Model(x, layers.Dense(2, use_bias=False)(layers.Flatten()(z)))
    explanation = ks.LRP(model, rules="paper").explain(rng.uniform(1, 2, size=(2, 4, 3)), 0)
    assert not explanation.input[:, [1, 3]].any() and explanation.input[:, [0, 2]].any()
    np.testing.assert_allclose(total(explanation.input), explanation.head_total, rtol=1e-4)


def test_each_step_is_explained_as_it_is_alone(rng):
    """A convolution on the images of a film, and a Dense layer on the steps of a sequence."""
    x = rng.uniform(size=(2, 3, 4, 4, 2))
    conv, dense = layers.Conv2D(3, 3, activation="relu", bias_initializer=BIAS), layers.Dense(2, bias_initializer=BIAS)
    film = keras.Sequential([keras.Input((3, 4, 4, 2)), layers.TimeDistributed(conv), layers.Reshape((3, 12))])
    film.add(layers.TimeDistributed(dense, name="steps"))
    film.add(layers.GlobalAveragePooling1D())
    image = keras.Sequential([keras.Input((4, 4, 2)), conv, layers.Reshape((12,)), dense])
    explanation = ks.LRP(film, rules="paper").explain(x, 1)
    relevance = explanation.layers["steps"]
    for step in range(3):
        explainer = ks.LRP(
            image, rules="paper", head=lambda logits, target, step=step: ops.convert_to_tensor(relevance[:, step])
        )
        np.testing.assert_allclose(
            explanation.input[:, step], explainer.explain(x[:, step]).input, rtol=1e-3, atol=1e-5
        )


def test_padding_of_a_sequence_does_not_pad_its_steps(rng):
    """ZeroPadding3D in front of TimeDistributed: relevance is conserved but for what falls on the padding."""
    model = keras.Sequential(
        [
            keras.Input((2, 4, 4, 1)),
            layers.ZeroPadding3D((1, 0, 0)),
            layers.TimeDistributed(layers.Conv2D(2, 3, padding="same", use_bias=False)),
            layers.Flatten(),
            layers.Dense(2, use_bias=False),
        ]
    )
    explanation = ks.LRP(model, rules="paper").explain(rng.normal(size=(3, 2, 4, 4, 1)))
    np.testing.assert_allclose(explanation.input.reshape(3, -1).sum(axis=1), explanation.head_total, rtol=1e-4)
