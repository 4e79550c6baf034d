"""Operations of `keras.ops`, encodings and attention layers, without a baseline and from one."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from reference.layer_cases import gated_attention

import keras_shapley as ks

STEPS = (6, 4)
WALKS = ["auto", "paper"]


def dense(units, activation=None):
    return layers.Dense(units, activation, bias_initializer="normal")


def head(y):
    return dense(2)(layers.Flatten()(y))


def functional(shape, function, dtype=None):
    keras.utils.set_random_seed(0)
    x = keras.Input(shape, dtype=dtype)
    return keras.Model(x, function(x))


def total(relevance):
    return relevance.reshape(len(relevance), -1).sum(axis=1)


def constant(*shape):
    return np.random.default_rng(3).normal(size=shape).astype("float32")


def cosine(x):
    return head(layers.Dot(axes=2, normalize=True)([dense(3)(x), dense(3)(x)]))


# on JAX, Keras runs `norm` in a model only for a tuple of axes, and pooling for windows of all axes
OPERATIONS = {
    "log_softmax": lambda x: head(ops.log_softmax(dense(3)(x))),
    "log_softmax of another axis": lambda x: head(ops.log_softmax(dense(3)(x), axis=1)),
    "log_softmax as an activation": lambda x: head(dense(3, "log_softmax")(x)),
    "log_softmax as a layer": lambda x: head(layers.Activation("log_softmax")(dense(3)(x))),
    "log_softmax at the end": lambda x: ops.log_softmax(head(x)),
    "where": lambda x: head(ops.relu(ops.where(constant(6, 3) > 0, dense(3)(x), dense(1)(x)))),
    "where, a constant": lambda x: head(ops.relu(ops.where(constant(6, 3) > 0, dense(3)(x), -1.0))),
    "var": lambda x: head(ops.var(dense(3)(x), axis=1)),
    "std": lambda x: head(ops.std(dense(3)(x), axis=(1, 2), keepdims=True)),
    "norm": lambda x: head(ops.norm(dense(3)(x), axis=(-1,))),
    "norm of a matrix": lambda x: head(ops.norm(dense(3)(x), ord="fro", axis=(1, 2), keepdims=True)),
    "cumsum": lambda x: head(ops.relu(ops.cumsum(dense(3)(x), axis=1))),
    "diff": lambda x: head(ops.diff(x, axis=1)),
    "max_pool": lambda x: head(ops.max_pool(dense(3)(x), 3, 2, padding="same")),
    "average_pool": lambda x: head(ops.average_pool(dense(3)(x), 3, 2, padding="same")),
    "conv": lambda x: head(ops.relu(ops.conv(x, constant(3, 4, 2)) + constant(2))),
    "depthwise_conv": lambda x: head(ops.relu(ops.depthwise_conv(x, constant(3, 4, 1)))),
    "tril": lambda x: head(ops.tril(dense(6)(x))),
    "Dot of unit length": cosine,
    "division by a tensor": lambda x: head(dense(3)(x) / (1.5 + ops.tanh(dense(3)(x)))),
    "einsum of three": lambda x: head(ops.einsum("bik,bjk,bjl->bil", dense(3)(x), dense(3)(x), dense(2)(x))),
    "Attention": lambda x: head(layers.Attention(use_scale=True)([dense(3)(x), dense(3)(x), dense(3)(x)])),
    "Attention to itself": lambda x: head(layers.Attention()([x, x])),
    "Attention by sums": lambda x: head(layers.Attention(score_mode="concat")([dense(3)(x), dense(3)(x)])),
    "AdditiveAttention": lambda x: head(layers.AdditiveAttention()([dense(3)(x), dense(3)(x)])),
    "causal Attention": lambda x: head(layers.Attention()([dense(3)(x), dense(3)(x)], use_causal_mask=True)),
    "GroupQueryAttention": lambda x: head(layers.GroupQueryAttention(3, 4, 2)(x, x)),
    "softmax inside a layer": lambda x: head(dense(3, "softmax")(x)),
}
# the constant term of their softmax goes to no input; constants of `where` and `tril` take their relevance away
DO_NOT_CONSERVE = ("ttention", "softmax inside", "where, a constant", "tril")


@pytest.mark.parametrize("name", OPERATIONS)
def test_relevance_sums_to_the_difference_from_the_baseline(name, rng):
    model = functional(STEPS, OPERATIONS[name])
    x, baseline = rng.normal(size=(3, *STEPS)), rng.normal(size=STEPS)
    explanation = ks.LRP(model, baseline=baseline).explain(x, 1)
    difference = model.predict(x, verbose=0)[:, 1] - model.predict(baseline[None], verbose=0)[0, 1]
    np.testing.assert_allclose(total(explanation.input), difference, atol=1e-4 * np.abs(difference).max())
    for call, gap in explanation.conservation_gap.signed.items():
        assert np.abs(gap).max() < 1e-4 * np.abs(difference).max(), call


# each with inputs of its own: without a baseline they do not conserve, or have another rule
FROM_A_BASELINE = {
    "rows of a constant table": lambda x: head(ops.take(constant(9, 3), ops.cast(ops.abs(3 * x), "int32"), axis=0)),
    "cast to integers": lambda x: head(ops.cast(ops.cast(3 * x, "int32"), "float32")),
    "max with an initial value": lambda x: head(ops.max(x, axis=2, initial=0.5)),
    "min with an initial value": lambda x: head(ops.min(x, axis=(1, 2), keepdims=True, initial=-0.5)),
    "product with float64": lambda x: head(ops.multiply(x, np.linspace(0.5, 2, 4))),
    "LayerNormalization by the deviation": lambda x: head(layers.LayerNormalization(rms_scaling=True)(x)),
    "UnitNormalization of small vectors": lambda x: head(layers.UnitNormalization()(1e-7 * x)),
    "a small signal": lambda x: layers.Rescaling(1e15)(layers.Dense(2)(dense(5, "relu")(layers.Flatten()(1e-15 * x)))),
}


@pytest.mark.filterwarnings("ignore:You passed `rms_scaling=True`")
@pytest.mark.parametrize("name", FROM_A_BASELINE)
def test_operations_that_are_measured_from_a_baseline(name, rng):
    model = functional(STEPS, FROM_A_BASELINE[name])
    if name == "a small signal":
        # biases would hide it
        model.layers[-3].bias.assign(np.zeros(5))
    x, baseline = rng.normal(size=(3, *STEPS)), rng.normal(size=STEPS)
    explanation = ks.LRP(model, baseline=baseline).explain(x, 1)
    difference = model.predict(x, verbose=0)[:, 1] - model.predict(baseline[None], verbose=0)[0, 1]
    np.testing.assert_allclose(total(explanation.input), difference, atol=2e-4 * np.abs(difference).max())


@pytest.mark.parametrize("rules", WALKS)
def test_columns_of_a_constant_table_are_refused(rules):
    model = functional((4,), lambda x: head(ops.sum(ops.take(constant(3, 9), x, axis=1), axis=0)), "int32")
    with pytest.raises(ValueError, match="rows that are taken from a constant table.*axis=1. Transpose"):
        ks.LRP(model, rules=rules)


@pytest.mark.parametrize("name", OPERATIONS)
def test_relevance_without_a_baseline_sums_to_the_output(name, rng):
    if any(part in name for part in DO_NOT_CONSERVE):
        pytest.skip("the rule does not conserve")
    model = functional(STEPS, OPERATIONS[name])
    x = rng.normal(size=(3, *STEPS))
    explanation = ks.LRP(model, rules="paper").explain(x, 1)
    output = model.predict(x, verbose=0)[:, 1]
    np.testing.assert_allclose(total(explanation.input), output, atol=1e-3 * np.abs(output).max())


QUADRATIC = {
    "var": lambda x: head(ops.var(x, axis=1)),
    "cumsum": lambda x: head(ops.cumsum(x, axis=1)),
    "average_pool": lambda x: head(ops.average_pool(x, 2, 2, data_format="channels_last")),
    "conv": lambda x: head(ops.conv(x, constant(2, 2, 3))),
    "where": lambda x: head(ops.where(constant(3, 2) > 0, x, 0.5)),
    "maximum of two": lambda x: head(ops.max_pool(ops.reshape(x, (-1, 6, 1)), 2, 2, data_format="channels_last")),
}


@pytest.mark.parametrize("name", QUADRATIC)
def test_of_linear_and_quadratic_functions_and_maxima_of_two_they_are_shapley_values(name, rng):
    model = functional((3, 2), QUADRATIC[name])
    x, baseline = rng.normal(size=(2, 3, 2)).astype("float32"), rng.normal(size=(3, 2)).astype("float32")
    exact = ks.exact_shapley_values(model, x, 1, baseline=baseline, progress=False)
    explanation = ks.LRP(model, baseline=baseline).explain(x, 1)
    np.testing.assert_allclose(explanation.input, exact.heatmap, atol=1e-5)


def test_a_matrix_product_and_a_convolution_with_constants_are_the_layers(rng):
    """With bias and ReLU behind them they are neurons, as Dense and Conv1D."""
    x = rng.normal(size=(3, *STEPS))
    for layer, operation in (
        (layers.Dense(5, "relu"), ops.matmul),
        (layers.Conv1D(5, 3, activation="relu"), ops.conv),
    ):
        layer.build((None, *STEPS))
        layer.bias.assign(constant(5))
        kernel, bias = layer.get_weights()
        as_layer = functional(STEPS, lambda x: head(layer(x)))
        as_operation = functional(STEPS, lambda x: head(ops.relu(operation(x, kernel) + bias)))
        as_operation.layers[-1].set_weights(as_layer.layers[-1].get_weights())
        expected, relevance = (ks.LRP(model, baseline=0.3).explain(x, 0).input for model in (as_layer, as_operation))
        np.testing.assert_allclose(relevance, expected, atol=1e-5)


def test_max_pool_is_max_pooling(rng):
    x = rng.normal(size=(3, 5, 6, 2)).astype("float32")
    options = {"padding": "same", "data_format": "channels_last"}
    as_layer = functional((5, 6, 2), lambda x: head(layers.MaxPooling2D((2, 3), 2, **options)(x)))
    as_operation = functional((5, 6, 2), lambda x: head(ops.max_pool(x, (2, 3), 2, **options)))
    for rules in WALKS:
        expected, relevance = (ks.LRP(model, rules=rules).explain(x, 0).input for model in (as_layer, as_operation))
        np.testing.assert_allclose(relevance, expected, rtol=1e-5)
    values = [ks.fast_shapley_values(model, x, 0, method="moments").values for model in (as_layer, as_operation)]
    np.testing.assert_allclose(*values, rtol=1e-5)


def test_a_condition_is_that_of_the_input_also_at_the_baseline(rng):
    """As a mask is: of `where(x > 0, 2 x, -x)` the branch that the input takes is explained."""
    model = functional((4,), lambda x: ops.where(x > 0, 2 * x, -x))
    x, baseline = rng.normal(size=(5, 4)), rng.normal(size=4)
    weights = np.ones((5, 4))
    explanation = ks.LRP(model, baseline=baseline).explain(x, weights)
    np.testing.assert_allclose(explanation.input, np.where(x > 0, 2, -1) * (x - baseline), rtol=1e-5)
    np.testing.assert_allclose(explanation.head_total + explanation.head_baseline, explanation.output.sum(1), rtol=1e-5)


def test_the_spread_of_constants_has_no_relevance_and_no_nan(rng):
    model = functional(
        (4, 2), lambda x: head(ops.concatenate([f(x, axis=(1,)) for f in (ops.std, ops.norm, ops.var)], axis=1))
    )
    for rules in WALKS:
        assert not ks.LRP(model, rules=rules).explain(np.zeros((2, 4, 2)), 0).input.any()


def test_variances_and_norms_pass_relevance_in_proportion_to_squares(rng):
    """By a loop over eq. (2): squares pass it unchanged, the mean and the centring in proportion to their addends."""
    x, r = rng.normal(size=5), 1.7
    expected = {}
    c = x - x.mean()
    for name, deviation in (("var", c), ("norm", x)):
        of_squares = deviation**2 / (deviation**2).sum() * r
        expected[name] = np.zeros(5)
        for j in range(5):
            for k in range(5):
                weight = float(j == k) - (1 / 5 if name == "var" else 0)
                expected[name][j] += x[j] * weight / deviation[k] * of_squares[k]
    for name, of_input in expected.items():
        y = getattr(ops, name)
        model = functional((5,), lambda x: y(x, axis=(1,), keepdims=True))
        explanation = ks.LRP(model, rules="paper").explain(x[None])
        np.testing.assert_allclose(explanation.input[0], of_input / r * explanation.output[0, 0], rtol=1e-4)


ENCODINGS = {
    "one_hot": lambda x: layers.Flatten()(layers.CategoryEncoding(7, output_mode="one_hot")(x)),
    "multi_hot": lambda x: layers.CategoryEncoding(7, output_mode="multi_hot")(x),
    "count": lambda x: layers.CategoryEncoding(7, output_mode="count")(x),
    "operation": lambda x: layers.Flatten()(ops.one_hot(x, 7)),
}


@pytest.mark.parametrize("mode", ENCODINGS)
def test_tokens_of_an_encoding_have_the_shapley_values_of_a_linear_model(mode):
    model = functional((4,), lambda x: dense(2)(ENCODINGS[mode](x)), "int32")
    x, baseline = np.array([[1, 5, 5, 2], [3, 0, 6, 6]]), np.array([0, 0, 0, 0])
    exact = ks.exact_shapley_values(lambda x: model.predict(x, verbose=0), x, 1, baseline=baseline, progress=False)
    explanation = ks.LRP(model, baseline=baseline).explain(x, 1)
    np.testing.assert_allclose(explanation.input, exact.values, atol=1e-5)


@pytest.mark.parametrize("mode", ENCODINGS)
def test_without_a_baseline_a_token_has_the_relevance_of_its_column(mode):
    model = functional((4,), lambda x: layers.Dense(2, use_bias=False)(ENCODINGS[mode](x)), "int32")
    x = np.array([[1, 5, 5, 2]])
    kernel = model.layers[-1].get_weights()[0][:, 1]
    if mode in ("one_hot", "operation"):
        expected = kernel.reshape(4, 7)[np.arange(4), x[0]]
    else:
        expected = kernel[x[0]] * ([1, 0.5, 0.5, 1] if mode == "multi_hot" else 1)
    np.testing.assert_allclose(ks.LRP(model, rules="paper").explain(x, 1).input[0], expected, rtol=1e-5)


def test_a_single_category_is_one_token():
    model = functional((1,), lambda x: dense(2)(layers.CategoryEncoding(5, output_mode="one_hot")(x)), "int32")
    x = np.array([[3], [0], [4]])
    difference = model.predict(x, verbose=0)[:, 1] - model.predict(np.zeros((1, 1), int), verbose=0)[0, 1]
    np.testing.assert_allclose(ks.LRP(model).explain(x, 1).input[:, 0], difference, atol=1e-6)


REFUSED = {
    "a kernel made of data": ((6, 4), lambda x: ops.conv(x, ops.reshape(x, (1, 4, -1))), "constant kernel"),
    "norm 1": ((4,), lambda x: ops.norm(x, ord=1, axis=-1, keepdims=True), "Euclidean"),
    "norm of the batch": ((4,), lambda x: ops.norm(x, axis=0, keepdims=True), "batch"),
    "var of all": ((4,), lambda x: ops.var(x, keepdims=True), "batch"),
    "a cosine with a constant": (
        (4,),
        lambda x: layers.Dot(axes=1, normalize=True)([x, ops.convert_to_tensor(constant(1, 4))]),
        "of two tensors",
    ),
    "scores": ((6, 4), lambda x: layers.Attention()([x, x], return_attention_scores=True)[0], "scores.*2 outputs"),
    "a gate": ((6, 4), lambda x: gated_attention(layers.GroupQueryAttention, 2, 2, 1)(x, x), "without a gate"),
    "weighted counts": (
        (3,),
        lambda x: dense(2)(layers.CategoryEncoding(5, output_mode="count")(ops.cast(x, "int32"), count_weights=x)),
        "with count_weights. Use sparse=False, or multiply",
    ),
}


@pytest.mark.parametrize("rules", WALKS)
@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_rule_is_refused_when_the_explainer_is_made(name, rules):
    shape, function, message = REFUSED[name]
    model = functional(shape, function)
    with pytest.raises(ValueError, match=message):
        ks.LRP(model, rules=rules)


@pytest.mark.parametrize("rules", WALKS)
def test_a_nested_model_of_a_constant_is_refused(rules):
    a, b, x = keras.Input((3,)), keras.Input((3,)), keras.Input((3,))
    inner = keras.Model([a, b], layers.Add()([a, b]), name="inner")
    with pytest.raises(ValueError, match="'inner' .* is called on a constant inside another model"):
        ks.LRP(keras.Model(x, inner([x, ops.ones((1, 3))])), rules=rules)
