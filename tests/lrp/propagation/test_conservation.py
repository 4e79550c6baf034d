"""Relevance sums to `f(x) - f(baseline)`, through every layer that has a rule, and at every head."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from reference.layer_cases import gated_attention

import keras_shapley as ks

INITIAL = {
    "kernel_initializer": keras.initializers.VarianceScaling(2.0, seed=1),
    "bias_initializer": keras.initializers.RandomNormal(stddev=0.3, seed=2),
}


def dense(units, activation=None):
    return layers.Dense(units, activation, **INITIAL)


def conv(filters, size=3, activation=None, **options):
    return layers.Conv2D(filters, size, activation=activation, **INITIAL, **options)


def sequential(shape, *parts):
    return keras.Sequential([keras.Input(shape), *parts])


def functional(shape, function):
    x = keras.Input(shape)
    return keras.Model(x, function(x))


def flat(*parts):
    """The parts, flattened, in front of two logits."""
    return (*parts, layers.Flatten(), dense(2))


def residual(x):
    x = conv(4, padding="same")(x)
    y = conv(4, padding="same")(layers.ReLU()(layers.BatchNormalization()(x)))
    x = layers.Add()([x, layers.BatchNormalization()(y)])
    return dense(2)(layers.GlobalAveragePooling2D()(layers.ReLU()(layers.BatchNormalization()(x))))


def attention(x):
    y = layers.LayerNormalization()(layers.Add()([x, layers.MultiHeadAttention(2, 3)(x, x)]))
    return dense(2)(layers.Flatten()(y))


def causal_attention(x):
    return dense(2)(layers.Flatten()(layers.MultiHeadAttention(2, 3)(x, x, use_causal_mask=True)))


def masked_attention(x):
    mask = np.tril(np.ones((1, 5, 5), bool))
    return dense(2)(layers.Flatten()(layers.MultiHeadAttention(2, 3)(x, x, attention_mask=mask)))


def cross_attention(x):
    return dense(2)(layers.Flatten()(layers.MultiHeadAttention(2, 3)(x[:, :2], dense(6)(x), 0.5 * x)))


def squeeze_and_excite(x):
    x = conv(4)(x)
    y = dense(4, "sigmoid")(dense(3, "relu")(layers.GlobalAveragePooling2D(keepdims=True)(x)))
    return dense(2)(layers.Flatten()(layers.Multiply()([x, y])))


def extremes(x):
    x = layers.Flatten()(x)
    return ops.maximum(dense(3)(x), 0.1) + ops.minimum(dense(3)(x), dense(3)(x))


def extremes_of_axes(x):
    return ops.max(dense(3)(x), axis=1) - ops.min(dense(3)(x), axis=1)


def quotient(x):
    x = layers.Flatten()(x)
    return dense(3)(x) / (1 + ops.square(dense(3)(x)))


def three_factors(x):
    x = layers.Flatten()(x)
    return layers.Multiply()([dense(3)(x), dense(3, "tanh")(x), dense(3)(x)])


def gram(x):
    return dense(2)(layers.Flatten()(ops.matmul(x, ops.transpose(x, (0, 2, 1)))))


def concatenated(x):
    x = layers.Concatenate()([layers.ZeroPadding2D(1)(conv(3)(x)), layers.Cropping2D(1)(layers.ZeroPadding2D(1)(x))])
    return dense(2)(layers.Flatten()(layers.ReLU()(x)))


def shared(x):
    layer = dense(4, "relu")
    inner = sequential((4,), dense(4, "gelu"), dense(4))
    y = layer(x)
    return dense(2)(layers.Add()([inner(y), inner(layer(y))]))


def gated(x):
    """A gate as in GLU: half of the channels times the sigmoid of the others."""
    a, b = ops.split(dense(6)(x), 2, axis=-1)
    return dense(2)(layers.Flatten()(a * ops.sigmoid(b)))


IMAGE, STEPS = (7, 7, 2), (5, 4)
ACTIVATIONS = "relu6 gelu silu tanh sigmoid elu softplus leaky_relu softmax linear".split()

ZOO = {
    "convolutions with relu": lambda: sequential(
        IMAGE,
        *flat(
            conv(4, activation="relu"),
            layers.BatchNormalization(),
            conv(3, strides=2),
            layers.BatchNormalization(),
            layers.ReLU(),
        ),
    ),
    **{
        f"dense layers with {name}": lambda name=name: sequential(
            (6,), dense(5, name), dense(5), layers.BatchNormalization(), layers.Activation(name), dense(2)
        )
        for name in ACTIVATIONS
    },
    "residual": lambda: functional(IMAGE, residual),
    "max pooling, same": lambda: sequential(
        IMAGE, *flat(conv(3, activation="relu"), layers.MaxPooling2D(3, 2, padding="same"))
    ),
    "max pooling, valid": lambda: sequential(IMAGE, *flat(conv(3), layers.MaxPooling2D(2), layers.LeakyReLU())),
    "max pooling, global": lambda: sequential(IMAGE, conv(4), layers.GlobalMaxPooling2D(), dense(2)),
    "LayerNormalization": lambda: sequential(STEPS, *flat(dense(4, "gelu"), layers.LayerNormalization(), dense(3))),
    "GroupNormalization": lambda: sequential(IMAGE, *flat(conv(4, activation="relu"), layers.GroupNormalization(2))),
    "RMSNormalization": lambda: sequential(STEPS, *flat(dense(4), layers.RMSNormalization())),
    "UnitNormalization": lambda: sequential(STEPS, *flat(dense(4), layers.UnitNormalization())),
    "attention": lambda: functional((5, 6), attention),
    "attention, causal": lambda: functional((5, 6), causal_attention),
    "attention with a mask": lambda: functional((5, 6), masked_attention),
    "attention to another": lambda: functional((5, 6), cross_attention),
    "squeeze and excite": lambda: functional(IMAGE, squeeze_and_excite),
    "softmax": lambda: sequential((6,), dense(5, "softmax"), dense(3), layers.Softmax(), dense(2)),
    "extremes of two": lambda: functional(STEPS, extremes),
    "extremes of an axis": lambda: functional(STEPS, extremes_of_axes),
    "quotient": lambda: functional(STEPS, quotient),
    "three factors": lambda: functional(STEPS, three_factors),
    "gate": lambda: functional(STEPS, gated),
    "matmul": lambda: functional(STEPS, gram),
    "Dot": lambda: functional(STEPS, lambda x: dense(2)(layers.Flatten()(layers.Dot(axes=2)([x, dense(4)(x)])))),
    "concatenation": lambda: functional(IMAGE, concatenated),
    "depthwise, separable, transpose": lambda: sequential(
        IMAGE,
        *flat(
            layers.DepthwiseConv2D(3, activation="relu"),
            layers.SeparableConv2D(3, 3, activation="relu"),
            layers.Conv2DTranspose(3, 3, activation="relu"),
            layers.UpSampling2D(),
            layers.AveragePooling2D(3),
        ),
    ),
    "SA in them": lambda: sequential(
        IMAGE,
        *flat(
            ks.SASeparableConv2D(3, 3, depth_multiplier=2),
            ks.ShapLUSeparableConv2D(3, 2, padding="same"),
            ks.SAConv2DTranspose(3, 3, second_moment="pooled"),
        ),
    ),
    "each step": lambda: sequential(
        STEPS, *flat(layers.TimeDistributed(dense(3, "relu")), layers.TimeDistributed(dense(3)), layers.ReLU())
    ),
    "shared and nested": lambda: functional((4,), shared),
    "PReLU and clipped ReLU": lambda: sequential(
        (6,), dense(5), layers.PReLU(), dense(4), layers.ReLU(max_value=1.0, negative_slope=0.1), layers.Rescaling(2.0)
    ),
}


def randomized(model, rng):
    """The model with other statistics in its BatchNormalizations, and no zeros or ones among its weights."""
    for layer in model._flatten_layers():
        if isinstance(layer, layers.BatchNormalization):
            n = layer.gamma.shape[0]
            layer.set_weights([rng.normal(1, 0.3, n), *rng.normal(0, 0.3, (2, n)), rng.uniform(0.5, 2, n)])
        elif isinstance(layer, (layers.LayerNormalization, layers.GroupNormalization, layers.PReLU)):
            layer.set_weights([weight + 0.3 * rng.normal(size=weight.shape) for weight in layer.get_weights()])
    return model


def check(model, explanation, inputs, difference):
    """Sums, gaps, shapes, and that everything is finite."""
    scale = max(np.abs(difference).max(), 1e-3)
    relevance = [part.reshape(len(part), -1).sum(axis=1) for part in keras.tree.flatten(explanation.input)]
    np.testing.assert_allclose(explanation.head_total, difference, atol=1e-4 * scale)
    np.testing.assert_allclose(sum(relevance), difference, atol=1e-4 * scale)
    for name, gap in explanation.conservation_gap.signed.items():
        assert np.abs(gap).max() < 1e-4 * scale, name
    for part, x in zip(keras.tree.flatten(explanation.input), inputs, strict=True):
        assert part.shape == x.shape and np.all(np.isfinite(part))
    n_checked = 0
    for name, part in explanation.layers.items():
        for array in keras.tree.flatten(part):
            assert np.all(np.isfinite(array)), name
        layer = next((layer for layer in model.layers if layer.name == name), None)
        if layer is not None and len(layer._inbound_nodes) == 1 and not isinstance(part, list):
            assert part.shape[1:] == tuple(layer.output.shape[1:]), name
            n_checked += 1
    return n_checked


@pytest.mark.parametrize("name", ZOO)
def test_relevance_sums_to_the_difference_from_the_baseline(name, rng):
    model = randomized(ZOO[name](), rng)
    x = rng.normal(size=(3, *model.input_shape[1:])).astype("float32")
    baseline = rng.normal(size=model.input_shape[1:]).astype("float32")
    target = np.array([0, 1, 1])
    explanation = ks.LRP(model, rules="auto", baseline=baseline).explain(x, target)
    y, y0 = model.predict(x, verbose=0), model.predict(baseline[None], verbose=0)
    assert check(model, explanation, [x], y[np.arange(3), target] - y0[0, target]) > 0


@pytest.mark.filterwarnings("ignore:.*masks the token 0")
@pytest.mark.parametrize("mask_zero", [False, True])
def test_tokens_sum_to_the_difference_from_padding(mask_zero, rng):
    model = keras.Sequential([keras.Input((6,), dtype="int32"), layers.Embedding(9, 4, mask_zero=mask_zero)])
    model.layers[0].set_weights([rng.normal(size=(9, 4))])
    model.add(dense(5, "relu"))
    model.add(layers.GlobalAveragePooling1D())
    model.add(dense(2))
    x = rng.integers(1, 9, size=(3, 6))
    x[1, 4:] = 0
    explanation = ks.LRP(model, rules="auto", baseline=0).explain(x, 1)
    difference = model.predict(x, verbose=0)[:, 1] - model.predict(np.zeros((1, 6)), verbose=0)[0, 1]
    if mask_zero:
        # at the baseline all steps would be masked; it is read with the mask of the input
        embedding, hidden, _, last = model.layers
        steps = ops.convert_to_numpy(hidden(ops.convert_to_tensor(embedding.get_weights()[0])))
        at_baseline = steps[0] @ last.get_weights()[0][:, 1] + last.get_weights()[1][1]
        difference = model.predict(x, verbose=0)[:, 1] - at_baseline
    check(model, explanation, [x], difference)
    np.testing.assert_array_equal(explanation.input[1, 4:], 0)


@pytest.mark.parametrize("baseline", [0.3, "background"])
def test_steps_that_a_mask_hides_have_no_relevance(baseline, rng):
    """The masks of a batch differ, and are also those of the baseline."""
    steps = keras.Input((5, 6))
    y = layers.Masking(0.0)(steps)
    y = layers.MultiHeadAttention(2, 3)(y, y)
    model = keras.Model(steps, dense(2)(layers.GlobalAveragePooling1D()(y)))
    x = rng.normal(size=(3, 5, 6)).astype("float32")
    x[0, 3:] = 0
    baseline = rng.normal(size=(2, 5, 6)) if baseline == "background" else baseline
    explanation = ks.LRP(model, rules="auto", baseline=baseline).explain(x, 1)
    # the same network with the masks of x, whatever its input is
    attention, last = model.layers[2], model.layers[-1]
    is_seen = x.any(axis=2)

    def seen(steps):
        steps = ops.convert_to_tensor(np.broadcast_to(steps, x.shape).astype("float32"))
        y = attention(steps, steps, query_mask=is_seen, value_mask=is_seen)
        return ops.convert_to_numpy(last(layers.GlobalAveragePooling1D()(y, mask=is_seen)))[:, 1]

    backgrounds = baseline if np.ndim(baseline) else [baseline]
    difference = seen(x) - np.mean([seen(background) for background in backgrounds], axis=0)
    check(model, explanation, [x], difference)
    np.testing.assert_allclose(explanation.output[:, 1], explanation.head_total + explanation.head_baseline, atol=1e-5)
    np.testing.assert_allclose(explanation.input[0, 3:], 0, atol=1e-7)


def test_a_mask_that_is_an_input_has_no_relevance(rng):
    steps, seen = keras.Input((5, 6)), keras.Input((5,), dtype="bool")
    y = layers.MultiHeadAttention(2, 3)(steps, steps, attention_mask=layers.Reshape((1, 5))(seen))
    model = keras.Model([steps, seen], dense(2)(layers.Flatten()(y)))
    x = [rng.normal(size=(2, 5, 6)).astype("float32"), np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], bool)]
    explanation = ks.LRP(model, rules="auto", baseline=0.0).explain(x, 1)
    absent = [np.zeros_like(x[0]), x[1]]
    check(model, explanation, x, (model.predict(x, verbose=0) - model.predict(absent, verbose=0))[:, 1])
    np.testing.assert_array_equal(explanation.input[1], 0)


ATTENTION = {
    "gate": ((5, 6), lambda: gated_attention(layers.MultiHeadAttention, 2, 3)),
    "two axes": ((3, 4, 6), lambda: layers.MultiHeadAttention(2, 3, attention_axes=(1, 2))),
}


@pytest.mark.parametrize("kind", ATTENTION)
def test_attention_of_another_kind_is_refused(kind, rng):
    shape, attention = ATTENTION[kind]
    model = functional(shape, lambda x: dense(2)(layers.Flatten()(attention()(x, x))))
    with pytest.raises(ValueError, match="without a gate.*MultiHeadAttention"):
        ks.LRP(model, rules="auto")


def test_several_inputs_sum_to_the_difference(rng):
    image, vector = keras.Input(IMAGE, name="image"), keras.Input((3,), name="vector")
    y = layers.Concatenate()([layers.Flatten()(conv(3, activation="relu")(image)), dense(4, "tanh")(vector)])
    model = keras.Model({"image": image, "vector": vector}, dense(2)(dense(4, "relu")(y)))
    x = {"image": rng.normal(size=(3, *IMAGE)), "vector": rng.normal(size=(3, 3))}
    baseline = {"image": rng.normal(size=IMAGE), "vector": rng.normal(size=3)}
    explanation = ks.LRP(model, rules="auto", baseline=baseline).explain(x, 0)
    before = {name: part[None] for name, part in baseline.items()}
    difference = model.predict(x, verbose=0)[:, 0] - model.predict(before, verbose=0)[0, 0]
    check(model, explanation, [x["image"], x["vector"]], difference)
    assert set(explanation.input) == {"image", "vector"}


def average(x):
    return layers.Average()([layers.Softmax()(dense(3)(dense(4, "relu")(x))) for _ in range(2)])


HEADS = {
    "softmax": lambda: sequential((5,), dense(4, "relu"), dense(3, "softmax")),
    "softmax layer": lambda: sequential((5,), dense(4, "relu"), dense(3), layers.Softmax()),
    "softmax by position": lambda: sequential((4, 5), dense(4, "relu"), dense(3, "softmax")),
    "sigmoid": lambda: sequential((5,), dense(4, "relu"), dense(1, "sigmoid")),
    "several sigmoids": lambda: sequential((5,), dense(4, "relu"), dense(3, "sigmoid")),
    "linear": lambda: sequential((5,), dense(4, "relu"), dense(3)),
    "ReLU": lambda: sequential((5,), dense(4, "relu"), dense(3, "relu")),
    "ReLU layer": lambda: sequential((5,), dense(4, "relu"), dense(3), layers.ReLU()),
    "tanh": lambda: sequential((5,), dense(4, "relu"), dense(3, "tanh")),
    "average of softmaxes": lambda: functional((5,), average),
}


@pytest.mark.parametrize("players", ["features", "logits"])
@pytest.mark.parametrize("name", HEADS)
def test_what_a_head_explains_and_the_baseline_make_the_output(name, players, rng):
    if players == "logits" and not ("soft" in name or "sigmoid" in name):
        pytest.skip("the players of other heads are their logits")
    model = HEADS[name]()
    x = rng.normal(size=(3, *model.input_shape[1:]))
    baseline = rng.normal(size=model.input_shape[1:])
    explanation = ks.LRP(model, rules="auto", baseline=baseline, head_players=players).explain(x, 0)
    output, before = model.predict(x, verbose=0), model.predict(baseline[None], verbose=0)
    explained, absent = output.reshape(3, -1)[:, 0], before.ravel()[0]
    np.testing.assert_allclose(explanation.head_total + explanation.head_baseline, explained, atol=1e-5)
    np.testing.assert_allclose(explanation.head_baseline, absent, atol=1e-5)
    relevance = explanation.input.reshape(3, -1).sum(axis=1)
    np.testing.assert_allclose(relevance, explained - absent, atol=1e-5)


@pytest.mark.parametrize("head", ["softmax", "linear"])
def test_a_head_that_differs_from_the_models_end_is_measured_from_the_baseline(head, rng):
    model = HEADS["softmax" if head == "linear" else "linear"]()
    logits = keras.Model(model.inputs, model.layers[-1].output)
    if head == "linear":
        logits = sequential((5,), dense(4, "relu"), dense(3))
        logits.set_weights(model.get_weights())
    x, baseline = rng.normal(size=(3, 5)), rng.normal(size=5)
    explanation = ks.LRP(model, rules="auto", baseline=baseline, head=head).explain(x, 2)
    output, before = logits.predict(x, verbose=0), logits.predict(baseline[None], verbose=0)
    if head == "softmax":
        output, before = (np.exp(part) / np.exp(part).sum(axis=1, keepdims=True) for part in (output, before))
    np.testing.assert_allclose(explanation.input.sum(axis=1), output[:, 2] - before[0, 2], atol=1e-5)


def test_two_targets_are_compared(rng):
    model = HEADS["softmax"]()
    x, explainer = rng.normal(size=(3, 5)), ks.LRP(model, rules="auto", baseline=0.5)
    parts = [explainer.explain(x, target).input for target in (0, 2)]
    np.testing.assert_allclose(explainer.explain(x, 0, versus=2).input, parts[0] - parts[1], atol=1e-6)


@pytest.mark.parametrize("layer", [layers.Maximum, layers.Minimum])
def test_an_extreme_of_three_tensors_conserves(layer, rng):
    x = keras.Input((4,))
    model = keras.Model(x, layers.Dense(1)(layer()([layers.Dense(5)(x) for _ in range(3)])))
    explanation = ks.LRP(model).explain(rng.normal(size=(3, 4)).astype("float32"))
    np.testing.assert_allclose(explanation.input.sum(axis=1), explanation.head_total, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "layer",
    [
        lambda: layers.LayerNormalization(epsilon=1e-6),
        lambda: layers.RMSNormalization(epsilon=1e-6),
        layers.UnitNormalization,
    ],
)
def test_an_input_that_is_constant_at_the_baseline_does_not_blow_up(layer, rng):
    """There one over the size is huge, and the centred input zero."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), layer(), layers.Dense(1, use_bias=False)])
    x = rng.normal(size=(5, 4)).astype("float32")
    explanation = ks.LRP(model).explain(x)
    exact = ks.exact_shapley_values(model, x, None, progress=False).values
    np.testing.assert_allclose(explanation.input.sum(axis=1), explanation.head_total, rtol=1e-3, atol=1e-5)
    assert np.abs(explanation.input).max() < 10 * np.abs(exact).max()
