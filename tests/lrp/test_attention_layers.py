"""Attention layers against the multi-head layer with the same numbers, and against the operations inside."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_shapley as ks

WALKS = ["auto", "paper"]
# of the largest relevance; the quadrature of the slope of tanh has two branches
ATOL = 1e-3


def functional(function, shape=(5, 4)):
    x = keras.Input(shape)
    return keras.Model(x, layers.Dense(2, name="last")(layers.Flatten()(function(x))))


def assert_same_relevance(model, other, rules, rng):
    other.get_layer("last").set_weights(model.get_layer("last").get_weights())
    x = rng.normal(size=(3, 5, 4)).astype("float32")
    np.testing.assert_allclose(model.predict(x, verbose=0), other.predict(x, verbose=0), atol=1e-5)
    ours, expected = (ks.LRP(each, rules=rules).explain(x, 1).input for each in (model, other))
    np.testing.assert_allclose(ours, expected, atol=ATOL * np.abs(expected).max())


@pytest.mark.parametrize("rules", WALKS)
def test_grouped_queries_are_heads_with_copies_of_keys_and_values(rules, rng):
    grouped = layers.GroupQueryAttention(3, 4, 2)
    model = functional(lambda x: grouped(x, x))
    grouped.set_weights([rng.normal(size=weight.shape) for weight in grouped.get_weights()])
    heads = layers.MultiHeadAttention(4, 3)
    other = functional(lambda x: heads(x, x))
    # kernel and bias of query, key, value and output; heads are the axis before the last
    weights = grouped.get_weights()
    repeated = [np.repeat(weight, 2, axis=-2) for weight in weights[2:6]]
    heads.set_weights([*weights[:2], *repeated, *weights[6:]])
    assert_same_relevance(model, other, rules, rng)


@pytest.mark.parametrize("rules", WALKS)
def test_dot_product_attention_is_one_head_without_dense_layers(rules, rng):
    attention = layers.Attention(use_scale=True)
    query, key, value = (layers.Dense(4, name=name) for name in ("q", "k", "v"))
    model = functional(lambda x: attention([query(x), value(x), key(x)]))
    attention.set_weights([np.array(0.5)])
    heads = layers.MultiHeadAttention(1, 4, use_bias=False)
    other = functional(lambda x: heads(query(x), value(x), key(x)))
    identity = np.eye(4)
    heads.set_weights([*[identity[:, None]] * 3, identity[None]])
    assert_same_relevance(model, other, rules, rng)


def additive(q, k, weight, scale):
    tanh = ops.tanh((ops.expand_dims(q, 2) + ops.expand_dims(k, 1)) * scale)
    scores = ops.sum(tanh * weight, axis=-1)
    return ops.matmul(ops.softmax(scores), k)


@pytest.mark.parametrize("kind", ["additive", "concat"])
@pytest.mark.parametrize("rules", WALKS)
def test_scores_by_sums_are_those_of_their_operations(kind, rules, rng):
    # behind an activation, an element is one player
    query, key = layers.Dense(3, "tanh", name="q"), layers.Dense(3, "tanh", name="k")
    if kind == "additive":
        attention, weight, scale = layers.AdditiveAttention(), rng.normal(size=3).astype("float32"), 1.0
        weights = [weight]
    else:
        attention, weight, scale = layers.Attention(use_scale=True, score_mode="concat"), 0.7, 1.3
        weights = [scale, weight]
    model = functional(lambda x: attention([query(x), key(x)]))
    attention.set_weights([np.asarray(each) for each in weights])
    other = functional(lambda x: additive(query(x), key(x), weight, scale))
    assert_same_relevance(model, other, rules, rng)


@pytest.mark.parametrize("rules", WALKS)
@pytest.mark.parametrize("layer", [layers.Attention, layers.AdditiveAttention])
def test_steps_that_a_mask_hides_have_no_relevance(layer, rules, rng):
    """Masks that Keras attaches, of queries and of keys."""
    steps = keras.Input((5, 4))
    y = layer()([layers.Masking(-1.0)(steps)] * 2)
    model = keras.Model(steps, layers.Dense(2)(layers.GlobalAveragePooling1D()(y)))
    x = rng.normal(size=(3, 5, 4)).astype("float32")
    x[0, 3:] = -1
    explanation = ks.LRP(model, rules=rules).explain(x, 1)
    np.testing.assert_allclose(explanation.input[0, 3:], 0, atol=1e-7)
    assert np.abs(explanation.input[0, :3]).min() > 0
    np.testing.assert_allclose(explanation.output, model.predict(x, verbose=0), atol=1e-5)
    if rules == "auto":
        np.testing.assert_allclose(explanation.input.sum((1, 2)), explanation.head_total, atol=1e-5)
        total = explanation.head_total + explanation.head_baseline
        np.testing.assert_allclose(total, explanation.output[:, 1], atol=1e-5)


def test_a_query_beside_a_constant_memory(rng):
    memory = rng.normal(size=(1, 6, 4)).astype("float32")

    def read(x):
        return layers.GroupQueryAttention(3, 2, 1)(x, ops.broadcast_to(memory, (3, 6, 4)))

    model = functional(read)
    x = rng.normal(size=(3, 5, 4)).astype("float32")
    explanation = ks.LRP(model).explain(x, 0)
    difference = model.predict(x, verbose=0)[:, 0] - model.predict(np.zeros_like(x), verbose=0)[:, 0]
    np.testing.assert_allclose(explanation.input.sum((1, 2)), difference, atol=1e-5)


CLOSED = np.array([[[0, 0, 0], [1, 1, 0], [1, 1, 1]]], bool)


@pytest.mark.filterwarnings("ignore:Layer 'flatten")
@pytest.mark.parametrize(
    "layer",
    [
        lambda x: layers.Softmax()(x[:, :, :3], mask=ops.convert_to_tensor(CLOSED)),
        lambda x: layers.MultiHeadAttention(2, 2)(x, x, attention_mask=ops.convert_to_tensor(CLOSED)),
        lambda x: layers.MultiHeadAttention(2, 2, dropout=0.1)(x, x, attention_mask=ops.convert_to_tensor(CLOSED)),
        lambda x: layers.GroupQueryAttention(2, 2, 1)(x, x, attention_mask=ops.convert_to_tensor(CLOSED)),
        lambda x: layers.Attention()([x, x], use_causal_mask=True),
    ],
    ids=["Softmax", "MultiHeadAttention", "with dropout", "GroupQueryAttention", "Attention"],
)
def test_a_row_that_a_mask_closes_takes_nothing_away(layer, rng):
    """What Keras makes of such a row, zeros or the mean of all values, has the relevance of what it depends on."""
    inputs = keras.Input((3, 4))
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(layer(inputs))))
    x = rng.normal(size=(2, 3, 4)).astype("float32")
    explanation = ks.LRP(model).explain(x, 0)
    total = model.predict(x, verbose=0)[:, 0] - model.predict(0 * x, verbose=0)[:, 0]
    np.testing.assert_allclose(explanation.head_total, total, atol=1e-5)
    np.testing.assert_allclose(explanation.input.sum(axis=(1, 2)), total, atol=1e-4)
