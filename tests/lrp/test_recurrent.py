"""Recurrent models as their users build them: masks, directions, tokens, and a task whose answer is known."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_shapley as ks

LENGTH, FEATURES, UNITS = 5, 2, 3
RULES = ("auto", "paper", "epsilon")
LAYERS = {
    "SimpleRNN": lambda **options: layers.SimpleRNN(UNITS, **options),
    "LSTM": lambda **options: layers.LSTM(UNITS, **options),
    "GRU": lambda **options: layers.GRU(UNITS, **options),
    "GRU, reset before": lambda **options: layers.GRU(UNITS, reset_after=False, **options),
}


def shaken(model, rng, scale=0.7):
    """The model with random weights, its biases too."""
    for weight in model.weights:
        weight.assign(scale * rng.normal(size=weight.shape))
    return model


def model_of(rng, *parts, shape=(LENGTH, FEATURES), dtype="float32"):
    return shaken(keras.Sequential([keras.Input(shape, dtype=dtype), *parts, layers.Flatten(), layers.Dense(2)]), rng)


def sequences(rng, n=4, shape=(LENGTH, FEATURES)):
    return rng.normal(size=(n, *shape)).astype("float32")


def assert_close(actual, expected, **tolerance):
    actual, expected = map(ops.convert_to_numpy, (actual, expected))
    np.testing.assert_allclose(actual, expected, **{"rtol": 1e-3, "atol": 1e-5, **tolerance})


class Unrolled:
    """Recurrent layers as one layer for each product, sum and activation of each step: what the package knew before."""

    def __init__(self, layer):
        self.layer, cell = layer, layer.cell
        w, u = (ops.convert_to_numpy(weight) for weight in (cell.kernel, cell.recurrent_kernel))
        b = np.atleast_2d(np.zeros(w.shape[1]) if cell.bias is None else ops.convert_to_numpy(cell.bias))
        n = w.shape[1] // UNITS
        self.w, self.u = np.split(w, n, axis=1), np.split(u, n, axis=1)
        self.b = np.split(b[0], n)
        self.b_h = np.split(b[1] if len(b) == 2 else np.zeros_like(b[0]), n)

    def of_x(self, x, k):
        return self._dense(x, self.w[k], self.b[k])

    def of_h(self, h, k):
        return self._dense(h, self.u[k], self.b_h[k])

    def neuron(self, x, h, k, activation):
        sums = layers.Add()([self.of_x(x, k), self.of_h(h, k)])
        return layers.Activation(activation)(sums)

    def _dense(self, x, kernel, bias):
        return layers.Dense(UNITS, kernel_initializer=lambda *_, **__: kernel, bias_initializer=lambda *_, **__: bias)(
            x
        )

    def __call__(self, x):
        # an initial state of zeros that is a tensor of the model
        h = c = layers.Rescaling(0.0)(self.of_x(x[:, 0], 0))
        states = []
        for t in range(LENGTH):
            h, c = self.step(x[:, t], h, c)
            states.append(h)
        return layers.Concatenate()(states) if self.layer.return_sequences else h

    def step(self, x, h, c):
        if isinstance(self.layer, layers.SimpleRNN):
            return self.neuron(x, h, 0, "tanh"), c
        if isinstance(self.layer, layers.LSTM):
            i, f, g, o = (
                self.neuron(x, h, k, name) for k, name in enumerate(["sigmoid", "sigmoid", "tanh", "sigmoid"])
            )
            c = layers.Add()([layers.Multiply()([f, c]), layers.Multiply()([i, g])])
            return layers.Multiply()([o, layers.Activation("tanh")(c)]), c
        z, r = (self.neuron(x, h, k, "sigmoid") for k in range(2))
        if self.layer.reset_after:
            gated = layers.Multiply()([r, self.of_h(h, 2)])
        else:
            gated = self.of_h(layers.Multiply()([r, h]), 2)
        n = layers.Activation("tanh")(layers.Add()([self.of_x(x, 2), gated]))
        rest = layers.Rescaling(-1.0, 1.0)(z)
        return layers.Add()([layers.Multiply()([z, h]), layers.Multiply()([rest, n])]), c


KINDS = {
    "shapley": ks.rules.ShapleyPropagation(),
    "first order": ks.rules.FirstOrder(),
    "rescale": ks.rules.Rescale(),
}


@pytest.mark.once
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("returns", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_from_a_baseline_a_layer_is_its_steps_as_layers(name, returns, kind, rng):
    """Shapley propagation through one layer for each product, sum and activation has rules with tests of their own."""
    layer = LAYERS[name](return_sequences=returns)
    model = model_of(rng, layer)
    x = keras.Input((LENGTH, FEATURES))
    unrolled = keras.Model(x, layers.Dense(2)(Unrolled(layer)(x)))
    unrolled.layers[-1].set_weights(model.layers[-1].get_weights())
    batch = sequences(rng)
    assert_close(unrolled(batch), model(batch))
    types = tuple({type(layer) for layer in (*model.layers, *unrolled.layers)} - {layers.InputLayer})
    baseline = sequences(rng, n=1)[0]
    relevance, expected = (
        ks.LRP(m, rules=[(types, KINDS[kind])], baseline=baseline)(batch, target=1) for m in (model, unrolled)
    )
    assert_close(relevance, expected)


@pytest.mark.once
@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("name", LAYERS)
def test_masked_steps_receive_nothing_and_the_others_as_if_they_were_alone(name, rules, rng):
    model = model_of(rng, layers.Masking(), LAYERS[name]())
    batch = sequences(rng)
    batch[:, 0] = batch[:, 2] = batch[:, 4] = 0
    relevance = ops.convert_to_numpy(ks.LRP(model, rules=rules)(batch, target=1))
    assert not relevance[:, [0, 2, 4]].any()
    short = keras.Sequential([keras.Input((2, FEATURES)), *model.layers])
    expected = ks.LRP(short, rules=rules)(batch[:, [1, 3]], target=1)
    assert_close(relevance[:, [1, 3]], expected)


@pytest.mark.once
@pytest.mark.filterwarnings("ignore:.*destroy the mask")
@pytest.mark.parametrize("rules", RULES)
def test_a_sequence_that_is_masked_as_a_whole_receives_nothing(rules, rng):
    model = model_of(rng, layers.Masking(), layers.Bidirectional(layers.LSTM(UNITS, return_sequences=True)))
    relevance = ks.LRP(model, rules=rules)(np.zeros((2, LENGTH, FEATURES)), target=0)
    np.testing.assert_array_equal(ops.convert_to_numpy(relevance), 0)


@pytest.mark.once
@pytest.mark.parametrize("rules", RULES)
def test_backwards_is_forwards_on_the_turned_sequence(rules, rng):
    model = model_of(rng, layers.LSTM(UNITS, go_backwards=True, return_sequences=True))
    twin = keras.Sequential([keras.Input((LENGTH, FEATURES)), layers.LSTM(UNITS, return_sequences=True)])
    twin.add(layers.Flatten())
    twin.add(layers.Dense(2))
    twin.set_weights(model.get_weights())
    batch = sequences(rng)
    relevance = ks.LRP(model, rules=rules)(batch, target=1)
    assert_close(relevance, ops.flip(ks.LRP(twin, rules=rules)(batch[:, ::-1].copy(), target=1), axis=1))


MERGES = {
    "concat": lambda a, b: layers.Concatenate()([a, b]),
    "sum": lambda a, b: layers.Add()([a, b]),
    "ave": lambda a, b: layers.Average()([a, b]),
    "mul": lambda a, b: layers.Multiply()([a, b]),
    None: lambda a, b: layers.Concatenate()([a, b]),
}


@pytest.mark.once
@pytest.mark.filterwarnings("ignore:.*destroy the mask")
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("returns", [False, True])
@pytest.mark.parametrize("mode", MERGES)
def test_bidirectional_is_two_layers_and_a_merge(mode, returns, rules, masked, rng):
    """The relevance of a step is the sum of that by both directions."""
    both = layers.Bidirectional(layers.GRU(UNITS, return_sequences=returns), merge_mode=mode)
    x = keras.Input((LENGTH, FEATURES))
    start = layers.Masking()(x) if masked else x
    output = both(start)
    output = layers.Concatenate()(output) if mode is None else output
    model = shaken(keras.Model(x, layers.Dense(2)(layers.Flatten()(output))), rng)
    a, b = both.forward_layer(start), both.backward_layer(start)
    b = ops.flip(b, axis=1) if returns else b
    twin = keras.Model(x, layers.Dense(2)(layers.Flatten()(MERGES[mode](a, b))))
    twin.layers[-1].set_weights(model.layers[-1].get_weights())
    batch = sequences(rng)
    if masked:
        batch[:2, 3:] = 0
    assert_close(model(batch), twin(batch))
    relevance, expected = (ks.LRP(m, rules=rules)(batch, target=1) for m in (model, twin))
    assert_close(relevance, expected)


def stacked(x):
    x = layers.Bidirectional(layers.LSTM(UNITS, return_sequences=True))(layers.Masking()(x))
    return layers.SimpleRNN(UNITS)(layers.GRU(UNITS, return_sequences=True)(x))


def encoder_and_decoder(x):
    _, h, c = layers.LSTM(UNITS, return_state=True)(x)
    return layers.Flatten()(layers.LSTM(UNITS, return_sequences=True)(x[:, 1:], initial_state=[h, c]))


def bidirectional_states(x):
    parts = layers.Bidirectional(layers.LSTM(UNITS, return_state=True))(x)
    return layers.Bidirectional(layers.LSTM(UNITS))(x, initial_state=parts[1:])


def only_the_state(x):
    return layers.GRU(UNITS, return_state=True)(x)[1]


def a_loop_at_each_step(x):
    x = layers.Reshape((LENGTH, FEATURES, 1))(x)
    return layers.LSTM(UNITS)(layers.TimeDistributed(layers.LSTM(UNITS))(x))


def cells(x):
    return layers.RNN(layers.GRUCell(UNITS))(layers.RNN(layers.LSTMCell(UNITS), return_sequences=True)(x))


def at_the_end(x):
    return layers.LSTM(2, activation="relu")(x)


MODELS = [
    stacked,
    encoder_and_decoder,
    bidirectional_states,
    only_the_state,
    a_loop_at_each_step,
    cells,
    at_the_end,
]


@pytest.mark.parametrize("build", MODELS)
def test_from_a_baseline_every_model_conserves(build, rng):
    """Relevance sums to `f(x) - f(baseline)`, and no call reports a gap."""
    x = keras.Input((LENGTH, FEATURES))
    y = build(x)
    model = shaken(keras.Model(x, y if build is at_the_end else layers.Dense(2)(y)), rng)
    batch = sequences(rng)
    explanation = ks.LRP(model, baseline=0.3).explain(batch, target=1)
    start = ops.convert_to_numpy(model(np.full_like(batch, 0.3)))[:, 1]
    total = ops.convert_to_numpy(model(batch))[:, 1] - start
    assert_close(explanation.input.sum(axis=(1, 2)), total)
    assert max(abs(gap).max() for gap in explanation.conservation_gap.signed.values()) < 1e-5


@pytest.mark.once
@pytest.mark.parametrize("rules", ["paper", "epsilon"])
@pytest.mark.parametrize("build", MODELS)
def test_without_a_baseline_gaps_say_what_is_missing(build, rules, rng):
    x = keras.Input((LENGTH, FEATURES))
    y = build(x)
    model = shaken(keras.Model(x, y if build is at_the_end else layers.Dense(2)(y)), rng)
    explanation = ks.LRP(model, rules=getattr(ks.presets, rules)(0.1)).explain(sequences(rng), target=1)
    gaps = sum(explanation.conservation_gap.signed.values())
    assert_close(explanation.input.sum(axis=(1, 2)) + gaps, explanation.head_total)


def test_small_differences_receive_the_gradient(rng, gradients):
    """For an input near the baseline every method from a baseline is gradient times difference."""
    model = model_of(rng, layers.Bidirectional(layers.GRU(UNITS, return_sequences=True)), layers.LSTM(UNITS))
    baseline = sequences(rng, n=1)
    difference = 1e-3 * sequences(rng, n=1)
    relevance = ks.LRP(model, baseline=baseline[0])(baseline + difference, target=1)
    (slope,) = gradients(lambda x: ops.sum(model(x)[:, 1]), baseline + difference / 2)
    assert_close(ops.convert_to_numpy(relevance) / difference, slope, rtol=0.02, atol=0.02 * np.abs(slope).max())


def token_model(rng, **options):
    model = keras.Sequential([keras.Input((LENGTH,), dtype="int32"), layers.Embedding(9, 4, **options)])
    model.add(layers.LSTM(UNITS))
    model.add(layers.Dense(1, "sigmoid"))
    return shaken(model, rng)


@pytest.mark.filterwarnings("ignore:.*masks the token 0")
@pytest.mark.parametrize("rules", RULES)
def test_tokens_receive_relevance_and_padding_none(rules, rng):
    model = token_model(rng, mask_zero=True)
    tokens = np.array([[3, 5, 1, 0, 0], [2, 2, 7, 8, 0]])
    explanation = ks.LRP(model, rules=rules).explain(tokens)
    np.testing.assert_array_equal(explanation.input != 0, tokens != 0)
    if rules == "auto":
        # at the baseline each step has the vector of token 0, and the masks of the input
        embedding, lstm, last = model.layers
        vectors = np.broadcast_to(embedding.get_weights()[0][0], (*tokens.shape, 4)).astype("float32")
        at_baseline = ops.convert_to_numpy(last(lstm(ops.convert_to_tensor(vectors), mask=tokens > 0)))[:, 0]
        difference = model.predict(tokens, verbose=0)[:, 0] - at_baseline
        assert_close(explanation.input.sum(axis=1), difference, rtol=1e-3)


STEPS = 8


@pytest.fixture(scope="module")
def adder():
    """A network that adds the marked ones of eight numbers, and inputs with two marks."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = np.stack([rng.uniform(size=(4000, STEPS)), rng.uniform(size=(4000, STEPS)) < 0.25], axis=-1).astype("float32")
    model = keras.Sequential([keras.Input((STEPS, 2)), layers.LSTM(16), layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.01), "mse")
    losses = model.fit(x, x.prod(axis=2).sum(axis=1), batch_size=128, epochs=25, verbose=0).history["loss"]
    assert losses[-1] < 0.005
    two = np.stack([rng.uniform(size=(20, STEPS)), np.zeros((20, STEPS))], axis=-1).astype("float32")
    for sample in two:
        sample[rng.choice(STEPS, 2, replace=False), 1] = 1
    return model, two


def on_marks(relevance, x):
    """The mean share of the marked steps in the absolute relevance of all steps."""
    sizes = np.abs(relevance)
    return ((sizes * x[:, :, 1]).sum(axis=1) / sizes.sum(axis=1)).mean()


def test_relevance_is_on_the_numbers_that_are_added(adder):
    model, x = adder
    assert on_marks(ks.LRP(model).explain(x).input.sum(axis=2), x) > 0.8


def test_relevance_is_that_of_shapley_values_of_steps(adder):
    model, x = adder
    relevance = ks.LRP(model).explain(x).input.sum(axis=2)
    values = ks.shapley_values(model, x, players="tokens", progress=False).values
    correlations = [np.corrcoef(*pair)[0, 1] for pair in zip(relevance, values)]
    assert min(correlations) > 0.98


def test_the_rule_of_arras_is_on_the_numbers_that_are_added_as_well(adder):
    """Less so: what it says of a step hangs on the biases of all steps before."""
    model, x = adder
    assert on_marks(ks.LRP(model, rules="epsilon").explain(x).input.sum(axis=2), x) > 0.6
