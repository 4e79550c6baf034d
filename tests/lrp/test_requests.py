"""Inputs, outputs and targets, of every form that a user may give."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from reference.calls import BIAS, total

import keras_shapley as ks


def test_several_inputs_keep_their_structure(rng):
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    model = keras.Model({"a": a, "b": b}, layers.Dense(2)(layers.Concatenate()([a, b])))
    data = {"a": rng.normal(size=(4, 3)), "b": rng.normal(size=(4, 2))}
    explainer = ks.LRP(model, rules="paper")
    explanation = explainer.explain(data, 0)
    assert set(explanation.input) == {"a", "b"}
    assert explanation.input["a"].shape == (4, 3)
    np.testing.assert_allclose(
        total(explanation.input["a"]) + total(explanation.input["b"]), explanation.head_total, rtol=1e-3, atol=1e-3
    )
    relevance = explainer(data, 0)
    np.testing.assert_allclose(ops.convert_to_numpy(relevance["b"]), explanation.input["b"], atol=1e-6)


def test_inputs_given_by_name_reach_the_input_of_that_name(rng):
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    model = keras.Model([b, a], layers.Dense(2)(layers.Concatenate()([layers.Dense(3)(b), a])))
    data = {"b": rng.normal(size=(4, 2)), "a": rng.normal(size=(4, 3))}
    explanation = ks.LRP(model, rules="paper").explain(data, 0)
    assert list(explanation.input) == list(ks.LRP(model, rules="paper")(data, 0)) == ["b", "a"]
    np.testing.assert_allclose(
        explanation.output, model.predict([data["b"], data["a"]], verbose=0), rtol=1e-4, atol=1e-5
    )
    assert explanation.input["a"].shape == (4, 3) and explanation.input["b"].shape == (4, 2)
    with pytest.raises(ValueError, match="names of the model's inputs"):
        ks.LRP(model, rules="paper")({"a": data["a"], "c": data["b"]})


@pytest.mark.parametrize("dtype", ["int32", "bool"])
def test_integers_and_booleans_receive_relevance_as_floats_do(dtype, rng):
    x, counts = keras.Input((3,)), keras.Input((3,), dtype=dtype)
    y = layers.Dense(3, use_bias=False)(ops.cast(counts, "float32"))
    model = keras.Model(
        [x, counts], layers.Dense(2)(layers.Concatenate()([layers.Add()([x, y]), ops.cast(counts, "float32")]))
    )
    data = [rng.normal(size=(2, 3)), rng.integers(2, size=(2, 3)).astype(dtype)]
    explanation = ks.LRP(model, rules="paper").explain(data, 0)
    assert np.abs(explanation.input[1]).max() > 0
    np.testing.assert_allclose(sum(map(total, explanation.input)), explanation.head_total, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("x, word", [([["a", "b"]], "must be numbers"), ([[1.5, 2.0]], "whole numbers")])
def test_inputs_of_another_kind_are_refused(x, word):
    model = keras.Sequential(
        [keras.Input((2,), dtype="int32"), layers.Embedding(5, 3), layers.Flatten(), layers.Dense(2)]
    )
    with pytest.raises(ValueError, match=word):
        ks.LRP(model, rules="paper")(np.array(x))


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
        ks.LRP(convnet, rules="paper")(x, target)


def test_a_model_built_on_one_batch_is_explained_on_another(rng):
    model = keras.Sequential([layers.Dense(3), layers.Dense(2, activation="softmax")])
    model(rng.normal(size=(8, 4)).astype("float32"))
    assert ks.LRP(model, rules="paper").explain(rng.normal(size=(5, 4))).input.shape == (5, 4)


def test_one_of_several_outputs_is_explained_as_if_it_were_alone(rng):
    x = keras.Input((4,))
    y = layers.Dense(5, "relu", bias_initializer=BIAS)(x)
    probabilities, logits = layers.Dense(3, "softmax", name="one")(y), layers.Dense(2, name="other")(layers.Dense(3)(y))
    data = rng.normal(size=(2, 4))
    expected = ks.LRP(keras.Model(x, logits), rules="paper").explain(data, 1)
    for model, output in (
        (keras.Model(x, [probabilities, logits]), 1),
        (keras.Model(x, {"other": logits, "one": probabilities}), "other"),
    ):
        explanation = ks.LRP(model, rules="paper", output=output).explain(data, 1)
        np.testing.assert_allclose(explanation.input, expected.input, rtol=1e-5)
        np.testing.assert_allclose(explanation.output, expected.output, rtol=1e-6)
    with pytest.raises(ValueError, match="`output`.*'one', 'other'.*'third'"):
        ks.LRP(keras.Model(x, [probabilities, logits]), rules="paper", output="third")
    with pytest.raises(ValueError, match="`output`.*2"):
        ks.LRP(keras.Model(x, [probabilities, logits]), rules="paper", output=2)


@pytest.mark.parametrize("rules", ["auto", "paper"])
def test_several_targets_are_each_explained_as_alone(rules, convnet, images):
    explainer = ks.LRP(convnet, rules=rules)
    targets = np.array([[0, 3], [1, 3], [4, 4], [2, 0]])
    explanation = explainer.explain(images, targets)
    assert explanation.input.shape == (4, 2, 9, 9, 3) and explanation.output.shape == (4, 5)
    for k in range(2):
        alone = explainer.explain(images, targets[:, k])
        np.testing.assert_allclose(explanation.input[:, k], alone.input, atol=1e-6)
        np.testing.assert_allclose(explanation.layers["conv"][:, k], alone.layers["conv"], atol=1e-6)
        np.testing.assert_allclose(explanation.head_total[:, k], alone.head_total, atol=1e-6)
        np.testing.assert_array_equal(explanation.target[:, k], targets[:, k])
        for name, gap in alone.conservation_gap.signed.items():
            np.testing.assert_allclose(explanation.conservation_gap.signed[name][:, k], gap, atol=1e-6)
    called = ops.convert_to_numpy(explainer(images, [[0, 3]]))
    assert called.shape == (4, 2, 9, 9, 3)
    np.testing.assert_allclose(called[:, 1], ops.convert_to_numpy(explainer(images, 3)), atol=1e-6)


def test_several_targets_share_the_forward_pass(images):
    """And each number of targets is traced once."""
    runs = []

    class Counted(layers.Dropout):
        def call(self, inputs, training=False):
            runs.append(self.name)
            return super().call(inputs, training=training)

    body = [layers.Conv2D(4, 3, activation="relu"), Counted(0.5), layers.GlobalAveragePooling2D()]
    model = keras.Sequential([keras.Input(images.shape[1:]), *body, layers.Dense(5, "softmax")])
    explainer = ks.LRP(model, rules=[(Counted, "pass")])
    counts = []
    for targets in (0, [[0, 1, 2]], [[0, 1, 2, 3, 4]], [[4, 0, 3]]):
        before = len(runs)
        explainer(images, targets)
        counts.append(len(runs) - before)
    eager = keras.backend.backend() == "torch"
    assert counts == [1, 1, 1, 1 if eager else 0]


@pytest.mark.parametrize("head", ["auto", "linear"])
def test_a_class_against_another_is_the_difference_of_both(head, convnet, images):
    """Every step back is linear in the relevance."""
    explainer = ks.LRP(convnet, rules="paper", head=head)
    target, versus = explainer.explain(images, 1), explainer.explain(images, [0, 2, 3, 4])
    explanation = explainer.explain(images, 1, versus=[0, 2, 3, 4])
    np.testing.assert_allclose(explanation.head, target.head - versus.head, atol=1e-6)
    np.testing.assert_allclose(explanation.head_total, target.head_total - versus.head_total, atol=1e-6)
    scale = np.abs(target.input).max() + np.abs(versus.input).max()
    np.testing.assert_allclose(explanation.input, target.input - versus.input, atol=1e-4 * scale)
    np.testing.assert_array_equal(explanation.versus, [0, 2, 3, 4])
    np.testing.assert_allclose(
        ops.convert_to_numpy(explainer(images, 1, [0, 2, 3, 4])), explanation.input, atol=1e-5 * scale
    )


def test_a_masked_token_as_the_baseline_is_warned_of():
    model = keras.Sequential(
        [keras.Input((4,), dtype="int32"), layers.Embedding(9, 3, mask_zero=True), layers.GlobalAveragePooling1D()]
    )
    with pytest.warns(RuntimeWarning, match="masks the token 0.*baseline=1"):
        ks.LRP(model)
    ks.LRP(model, baseline=1)
    ks.LRP(model, rules="paper")
    for unknown in (-1, 9):
        with pytest.raises(ValueError, match=f"`baseline` must be a token from 0 to 8, .*Received: baseline={unknown}"):
            ks.LRP(model, baseline=unknown)


def test_bfloat16_is_taken_wherever_numbers_are(rng):
    """NumPy, by which arguments are checked, does not know it."""
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    x = ops.cast(rng.normal(size=(2, 4)), "bfloat16")
    rounded = ops.convert_to_numpy(ops.cast(x, "float32"))
    expected = ks.LRP(model, baseline=rounded[0]).explain(rounded, np.array([1.0, -1.0, 0.0]))
    weights = ops.cast([1.0, -1.0, 0.0], "bfloat16")
    for given in (x, ops.convert_to_numpy(x)):
        explanation = ks.LRP(model, baseline=x[0]).explain(given, weights)
        np.testing.assert_allclose(explanation.input, expected.input, atol=1e-6)
    values = ks.shapley_values(model, x, weights, baseline=x[0])
    np.testing.assert_allclose(values.values, expected.input, atol=1e-5)
    assert np.isfinite(ks.metrics.sensitivity_max(lambda x: ks.LRP(model)(x, 0), x, n=2)).all()
