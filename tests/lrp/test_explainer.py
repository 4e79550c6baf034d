"""The walk through whole models: conservation, names, fresh weights, and models left as they were."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from reference.calls import total

import keras_shapley as ks

BIAS = keras.initializers.RandomNormal(stddev=0.2, seed=1)


@pytest.fixture
def convnet(rng):
    """Every layer type that has a rule, a residual branch, `+`, a constant, and biases that are not zero."""
    x = keras.Input((9, 9, 3), name="image")
    y = layers.Conv2D(4, 3, padding="same", activation="relu", bias_initializer=BIAS, name="conv")(x)
    y = layers.BatchNormalization(name="bn")(y)
    y = layers.ZeroPadding2D(1, name="pad")(y)
    y = ks.SAConv2D(6, 3, strides=2, bias_initializer=BIAS, name="sa")(y)
    z = layers.DepthwiseConv2D(3, padding="same", depthwise_initializer="he_normal", name="depthwise")(y)
    y = layers.Add(name="residual")([y, layers.LeakyReLU(name="leaky")(z)])
    y = (y + z) + 0.5
    y = layers.Concatenate(name="concat")(
        [layers.MaxPooling2D(2, padding="same", name="max")(y), layers.AveragePooling2D(2, padding="same")(y)]
    )
    y = layers.Dropout(0.5, name="dropout")(y)
    y = layers.Flatten(name="flatten")(layers.Reshape((9, 12), name="reshape")(y))
    y = ks.ShapLUDense(8, bias_initializer=BIAS, name="shaplu")(y)
    return keras.Model(x, layers.Dense(5, "softmax", bias_initializer=BIAS, name="classes")(y))


@pytest.fixture
def images(rng):
    return rng.uniform(0.1, 1, size=(4, 9, 9, 3)).astype("float32")


def relu(x):
    return np.maximum(x, 0)


def test_two_layers_follow_eq_2_by_hand(rng):
    """Dense-ReLU-Dense, head "linear": loops over inputs, hidden units and outputs of eq. (2)."""
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(4, "relu", bias_initializer=BIAS), layers.Dense(2, bias_initializer=BIAS)]
    )
    w1, b1, w2, b2 = (w.astype("float64") for w in model.get_weights())
    x = rng.normal(size=(2, 3))
    found = ks.LRP(model).explain(x, target=[1, 0])
    for image, target in enumerate([1, 0]):
        hidden = relu(x[image] @ w1 + b1)
        out = hidden @ w2 + b2
        r_hidden = [(hidden[j] * w2[j, target] + b2[target] / 4) / out[target] * out[target] for j in range(4)]
        s = x[image] @ w1 + b1
        r_input = [sum((x[image, k] * w1[k, j] + b1[j] / 3) / s[j] * r_hidden[j] for j in range(4)) for k in range(3)]
        np.testing.assert_allclose(found.layers[model.layers[0].name][image], r_hidden, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.input[image], r_input, rtol=1e-3, atol=1e-4)
        assert found.head_total[image] == pytest.approx(out[target], rel=1e-4)


def test_the_signed_gaps_add_up_to_what_is_missing(convnet, images):
    found = ks.LRP(convnet).explain(images)
    gap = found.conservation_gap
    missing = found.head_total - total(found.input)
    np.testing.assert_allclose(sum(gap.signed.values()), missing, atol=1e-5 + 1e-4 * np.abs(missing).max())
    for name, (absolute, relative) in gap.summary().items():
        assert absolute[0] == pytest.approx(np.median(np.abs(gap.signed[name])))
        assert absolute[1] == pytest.approx(np.abs(gap.signed[name]).max())
        assert relative[1] < 1e-3, name


def test_a_gap_is_reported_where_relevance_is_lost(images):
    """A rule that halves loses half: the gap says so at that call and nowhere else."""
    model = keras.Sequential([keras.Input((9, 9, 3)), layers.Flatten(), layers.ReLU(name="half"), layers.Dense(2)])

    def half(call, inputs, relevance):
        return [relevance / 2]

    found = ks.LRP(model, rules=[(layers.ReLU, half)]).explain(images, target=0)
    gap = found.conservation_gap
    np.testing.assert_allclose(gap.signed["half"], found.head_total / 2, rtol=1e-3, atol=1e-4)
    assert max(v.max() for name, v in gap.absolute.items() if name != "half") < 1e-3


def test_relevance_of_every_layer_has_the_shape_of_its_output(convnet, images):
    found = ks.LRP(convnet).explain(images)
    expected = [layer.name for layer in convnet.layers if layer.name not in ("image", "classes")]
    assert [name for name in found.layers if name in expected] == expected
    for name in expected:
        assert found.layers[name].shape[1:] == convnet.get_layer(name).output.shape[1:]
    assert found.input.shape == images.shape
    np.testing.assert_allclose(found.layers["shaplu"], found.head)


def test_calling_and_explaining_agree(convnet, images):
    explainer = ks.LRP(convnet)
    np.testing.assert_allclose(
        ops.convert_to_numpy(explainer(images, 3)), explainer.explain(images, 3).input, atol=1e-6
    )


def test_an_image_is_explained_as_it_is_alone(convnet, images):
    """Nothing leaks between the images of a batch, the random paths included."""
    explainer = ks.LRP(convnet)
    together = explainer.explain(images, [0, 1, 2, 3])
    for i in range(4):
        alone = explainer.explain(images[i : i + 1], i)
        np.testing.assert_allclose(alone.head[0], together.head[i], atol=1e-6)
        np.testing.assert_allclose(alone.input[0], together.input[i], atol=2e-3 * np.abs(together.input[i]).max())


def test_the_same_seed_gives_the_same_relevance(convnet, images):
    one, same, other = (ks.LRP(convnet, head_method="sampled", seed=seed).explain(images).head for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0


def test_after_a_training_step_the_next_call_sees_the_new_weights(convnet, images):
    explainer = ks.LRP(convnet)
    before = explainer.explain(images, 1).input
    convnet.compile("sgd", "sparse_categorical_crossentropy")
    convnet.fit(images, np.arange(4), epochs=2, verbose=0)
    after, fresh = explainer.explain(images, 1).input, ks.LRP(convnet).explain(images, 1).input
    np.testing.assert_allclose(after, fresh, atol=1e-6)
    assert np.abs(after - before).max() > 1e-4


def test_it_is_traced_once_for_a_shape_whatever_the_weights(convnet, images):
    calls = []

    def counting(call, inputs, relevance):
        calls.append(call.name)
        return [relevance]

    explainer = ks.LRP(convnet, rules=[(layers.Dropout, counting)])
    for _ in range(3):
        explainer(images, 1)
        convnet.set_weights([w * 0.9 for w in convnet.get_weights()])
    eager = keras.backend.backend() == "torch"
    assert len(calls) == (3 if eager else 1)
    explainer(images[:2], 1)
    assert len(calls) == (4 if eager else 2)


def test_a_model_explained_is_a_model_unchanged(convnet, images):
    convnet.get_layer("conv").activity_regularizer = keras.regularizers.L2(0.1)
    convnet.compile(keras.optimizers.Adam(), "sparse_categorical_crossentropy", metrics=["accuracy"])
    convnet.fit(images, np.arange(4), verbose=0)
    convnet(images)
    losses = len(convnet.losses)

    def state():
        variables = [*convnet.variables, *convnet.optimizer.variables, *convnet.metrics_variables]
        return [ops.convert_to_numpy(variable).copy() for variable in variables]

    config, nodes, before = convnet.get_config(), [len(layer._inbound_nodes) for layer in convnet.layers], state()
    explainer = ks.LRP(convnet)
    explainer(images)
    explainer.explain(images, 2)
    for old, new in zip(before, state(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert convnet.get_config() == config
    assert [len(layer._inbound_nodes) for layer in convnet.layers] == nodes
    convnet(images)
    assert len(convnet.losses) == losses


def test_dropout_and_batch_norm_run_in_inference_mode(convnet, images):
    convnet.get_layer("bn").set_weights([np.full(4, v, "float32") for v in (1.5, 0.2, 0.3, 2.0)])
    found = ks.LRP(convnet).explain(images)
    np.testing.assert_allclose(found.output, convnet.predict(images, verbose=0), atol=1e-6)


def test_calls_are_named_by_layer_use_and_nesting(rng):
    shared = layers.Dense(6, "relu", name="shared")
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(6, "relu", name="deep")], name="inner")
    x = keras.Input((6,))
    y = inner(inner(shared(shared(x))))
    model = keras.Model(x, layers.Dense(2, name="logits")(y))
    data = rng.uniform(size=(2, 6))
    found = ks.LRP(model).explain(data)
    names = ["shared", "shared:1", "inner/deep", "inner:1/deep", "logits"]
    assert list(found.layers) == names == list(found.conservation_gap.signed)
    np.testing.assert_allclose(
        found.head_total - total(found.input), sum(found.conservation_gap.signed.values()), atol=1e-4
    )


def test_lora_is_part_of_the_kernel(rng):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="dense")])
    model.layers[0].enable_lora(2)
    model.layers[0].lora_kernel_b.assign(rng.normal(size=(2, 3)))
    data = rng.normal(size=(2, 4))
    found = ks.LRP(model).explain(data, 0)
    np.testing.assert_allclose(found.head_total, model.predict(data, verbose=0)[:, 0], rtol=1e-5)
    np.testing.assert_allclose(total(found.input), found.head_total, rtol=1e-4)


def test_a_rule_of_the_users_own_comes_first(convnet, images):
    seen = []

    def spy(call, inputs, relevance):
        seen.append((call.name, tuple(inputs[0].shape), tuple(relevance.shape)))
        return [ops.zeros_like(inputs[0])]

    found = ks.LRP(convnet, rules=[((layers.MaxPooling2D,), spy)]).explain(images)
    assert seen == [("max", (4, 5, 5, 6), (4, 3, 3, 6))]
    np.testing.assert_allclose(found.conservation_gap.signed["max"], total(found.layers["max"]), atol=1e-6)


@pytest.mark.parametrize(
    "options, word",
    [
        (dict(n_paths=999), "n_paths.*999"),
        (dict(n_paths=0), "n_paths"),
        (dict(seed="a"), "seed"),
        (dict(merge_batch_norm=None), "merge_batch_norm"),
        (dict(output=1), "`output`"),
        (dict(n_paths=10.0), "n_paths"),
        (dict(head="probability"), "head.*'probability'"),
        (dict(head="sigmoid"), "softmax"),
        (dict(head_players="pixels"), "head_players.*'pixels'"),
        (dict(rules=[("dense", ops.abs)]), "rules.*'bn'.*Received.*'dense'"),
        (dict(rules="paper2"), "rules.*'paper'.*'epsilon_plus'.*'paper2'"),
        (dict(rules=[(layers.Dense, "eps")]), "'epsilon'.*'eps'"),
        (dict(rules=[(layers.Dense, ks.rules.Epsilon)]), "instance"),
        (dict(rules=[(3, "epsilon")]), "key.*3"),
        (dict(rules=[(layers.Flatten, "epsilon")]), r"Epsilon.*'flatten' \(Flatten\)"),
        (dict(rules=[layers.Dense]), "rules"),
    ],
)
def test_bad_options_are_named(convnet, options, word):
    with pytest.raises(ValueError, match=word):
        ks.LRP(convnet, **options)


@pytest.mark.parametrize(
    "x, target, word",
    [
        (np.zeros((2, 9, 9)), None, r"`x`.*\(2, 9, 9\)"),
        (np.zeros((2, 8, 9, 3)), None, r"`x`.*\(2, 8, 9, 3\)"),
        (np.zeros((0, 9, 9, 3)), None, "`x`"),
        (np.full((1, 9, 9, 3), np.nan), None, "`x`.*finite"),
        (np.full((1, 9, 9, 3), np.inf), None, "`x`.*finite"),
        ([np.zeros((1, 9, 9, 3))] * 2, None, "`x`"),
        (np.zeros((2, 9, 9, 3)), 5, r"`target`.*\[0, 5\).*5"),
        (np.zeros((2, 9, 9, 3)), -1, "`target`"),
        (np.zeros((2, 9, 9, 3)), [0, 1, 2], r"`target`.*\(3,\)"),
        (np.zeros((2, 9, 9, 3)), 0.5, "`target`"),
        (np.zeros((2, 9, 9, 3)), "cat", "`target`"),
    ],
)
def test_bad_data_is_named(convnet, x, target, word):
    with pytest.raises(ValueError, match=word):
        ks.LRP(convnet)(x, target)


@pytest.mark.parametrize("make", [lambda x: 1.0 - x, lambda x: x - 1.0, lambda x: x + 1.0, lambda x: 3.0 * x])
def test_a_constant_beside_a_tensor_changes_no_relevance(make, rng):
    x = keras.Input((3,))
    model = keras.Model(x, layers.Dense(2)(make(layers.Dense(4, name="below")(x))))
    found = ks.LRP(model).explain(rng.normal(size=(4, 3)), 0)
    below, above = (found.layers[name] for name in list(found.layers)[:2])
    np.testing.assert_allclose(below, above, rtol=1e-6)


def test_lora_enabled_after_the_first_call_is_seen(rng):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="dense")])
    data, explainer = rng.normal(size=(2, 4)), ks.LRP(model)
    before = explainer.explain(data, 0).input
    model.layers[0].enable_lora(2)
    model.layers[0].lora_kernel_b.assign(rng.normal(size=(2, 3)))
    after = explainer.explain(data, 0).input
    np.testing.assert_allclose(after, ks.LRP(model).explain(data, 0).input, rtol=1e-5)
    assert np.abs(after - before).max() > 1e-3


def test_a_model_built_on_one_batch_is_explained_on_another(rng):
    model = keras.Sequential([layers.Dense(3), layers.Dense(2, activation="softmax")])
    model(rng.normal(size=(8, 4)).astype("float32"))
    assert ks.LRP(model).explain(rng.normal(size=(5, 4))).input.shape == (5, 4)


def test_activations_given_as_operations_or_layers_pass(rng):
    x = keras.Input((4,))
    y = layers.Dense(4, activation=ops.relu)(x)
    y = layers.Dense(4, activation=layers.LeakyReLU(0.1))(y)
    model = keras.Model(x, layers.Dense(2)(keras.activations.relu(y)))
    found = ks.LRP(model).explain(rng.normal(size=(2, 4)), 0)
    np.testing.assert_allclose(
        found.head_total - total(found.input), sum(found.conservation_gap.signed.values()), atol=1e-4
    )


def test_one_of_several_outputs_is_explained_as_if_it_were_alone(rng):
    x = keras.Input((4,))
    y = layers.Dense(5, "relu", bias_initializer=BIAS)(x)
    one, other = layers.Dense(3, "softmax", name="one")(y), layers.Dense(2, name="other")(layers.Dense(3)(y))
    data = rng.normal(size=(2, 4))
    expected = ks.LRP(keras.Model(x, other)).explain(data, 1)
    for model, output in ((keras.Model(x, [one, other]), 1), (keras.Model(x, {"other": other, "one": one}), "other")):
        found = ks.LRP(model, output=output).explain(data, 1)
        np.testing.assert_allclose(found.input, expected.input, rtol=1e-5)
        np.testing.assert_allclose(found.output, expected.output, rtol=1e-6)
    with pytest.raises(ValueError, match="`output`.*'one', 'other'.*'third'"):
        ks.LRP(keras.Model(x, [one, other]), output="third")
    with pytest.raises(ValueError, match="`output`.*2"):
        ks.LRP(keras.Model(x, [one, other]), output=2)


def test_several_targets_are_each_explained_as_alone(convnet, images):
    explainer = ks.LRP(convnet)
    targets = np.array([[0, 3], [1, 3], [4, 4], [2, 0]])
    found = explainer.explain(images, targets)
    assert found.input.shape == (4, 2, 9, 9, 3) and found.output.shape == (4, 5)
    for k in range(2):
        alone = explainer.explain(images, targets[:, k])
        np.testing.assert_allclose(found.input[:, k], alone.input, atol=1e-6)
        np.testing.assert_allclose(found.layers["conv"][:, k], alone.layers["conv"], atol=1e-6)
        np.testing.assert_allclose(found.head_total[:, k], alone.head_total, atol=1e-6)
        np.testing.assert_array_equal(found.target[:, k], targets[:, k])
        for name, gap in alone.conservation_gap.signed.items():
            np.testing.assert_allclose(found.conservation_gap.signed[name][:, k], gap, atol=1e-6)
    called = ops.convert_to_numpy(explainer(images, [[0, 3]]))
    assert called.shape == (4, 2, 9, 9, 3)
    np.testing.assert_allclose(called[:, 1], ops.convert_to_numpy(explainer(images, 3)), atol=1e-6)


@pytest.mark.parametrize("head", ["auto", "linear"])
def test_a_class_against_another_is_the_difference_of_both(head, convnet, images):
    """Every step back is linear in the relevance."""
    explainer = ks.LRP(convnet, head=head)
    one, other = explainer.explain(images, 1), explainer.explain(images, [0, 2, 3, 4])
    found = explainer.explain(images, 1, versus=[0, 2, 3, 4])
    np.testing.assert_allclose(found.head, one.head - other.head, atol=1e-6)
    np.testing.assert_allclose(found.head_total, one.head_total - other.head_total, atol=1e-6)
    scale = np.abs(one.input).max() + np.abs(other.input).max()
    np.testing.assert_allclose(found.input, one.input - other.input, atol=1e-4 * scale)
    np.testing.assert_array_equal(found.versus, [0, 2, 3, 4])
    np.testing.assert_allclose(ops.convert_to_numpy(explainer(images, 1, [0, 2, 3, 4])), found.input, atol=1e-5 * scale)


def test_several_targets_cost_no_new_trace(convnet, images):
    calls = []

    def counting(call, inputs, relevance):
        calls.append(call.name)
        return [relevance]

    explainer = ks.LRP(convnet, rules=[(layers.Dropout, counting)])
    explainer(images, [[0, 1, 2]])
    explainer(images, [[0, 1, 2, 3, 4]])
    eager = keras.backend.backend() == "torch"
    assert len(calls) == (8 if eager else 1)


def test_the_first_linear_layer_may_be_inside_another(rng):
    tokens = keras.Input((4,), dtype="int32")
    x = layers.Embedding(5, 6)(tokens)
    x = layers.MultiHeadAttention(2, 3)(x, x)
    x = layers.TimeDistributed(layers.Dense(4, name="step"))(layers.TimeDistributed(layers.Dense(4))(x))
    model = keras.Model(tokens, layers.Dense(2, name="out")(layers.Flatten()(x)))
    rules = ks.LRP(model, rules="epsilon_plus_flat").rules
    steps = [rule.rule for _, rule in rules.values() if isinstance(rule, ks.rules.EachStep)]
    assert [type(rule) for rule in [*steps, rules["out"][1]]] == [ks.rules.Epsilon] * 3
    image = keras.Sequential([keras.Input((2, 5, 5, 1))])
    for _ in range(2):
        image.add(layers.TimeDistributed(layers.Conv2D(2, 2)))
    image.add(layers.Flatten())
    image.add(layers.Dense(2))
    rules = ks.LRP(image, rules="epsilon_plus_flat").rules
    steps = [type(rule.rule) for _, rule in rules.values() if isinstance(rule, ks.rules.EachStep)]
    assert steps == [ks.rules.Flat, ks.rules.ZPlus]


def test_how_much_a_call_amplifies_is_reported(rng):
    """Two inputs that nearly cancel: eq. (2) makes a hundred and one times the relevance of their sum."""
    model = keras.Sequential(
        [keras.Input((2,)), layers.Dense(1, use_bias=False, name="sum"), layers.Dense(1, name="out")]
    )
    model.set_weights([np.array([[1.0], [-1.0]]), np.ones((1, 1)), np.zeros(1)])
    found = ks.LRP(model).explain(np.array([[1.01, 1.0], [2.0, 1.0]]), 1)
    np.testing.assert_allclose(found.amplification["sum"], [201, 3], rtol=1e-3)
    np.testing.assert_allclose(found.amplification["out"], [1, 1], rtol=1e-5)


def test_relevance_beyond_its_range_is_said_where_and_what_to_do(rng):
    def explode(call, inputs, relevance):
        return [relevance * 1e30]

    model = keras.Sequential([keras.Input((2,)), layers.ReLU(name="a"), layers.ReLU(name="b"), layers.Dense(2)])
    with pytest.warns(RuntimeWarning, match="float32 at 'a'.*epsilon_plus"):
        found = ks.LRP(model, rules=[(layers.ReLU, explode)]).explain(np.ones((1, 2)), 0)
    assert found.overflow == "a"
