"""Explaining whole models: eq. (2) by hand, fresh weights, and models left as they were."""

import copy
import pickle

import keras
import numpy as np
import pytest
from keras import layers, ops
from reference.calls import BIAS, total

import keras_shapley as ks


def relu(x):
    return np.maximum(x, 0)


def test_two_layers_follow_eq_2_by_hand(rng):
    """Dense-ReLU-Dense, head "linear": loops over inputs, hidden units and outputs of eq. (2)."""
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(4, "relu", bias_initializer=BIAS), layers.Dense(2, bias_initializer=BIAS)]
    )
    w1, b1, w2, b2 = (w.astype("float64") for w in model.get_weights())
    x = rng.normal(size=(2, 3))
    explanation = ks.LRP(model, rules="paper").explain(x, target=[1, 0])
    for image, target in enumerate([1, 0]):
        hidden = relu(x[image] @ w1 + b1)
        out = hidden @ w2 + b2
        r_hidden = [(hidden[j] * w2[j, target] + b2[target] / 4) / out[target] * out[target] for j in range(4)]
        s = x[image] @ w1 + b1
        r_input = [sum((x[image, k] * w1[k, j] + b1[j] / 3) / s[j] * r_hidden[j] for j in range(4)) for k in range(3)]
        np.testing.assert_allclose(explanation.layers[model.layers[0].name][image], r_hidden, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(explanation.input[image], r_input, rtol=1e-3, atol=1e-4)
        assert explanation.head_total[image] == pytest.approx(out[target], rel=1e-4)


def test_calling_and_explaining_agree(convnet, images):
    explainer = ks.LRP(convnet, rules="paper")
    np.testing.assert_allclose(
        ops.convert_to_numpy(explainer(images, 3)), explainer.explain(images, 3).input, atol=1e-6
    )


def test_an_image_is_explained_as_it_is_alone(convnet, images):
    """Nothing leaks between the images of a batch, the random paths included."""
    explainer = ks.LRP(convnet, rules="paper")
    together = explainer.explain(images, [0, 1, 2, 3])
    for i in range(4):
        alone = explainer.explain(images[i : i + 1], i)
        np.testing.assert_allclose(alone.head[0], together.head[i], atol=1e-6)
        np.testing.assert_allclose(alone.input[0], together.input[i], atol=2e-3 * np.abs(together.input[i]).max())


def test_the_same_seed_gives_the_same_relevance(convnet, images):
    first, again, other = (
        ks.LRP(convnet, rules="paper", head_method="sampled", seed=seed).explain(images).head for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0


def test_after_a_training_step_the_next_call_sees_the_new_weights(convnet, images):
    explainer = ks.LRP(convnet, rules="paper")
    before = explainer.explain(images, 1).input
    convnet.compile("sgd", "sparse_categorical_crossentropy")
    convnet.fit(images, np.arange(4), epochs=2, verbose=0)
    after, fresh = explainer.explain(images, 1).input, ks.LRP(convnet, rules="paper").explain(images, 1).input
    np.testing.assert_allclose(after, fresh, atol=1e-6)
    assert np.abs(after - before).max() > 1e-4


def test_it_is_traced_once_for_a_shape_whatever_the_weights(convnet, images):
    calls = []

    def counting(call, inputs, relevance):
        calls.append(call.name)
        return [relevance]

    explainer = ks.LRP(convnet, rules=[(layers.Dropout, counting)], baseline=0.0)
    for _ in range(3):
        explainer(images, 1)
        convnet.set_weights([w * 0.9 for w in convnet.get_weights()])
    eager = keras.backend.backend() == "torch"
    assert len(calls) == (3 if eager else 1)
    explainer(images[:2], 1)
    # a smaller batch is padded to the size that is compiled
    assert len(calls) == (4 if eager else 1)


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
    explainer = ks.LRP(convnet, rules="paper")
    explainer(images)
    explainer.explain(images, 2)
    for old, new in zip(before, state(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert convnet.get_config() == config
    assert [len(layer._inbound_nodes) for layer in convnet.layers] == nodes
    convnet(images)
    assert len(convnet.losses) == losses


def test_lora_is_part_of_the_kernel(rng):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="dense")])
    model.layers[0].enable_lora(2)
    model.layers[0].lora_kernel_b.assign(rng.normal(size=(2, 3)))
    data = rng.normal(size=(2, 4))
    explanation = ks.LRP(model, rules="paper").explain(data, 0)
    np.testing.assert_allclose(explanation.head_total, model.predict(data, verbose=0)[:, 0], rtol=1e-5)
    np.testing.assert_allclose(total(explanation.input), explanation.head_total, rtol=1e-4)


def test_lora_enabled_after_the_first_call_is_seen(rng):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="dense")])
    data, explainer = rng.normal(size=(2, 4)), ks.LRP(model, rules="paper")
    before = explainer.explain(data, 0).input
    model.layers[0].enable_lora(2)
    model.layers[0].lora_kernel_b.assign(rng.normal(size=(2, 3)))
    after = explainer.explain(data, 0).input
    np.testing.assert_allclose(after, ks.LRP(model, rules="paper").explain(data, 0).input, rtol=1e-5)
    assert np.abs(after - before).max() > 1e-3


def test_a_model_that_was_changed_is_explained_as_it_is_now(rng):
    """An end that is no softmax any more, another layer, an activation without a rule, kernels of integers."""
    model = keras.Sequential([keras.Input((4,)), layers.Dense(5, "relu"), layers.Dense(3, "softmax")])
    x, explainer = rng.normal(size=(2, 4)), ks.LRP(model)
    assert explainer.explain(x, 0).probability is not None
    model.layers[-1].activation = keras.activations.linear
    changed, new = explainer.explain(x, 0), ks.LRP(model).explain(x, 0)
    assert changed.probability is None
    np.testing.assert_allclose(changed.head_total, new.head_total)
    np.testing.assert_allclose(ops.convert_to_numpy(explainer(x, 0)), new.input, atol=1e-6)
    model.add(layers.Dense(2))
    assert explainer.explain(x, 0).output.shape == (2, 2) and len(explainer.rules) == 3
    model.layers[0].activation = lambda z: ops.cumsum(z, axis=-1)
    with pytest.raises(ValueError, match="not known to act on each element alone"):
        explainer.explain(x, 0)
    model.layers[0].activation = keras.activations.relu
    explainer.explain(x, 0)
    model.layers[0].quantize("int8")
    with pytest.raises(ValueError, match="is quantized"):
        explainer(x, 0)


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
        ks.LRP(convnet, **{"rules": "paper", **options})


def test_the_repr_is_a_line(convnet, images):
    explainer = ks.LRP(convnet, rules="paper")
    assert repr(explainer) == f"LRP({convnet.name!r}, rules='paper', baseline=None, head='softmax', output='classes')"
    explainer = ks.LRP(convnet, rules=[(layers.Dense, "epsilon")], head="linear")
    assert (
        repr(explainer) == f"LRP({convnet.name!r}, rules=<table of 1>, baseline=None, head='linear', output='classes')"
    )
    explainer = ks.LRP(convnet)
    assert repr(explainer) == f"LRP({convnet.name!r}, rules='auto', baseline=0.0, head='softmax', output='classes')"
    assert "baseline=<(7, 9, 9, 3)>" in repr(ks.LRP(convnet, baseline=np.zeros((7, 9, 9, 3))))


class Custom(keras.Model):
    def call(self, x):
        return x


def test_models_that_cannot_be_walked_are_refused():
    with pytest.raises(ValueError, match="'custom'.*Custom"):
        ks.LRP(Custom(name="custom"), rules="paper")
    with pytest.raises(ValueError, match="'lazy' is not built"):
        ks.LRP(keras.Sequential([layers.Dense(2)], name="lazy"), rules="paper")
    x = keras.Input((4,))
    with pytest.raises(ValueError, match=r"`output`.*\['one', 'other'\]"):
        ks.LRP(keras.Model(x, [layers.Dense(2, name="one")(x), layers.Dense(2, name="other")(x)]), rules="paper")
    with pytest.raises(ValueError, match="`output`"):
        ks.LRP(keras.Model(x, {"one": layers.Dense(2)(x), "other": layers.Dense(2)(x)}), rules="paper")


def test_layers_of_float64_beside_others_are_refused(float64):
    model = keras.Sequential(
        [keras.Input((2,)), layers.Dense(2, dtype="float64", name="wide"), layers.Dense(2, name="narrow")]
    )
    with pytest.raises(ValueError, match="'wide'.*'narrow'.*float32"):
        ks.LRP(model, rules="paper")


def test_names_that_begin_with_an_underscore(rng):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "relu", name="_first"), keras.layers.Dense(2)])
    x = rng.normal(size=(2, 4))
    explanation = ks.LRP(model).explain(x, 0)
    difference = model.predict(x, verbose=0)[:, 0] - model.predict(0 * x, verbose=0)[:, 0]
    np.testing.assert_allclose(explanation.input.sum(axis=1), difference, atol=1e-5)
    assert ks.fast_shapley_values(model, x, 0).values.shape == (2, 4)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda explainer: pickle.loads(pickle.dumps(explainer))])
def test_an_explainer_that_was_called_can_be_copied(copied, rng):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(5, "relu"), layers.Dense(3, "softmax")])
    x = rng.normal(size=(2, 4)).astype("float32")
    explainer = ks.LRP(model, rules=[(layers.Dense, "epsilon")], baseline=0.1, n_paths=100)
    expected = explainer.explain(x, 1)
    other = copied(explainer)
    assert other.model is not model and repr(other) == repr(explainer)
    np.testing.assert_allclose(other.explain(x, 1).input, expected.input, atol=1e-6)


def test_an_input_that_changes_nothing_is_no_fault():
    """What rounding leaves of a total is not lost on the way."""
    closed = layers.Dense(4, "relu", kernel_initializer=keras.initializers.Constant(-1.0))
    model = keras.Sequential([keras.Input((3,)), closed, layers.Dense(2, "softmax")])
    explanation = ks.LRP(model).explain(np.ones((2, 3)), 1)
    assert np.isnan(explanation.arrived).all() and np.abs(explanation.input).max() < 1e-6
