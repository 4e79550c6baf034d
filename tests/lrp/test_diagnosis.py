"""Warnings: relevance that grew, was lost or is not finite, and models whose every path to the input is cut."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers, ops
from reference.calls import BIAS

import keras_shapley as ks
from keras_shapley.lrp.diagnosis import diagnosis

# also of other rules than the default, whose warnings setup.cfg lets pass: here silence is tested
pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


def dense_model(*weights, activation=None):
    """A Dense layer for each kernel and bias, named "a", "b", ..."""
    model = keras.Sequential([keras.Input((len(weights[0][0]),))])
    for name, (kernel, bias) in zip("abcd", weights):
        model.add(layers.Dense(len(bias), activation if name == "a" else None, name=name))
        model.layers[-1].set_weights([np.array(kernel, "float32"), np.array(bias, "float32")])
    return model


def cancelling():
    """Two inputs of which the hidden unit sees the difference; eq. (2) gives them (x1 + x2)/|x1 - x2| times it."""
    return dense_model(([[1], [-1]], [0]), ([[1]], [0]))


def absorbing():
    """With the rule `epsilon` the bias of the first layer keeps 9 parts of 10."""
    return dense_model(([[1], [1]], [18]), ([[1]], [0]))


def test_growth_and_arrival_are_the_sums_of_their_definition():
    """By hand: relevance |1.01| + |-1.00| of the difference 0.01, and 2 of 20 where the bias keeps 18."""
    x = np.array([[1.01, 1.0], [2.0, 1.0]])
    with pytest.warns(RuntimeWarning, match="grew 201 times on its way to the input for 1 of 2 explained outputs"):
        explanation = ks.LRP(cancelling(), rules="paper").explain(x)
    np.testing.assert_allclose(explanation.amplified, [201, 3], rtol=1e-3)
    np.testing.assert_allclose(explanation.arrived, [1, 1], rtol=1e-3)
    with pytest.warns(RuntimeWarning, match="Of the relevance 10 % arrives.* most of the rest is lost at 'a'"):
        explanation = ks.LRP(absorbing(), rules="epsilon").explain(np.ones((1, 2)), [[0, 0]])
    np.testing.assert_allclose(explanation.arrived, [[0.1, 0.1]], rtol=1e-3)
    np.testing.assert_allclose(explanation.amplified, [[0.1, 0.1]], rtol=1e-3)


@pytest.mark.parametrize(
    "arrived, words", [([1.3, 1.0], "130 % arrives at the input for 1 of 2"), ([0.85, 0.95], "85 %")]
)
def test_shapley_propagation_promises_that_all_arrives(arrived, words):
    """By other rules 85 % is no fault. What is created is said to be so, and no share is written out as 1e12 %."""
    model = dense_model(([[1], [1]], [0]), ([[1]], [0]))
    explanation = dataclasses.replace(ks.LRP(model).explain(np.ones((2, 2))), arrived=np.array(arrived))
    message = diagnosis(explanation, model, "auto")["arrived"]
    assert words in message and ("is created at" in message) == (arrived[0] > 1)
    assert not diagnosis(explanation, model, "epsilon")
    far = dataclasses.replace(explanation, arrived=np.array([-1e12, 1e12]))
    assert "less than -1000 % to more than 1000 % arrives" in diagnosis(far, model, "auto")["arrived"]


@pytest.mark.parametrize("made, rules, words", [(cancelling, "paper", "at 'a' .201"), (absorbing, "epsilon", "at 'a'")])
def test_each_way_of_asking_warns_once_with_the_layer_and_the_remedy(made, rules, words):
    x = np.array([[1.01, 1.0]]) if made is cancelling else np.ones((1, 2))
    ways = {
        "explain": lambda explainer: explainer.explain(x),
        "call": lambda explainer: explainer(x),
        "batches": lambda explainer: list(explainer.explain_batches(np.tile(x, (4, 1)), batch_size=2, progress=False)),
    }
    for way, ask in ways.items():
        explainer = ks.LRP(made(), rules=rules)
        with pytest.warns(RuntimeWarning, match=f"{words}.*rules='auto'") as caught:
            ask(explainer)
        assert [w.filename for w in caught if w.category is RuntimeWarning] == [__file__], way
        # warnings are errors here, so these are silent
        for again in ways.values():
            again(explainer)


def test_shapley_propagation_and_eq_2_warn_of_nothing_on_ordinary_networks(rng):
    for depth in (1, 3):
        hidden = [layers.Dense(16, "relu", bias_initializer=BIAS, kernel_initializer="he_normal") for _ in range(depth)]
        model = keras.Sequential([keras.Input((8,)), *hidden, layers.Dense(4, "softmax", bias_initializer=BIAS)])
        x = rng.uniform(0.5, 1, size=(32, 8))
        for explainer in (ks.LRP(model), ks.LRP(model, head="linear"), ks.LRP(model, baseline=x[:4])):
            explainer.explain(x)
            explainer(x, [[0, 1, 2, 3]])


@pytest.mark.parametrize("options", [{}, {"rules": "paper"}, {"rules": "epsilon"}])
def test_a_difference_near_zero_is_no_growth_and_no_loss(options):
    """Logits a hair apart, by hidden units of either sign: the terms of the sum are what growth is measured by."""
    kernel = np.array([[1.0, 1.0], [-1.0, -1.0 + 1e-6]])
    model = dense_model(([[1, 0], [0, 1]], [0, 0]), (kernel, [1e-4, 0]), activation="relu")
    x = np.array([[1.0, 1.0], [2.0, 2.0 + 1e-6]])
    for head in ("linear", "softmax"):
        explainer = ks.LRP(model, head=head, **options)
        explanation = explainer.explain(x, 0, versus=1)
        assert np.abs(explanation.head_total).max() < 2e-4 and explanation.amplified.max() < 10
        explainer(x, 0, 1)
        explainer.explain(x, np.array([1.0, -1.0]))
    ks.LRP(model, head="linear", **options).explain(x, 0)


def test_an_input_at_the_baseline_has_nothing_to_lose():
    explanation = ks.LRP(cancelling(), baseline=1.0).explain(np.ones((2, 2)))
    np.testing.assert_array_equal(explanation.amplified, [0, 0])
    assert np.isnan(explanation.arrived).all()


def test_a_small_change_of_a_large_output_is_no_growth():
    """f(x) - f(x') is 1e-4 of parts +-1, which is nothing beside f(x') = 30."""
    model = dense_model(([[1], [-1]], [30]))
    model.add(layers.Activation("linear"))
    model.add(layers.Rescaling(1.0))
    explanation = ks.LRP(model).explain(np.array([[1.0001, 1.0]]))
    assert abs(explanation.head_total[0]) < 1e-3 < explanation.amplified[0] < 1


@pytest.mark.parametrize("method", ["quadrature", "sampled"])
def test_what_the_head_misses_is_not_lost_on_the_way(method):
    """Logits hundreds apart, on which the quadrature misses most of the sum."""
    n = 20
    kernel = np.zeros((n, 2))
    kernel[0, 0], kernel[1:, 1] = 400, 10
    model = keras.Sequential([keras.Input((n,)), layers.Dense(2, "softmax", name="classes")])
    model.set_weights([kernel, np.zeros(2)])
    explainer = ks.LRP(model, rules="paper", head_method=method, n_paths=2)
    explanation = explainer.explain(np.ones((1, n)), 0)
    explainer(np.ones((1, n)), 0)
    np.testing.assert_allclose(explanation.arrived, 1, rtol=1e-5)
    if method == "quadrature":
        missed = explanation.conservation_gap.relative["classes"]
        assert missed[0] > 0.02


def test_growth_is_averaged_over_a_background(rng):
    """The sums of both ends are averaged before they are divided."""
    model = dense_model(
        (rng.normal(size=(3, 4)), rng.normal(size=4)), (rng.normal(size=(4, 1)), [0]), activation="relu"
    )
    x, background = rng.normal(size=(2, 3)), rng.normal(size=(3, 3))
    whole = ks.LRP(model, baseline=background).explain(x)
    alone = [ks.LRP(model, baseline=row).explain(x) for row in background]

    def mean(sums):
        return np.mean([sums(explanation) for explanation in alone], axis=0)

    def bound(explanation):
        hidden = np.abs(explanation.layers["a"]).sum(axis=1)
        return np.max([hidden, np.abs(explanation.head_baseline), np.abs(explanation.head_total)], axis=0)

    size = mean(lambda explanation: np.abs(explanation.input).sum(axis=1))
    np.testing.assert_allclose(whole.amplified, size / mean(bound), rtol=1e-4)


def test_relevance_beyond_its_range_is_said_where_and_what_to_do():
    def explode(call, inputs, relevance):
        return [relevance * 1e30]

    model = keras.Sequential([keras.Input((2,)), layers.ReLU(name="a"), layers.ReLU(name="b"), layers.Dense(2)])
    explainer = ks.LRP(model, rules=[(layers.ReLU, explode)])
    with pytest.warns(RuntimeWarning, match="not finite at 'a': it left the range of float32.*rules='auto'"):
        explanation = explainer.explain(np.ones((1, 2)), 0)
    assert explanation.overflow == "a"
    with pytest.warns(RuntimeWarning, match="not finite at 'a': it left the range of float32.*rules='auto'"):
        ks.LRP(model, rules=[(layers.ReLU, explode)])(np.ones((1, 2)), 0)


def test_an_output_that_is_not_finite_at_the_baseline_is_said():
    x = keras.Input((2,))
    model = keras.Model(x, layers.Dense(1)(ops.log(x)))
    with pytest.warns(RuntimeWarning, match="output at the baseline is not finite: choose another `baseline`"):
        ks.LRP(model).explain(np.ones((1, 2)))


def test_a_hidden_value_that_is_not_finite_at_the_baseline_is_said():
    """The output is: tanh of minus infinity is -1."""
    x = keras.Input((2,))
    model = keras.Model(x, layers.Dense(1)(ops.tanh(ops.log(x))))
    with pytest.warns(RuntimeWarning, match="a value of the network at the baseline, left the.*another `baseline`"):
        ks.LRP(model).explain(np.ones((1, 2)))


@pytest.mark.parametrize("ask", [lambda explainer, x: explainer(x, 1), lambda explainer, x: explainer.explain(x, 1)])
def test_weights_that_are_not_finite_are_named(ask):
    model = keras.Sequential([keras.Input((2,)), layers.Dense(3, name="broken")])
    model.get_layer("broken").bias.assign([0.0, np.nan, 1.0])
    for rules in ("auto", "paper"):
        with pytest.warns(RuntimeWarning, match="NaN or infinite.*broken/bias"):
            ask(ks.LRP(model, rules=rules), np.ones((1, 2)))


def test_a_call_explains_a_batch_once_more_only_to_warn():
    """Twice the walk for the first fault, and once for all that follow."""
    walks = []

    def counting(call, inputs, relevance):
        walks.append(call.name)
        return [relevance / 10]

    model = keras.Sequential([keras.Input((2,)), layers.ReLU(), layers.Dense(2, kernel_initializer="ones")])
    explainer = ks.LRP(model, rules=[(layers.ReLU, counting)])
    with pytest.warns(RuntimeWarning, match="Of the relevance 10 %"):
        explainer(np.ones((1, 2)), 0)
    first = len(walks)
    for _ in range(3):
        explainer(np.ones((1, 2)), 0)
    assert first == 2 and len(walks) - first == (3 if keras.backend.backend() == "torch" else 0)


CUTS = {
    "argmax": lambda x: ops.one_hot(ops.argmax(x, axis=1), 4),
    "greater": lambda x: ops.cast(x > 0, "float32"),
    "sign": ops.sign,
    "zeros_like": ops.zeros_like,
}


@pytest.mark.parametrize("rules", ["auto", "paper"])
@pytest.mark.parametrize("name", CUTS)
def test_a_model_whose_every_path_is_cut_is_refused(name, rules):
    x = keras.Input((4,))
    cut = CUTS[name](layers.Dense(4)(x))
    for output in (layers.Dense(2)(cut), layers.Dense(3, "softmax")(layers.Dense(3, "relu")(cut))):
        with pytest.raises(ValueError, match=f"every path .* is cut at '{name}.*sampled_shapley_values"):
            ks.LRP(keras.Model(x, output), rules=rules)
    # one path is enough
    data = np.array([[1.0, 2.0, -1.0, 0.5]])
    y = layers.Dense(2, kernel_initializer="ones")(layers.Concatenate()([x, cut * 1e-3]))
    assert ks.LRP(keras.Model(x, y), rules=rules).explain(data).input.any()


def test_only_the_output_that_is_cut_is_refused():
    x = keras.Input((4,))
    model = keras.Model(x, {"logits": layers.Dense(3, name="d")(x), "kind": ops.argmax(x, axis=1, keepdims=True)})
    assert ks.LRP(model, output="logits").explain(np.ones((1, 4)), 0).input.any()
    with pytest.raises(ValueError, match="every path"):
        ks.LRP(model, output="kind")


@pytest.mark.parametrize("rules", ["auto", "paper"])
def test_a_stopped_gradient_stops_no_relevance(rules, rng):
    """`stop_gradient` changes no value, so it changes no explanation."""
    x, data = keras.Input((4,)), rng.normal(size=(2, 4))
    hidden, last = layers.Dense(5, "relu", bias_initializer=BIAS), layers.Dense(2, bias_initializer=BIAS)
    explanations = [
        ks.LRP(keras.Model(x, last(between(hidden(x)))), rules=rules).explain(data, 0)
        for between in (ops.stop_gradient, lambda h: h)
    ]
    np.testing.assert_allclose(explanations[0].input, explanations[1].input, rtol=1e-5, atol=1e-6)


def test_large_contributions_that_cancel_are_no_fault_of_the_default():
    """1000 and -999 are the Shapley values. Eq. (2) has them as well, and warns, as it may have exploded."""
    model = dense_model(([[1000], [-999]], [0]), ([[1]], [0]))
    explanation = ks.LRP(model).explain(np.ones((1, 2)))
    np.testing.assert_allclose(explanation.input, [[1000, -999]], rtol=1e-6)
    ks.LRP(model)(np.ones((1, 2)))
    with pytest.warns(RuntimeWarning, match="grew 1,999 times.*rules='auto'"):
        ks.LRP(model, rules="paper").explain(np.ones((1, 2)))


def test_a_call_warns_once_of_targets_with_different_faults(monkeypatch):
    model = dense_model(([[1, 1], [-0.9999, 1]], [0, 0]), ([[1, 0], [0, 1]], [0, 50]))
    explainer, x = ks.LRP(model, rules="epsilon"), np.ones((1, 2))
    with pytest.warns(RuntimeWarning, match="The relevance grew"):
        explainer(x, [[0, 1]])
    monkeypatch.setattr(explainer, "_explanation", None)
    explainer(x, [[0, 1]])
