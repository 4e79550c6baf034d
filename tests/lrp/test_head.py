"""The head: which players, which game, which total; Shapley values against enumeration of all orders."""

import itertools
import math

import keras
import numpy as np
import pytest
from keras import layers, ops
from reference.calls import total

import keras_shapley as ks
from keras_shapley.shapley.probability import ProbabilityGame, by_quadrature

BIAS = keras.initializers.RandomNormal(stddev=0.5, seed=1)


def softmax(logits):
    logits = np.exp(logits - logits.max())
    return logits / logits.sum()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def by_orders(value_of, n):
    """Exact Shapley values by the definition, and the standard deviation of one order's contribution."""
    gains = []
    for order in itertools.permutations(range(n)):
        present, gain = np.zeros(n), np.zeros(n)
        for player in order:
            before = value_of(present)
            present[player] = 1
            gain[player] = value_of(present) - before
        gains.append(gain)
    return np.mean(gains, axis=0), np.std(gains, axis=0)


def head_model(last, n=5):
    """A linear layer before the head, so that features have either sign."""
    x = keras.Input((n,))
    return keras.Model(x, last(layers.Dense(n, kernel_initializer="identity", use_bias=False, name="features")(x)))


def check_game(explain, value_of, n, total_atol=1e-6):
    """Of `explain(**options of LRP)`: by all coalitions, and by 500 pairs of orders."""
    exact, spread = by_orders(value_of, n)
    explanation = explain()
    np.testing.assert_allclose(explanation.head[0].ravel(), exact, atol=1e-5)
    assert not explanation.head_stderr.any() and explanation.head_paths == 0
    pairs, explanation = 500, explain(head_method="sampled")
    np.testing.assert_allclose(explanation.head[0].ravel(), exact, atol=5 * spread.max() / math.sqrt(pairs))
    assert np.all(np.abs(explanation.head[0].ravel() - exact) <= 5 * explanation.head_stderr[0].ravel() + 1e-6)
    np.testing.assert_allclose(explanation.head_baseline[0], value_of(np.zeros(n)), atol=total_atol)
    np.testing.assert_allclose(explanation.head_total[0], value_of(np.ones(n)) - value_of(np.zeros(n)), atol=total_atol)
    # efficiency holds path by path, so the sum has no sampling error
    np.testing.assert_allclose(explanation.head.sum(), explanation.head_total[0], atol=1e-5)
    np.testing.assert_allclose(total(explanation.input), explanation.head_total, atol=1e-4)
    assert explanation.head_paths == 1000


@pytest.mark.parametrize(
    "end",
    [
        [layers.Dense(3, "softmax", bias_initializer=BIAS)],
        [layers.Dense(3, bias_initializer=BIAS), layers.Softmax()],
        [layers.Dense(3, bias_initializer=BIAS), layers.Dropout(0.5), layers.Activation("softmax")],
        [layers.Reshape((1, 1, 5)), layers.Conv2D(3, 1, bias_initializer=BIAS), layers.Reshape((3,)), layers.Softmax()],
        [layers.Dense(3, bias_initializer=BIAS), layers.Reshape((3, 1)), layers.Softmax(axis=1), layers.Flatten()],
        [layers.Reshape((1, 5)), layers.Conv1D(3, 1, activation="softmax", bias_initializer=BIAS), layers.Flatten()],
    ],
    ids=["integrated", "layer", "activation", "conv2d", "another axis", "conv1d"],
)
def test_softmax_features_get_their_shapley_values(end, rng):
    model = head_model(keras.Sequential(end))
    kernel, bias = (w.reshape(-1, w.shape[-1]).astype("float64") for w in model.get_weights()[1:])
    x = rng.normal(size=(1, 5))
    check_game(
        lambda **options: ks.LRP(model, **{"rules": "paper", **options}).explain(x, 2),
        lambda present: softmax((present * x[0]) @ kernel + bias[0])[2],
        5,
    )


def test_softmax_logits_as_players(rng):
    model = head_model(layers.Dense(4, "softmax", bias_initializer=BIAS, name="classes"))
    x = rng.normal(size=(1, 5))
    explanation = ks.LRP(model, rules="paper", head_players="logits").explain(x, 1)
    kernel, bias = model.get_weights()[1:]
    logits = x[0] @ kernel + bias
    explain = lambda **options: ks.LRP(model, head_players="logits", **{"rules": "paper", **options}).explain(x, 1)  # noqa: E731
    check_game(explain, lambda present: softmax(present * logits)[1], 4)
    np.testing.assert_allclose(explanation.layers["classes"], explanation.head)


def test_several_sigmoids_are_explained_one_at_a_time(rng):
    model = head_model(layers.Dense(3, "sigmoid", bias_initializer=BIAS))
    kernel, bias = model.get_weights()[1:]
    x = rng.normal(size=(1, 5))
    check_game(
        lambda **options: ks.LRP(model, **{"rules": "paper", **options}).explain(x, 2),
        lambda present: sigmoid((present * x[0]) @ kernel + bias)[2],
        5,
    )


@pytest.mark.parametrize("target", [None, 0])
def test_one_sigmoid_unit_is_explained_as_it_is(target, rng):
    model = head_model(layers.Dense(1, "sigmoid", bias_initializer=BIAS))
    kernel, bias = model.get_weights()[1:]
    x = rng.normal(size=(1, 5))
    explanation = ks.LRP(model, rules="paper").explain(x, target)
    explain = lambda **options: ks.LRP(model, **{"rules": "paper", **options}).explain(x, target)  # noqa: E731
    check_game(explain, lambda present: sigmoid((present * x[0]) @ kernel + bias)[0], 5)
    np.testing.assert_array_equal(explanation.target, [0])
    with pytest.raises(ValueError, match="`target` must be 0, or None.*class labels 0 and 1"):
        ks.LRP(model, rules="paper")(x, 1)


def test_a_model_of_logits_is_explained_as_logits_unless_asked(rng):
    model = head_model(layers.Dense(3, bias_initializer=BIAS, name="logits"))
    kernel, bias = model.get_weights()[1:]
    x = rng.normal(size=(1, 5))
    logits = x[0] @ kernel + bias
    explanation = ks.LRP(model, rules="paper").explain(x, 0)
    np.testing.assert_allclose(explanation.head_total, logits[:1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(explanation.head[0], [logits[0], 0, 0], rtol=1e-5, atol=1e-6)
    assert explanation.head_paths == 0 and explanation.head_baseline[0] == 0 and not explanation.head_stderr.any()
    check_game(
        lambda **options: ks.LRP(model, head="softmax", **{"rules": "paper", **options}).explain(x, 0),
        lambda present: softmax((present * x[0]) @ kernel + bias)[0],
        5,
    )
    check_game(
        lambda **options: ks.LRP(model, head="sigmoid", **{"rules": "paper", **options}).explain(x, 0),
        lambda present: sigmoid((present * x[0]) @ kernel + bias)[0],
        5,
    )


@pytest.mark.parametrize(
    "end",
    [[layers.Dense(3, "softmax", bias_initializer=BIAS)], [layers.Dense(3, bias_initializer=BIAS), layers.Softmax()]],
)
def test_the_logit_below_a_softmax(end, rng):
    model = head_model(keras.Sequential(end))
    kernel, bias = model.get_weights()[1:]
    x = rng.normal(size=(2, 5))
    explanation = ks.LRP(model, rules="paper", head="linear").explain(x, 1)
    np.testing.assert_allclose(explanation.head_total, (x @ kernel + bias)[:, 1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(total(explanation.input), explanation.head_total, atol=1e-4)
    features = x * kernel[:, 1] + bias[1] / 5  # eq. (2) from r = logit
    np.testing.assert_allclose(explanation.layers["features"], features, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "last",
    [
        layers.Dense(3, "relu", bias_initializer=BIAS),
        ks.ShapLUDense(3, bias_initializer=BIAS),
        keras.Sequential([layers.Dense(3, bias_initializer=BIAS), layers.ReLU()]),
    ],
    ids=["relu", "shaplu", "layer"],
)
def test_a_relu_head_follows_eq_1(last, rng):
    model = head_model(last)
    kernel, bias = model.get_weights()[1:]
    x = rng.normal(size=(3, 5))
    explanation = ks.LRP(model, rules="paper").explain(x, 1)
    expected = ks.neuron_shapley_values(x, kernel, bias)
    expected = keras.ops.convert_to_numpy(expected)[:, :, 1]
    np.testing.assert_allclose(explanation.layers["features"], expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(explanation.head_total, expected.sum(axis=1), rtol=1e-3, atol=1e-4)


def test_an_sa_head_is_explained_as_what_it_gives(rng):
    model = head_model(ks.SADense(3, bias_initializer=BIAS))
    x = rng.normal(size=(3, 5))
    explanation = ks.LRP(model, rules="paper").explain(x, 1)
    np.testing.assert_allclose(explanation.head_total, model.predict(x, verbose=0)[:, 1], rtol=1e-5)
    np.testing.assert_allclose(total(explanation.input), explanation.head_total, atol=1e-4)


@pytest.mark.parametrize("below", [ks.SADense(3, name="logits"), layers.Dense(3, "relu", name="logits")])
def test_where_no_linear_layer_feeds_the_softmax_the_logits_are_players(below, rng):
    model = head_model(keras.Sequential([below, layers.Softmax()]))
    x = rng.normal(size=(2, 5))
    explanation = ks.LRP(model, rules="paper").explain(x, 0)
    assert explanation.head.shape == (2, 3)
    np.testing.assert_allclose(explanation.head.sum(axis=1), explanation.head_total, atol=1e-5)
    np.testing.assert_allclose(explanation.head_total + explanation.head_baseline, explanation.output[:, 0], atol=1e-6)
    np.testing.assert_allclose(explanation.head_baseline, 1 / 3, atol=1e-6)


def test_pooled_logits_without_a_last_linear_layer(rng):
    """A convolution, global pooling, softmax: the pooled logits are the players, eq. (2) from there."""
    model = keras.Sequential(
        [
            keras.Input((4, 4, 2)),
            layers.Conv2D(3, 1, bias_initializer=BIAS),
            layers.GlobalAveragePooling2D(),
            layers.Softmax(),
        ]
    )
    explanation = ks.LRP(model, rules="paper").explain(rng.normal(size=(2, 4, 4, 2)))
    assert explanation.head.shape == (2, 3)
    np.testing.assert_allclose(
        explanation.head_total + explanation.head_baseline, explanation.output.max(axis=1), atol=1e-6
    )


def test_a_callable_gives_the_heads_relevance(rng):
    model = head_model(layers.Dense(3, "softmax", bias_initializer=BIAS))
    kernel, bias = model.get_weights()[1:]
    x = rng.normal(size=(2, 5))

    def one_minus_other(logits, target):
        return logits * ops.convert_to_tensor([[1.0, -1.0, 0.0]])

    explanation = ks.LRP(model, rules="paper", head=one_minus_other).explain(x)
    logits = x @ kernel + bias
    np.testing.assert_allclose(explanation.head_total, logits[:, 0] - logits[:, 1], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"`head`.*\(2, 3\).*\(2, 1\)"):
        ks.LRP(model, rules="paper", head=lambda logits, target: logits[:, :1])(x)


def test_none_explains_the_predicted_class(rng):
    model = head_model(layers.Dense(4, "softmax"))
    x = rng.normal(size=(6, 5))
    explanation = ks.LRP(model, rules="paper").explain(x)
    np.testing.assert_array_equal(explanation.target, explanation.output.argmax(axis=1))
    np.testing.assert_allclose(explanation.head, ks.LRP(model, rules="paper").explain(x, explanation.target).head)


def test_a_very_large_head_stops_at_the_tolerance_and_says_so(rng, monkeypatch):
    monkeypatch.setattr("keras_shapley.lrp.probability_head.MAX_SAMPLES", 1000)
    monkeypatch.setattr("keras_shapley.shapley.probability._block_length", lambda pairs, size: 5)
    model = head_model(layers.Dense(4, "softmax"))
    explanation = ks.LRP(model, rules="paper", head_method="sampled").explain(rng.normal(size=(1, 5)))
    assert 10 <= explanation.head_paths < 1000
    assert np.sqrt((explanation.head_stderr**2).sum() / (explanation.head**2).sum()) <= 0.05
    np.testing.assert_allclose(explanation.head.sum(), explanation.head_total[0], atol=1e-5)


def test_logits_far_apart_stay_finite(rng):
    model = head_model(layers.Dense(3, "softmax", kernel_initializer=keras.initializers.RandomNormal(stddev=200)))
    explanation = ks.LRP(model, rules="paper").explain(rng.normal(size=(4, 5)))
    assert np.isfinite(explanation.input).all() and np.isfinite(explanation.head_stderr).all()
    np.testing.assert_allclose(explanation.head.sum(axis=1), explanation.head_total, atol=1e-5)


@pytest.mark.parametrize("end, units", [("softmax", 5), ("sigmoid", 1)])
@pytest.mark.parametrize("size", [1, 100, 1e4])
def test_the_default_of_an_overconfident_model(size, end, units, rng):
    """Logits that are hundreds apart, as of pixels up to 255 without a Rescaling: the draws miss where it changes.

    Relevance arrives, does not grow, and features that are as at the baseline have none.
    """
    features = layers.Dense(80, "relu", name="features")
    model = keras.Sequential([keras.Input((40,)), features, layers.Dense(units, end)])
    features.kernel.assign(np.abs(features.kernel) * np.where(np.arange(80) % 4, 1, -1))
    model.layers[-1].kernel.assign(size * rng.normal(size=(80, units)))
    x = rng.uniform(size=(16, 40))
    explanation = ks.LRP(model).explain(x, target=0)
    np.testing.assert_allclose(total(explanation.input), explanation.head_total, atol=1e-4)
    assert (np.abs(explanation.head).sum(axis=1) < 10).all()
    # the units whose weights are all negative are shut at the baseline and for every x
    assert not explanation.head[:, ::4].any()
    sampled = ks.LRP(model, head_method="sampled").explain(x, target=0)
    for values, truth in zip(explanation.input, sampled.input):
        assert np.linalg.norm(truth) < 0.05 or np.corrcoef(values, truth)[0, 1] > 0.8


@pytest.mark.filterwarnings("ignore:You are using a softmax")
def test_a_softmax_of_one_output_is_explained_as_its_logit(rng):
    model = head_model(layers.Dense(1, "softmax", bias_initializer=BIAS))
    x = rng.normal(size=(2, 5)).astype("float32")
    with pytest.raises(ValueError, match="is always 1. Explain it with head='linear'"):
        ks.LRP(model, rules="paper")(x)
    explanation = ks.LRP(model, rules="paper", head="linear").explain(x)
    kernel, bias = (ops.convert_to_numpy(weight) for weight in model.layers[-1].weights)
    np.testing.assert_allclose(explanation.head_total, (x @ kernel + bias)[:, 0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "end",
    [
        [layers.Dense(3, "softmax", bias_initializer=BIAS)],
        [layers.Dense(3, "softmax", bias_initializer=BIAS), layers.Activation("linear")],
        [layers.Dense(3, bias_initializer=BIAS), layers.Activation("linear"), layers.Softmax()],
        [layers.Dense(3, "sigmoid", bias_initializer=BIAS)],
        [layers.Dense(1, "sigmoid", bias_initializer=BIAS)],
    ],
)
def test_total_and_baseline_are_the_models_probability(end, rng):
    model = head_model(keras.Sequential(end))
    explanation = ks.LRP(model, rules="paper").explain(rng.normal(size=(4, 5)))
    np.testing.assert_allclose(
        explanation.head_total + explanation.head_baseline, explanation.output.max(axis=1), atol=1e-6
    )


def test_a_single_logit_is_never_negated(rng):
    """A regression has one target, and positive relevance always raises it."""
    model = head_model(layers.Dense(1, bias_initializer=BIAS))
    x = rng.normal(size=(6, 5))
    explainer = ks.LRP(model, rules="paper")
    explanation = explainer.explain(x)
    np.testing.assert_allclose(explanation.head_total, model.predict(x, verbose=0)[:, 0], rtol=1e-5, atol=1e-6)
    assert (explanation.head_total < 0).any() and (explanation.head_total > 0).any()
    np.testing.assert_allclose(explainer.explain(x, 0).input, explanation.input, rtol=1e-5)
    with pytest.raises(ValueError, match="`target` must be 0, or None"):
        explainer(x, 1)
    with pytest.raises(ValueError, match="sigmoid"):
        ks.LRP(model, rules="paper", head="softmax")(x)


def test_paths_are_all_walked_whatever_their_number(rng):
    """499 pairs have no divisor, and three players make the first pairs agree by chance."""
    explanation = ks.LRP(
        head_model(layers.Dense(4, "softmax"), n=3), rules="paper", head_method="sampled", n_paths=998
    ).explain(rng.normal(size=(20, 3)))
    assert explanation.head_paths == 998


def test_few_players_are_enumerated_and_many_taken_by_quadrature(rng):
    for n, method in ((16, "exact"), (17, "quadrature")):
        model = head_model(layers.Dense(4, "softmax", bias_initializer=BIAS), n)
        x = rng.normal(size=(2, n))
        explanation = ks.LRP(model, rules="paper").explain(x)
        named = ks.LRP(model, rules="paper", head_method=method).explain(x)
        np.testing.assert_array_equal(explanation.head, named.head)
        assert np.isnan(explanation.head_stderr).all() == (method == "quadrature") and explanation.head_paths == 0
        np.testing.assert_allclose(explanation.head.sum(axis=1), explanation.head_total, rtol=0.1)
    with pytest.raises(ValueError, match="head_method='exact'.*up to 16 players. Received: a head with 17"):
        ks.LRP(model, rules="paper", head_method="exact")(rng.normal(size=(2, 17)))
    with pytest.raises(ValueError, match="`head_method` must be one of .*'quadrature'. Received: head_method='monte"):
        ks.LRP(model, rules="paper", head_method="monte carlo")


def test_what_quadrature_misses_of_the_sum_is_a_gap_of_the_last_layer(rng):
    model = head_model(layers.Dense(4, "softmax", bias_initializer=BIAS, name="classes"), 20)
    x = rng.normal(size=(3, 20))
    explanation, sampled = (
        ks.LRP(model, rules="paper", head_method=method).explain(x) for method in ("quadrature", "sampled")
    )
    assert np.isnan(explanation.head_stderr).all() and explanation.head_paths == 0
    np.testing.assert_allclose(explanation.head_total, sampled.head_total, atol=1e-6)
    missed = explanation.head_total - explanation.head.sum(axis=1)
    assert 1e-4 < np.abs(missed).max() < 0.05
    np.testing.assert_allclose(explanation.conservation_gap.signed["classes"], missed, atol=1e-5)
    size = np.linalg.norm(sampled.head, axis=1)
    assert (np.linalg.norm(explanation.head - sampled.head, axis=1) / size).max() < 0.15


@pytest.mark.parametrize("method", ["exact", "sampled"])
def test_a_probability_of_float64_is_shared_in_float64(float64, method, rng):
    """The players' values sum to the probability's gain to the last digits."""
    model = keras.Sequential([keras.Input((5,), dtype="float64"), layers.Dense(3, "softmax", dtype="float64")])
    explanation = ks.LRP(model, rules="paper", head_method=method, n_paths=8).explain(rng.normal(size=(2, 5)), 1)
    assert explanation.head.dtype == "float64"
    np.testing.assert_allclose(explanation.head.sum(axis=1), explanation.head_total, rtol=1e-12)


@pytest.mark.parametrize("options", [{}, {"rules": "paper"}, {"rules": "paper", "head_method": "sampled"}])
def test_what_the_head_misses_is_reported(options, rng):
    """By the quadrature's own values; from a baseline they are then scaled up to the total."""
    model = keras.Sequential([keras.Input((20,)), layers.Dense(6, "softmax", name="out")])
    model.get_layer("out").set_weights([rng.normal(size=(20, 6)), np.zeros(6)])
    x = rng.normal(size=(3, 20)).astype("float32")
    explanation = ks.LRP(model, **options).explain(x, 2)
    kernel = model.get_layer("out").get_weights()[0].astype("float32")
    game = ProbabilityGame.of_class(
        ops.convert_to_tensor(x[:, :, None] * kernel), ops.zeros((3, 6)), ops.convert_to_tensor([2, 2, 2])
    )
    sums = ops.convert_to_numpy(ops.sum(by_quadrature(game, seed=0), axis=1))
    missed = 0 if "head_method" in options else explanation.head_total - sums
    np.testing.assert_allclose(explanation.head_missed, missed, atol=1e-5)
    distributed = explanation.head_total - (explanation.head_missed if options == {"rules": "paper"} else 0)
    np.testing.assert_allclose(explanation.head.sum(axis=1), distributed, atol=1e-5)
    assert ks.LRP(model, head="linear").explain(x).head_missed.tolist() == [0, 0, 0]
