"""One meaning of target and output: every way to write a head, against exact Shapley values of the same target."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers, ops
from reference.calls import BIAS, total

import keras_shapley as ks

N_INPUTS = 4


def dense(units, activation=None, name=None, use_bias=True):
    return layers.Dense(units, activation, use_bias=use_bias, bias_initializer=BIAS, name=name)


def on_input(*end):
    """A model whose input is what the head's players are."""
    x = y = keras.Input((N_INPUTS,))
    for part in end:
        y = part(y)
    return keras.Model(x, y)


def average(mean, activation="softmax", units=3):
    x = keras.Input((N_INPUTS,))
    return keras.Model(x, mean(*(dense(units, activation)(x) for _ in range(2))))


def hidden(end):
    """A model with two hidden layers below the head."""
    x = keras.Input((6,))
    y = dense(8, "relu", name="first")(x)
    return keras.Model(x, end(dense(N_INPUTS, "relu", name="second")(y)))


SOFTMAXES = {
    "activation": lambda units: on_input(dense(units, "softmax")),
    "layer": lambda units: on_input(dense(units), layers.Softmax()),
    "activation layer": lambda units: on_input(dense(units), layers.Activation("softmax")),
    "keras.activations": lambda units: on_input(dense(units), keras.activations.softmax),
    "keras.ops": lambda units: on_input(dense(units), ops.softmax),
}
SIGMOIDS = {
    "activation": lambda units: on_input(dense(units, "sigmoid")),
    "activation layer": lambda units: on_input(dense(units), layers.Activation("sigmoid")),
    "keras.activations": lambda units: on_input(dense(units), keras.activations.sigmoid),
    "keras.ops": lambda units: on_input(dense(units), ops.sigmoid),
}
RELUS = {
    "activation": lambda units: on_input(dense(units, "relu")),
    "layer": lambda units: on_input(dense(units), layers.ReLU()),
    "activation layer": lambda units: on_input(dense(units), layers.Activation("relu")),
    "keras.activations": lambda units: on_input(dense(units), keras.activations.relu),
    "keras.ops": lambda units: on_input(dense(units), ops.relu),
}
AVERAGES = {
    "Average": lambda a, b: layers.Average()([a, b]),
    "sum over two": lambda a, b: (a + b) / 2,
    "sum of halves": lambda a, b: 0.5 * a + 0.5 * b,
    "mean of a stack": lambda a, b: ops.mean(ops.stack([a, b], axis=1), axis=1),
}


def assert_same(explanation, expected):
    """All arrays of two explanations, and the gaps, whatever the calls' names."""
    for field in dataclasses.fields(expected):
        value, other = getattr(explanation, field.name), getattr(expected, field.name)
        if isinstance(other, np.ndarray):
            np.testing.assert_allclose(value, other, rtol=1e-5, atol=1e-6, err_msg=field.name)
    gaps, others = (sum(part.conservation_gap.signed.values()) for part in (explanation, expected))
    np.testing.assert_allclose(gaps, others, atol=1e-6)


CASES = [
    pytest.param(spellings, name, units, id=f"{kind} as {name}, {units}")
    for kind, spellings in (("softmax", SOFTMAXES), ("sigmoid", SIGMOIDS), ("relu", RELUS))
    for name in spellings
    for units in (1, 3)
    if name != "activation" and (kind, units) != ("softmax", 1)
]


@pytest.mark.parametrize("spellings, spelling, units", CASES)
def test_the_same_function_has_the_same_explanation(spellings, spelling, units, rng):
    reference, model = spellings["activation"](units), spellings[spelling](units)
    model.set_weights(reference.get_weights())
    x = rng.normal(size=(5, N_INPUTS)).astype("float32")
    for target in (None, units - 1, rng.normal(size=units)):
        explanation, expected = (ks.LRP(part, rules="paper").explain(x, target) for part in (model, reference))
        assert_same(explanation, expected)
        assert (explanation.probability is None) is (spellings is RELUS)


HEADS = {
    **{f"softmax as {name}": lambda make=make: make(3) for name, make in SOFTMAXES.items()},
    **{f"sigmoid as {name}": lambda make=make: make(1) for name, make in SIGMOIDS.items()},
    **{f"average as {name}": lambda mean=mean: average(mean) for name, mean in AVERAGES.items()},
    "average of sigmoids": lambda: average(AVERAGES["Average"], "sigmoid", 1),
    "several sigmoids": lambda: on_input(dense(3, "sigmoid")),
    "logits": lambda: on_input(dense(3, use_bias=False)),
    "regression": lambda: on_input(dense(1, use_bias=False)),
    "regression of several units": lambda: on_input(dense(2, use_bias=False)),
    "sequence": lambda: on_input(layers.Reshape((2, 2)), dense(3, "softmax")),
    "sequence of logits": lambda: on_input(layers.Reshape((2, 2)), dense(3, use_bias=False)),
    "map": lambda: on_input(
        layers.Reshape((2, 1, 2)), layers.Conv2D(3, 1, activation="softmax", bias_initializer=BIAS)
    ),
    "map of sigmoids": lambda: on_input(layers.Reshape((2, 1, 2)), layers.Conv2D(1, 1, activation="sigmoid")),
}


def targets_of(model, x, rng):
    """A target of each form for a batch."""
    shape = model.outputs[0].shape[1:]
    n = int(np.prod(shape))
    return [None, n - 1, rng.integers(n, size=len(x)), rng.normal(size=shape), rng.normal(size=(len(x), *shape)) > 0]


@pytest.mark.parametrize("kind", HEADS)
def test_relevance_is_the_exact_shapley_value_of_the_same_target(kind, rng):
    """The players are the inputs: sign, values, totals and baselines against enumeration of all coalitions."""
    model = HEADS[kind]()
    x = rng.normal(size=(5, N_INPUTS)).astype("float32")
    for target in targets_of(model, x, rng):
        explanation = ks.LRP(model, rules="paper").explain(x, target)
        exact = ks.exact_shapley_values(model, x, target)
        np.testing.assert_allclose(explanation.input, exact.values, atol=2e-5)
        np.testing.assert_allclose(explanation.head_baseline, np.broadcast_to(exact.baseline_value, 5), atol=1e-5)
        np.testing.assert_allclose(explanation.head_total, exact.values.sum(axis=1), atol=2e-5)
        np.testing.assert_allclose(explanation.target, exact.target, rtol=1e-6)


@pytest.mark.parametrize("output", ["probability", "scores"])
def test_each_of_several_outputs_has_its_exact_shapley_values(output, rng):
    x = keras.Input((N_INPUTS,))
    ends = {"probability": dense(1, "sigmoid")(x), "scores": dense(3, use_bias=False)(x)}
    model = keras.Model(x, ends)
    data = rng.normal(size=(5, N_INPUTS)).astype("float32")
    explainer = ks.LRP(model, rules="paper", output=output)
    exact = ks.exact_shapley_values(model, data, None, output=output)
    np.testing.assert_allclose(explainer.explain(data).input, exact.values, atol=2e-5)
    assert (explainer.output.name, explainer.output.is_probability) == (output, output == "probability")
    assert repr(explainer).endswith(f"output={output!r})")


@pytest.mark.parametrize("kind", HEADS)
def test_a_target_goes_round(kind, rng):
    """`explanation.target` can be given again."""
    model = HEADS[kind]()
    x = rng.normal(size=(5, N_INPUTS)).astype("float32")
    explainer = ks.LRP(model, rules="paper")
    for target in targets_of(model, x, rng):
        explanation = explainer.explain(x, target)
        again = explainer.explain(x, explanation.target)
        np.testing.assert_allclose(again.input, explanation.input, atol=1e-6)
        np.testing.assert_array_equal(again.target, explanation.target)
        np.testing.assert_allclose(ops.convert_to_numpy(explainer(x, explanation.target)), explanation.input, atol=1e-6)


@pytest.mark.parametrize("kind", HEADS)
def test_a_probability_is_what_the_model_gives_and_nothing_else_is_one(kind, rng):
    model = HEADS[kind]()
    x = rng.normal(size=(5, N_INPUTS)).astype("float32")
    explainer = ks.LRP(model, rules="paper")
    explanation = explainer.explain(x)
    np.testing.assert_allclose(explanation.output, model.predict(x, verbose=0), rtol=1e-5)
    if "logits" in kind or "regression" in kind:
        assert explanation.probability is None and not explainer.output.is_probability
    else:
        np.testing.assert_array_equal(explanation.probability, explanation.output)
        assert explainer.output.link == ("sigmoid" if "sigmoid" in kind else "softmax")
        # also where the logits are explained
        below = ks.LRP(model, rules="paper", head="linear").explain(x)
        np.testing.assert_allclose(below.probability, explanation.output, rtol=1e-6)


def test_a_probability_that_is_asked_for(rng):
    model = on_input(dense(3, name="scores"))
    x = rng.normal(size=(5, N_INPUTS)).astype("float32")
    for head, function in (("softmax", ops.softmax), ("sigmoid", ops.sigmoid)):
        explainer = ks.LRP(model, rules="paper", head=head)
        explanation = explainer.explain(x, [[0, 1]])
        expected = ops.convert_to_numpy(function(model(x)))
        np.testing.assert_allclose(explanation.probability, expected, rtol=1e-5)
        np.testing.assert_allclose(explanation.head_total + explanation.head_baseline, expected[:, :2], rtol=1e-5)
        assert (explainer.output.name, explainer.output.link) == ("scores", head)


@pytest.mark.parametrize("head", ["linear", "auto"])
def test_weights_are_a_sum_of_single_targets(head, rng):
    """Two hidden layers: what is linear in the head is linear in the input's relevance."""
    model = hidden(dense(3, "softmax"))
    x = rng.normal(size=(5, 6)).astype("float32")
    explainer = ks.LRP(model, rules="paper", head=head)
    weights = rng.normal(size=(5, 3)).astype("float32")
    explanation = explainer.explain(x, weights)
    alone = explainer.explain(x, [[0, 1, 2]])
    expected = np.einsum("bk,bki->bi", weights, alone.input)
    scale = np.abs(alone.input).max()
    np.testing.assert_allclose(explanation.input, expected, atol=1e-4 * scale)
    np.testing.assert_allclose(explanation.head, np.einsum("bk,bki->bi", weights, alone.head), atol=2e-6)
    np.testing.assert_allclose(explanation.head_total, (weights * alone.head_total).sum(axis=1), atol=2e-6)
    np.testing.assert_array_equal(explanation.target, weights)


def test_an_output_may_be_compared_with_weights(rng):
    """`versus` takes the forms of `target`, each by itself."""
    model = hidden(dense(3, "softmax"))
    x = rng.normal(size=(5, 6)).astype("float32")
    explainer = ks.LRP(model, rules="paper")
    others = np.array([0.5, 0, 0.5])
    explanation = explainer.explain(x, 1, versus=others)
    difference = explainer.explain(x, np.array([-0.5, 1, -0.5]))
    np.testing.assert_allclose(explanation.input, difference.input, atol=1e-5 * np.abs(difference.input).max())
    np.testing.assert_allclose(explanation.head_total, difference.head_total, atol=1e-6)
    np.testing.assert_array_equal(explanation.target, np.ones(5))
    np.testing.assert_array_equal(explanation.versus, np.tile(others, (5, 1)))
    column = explainer.explain(x, [[0, 2]], versus=np.ones((5, 1), "int32"))
    assert column.versus.shape == (5, 2) and column.input.shape == (5, 2, 6)
    expected = explainer.explain(x, 2).input - explainer.explain(x, 1).input
    np.testing.assert_allclose(column.input[:, 1], expected, atol=1e-5 * np.abs(expected).max())


def test_several_targets_are_compared_pair_by_pair(rng):
    model = hidden(dense(3, "softmax"))
    x = rng.normal(size=(5, 6)).astype("float32")
    explainer = ks.LRP(model)
    pairs = explainer.explain(x, [[0, 2]], versus=[[1, 0]])
    assert pairs.input.shape == (5, 2, 6)
    for k, (target, other) in enumerate([(0, 1), (2, 0)]):
        alone = explainer.explain(x, target, versus=other)
        np.testing.assert_allclose(pairs.input[:, k], alone.input, atol=1e-6)
        np.testing.assert_allclose(pairs.head_total[:, k], alone.head_total, atol=1e-6)
    with pytest.raises(ValueError, match="`target` and `versus` must be as many a sample. Received: 2 and 3"):
        explainer.explain(x, [[0, 1]], versus=[[1, 2, 0]])


def test_a_column_of_labels_is_one_target_for_each_sample(rng):
    model = hidden(dense(3, "softmax"))
    x, y = rng.normal(size=(5, 6)).astype("float32"), np.array([0, 2, 1, 1, 2])
    explainer = ks.LRP(model, rules="paper")
    expected = explainer.explain(x, y)
    for column in (y[:, None], y[:, None].astype("uint8"), ops.convert_to_tensor(y[:, None])):
        explanation = explainer.explain(x, column)
        assert explanation.input.shape == (5, 6)
        np.testing.assert_array_equal(explanation.input, expected.input)
        np.testing.assert_array_equal(explanation.target, y)
    with pytest.raises(ValueError, match="one-hot rows of ints.*argmax"):
        explainer(x, np.eye(3, dtype=int)[y])
    np.testing.assert_allclose(explainer.explain(x, np.eye(3)[y]).input, expected.input, atol=1e-6)


@pytest.mark.parametrize("mean", AVERAGES)
def test_an_average_of_softmaxes_of_two_branches(mean, rng):
    """Each end has its own features, and half of the probability; relevance, baselines and gaps add up."""
    x = keras.Input((6,))
    y = dense(8, "relu", name="below")(x)
    ends = [dense(3, "softmax")(dense(n, "relu")(y)) for n in (4, 5)]
    model = keras.Model(x, AVERAGES[mean](*ends))
    data = rng.normal(size=(5, 6)).astype("float32")
    explanation = ks.LRP(model, rules="paper").explain(data, 1)
    parts = [ks.LRP(keras.Model(x, end), rules="paper").explain(data, 1) for end in ends]
    assert [head.shape for head in explanation.head] == [(5, 4), (5, 5)]
    for head, stderr, part in zip(explanation.head, explanation.head_stderr, parts):
        np.testing.assert_allclose(head, part.head / 2, atol=1e-6)
        assert stderr.shape == head.shape and not stderr.any()
    for name in ("head_total", "head_baseline"):
        expected = sum(getattr(part, name) for part in parts) / 2
        np.testing.assert_allclose(getattr(explanation, name), expected, atol=1e-6)
    scale = np.abs(explanation.layers["below"]).max()
    np.testing.assert_allclose(explanation.input, sum(part.input for part in parts) / 2, atol=1e-4 * scale)
    np.testing.assert_allclose(
        total(explanation.input) + explanation.head_baseline, explanation.probability[:, 1], atol=1e-4 * scale
    )
    np.testing.assert_allclose(
        sum(explanation.conservation_gap.signed.values()),
        explanation.head_total - total(explanation.input),
        atol=1e-5 * scale,
    )
    np.testing.assert_array_equal(explanation.probability, explanation.output)


def test_ends_of_an_average_may_begin_at_each_other(rng):
    """The features of one end are below those of the other, and a softmax that is averaged twice counts twice."""
    x = keras.Input((4,))
    low = dense(5, "relu")(x)
    high = dense(4, "relu")(low)
    a, b = dense(3, "softmax", name="a")(low), dense(3, "softmax", name="b")(high)
    model = keras.Model(x, layers.Average()([a, b, a, b]))
    data = rng.normal(size=(5, 4)).astype("float32")
    explanation = ks.LRP(model, rules="paper", head_method="quadrature").explain(data, 2)
    parts = [ks.LRP(keras.Model(x, end), rules="paper", head_method="quadrature").explain(data, 2) for end in (a, b)]
    np.testing.assert_allclose(explanation.input, sum(part.input for part in parts) / 2, atol=1e-4)
    gaps = explanation.conservation_gap
    np.testing.assert_allclose(sum(gaps.signed.values()), explanation.head_total - total(explanation.input), atol=1e-5)
    for name, part in zip("ab", parts):
        np.testing.assert_allclose(gaps.signed[name], part.conservation_gap.signed[name] / 2, atol=1e-6)
        np.testing.assert_allclose(gaps.relative[name], part.conservation_gap.relative[name], rtol=1e-3)


def test_the_logits_below_an_average_are_averaged(rng):
    model = average(AVERAGES["Average"])
    x = rng.normal(size=(5, N_INPUTS)).astype("float32")
    kernels, biases = model.get_weights()[::2], model.get_weights()[1::2]
    explanation = ks.LRP(model, rules="paper", head="linear").explain(x, 2)
    logits = [x @ kernel + bias for kernel, bias in zip(kernels, biases)]
    np.testing.assert_allclose(explanation.head_total, np.mean(logits, axis=0)[:, 2], rtol=1e-4, atol=1e-6)


def test_a_callable_head_gets_the_target(rng):
    seen = []

    def head(logits, target):
        seen.append(tuple(target.shape))
        return logits

    model = on_input(dense(3, "softmax"))
    x = rng.normal(size=(5, N_INPUTS)).astype("float32")
    explainer = ks.LRP(model, rules="paper", head=head)
    explainer(x)
    explainer(x, np.ones(3))
    assert seen == [(5,), (5, 3)]
    assert "head=head" in repr(explainer)
