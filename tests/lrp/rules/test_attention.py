"""Attention, products and softmaxes against loops over the formulas, in float64; small transformers as wholes."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from reference.calls import BIAS, propagate
from reference.layer_cases import gated_attention

import keras_shapley as ks
from keras_shapley.lrp.rules import Attention, Bilinear, Epsilon, SoftmaxTaylor
from keras_shapley.models.tracing import trace


def last_call(outputs, *inputs):
    return trace(keras.Model(list(inputs), outputs)).calls[-1]


def dense(x, w, b, relevance, distribute):
    """Relevance of the vector `x` under eq. (2), or LRP-epsilon, and what the layer gives."""
    u = x @ w + b
    share = b / len(x) if distribute else 0
    return ((x[:, None] * w + share) / u * relevance).sum(axis=1), u


def attention_by_loops(layer, query, value, key, mask, relevance, distribute):
    """Relevance of query, value and key of one image, step by step."""
    (wq, bq), (wk, bk), (wv, bv), (wo, bo) = (
        [ops.convert_to_numpy(w).astype("float64") for w in d.weights]
        for d in (layer.query_dense, layer.key_dense, layer.value_dense, layer.output_dense)
    )
    heads, dim = bq.shape
    q, k, v = (np.einsum("td,dhe->the", x, w) + b for x, w, b in ((query, wq, bq), (key, wk, bk), (value, wv, bv)))
    n_q, n_k = len(query), len(key)
    scores = np.einsum("qhe,khe->hqk", q, k) / np.sqrt(dim)
    exps = np.where(mask, np.exp(scores), 0)
    weights = exps / exps.sum(axis=-1, keepdims=True)
    mixed = np.einsum("hqk,khe->qhe", weights, v)

    r_q, r_k, r_v = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
    for t in range(n_q):
        r_mixed, _ = dense(mixed[t].ravel(), wo.reshape(-1, wo.shape[-1]), bo, relevance[t], distribute)
        r_mixed = r_mixed.reshape(heads, -1)
        for h in range(heads):
            r_weights = np.zeros(n_k)
            for j in range(n_k):
                for e in range(v.shape[2]):
                    half = weights[h, t, j] * v[j, h, e] / (2 * mixed[t, h, e]) * r_mixed[h, e]
                    r_weights[j] += half
                    r_v[j, h, e] += half
            r_scores = [scores[h, t, j] * (r_weights[j] - weights[h, t, j] * r_weights.sum()) for j in range(n_k)]
            for j in range(n_k):
                for e in range(dim):
                    half = q[t, h, e] * k[j, h, e] / np.sqrt(dim) / (2 * scores[h, t, j]) * r_scores[j]
                    r_q[t, h, e] += half
                    r_k[j, h, e] += half

    def back(x, w, b, r):
        flat = w.reshape(w.shape[0], -1)
        return np.stack([dense(row, flat, b.ravel(), r[i].ravel(), distribute)[0] for i, row in enumerate(x)])

    return back(query, wq, bq, r_q), back(value, wv, bv, r_v), back(key, wk, bk, r_k)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("rule", [Attention(), Attention(Epsilon(1e-9))])
def test_attention_follows_its_formulas(rule, masked, rng):
    layer = layers.MultiHeadAttention(2, 3, value_dim=4, bias_initializer=BIAS)
    query, value, key = keras.Input((3, 5)), keras.Input((4, 6)), keras.Input((4, 7))
    mask = np.ones((2, 3, 4), bool)
    if masked:
        mask[:, :, 3] = mask[:, 0, 1] = False
    mask_input = keras.Input((3, 4))
    inputs = [query, value, key, mask_input]
    graph = trace(keras.Model(inputs, layer(query, value, key=key, attention_mask=mask_input)))
    x = [rng.normal(size=(2, 3, 5)), rng.normal(size=(2, 4, 6)), rng.normal(size=(2, 4, 7))]
    relevance = rng.normal(size=(2, 3, 5))
    # the order of keyword arguments is the backend's
    call, given = graph.calls[-1], dict(zip(graph.inputs, [*x, mask]))
    explanation = dict(zip(call.inputs, propagate(rule, call, [given[v] for v in call.inputs], relevance)))
    explanation = [explanation[value] for value in graph.inputs]
    for i in range(2):
        distribute = not isinstance(rule.rule, Epsilon) or isinstance(rule.rule, ks.rules.Shapley)
        expected = attention_by_loops(layer, *(part[i] for part in x), mask[i], relevance[i], distribute)
        for ours, theirs in zip(explanation, expected):
            np.testing.assert_allclose(ours[i], theirs, rtol=2e-3, atol=2e-4 * np.abs(theirs).max())
    assert not explanation[3].any()


def test_self_attention_collects_what_query_key_and_value_get(rng):
    layer = layers.MultiHeadAttention(2, 3, bias_initializer=BIAS)
    x = keras.Input((4, 5))
    data, relevance = rng.normal(size=(1, 4, 5)), rng.normal(size=(1, 4, 5))
    shares = propagate(Attention(), last_call(layer(x, x, use_causal_mask=True), x), [data] * 2, relevance)
    expected = attention_by_loops(layer, *[data[0]] * 3, np.tri(4, dtype=bool), relevance[0], True)
    np.testing.assert_allclose(sum(shares)[0], sum(expected), rtol=2e-3, atol=2e-4 * np.abs(sum(expected)).max())


@pytest.mark.parametrize("make", [lambda a, b: ops.matmul(a, b), lambda a, b: layers.Dot(axes=(2, 1))([a, b])])
def test_a_matrix_product_halves_and_distributes_in_proportion(make, rng):
    left, right = keras.Input((3, 4)), keras.Input((4, 2))
    a, v, relevance = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 4, 2)), rng.normal(size=(2, 3, 2))
    shares = propagate(Bilinear(), last_call(make(left, right), left, right), [a, v], relevance)
    terms = np.einsum("bij,bjp,bip->bijp", a, v, relevance / (2 * a @ v))
    np.testing.assert_allclose(shares[0], terms.sum(axis=3), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(shares[1], terms.sum(axis=1), rtol=1e-3, atol=1e-4)


def test_a_product_with_a_constant_matrix_is_a_linear_layer(rng):
    x, w = keras.Input((3,)), rng.normal(size=(3, 2)).astype("float32")
    data, relevance = rng.normal(size=(2, 3)), rng.normal(size=(2, 2))
    (r_in,) = propagate(Bilinear(), last_call(ops.matmul(x, w), x), [data], relevance)
    for i in range(2):
        np.testing.assert_allclose(r_in[i], dense(data[i], w, np.zeros(2), relevance[i], True)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [lambda x: layers.Softmax(axis=1)(x), lambda x: ops.softmax(x, axis=1)])
def test_softmax_inside_a_network_follows_its_taylor_expansion(make, rng):
    x = keras.Input((4, 2))
    data, relevance = rng.normal(size=(3, 4, 2)), rng.normal(size=(3, 4, 2))
    (r_in,) = propagate(SoftmaxTaylor(), last_call(make(x), x), [data], relevance)
    s = np.exp(data) / np.exp(data).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(r_in, data * (relevance - s * relevance.sum(axis=1, keepdims=True)), atol=1e-5)


def transformer(x):
    """Two blocks, normalised before attention and before the MLP."""
    for _ in range(2):
        y = layers.LayerNormalization(beta_initializer=BIAS)(x)
        x = layers.Add()([x, layers.MultiHeadAttention(2, 4, bias_initializer=BIAS)(y, y)])
        y = layers.LayerNormalization(beta_initializer=BIAS)(x)
        y = layers.Dense(16, "gelu", bias_initializer=BIAS)(y)
        x = layers.Add()([x, layers.Dense(8, bias_initializer=BIAS)(y)])
    return x


def test_a_small_vision_transformer_is_explained(rng):
    image = keras.Input((8, 8, 3))
    x = layers.Reshape((4, 8))(layers.Conv2D(8, 4, strides=4)(image))
    x = x + rng.normal(size=(4, 8)).astype("float32")
    x = layers.GlobalAveragePooling1D()(transformer(x))
    model = keras.Model(image, layers.Dense(3, "softmax")(x))
    explanation = ks.LRP(model, rules="paper").explain(rng.uniform(size=(2, 8, 8, 3)))
    assert np.isfinite(explanation.input).all() and np.abs(explanation.input).max() > 0
    # attention's softmax loses relevance, and says so; nothing else does
    lossy = {name for name, (_, gap) in explanation.conservation_gap.summary().items() if gap[1] > 0.01}
    assert lossy <= {call.name for call in trace(model).calls if isinstance(call.op, layers.MultiHeadAttention)}
    missing = explanation.head_total - explanation.input.sum(axis=(1, 2, 3))
    np.testing.assert_allclose(
        sum(explanation.conservation_gap.signed.values()), missing, atol=1e-3 * np.abs(missing).max()
    )


def test_a_text_classifier_is_explained_token_by_token(rng):
    """Padding, which every layer masks, has no part; so a longer padding changes nothing."""
    tokens = keras.Input((None,), dtype="int32")
    x = layers.Embedding(20, 8, mask_zero=True)(tokens)
    x = layers.GlobalAveragePooling1D()(transformer(x))
    model = keras.Model(tokens, layers.Dense(3, "softmax", bias_initializer=BIAS)(x))
    text = np.array([[3, 7, 9, 0, 0], [4, 4, 1, 2, 0]])
    outputs = [ops.convert_to_numpy(model(t)) for t in (np.pad(text, [(0, 0), (0, 2)]), text)]
    np.testing.assert_allclose(*outputs, atol=1e-5)
    explainer = ks.LRP(model, rules="paper")
    explanation = explainer.explain(text, 1)
    assert explanation.input.shape == text.shape
    np.testing.assert_allclose(explanation.input[text == 0], 0, atol=1e-6)
    assert (np.abs(explanation.input[text > 0]) > 1e-6).all()
    longer = explainer.explain(np.pad(text, [(0, 0), (0, 2)]), 1)
    np.testing.assert_allclose(
        longer.input[:, :5], explanation.input, rtol=1e-3, atol=1e-4 * np.abs(explanation.input).max()
    )
    alone = explainer.explain(text[:1, :3], 1)
    np.testing.assert_allclose(
        alone.input[0], explanation.input[0, :3], rtol=1e-3, atol=1e-4 * np.abs(explanation.input).max()
    )


def test_a_constant_query_receives_nothing(rng):
    """As the learned queries of a pooling by attention, which the values answer."""
    x, query = keras.Input((4, 5)), rng.normal(size=(1, 3, 5)).astype("float32")
    layer = layers.MultiHeadAttention(2, 3, bias_initializer=BIAS)
    call = last_call(layer(ops.convert_to_tensor(query), x), x)
    data, relevance = rng.normal(size=(1, 4, 5)), rng.normal(size=(1, 3, 5))
    (r_in,) = propagate(Attention(), call, [data], relevance)
    _, value, key = attention_by_loops(layer, query[0], data[0], data[0], np.ones((3, 4), bool), relevance[0], True)
    np.testing.assert_allclose(r_in[0], value + key, rtol=2e-3, atol=2e-4 * np.abs(value + key).max())


def test_softmax_as_an_activation_layer_inside_is_expanded_too(rng):
    by_layer, by_activation = (
        keras.Sequential([keras.Input((4,)), soft, layers.Dense(2)])
        for soft in (layers.Softmax(), layers.Activation("softmax"))
    )
    by_activation.set_weights(by_layer.get_weights())
    x = rng.normal(size=(2, 4))
    np.testing.assert_allclose(
        ks.LRP(by_layer, rules="paper").explain(x, 0).input,
        ks.LRP(by_activation, rules="paper").explain(x, 0).input,
        rtol=1e-5,
    )


def test_attention_refuses_what_it_cannot_follow(rng):
    x = keras.Input((4, 5))
    layer = gated_attention(layers.MultiHeadAttention, 2, 3, name="attention")
    model = keras.Sequential([keras.Input((4, 5)), layers.Flatten(), layers.Dense(2)])
    with pytest.raises(ValueError, match="gate.*'attention'"):
        ks.LRP(keras.Model(x, model(layer(x, x))), rules="paper")
    scored, _ = layers.MultiHeadAttention(2, 3, name="attention")(x, x, return_attention_scores=True)
    with pytest.raises(ValueError, match="'attention'.*2 outputs"):
        ks.LRP(keras.Model(x, model(scored)), rules="paper")
