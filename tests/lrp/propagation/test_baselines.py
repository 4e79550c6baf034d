"""Baselines of every form, other rules measured from one, and what LRP promises beside."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_shapley as ks

BIAS = keras.initializers.RandomNormal(stddev=0.3, seed=2)


@pytest.fixture
def model(rng):
    return keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(3, 3, activation="relu", bias_initializer=BIAS, name="conv"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(5, "relu", bias_initializer=BIAS, name="hidden"),
            layers.Dense(3, bias_initializer=BIAS, name="logits"),
        ]
    )


@pytest.fixture
def x(rng):
    return rng.normal(size=(4, 6, 6, 2)).astype("float32")


def output(model, x, target):
    return model.predict(x, verbose=0)[:, target]


def total(relevance):
    return relevance.reshape(len(relevance), -1).sum(axis=1)


def same(ours, theirs):
    np.testing.assert_allclose(ours, theirs, atol=2e-6 * max(1, np.abs(theirs).max()))


def test_a_background_is_the_mean_of_its_explanations(model, x, rng):
    background = rng.normal(size=(3, 6, 6, 2))
    whole = ks.LRP(model, rules="auto", baseline=background).explain(x, 1)
    parts = [ks.LRP(model, rules="auto", baseline=one).explain(x, 1) for one in background]
    same(whole.input, np.mean([part.input for part in parts], axis=0))
    same(whole.head_baseline, np.full(4, output(model, background, 1).mean()))
    for name, relevance in whole.layers.items():
        same(relevance, np.mean([part.layers[name] for part in parts], axis=0))
    for name, gap in whole.conservation_gap.signed.items():
        same(gap, np.mean([part.conservation_gap.signed[name] for part in parts], axis=0))


def test_the_fast_call_is_the_input_of_an_explanation(model, x, rng):
    explainer = ks.LRP(model, rules="auto", baseline=rng.normal(size=(2, 6, 6, 2)))
    same(ops.convert_to_numpy(explainer(x, 1)), explainer.explain(x, 1).input)


def test_a_number_is_an_array_of_that_number(model, x):
    arrays = [np.full((6, 6, 2), 0.3), np.full((1, 6, 6, 2), 0.3)]
    expected = ks.LRP(model, rules="auto", baseline=0.3).explain(x, 1).input
    for array in arrays:
        same(ks.LRP(model, rules="auto", baseline=array).explain(x, 1).input, expected)


def test_a_baseline_may_be_a_tensor(model, x):
    baseline = ops.full((6, 6, 2), 0.3)
    expected = ks.LRP(model, rules="auto", baseline=0.3).explain(x, 1).input
    same(ks.LRP(model, rules="auto", baseline=baseline).explain(x, 1).input, expected)


def test_no_baseline_is_0_for_shapley_propagation(model, x):
    same(ks.LRP(model, rules="auto").explain(x, 1).input, ks.LRP(model, rules="auto", baseline=0).explain(x, 1).input)


@pytest.fixture
def two_inputs(rng):
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    y = layers.Concatenate()([layers.Dense(4, "relu")(a), b])
    model = keras.Model([a, b], layers.Dense(2)(layers.Dense(4, "relu")(y)))
    return model, [rng.normal(size=(3, 3)), rng.normal(size=(3, 2))]


@pytest.mark.parametrize("form", ["list", "dict", "background"])
def test_a_model_of_several_inputs_takes_their_structure(two_inputs, rng, form):
    model, x = two_inputs
    parts = [rng.normal(size=(2, 3)), rng.normal(size=(2, 2))]
    baseline = parts if form == "background" else [part[0] for part in parts]
    if form == "dict":
        baseline = dict(zip("ab", baseline, strict=True))
    relevance = ks.LRP(model, rules="auto", baseline=baseline).explain(x, 1).input
    absent = [part if form == "background" else part[:1] for part in parts]
    difference = output(model, x, 1) - output(model, absent, 1).mean()
    np.testing.assert_allclose(sum(part.sum(axis=1) for part in relevance), difference, atol=1e-5)


def test_one_number_is_the_baseline_of_all_inputs(two_inputs):
    model, x = two_inputs
    number, arrays = (
        ks.LRP(model, rules="auto", baseline=baseline).explain(x, 1).input
        for baseline in (0.5, [np.full(3, 0.5), np.full(2, 0.5)])
    )
    for ours, theirs in zip(number, arrays, strict=True):
        same(ours, theirs)


@pytest.mark.parametrize(
    "baseline, message",
    [
        (np.zeros((6, 6)), r"`baseline` must be .* of shape \(6, 6, 2\).*Received: .*\(6, 6\)"),
        (np.zeros((6, 6, 3)), r"`baseline` must be .* of shape \(6, 6, 2\)"),
        (np.zeros((0, 6, 6, 2)), r"`baseline` must be .* of shape \(6, 6, 2\)"),
        (np.full((6, 6, 2), np.nan), "`baseline`.*(finite|NaN)"),
        (np.inf, "`baseline`.*(finite|inf)"),
        ("zero", "`baseline` must be"),
    ],
)
def test_a_baseline_that_is_none_is_refused_by_name(model, x, baseline, message):
    with pytest.raises(ValueError, match=message):
        ks.LRP(model, rules="auto", baseline=baseline).explain(x, 1)


@pytest.mark.parametrize("baseline", [[np.zeros(3)], [np.zeros((2, 3)), np.zeros((3, 2))], {"a": np.zeros(3)}])
def test_baselines_that_do_not_match_the_inputs_are_refused(two_inputs, baseline):
    model, x = two_inputs
    with pytest.raises(ValueError, match="`baseline` must (be|have) "):
        ks.LRP(model, rules="auto", baseline=baseline).explain(x, 1)


@pytest.mark.parametrize("rules", ["auto", "epsilon", "epsilon_plus", "paper"])
def test_the_baseline_itself_has_no_relevance(model, x, rules):
    explanation = ks.LRP(model, rules=rules, baseline=x[0]).explain(x, 1)
    np.testing.assert_allclose(explanation.input[0], 0, atol=1e-7)
    np.testing.assert_allclose(explanation.head_total[0], 0, atol=1e-6)
    assert np.all(np.isfinite(explanation.input)) and np.any(explanation.input[1] != 0)


PRESETS = ["epsilon", "epsilon_plus", "paper", "epsilon_alpha2_beta1"]


@pytest.mark.parametrize("name", PRESETS)
def test_presets_conserve_from_a_baseline(model, x, rng, name):
    baseline = rng.normal(size=(6, 6, 2))
    relevance = ks.LRP(model, rules=name, baseline=baseline).explain(x, 1).input
    difference = output(model, x, 1) - output(model, baseline[None], 1)
    np.testing.assert_allclose(total(relevance), difference, rtol=1e-3, atol=1e-4)


def test_gamma_of_one_layer_goes_with_shapley_propagation_of_the_others(model, x, rng):
    baseline = rng.normal(size=(6, 6, 2))
    difference = output(model, x, 1) - output(model, baseline[None], 1)
    mixed, pure, gamma = (
        ks.LRP(model, rules=rules, baseline=baseline).explain(x, 1)
        for rules in ([("conv", ks.rules.Gamma(0.25))], "auto", [(layers.Conv2D, "gamma"), (layers.Dense, "gamma")])
    )
    for explanation in (mixed, gamma):
        np.testing.assert_allclose(total(explanation.input), difference, rtol=1e-3, atol=1e-4)
    # above the convolution nothing is different
    same(mixed.layers["conv"], pure.layers["conv"])
    assert np.abs(mixed.input - pure.input).max() > 1e-2


def test_a_function_is_a_rule_of_differences(rng):
    def proportional(call, inputs, relevance):
        """Epsilon without its epsilon, written by hand for a dense layer without an activation."""
        kernel = ops.convert_to_tensor(call.op.kernel)
        sums = ops.matmul(inputs[0], kernel)
        return [inputs[0] * ops.matmul(relevance / sums, ops.transpose(kernel))]

    # of tanh, whose differences are not 0: relevance says nothing of the multiplier of a unit that stays closed
    x = rng.normal(size=(3, 4))
    model = keras.Sequential([keras.Input((4,)), layers.Dense(5, "tanh"), layers.Dense(3, name="logits")])
    ours = ks.LRP(model, rules=[("logits", proportional)], baseline=0.5).explain(x, 1).input
    theirs = ks.LRP(model, rules="auto", baseline=0.5).explain(x, 1).input
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("rule", [ks.rules.Rescale(), "rescale", ks.rules.ShapleyPropagation(), "shapley_propagation"])
def test_a_rule_that_measures_from_a_baseline_measures_from_0(model, x, rule):
    rules = [((layers.Conv2D, layers.Dense), rule)]
    same(ks.LRP(model, rules=rules).explain(x, 1).input, ks.LRP(model, rules=rules, baseline=0.0).explain(x, 1).input)


def test_rescale_is_proportional_to_contributions(rng):
    x, kernel = rng.normal(size=(3, 4)), rng.normal(size=(4, 1))
    model = keras.Sequential([keras.Input((4,)), layers.Dense(1, "relu"), layers.Dense(1, use_bias=False)])
    model.set_weights([kernel, np.array([0.4]), np.ones((1, 1))])
    relevance = ks.LRP(model, rules=[(layers.Dense, ks.rules.Rescale())], baseline=0.2).explain(x, 0).input
    a = kernel[:, 0] * (x - 0.2)
    dy = np.maximum(x @ kernel + 0.4, 0) - max(0.2 * kernel.sum() + 0.4, 0)
    np.testing.assert_allclose(relevance, a * dy / a.sum(axis=1, keepdims=True), atol=1e-5)


def test_first_order_is_the_difference_times_a_gradient_and_its_sum_is_what_it_is(model, x):
    rules = [((layers.Conv2D, layers.Dense), ks.rules.FirstOrder())]
    explanation = ks.LRP(model, rules=rules, baseline=0.5).explain(x, 1)
    difference = output(model, x, 1) - output(model, np.full((1, 6, 6, 2), 0.5), 1)
    np.testing.assert_allclose(explanation.head_total, difference, atol=1e-5)
    lost = sum(explanation.conservation_gap.signed.values())
    np.testing.assert_allclose(total(explanation.input) + lost, difference, atol=1e-4)
    assert np.abs(lost).max() > 1e-2


@pytest.mark.parametrize("name", ["ShapleyPropagation", "FirstOrder", "Rescale"])
def test_a_rule_from_a_baseline_is_no_rule_without_one(name):
    with pytest.raises(ValueError, match="baseline"):
        getattr(ks.rules, name)()(None, [], None)


def test_weights_of_the_next_step_are_seen(model, x, rng):
    explainer = ks.LRP(model, rules="auto", baseline=0.5)
    before = explainer.explain(x, 1).input
    model.compile("sgd", "mse")
    model.fit(x, rng.normal(size=(4, 3)), verbose=0)
    after = explainer.explain(x, 1).input
    assert np.abs(after - before).max() > 1e-4
    same(after, ks.LRP(model, rules="auto", baseline=0.5).explain(x, 1).input)


def test_batches_are_those_of_one_call(model, rng):
    x = rng.normal(size=(5, 6, 6, 2)).astype("float32")
    explainer = ks.LRP(model, rules="auto", baseline=rng.normal(size=(2, 6, 6, 2)))
    batches = list(explainer.explain_batches(x, [0, 1, 2, 0, 1], batch_size=2, progress=False))
    assert [len(batch.input) for batch in batches] == [2, 2, 1]
    same(np.concatenate([batch.input for batch in batches]), explainer.explain(x, [0, 1, 2, 0, 1]).input)


def test_several_targets_are_explained_by_themselves(model, x):
    explainer = ks.LRP(model, rules="auto", baseline=0.5)
    relevance = explainer.explain(x, [[2, 0]]).input
    assert relevance.shape == (4, 2, 6, 6, 2)
    for place, target in enumerate((2, 0)):
        same(relevance[:, place], explainer.explain(x, target).input)


def test_relevance_is_linear_in_the_weights_of_outputs(model, x):
    explainer = ks.LRP(model, rules="auto", baseline=0.5)
    parts = [explainer.explain(x, target).input for target in range(3)]
    same(explainer.explain(x, [0.5, -1.0, 2.0]).input, 0.5 * parts[0] - parts[1] + 2 * parts[2])


def test_a_model_of_float64_conserves_to_its_precision(float64, rng):
    wide = {"bias_initializer": BIAS, "dtype": "float64"}
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2), dtype="float64"),
            layers.Conv2D(3, 3, activation="relu", **wide),
            layers.MaxPooling2D(2, dtype="float64"),
            layers.Flatten(dtype="float64"),
            layers.Dense(6, "tanh", **wide),
            layers.Dense(2, **wide),
        ]
    )
    x, baseline = rng.normal(size=(3, 6, 6, 2)), rng.normal(size=(6, 6, 2))
    explanation = ks.LRP(model, rules="auto", baseline=baseline).explain(x, 1)
    assert explanation.input.dtype == "float64"
    np.testing.assert_allclose(explanation.head_total, explanation.output[:, 1] - explanation.head_baseline, atol=1e-14)
    np.testing.assert_allclose(total(explanation.input), explanation.head_total, rtol=0, atol=1e-12)
    assert max(np.abs(gap).max() for gap in explanation.conservation_gap.signed.values()) < 1e-13
    # a model of Keras is less accurate than that on some backends
    np.testing.assert_allclose(explanation.head_baseline, output(model, baseline[None], 1)[0], atol=1e-6)


def test_a_layer_without_a_rule_is_named_with_a_remedy(rng):
    model = keras.Sequential([keras.Input((4, 3, 2)), layers.ConvLSTM1D(3, 2), layers.Dense(2)])
    with pytest.raises(ValueError, match="conv_lstm1d.*rules=.*shapley_values"):
        ks.LRP(model, rules="auto")


def centred(x):
    return x - ops.mean(x, axis=-1, keepdims=True)


@pytest.mark.parametrize("activation", [centred, lambda x: ops.sort(x)])
@pytest.mark.parametrize("is_layer", [False, True])
def test_an_activation_that_may_mix_elements_is_refused(activation, is_layer):
    """As for rules without a baseline: the slope of one element says nothing of the others."""
    hidden = [layers.Dense(4), layers.Activation(activation)] if is_layer else [layers.Dense(4, activation)]
    model = keras.Sequential([keras.Input((3,)), *hidden, layers.Dense(2)])
    with pytest.raises(ValueError, match="activation"):
        ks.LRP(model, rules="auto")


def test_a_rule_of_the_users_own_class_is_not_passed_over(model, x):
    class Nothing:
        def __call__(self, call, inputs, relevance):
            return [ops.zeros_like(part) for part in inputs]

    assert not np.any(ks.LRP(model, rules=[("conv", Nothing())], baseline=0.5).explain(x, 1).input)


def test_rules_that_say_nothing_of_differences_are_replaced_and_the_explainer_says_so(model):
    chosen = ks.LRP(model, rules=[(layers.MaxPooling2D, "winner_takes_all")], baseline=0.5)
    kinds = {type(op).__name__: type(rule).__name__ for op, rule in chosen.rules.values()}
    assert kinds["MaxPooling2D"] == "MaxPooling"


def test_a_rule_of_the_user_has_the_whole_linear_map_without_its_bias(rng):
    """Equal shares for all inputs, measured from a baseline: nothing is left for the bias."""
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, bias_initializer=BIAS, name="dense")])
    x = rng.normal(size=(2, 4)).astype("float32")

    def rule(call, inputs, relevance):
        linear, (difference,) = call.linear_map, inputs
        assert linear.bias is None
        share = relevance / linear.fan_in(ops.ones_like(difference))
        return [linear.spread(linear.merge(share, ops.ones((3,))), difference)]

    explanation = ks.LRP(model, rules=[("dense", rule)], baseline=0.5).explain(x, 1)
    same(explanation.input, np.broadcast_to(total(explanation.layers["dense"])[:, None] / 4, x.shape))
