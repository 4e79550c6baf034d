"""What an explanation reports: relevance of every layer, conservation gaps, amplification."""

import re

import keras
import numpy as np
import pytest
from keras import layers
from reference.calls import total

import keras_shapley as ks


def test_relevance_of_every_layer_has_the_shape_of_its_output(convnet, images):
    explanation = ks.LRP(convnet, rules="paper").explain(images)
    expected = [layer.name for layer in convnet.layers if layer.name not in ("image", "classes")]
    assert [name for name in explanation.layers if name in expected] == expected
    for name in expected:
        assert explanation.layers[name].shape[1:] == convnet.get_layer(name).output.shape[1:]
    assert explanation.input.shape == images.shape
    np.testing.assert_allclose(explanation.layers["shaplu"], explanation.head)


def test_calls_are_named_by_layer_use_and_nesting(rng):
    shared = layers.Dense(6, "relu", name="shared")
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(6, "relu", name="deep")], name="inner")
    x = keras.Input((6,))
    y = inner(inner(shared(shared(x))))
    model = keras.Model(x, layers.Dense(2, name="logits")(y))
    data = rng.uniform(size=(2, 6))
    explanation = ks.LRP(model, rules="paper").explain(data)
    names = ["shared", "shared:1", "inner/deep", "inner:1/deep", "logits"]
    assert list(explanation.layers) == names == list(explanation.conservation_gap.signed)
    np.testing.assert_allclose(
        explanation.head_total - total(explanation.input), sum(explanation.conservation_gap.signed.values()), atol=1e-4
    )


def test_the_signed_gaps_add_up_to_what_is_missing(convnet, images):
    explanation = ks.LRP(convnet, rules="paper").explain(images)
    gap = explanation.conservation_gap
    missing = explanation.head_total - total(explanation.input)
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

    explanation = ks.LRP(model, rules=[(layers.ReLU, half)]).explain(images, target=0)
    gap = explanation.conservation_gap
    np.testing.assert_allclose(gap.signed["half"], explanation.head_total / 2, rtol=1e-3, atol=1e-4)
    assert max(v.max() for name, v in gap.absolute.items() if name != "half") < 1e-3


def test_how_much_a_call_amplifies_is_reported(rng):
    """Two inputs that nearly cancel: eq. (2) makes a hundred and one times the relevance of their sum."""
    model = keras.Sequential(
        [keras.Input((2,)), layers.Dense(1, use_bias=False, name="sum"), layers.Dense(1, name="out")]
    )
    model.set_weights([np.array([[1.0], [-1.0]]), np.ones((1, 1)), np.zeros(1)])
    with pytest.warns(RuntimeWarning, match="grew 201 times .*for 1 of 2 explained outputs, most at 'sum'"):
        explanation = ks.LRP(model, rules="paper").explain(np.array([[1.01, 1.0], [2.0, 1.0]]))
    np.testing.assert_allclose(explanation.amplification["sum"], [201, 3], rtol=1e-3)
    np.testing.assert_allclose(explanation.amplification["out"], [1, 1], rtol=1e-5)


def test_an_explanation_is_a_line_and_a_heatmap(convnet, images):
    explanation = ks.LRP(convnet, rules="paper").explain(images, 3)
    assert explanation.heatmap is explanation.input
    text = repr(explanation)
    assert re.fullmatch(
        r"Explanation\(4 samples, input \(4, 9, 9, 3\), target 3, head_total \S+ to \S+, largest gap \S+ at '\w+'\)",
        text,
    )
    assert re.fullmatch(r"ConservationGap\(\d+ calls, largest gap \S+ at '\w+'\)", repr(explanation.conservation_gap))
    assert "target 0 to 4" in repr(ks.LRP(convnet, rules="paper").explain(images, [[0, 4]]))
    assert "target weights" in repr(ks.LRP(convnet, rules="paper").explain(images, np.ones(5)))


def test_titles_say_what_is_explained():
    """Of a softmax, a sigmoid and a plain output; of indices, weights and several targets; with names and without."""
    x = np.log([[0.1, 0.2, 0.7], [0.6, 0.3, 0.1]]).astype("float32")

    def explainer(activation, units=3):
        layer = layers.Dense(units, activation)
        model = keras.Sequential([keras.Input((3,)), layer])
        layer.set_weights([np.eye(3)[:, -units:], np.zeros(units)])
        return ks.LRP(model)

    softmax = explainer("softmax")
    assert softmax.explain(x).titles() == ["class 2 (70 %)", "class 0 (60 %)"]
    assert softmax.explain(x, 1).titles(["ant", "bee", "cat"]) == ["bee (20 %)", "bee (30 %)"]
    assert softmax.explain(x, [[0, 1]]).titles()[1] == "class 0 (60 %), class 1 (30 %)"
    assert softmax.explain(x, np.array([1.0, 1.0, 0.0])).titles() == ["weighted sum: 0.3", "weighted sum: 0.9"]
    against = softmax.explain(x, 2, versus=0).titles(["ant", "bee", "cat"])
    assert against[0] == "cat (70 %) against ant (10 %)"
    assert explainer(None).explain(x, 1).titles()[0] == "output 1: -1.61"
    assert explainer("sigmoid", 1).explain(x).titles() == ["class 1 (41 %)", "class 1 (9 %)"]
    # several comparisons of one weighted sum; and probabilities where a logit is explained
    versus = softmax.explain(x, np.array([1.0, 1.0, 0.0]), versus=[[0, 1]]).titles()
    assert versus[0] == "weighted sum: 0.3 against class 0 (10 %), weighted sum: 0.3 against class 1 (20 %)"
    assert ks.LRP(softmax.model, head="linear").explain(x).titles() == softmax.explain(x).titles()
    with pytest.raises(ValueError, match="`class_names` must have length 3. Received: 2"):
        softmax.explain(x).titles(["ant", "bee"])
    steps = keras.Sequential([keras.Input((2, 3)), layers.Dense(3, "softmax")])
    with pytest.raises(ValueError, match="`class_names` must be None for an output of several axes"):
        ks.LRP(steps).explain(x[None]).titles(["ant", "bee", "cat"])
