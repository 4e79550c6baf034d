"""Recurrent layers under rules as they were published, against loops over Arras et al. (2019) in float64."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_shapley as ks

LENGTH, FEATURES, UNITS = 5, 2, 3

LAYERS = {
    "SimpleRNN": lambda **options: layers.SimpleRNN(UNITS, **options),
    "LSTM": lambda **options: layers.LSTM(UNITS, **options),
    "LSTM, no bias": lambda **options: layers.LSTM(UNITS, use_bias=False, **options),
    "GRU": lambda **options: layers.GRU(UNITS, **options),
    "GRU, reset before": lambda **options: layers.GRU(UNITS, reset_after=False, **options),
}
# the share of the bias that the inputs of a neuron receive, delta in Arras et al. (2017)
DELTA = {"paper": 1.0, "epsilon": 0.0}
EPSILON = 0.01


def model_of(rng, *parts, shape=(LENGTH, FEATURES), dtype="float32"):
    ends = layers.Flatten(dtype=dtype), layers.Dense(2, dtype=dtype)
    model = keras.Sequential([keras.Input(shape, dtype=dtype), *parts, *ends])
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape))
    return model


def weights_of(layer):
    return [ops.convert_to_numpy(w).astype("float64") for w in layer.weights]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def of_sum(addends, bias, relevance, delta):
    """The relevance of each addend of a sum: eq. (6) of Arras et al. (2017), one neuron at a time."""
    total = sum(addends) + bias
    total += EPSILON if total >= 0 else -EPSILON
    return [(addend + delta * bias / len(addends)) / total * relevance for addend in addends]


def of_dense(x, w, b, relevance, delta):
    shares = np.zeros(len(x))
    for j in range(len(b)):
        shares += of_sum([x[k] * w[k, j] for k in range(len(x))], b[j], relevance[j], delta)
    return shares


def simple_by_loops(layer, x, relevance, delta):
    """Relevance of every step's input, from that of every step's output, of one sequence."""
    w, u, b = weights_of(layer)
    hs = [np.zeros(UNITS)]
    for t in range(len(x)):
        hs.append(np.tanh(x[t] @ w + hs[-1] @ u + b))
    shares, r_h = np.zeros_like(x), np.zeros(UNITS)
    for t in reversed(range(len(x))):
        r_h = r_h + relevance[t]
        r = of_dense(np.concatenate([x[t], hs[t]]), np.concatenate([w, u]), b, r_h, delta)
        shares[t], r_h = r[: x.shape[1]], r[x.shape[1] :]
    return shares


def lstm_by_loops(layer, x, relevance, delta):
    w, u, *b = weights_of(layer)
    b = b[0] if b else np.zeros(4 * UNITS)
    candidate = slice(2 * UNITS, 3 * UNITS)
    hs, cs, steps = [np.zeros(UNITS)], [np.zeros(UNITS)], []
    for t in range(len(x)):
        i, f, g, o = np.split(x[t] @ w + hs[-1] @ u + b, 4)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        steps.append((f * cs[-1], i * g))
        cs.append(f * cs[-1] + i * g)
        hs.append(o * np.tanh(cs[-1]))
    shares, r_h, r_c = np.zeros_like(x), np.zeros(UNITS), np.zeros(UNITS)
    for t in reversed(range(len(x))):
        # the output gate takes nothing, and the activation of the cell passes all
        r_c = r_c + r_h + relevance[t]
        r_g = np.zeros(UNITS)
        for j in range(UNITS):
            r_c[j], r_g[j] = of_sum([steps[t][0][j], steps[t][1][j]], 0.0, r_c[j], delta)
        kernel = np.concatenate([w, u])[:, candidate]
        r = of_dense(np.concatenate([x[t], hs[t]]), kernel, b[candidate], r_g, delta)
        shares[t], r_h = r[: x.shape[1]], r[x.shape[1] :]
    return shares


def gru_by_loops(layer, x, relevance, delta):
    w, u, b = weights_of(layer)
    b, b_h = b if layer.reset_after else (b, np.zeros(3 * UNITS))
    hs, steps = [np.zeros(UNITS)], []
    for t in range(len(x)):
        h, (z_x, r_x, n_x) = hs[-1], np.split(x[t] @ w + b, 3)
        z_h, r_h, n_h = np.split(h @ u + b_h, 3)
        z, r = sigmoid(z_x + z_h), sigmoid(r_x + r_h)
        n = np.tanh(n_x + (r * n_h if layer.reset_after else (r * h) @ u[:, 2 * UNITS :]))
        steps.append((z * h, (1 - z) * n, r))
        hs.append(z * h + (1 - z) * n)
    shares, r_h = np.zeros_like(x), np.zeros(UNITS)
    w_n, u_n = w[:, 2 * UNITS :], u[:, 2 * UNITS :]
    for t in reversed(range(len(x))):
        kept, added, reset = steps[t]
        r_kept, r_n = np.zeros(UNITS), np.zeros(UNITS)
        for j in range(UNITS):
            r_kept[j], r_n[j] = of_sum([kept[j], added[j]], 0.0, r_h[j] + relevance[t][j], delta)
        # the reset gate is a part of the weights of h, either of those that leave it or of those that arrive
        gated = u_n * reset if layer.reset_after else u_n * reset[:, None]
        bias = b[2 * UNITS :] + reset * b_h[2 * UNITS :]
        r = of_dense(np.concatenate([x[t], hs[t]]), np.concatenate([w_n, gated]), bias, r_n, delta)
        shares[t], r_h = r[: x.shape[1]], r_kept + r[x.shape[1] :]
    return shares


def by_loops(layer, x, relevance, delta):
    kinds = {layers.SimpleRNN: simple_by_loops, layers.LSTM: lstm_by_loops, layers.GRU: gru_by_loops}
    x = x.astype("float64")
    if layer.go_backwards:
        return kinds[type(layer)](layer, x[::-1], relevance, delta)[::-1]
    return kinds[type(layer)](layer, x, relevance, delta)


def of_layer(explanation, layer, sequences):
    """The relevance that a layer received, by step."""
    relevance = explanation.layers[layer.name].astype("float64")
    return relevance if sequences else np.stack([np.eye(LENGTH)[-1][:, None] * r for r in relevance])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("preset", DELTA)
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_every_step_receives_what_the_loops_say(name, sequences, preset, dtype, rng, float64, backend):
    if backend != "torch" and (sequences, preset, dtype) != (True, "paper", "float32"):
        pytest.skip("once, where nothing is compiled")
    layer = LAYERS[name](return_sequences=sequences, dtype=dtype)
    model = model_of(rng, layer, dtype=dtype)
    x = rng.normal(size=(4, LENGTH, FEATURES)).astype(dtype)
    explanation = ks.LRP(model, rules=getattr(ks.presets, preset)(EPSILON)).explain(x, target=1)
    relevance = of_layer(explanation, layer, sequences)
    expected = np.stack([by_loops(layer, *pair, DELTA[preset]) for pair in zip(x, relevance)])
    np.testing.assert_allclose(explanation.input, expected, atol=1e-4 if dtype == "float32" else 1e-8)
    # what is missing is the package's own report
    gap = explanation.conservation_gap.signed[layer.name]
    np.testing.assert_allclose(gap, relevance.sum(axis=(1, 2)) - expected.sum(axis=(1, 2)), atol=1e-4)


def test_without_biases_nothing_is_lost(rng):
    """Arras et al. (2019): gates receive nothing, so that all relevance reaches the steps."""
    model = model_of(rng, layers.LSTM(UNITS, use_bias=False), layers.Dense(4, use_bias=False))
    explanation = ks.LRP(model, rules="paper").explain(rng.normal(size=(4, LENGTH, FEATURES)))
    np.testing.assert_allclose(explanation.input.sum(axis=(1, 2)), explanation.head_total, rtol=1e-3)


def test_a_rule_of_weights_is_that_of_the_signal(rng):
    model = model_of(rng, layers.LSTM(UNITS))
    x = rng.normal(size=(4, LENGTH, FEATURES)).astype("float32")
    rule = ks.rules.Gamma(0.5, epsilon=EPSILON)
    tables = [[(layers.LSTM, rule)], [(layers.LSTM, ks.rules.Recurrent(rule, EPSILON))]]
    given, expected = (ks.LRP(model, rules=table).explain(x, target=0).input for table in tables)
    np.testing.assert_array_equal(given, expected)
    measured = ks.LRP(model, rules=[(layers.LSTM, rule)], baseline=0.0).explain(x, target=0)
    np.testing.assert_allclose(measured.input.sum(axis=(1, 2)), measured.head_total, atol=1e-5)
