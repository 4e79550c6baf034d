"""Sums, products and functions of a tensor and constants, from the baseline."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_shapley as ks

C = np.array([[0.5, -1.0, 2.0, 0.25]], "float32")


@pytest.fixture
def x(rng):
    return rng.uniform(0.5, 3, size=(3, 4)).astype("float32")


def relevance(make, x):
    """Relevance of the first output behind what `make` does to the input, and the weights of the layer behind it."""
    inputs = keras.Input(x.shape[1:])
    dense = layers.Dense(2, bias_initializer="ones")
    model = keras.Model(inputs, dense(make(inputs)))
    return ks.LRP(model).explain(x, 0), ops.convert_to_numpy(dense.kernel)[:, 0]


@pytest.mark.parametrize(
    ("make", "factor"),
    [
        (lambda x: layers.Subtract()([x, ops.convert_to_tensor(C)]), 1.0),
        (lambda x: x - C, 1.0),
        (lambda x: ops.subtract(C, x), -1.0),
        (lambda x: layers.Add()([x, ops.convert_to_tensor(C)]), 1.0),
        (lambda x: layers.Average()([x, ops.convert_to_tensor(C)]), 1 / 2),
        (lambda x: layers.Average()([x, ops.convert_to_tensor(C), 2 * x]), 1.0),
        (lambda x: layers.Subtract()([x, 3 * x]), -2.0),
    ],
)
def test_a_constant_addend_has_no_part_in_it(make, factor, x):
    explanation, weights = relevance(make, x)
    np.testing.assert_allclose(explanation.input, factor * weights * x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("place", [1, 2])
@pytest.mark.parametrize("constant", [C, C[:, :1]], ids=["of each element", "spread"])
def test_a_constant_among_factors_is_a_factor(constant, place, rng):
    """Of `a b c` each factor has its Shapley value."""
    operands = [keras.Input((4,)), keras.Input((4,))]
    inputs = list(operands)
    operands.insert(place, ops.convert_to_tensor(constant))
    dense = layers.Dense(1)
    model = keras.Model(inputs, dense(layers.Multiply()(operands)))
    (a, b), (a0, b0) = rng.normal(size=(2, 3, 4)).astype("float32"), (0.5, -0.25)
    r_a, r_b = ks.LRP(model, baseline=[a0, b0]).explain([a, b], 0).input
    weights = constant * ops.convert_to_numpy(dense.kernel)[:, 0]
    np.testing.assert_allclose(r_a, weights * (a - a0) * (b + b0) / 2, atol=1e-5)
    np.testing.assert_allclose(r_b, weights * (b - b0) * (a + a0) / 2, atol=1e-5)


@pytest.mark.parametrize("place", [1, 2])
@pytest.mark.parametrize("merge", [layers.Maximum, layers.Minimum])
def test_a_constant_among_tensors_may_be_the_extreme(merge, place, rng):
    operands = [keras.Input((4,)), keras.Input((4,))]
    inputs = list(operands)
    operands.insert(place, ops.convert_to_tensor(C))
    model = keras.Model(inputs, layers.Dense(1)(merge()(operands)))
    x = [part.astype("float32") for part in rng.normal(size=(2, 8, 4))]
    explanation = ks.LRP(model).explain(x, 0)
    total = sum(part.sum(axis=1) for part in explanation.input)
    np.testing.assert_allclose(total, explanation.head_total, atol=1e-5)
    # what is behind the constant, with the input and at the baseline, is not seen
    is_hidden = (x[0] > C) & (x[1] > C) & (C <= 0) if merge is layers.Minimum else (x[0] < C) & (x[1] < C) & (C >= 0)
    assert is_hidden.any() and not explanation.input[0][is_hidden].any()


@pytest.mark.parametrize(
    "function",
    [
        lambda x: ops.log(x + 1),
        lambda x: ops.sqrt(x + 1e-3),
        lambda x: ops.rsqrt(x + 0.1),
        lambda x: (x + 1) ** 0.5,
        lambda x: ops.sqrt(x),
    ],
    ids=["log", "sqrt", "rsqrt", "power", "sqrt at 0"],
)
def test_a_function_of_each_element_is_a_player(function, x):
    """It has all of its difference, also at the edge of the function's domain."""
    x[0, :2] = 0
    explanation, weights = relevance(function, x)
    exact = ops.convert_to_numpy(
        function(ops.convert_to_tensor(x)) - function(ops.zeros_like(ops.convert_to_tensor(x)))
    )
    np.testing.assert_allclose(explanation.input, weights * exact, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("function", [ops.log, ops.sqrt], ids=["log", "sqrt"])
def test_a_function_of_a_sum_whose_domain_ends_near_by(function, x):
    def make(inputs):
        sums = layers.Dense(5, kernel_initializer="ones", use_bias=False)(inputs)
        return function(sums + 1e-3)

    explanation, weights = relevance(make, x)
    assert np.isfinite(explanation.input).all()
    difference = function(ops.convert_to_tensor(x.sum(axis=1) + 1e-3)) - function(ops.convert_to_tensor(1e-3))
    exact = weights.sum() * ops.convert_to_numpy(difference)
    np.testing.assert_allclose(explanation.input.sum(axis=1), exact, rtol=1e-3)


@pytest.mark.parametrize(
    "make",
    [
        lambda x: ops.relu(layers.Dense(1)(x) * C),
        lambda x: ops.relu(layers.Dense(1)(x) / C),
        lambda x: ops.relu(layers.Multiply()([layers.Dense(1)(x), ops.convert_to_tensor(C)])),
        lambda x: ops.relu(x[:, :1] * C),
        lambda x: ops.relu(layers.Dense(1)(x) + C),
        lambda x: ops.power(ops.exp(x[:, :1] / 3), C),
        lambda x: ops.power(ops.exp(layers.Dense(1)(x) / 9), C),
    ],
    ids=["times", "over", "Multiply", "element", "plus", "power", "power of a sum"],
)
def test_a_constant_that_spreads_an_element_over_several(make, x):
    explanation, _ = relevance(make, x)
    np.testing.assert_allclose(explanation.input.sum(axis=1), explanation.head_total, rtol=1e-3, atol=1e-5)
    assert np.abs(explanation.input).max() > 1e-3


def test_a_spread_element_has_the_shapley_values_of_its_only_player(x):
    """Behind `x[:, :1]` all there is to share is the first element's."""
    explanation, _ = relevance(lambda x: ops.tanh(x[:, :1] * C), x)
    assert not explanation.input[:, 1:].any()
    np.testing.assert_allclose(explanation.input[:, 0], explanation.head_total, rtol=1e-4)


@pytest.mark.parametrize("rules", ["auto", "paper"])
def test_an_average_of_softmaxes_and_a_constant_is_no_average_of_softmaxes(rules, x):
    inputs = keras.Input((4,))
    ends = [layers.Dense(3, "softmax")(inputs) for _ in range(2)]
    constant = ops.convert_to_tensor(np.full((1, 3), 1 / 3, "float32"))
    model = keras.Model(inputs, layers.Average()([*ends, constant]))
    explanation = ks.LRP(model, rules=rules).explain(x, 1)
    if rules == "auto":
        truth = ks.exact_shapley_values(model, x, 1)
        np.testing.assert_allclose(
            explanation.head_total + explanation.head_baseline, explanation.output[:, 1], rtol=1e-4
        )
        assert np.corrcoef(explanation.input.ravel(), truth.values.ravel())[0, 1] > 0.95
    else:
        np.testing.assert_allclose(explanation.head_total, explanation.output[:, 1], rtol=1e-4)


@pytest.mark.parametrize("is_constant", [False, True])
def test_a_masked_softmax_at_the_end_is_explained_with_its_mask(is_constant, x):
    """As in networks that choose among the actions that are allowed."""
    inputs, allowed = keras.Input((4,)), keras.Input((3,), dtype="bool")
    rows = np.array([[True, False, True], [True, True, True], [True, True, False]])
    rows = rows[:1] if is_constant else rows
    mask = ops.convert_to_tensor(rows) if is_constant else allowed
    outputs = layers.Softmax()(layers.Dense(3)(inputs), mask=mask)
    model = keras.Model(inputs if is_constant else [inputs, allowed], outputs)
    given, absent = (x, np.zeros_like(x)) if is_constant else ([x, rows], [np.zeros_like(x), rows])
    explainer = ks.LRP(model, baseline=0.0 if is_constant else [np.zeros(4), rows[0]])
    explanation = explainer.explain(given if is_constant else [x[:1], rows[:1]], 0)
    whole, without = (model.predict(part, verbose=0)[: len(explanation.output), 0] for part in (given, absent))
    np.testing.assert_allclose(explanation.head_total, whole - without, atol=1e-5)
    first = explanation.input if is_constant else explanation.input[0]
    np.testing.assert_allclose(first.sum(axis=1), whole - without, atol=1e-4)


def test_a_masked_softmax_at_the_end_has_no_logits_to_explain():
    inputs, mask = keras.Input((4,)), keras.Input((3,), dtype="bool")
    model = keras.Model([inputs, mask], layers.Softmax()(layers.Dense(3)(inputs), mask=mask))
    for head in ("softmax", "linear"):
        with pytest.raises(ValueError, match="`head` must be 'auto' for a model that ends in a softmax with a mask"):
            ks.LRP(model, head=head)
