"""Models of tokens in every function: a token is a player, and an absent one has the id of the baseline."""

import itertools
import math

import keras
import numpy as np
import pytest
from keras import layers, ops
from reference.marks import MAY_MISS_THE_TOTAL

import keras_shapley as ks
from keras_shapley.models.tracing import takes_integers

STEPS = 5
BIAS = keras.initializers.RandomNormal(stddev=0.5, seed=1)


def of_tokens(dtype="int32"):
    """Convolution over embedded words, as a small classifier of texts."""
    return keras.Sequential(
        [
            keras.Input((STEPS,), dtype=dtype),
            layers.Embedding(20, 4, embeddings_initializer=keras.initializers.RandomNormal(seed=2)),
            layers.Conv1D(6, 2, activation="relu", padding="same", bias_initializer=BIAS),
            layers.GlobalAveragePooling1D(),
            layers.Dense(3, bias_initializer=BIAS),
        ]
    )


@pytest.fixture
def tokens(rng):
    return rng.integers(1, 20, size=(3, STEPS))


def by_all_orders(model, tokens, target, absent):
    """Shapley values by their definition, `(batch, steps)`."""
    n = tokens.shape[1]
    masks = np.array(list(itertools.product([False, True], repeat=n)))
    values = np.zeros(tokens.shape)
    for number, row in enumerate(tokens):
        outputs = ops.convert_to_numpy(model(np.where(masks, row, absent)))[:, target]
        of = {tuple(mask): output for mask, output in zip(masks, outputs)}
        for order in itertools.permutations(range(n)):
            present = [False] * n
            for k in order:
                before = of[tuple(present)]
                present[k] = True
                values[number, k] += of[tuple(present)] - before
    return values / math.factorial(n)


@MAY_MISS_THE_TOTAL
@pytest.mark.filterwarnings("ignore:method='masks' is biased")
@pytest.mark.parametrize("dtype", ["int32", "float32"])
@pytest.mark.parametrize("method", ["auto", "exact", "regression", "orders", "moments", "masks"])
def test_every_method_has_the_values_of_tokens(method, dtype, tokens):
    model = of_tokens(dtype)
    truth = by_all_orders(model, tokens, 1, absent=2)
    result = ks.shapley_values(model, tokens, 1, baseline=2, method=method)
    error = np.linalg.norm(result.values - truth) / np.linalg.norm(truth)
    assert error < {"moments": 0.35, "masks": 0.35, "orders": 0.1}.get(method, 1e-4)
    assert result.heatmap.shape == tokens.shape
    np.testing.assert_array_equal(result.x, tokens)
    np.testing.assert_allclose(result.values.sum(axis=1) + result.residual, result.total, atol=1e-5)


@MAY_MISS_THE_TOTAL
def test_groups_of_tokens_are_players(tokens):
    model = of_tokens()
    groups = [0, 0, 1, 2, 2]
    exact = ks.exact_shapley_values(model, tokens, 0, players=groups)
    fast = ks.fast_shapley_values(model, tokens, 0, players=groups)
    assert fast.values.shape == exact.values.shape == (3, 3)
    np.testing.assert_allclose(fast.total, exact.total, atol=1e-5)
    assert np.corrcoef(fast.values.ravel(), exact.values.ravel())[0, 1] > 0.9
    np.testing.assert_array_equal(fast.players, groups)


def test_relevance_reaches_the_tokens(tokens):
    model = of_tokens()
    explanation = ks.LRP(model, baseline=2).explain(tokens, 1)
    truth = by_all_orders(model, tokens, 1, absent=2)
    assert explanation.input.shape == tokens.shape
    assert np.corrcoef(explanation.input.ravel(), truth.ravel())[0, 1] > 0.9


def test_masked_tokens_are_not_taken_apart(tokens):
    model = keras.Sequential(
        [
            keras.Input((STEPS,), dtype="int32"),
            layers.Embedding(20, 4, mask_zero=True),
            layers.GlobalAveragePooling1D(),
            layers.Dense(3),
        ]
    )
    with pytest.raises(ValueError, match="must have inputs of floats.*Use shapley_values"):
        ks.fast_shapley_values(model, tokens)
    with pytest.raises(ValueError, match="for `baseline`.*padding"):
        ks.shapley_values(model, tokens)
    assert ks.shapley_values(model, tokens, baseline=1).values.shape == tokens.shape


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="texts in a model need TensorFlow")
@MAY_MISS_THE_TOTAL
@pytest.mark.parametrize("shape", [(), (1,)])
def test_texts_are_explained_from_their_tokens_on(shape):
    texts = np.array(["good film", "bad bad film", "a good day"], dtype=object)
    vectorize = layers.TextVectorization(output_sequence_length=STEPS)
    vectorize.adapt(texts)
    behind = of_tokens("int64")
    inputs = keras.Input(shape, dtype="string")
    y = vectorize(inputs)
    for layer in behind.layers:
        y = layer(y)
    model = keras.Model(inputs, y)
    tokens = np.array(vectorize(texts))
    for given in (texts.reshape(3, *shape), tokens):
        explanation = ks.LRP(model).explain(given, 0)
        np.testing.assert_allclose(explanation.input, ks.LRP(behind).explain(tokens, 0).input, atol=1e-6)
        for method in ("auto", "orders", "moments"):
            found = ks.shapley_values(model, given, 0, method=method)
            expected = ks.shapley_values(behind, tokens, 0, method=method)
            np.testing.assert_allclose(found.values, expected.values, atol=1e-6)
            np.testing.assert_array_equal(found.x, tokens)


@pytest.mark.parametrize(
    "explain",
    [
        lambda model, x, **options: ks.shapley_values(model, x, 0, **options),
        lambda model, x, **options: ks.fast_shapley_values(model, x, 0, **options),
    ],
)
def test_tokens_are_whole_numbers_of_the_vocabulary(explain, tokens):
    model = of_tokens()
    np.testing.assert_allclose(explain(model, tokens.astype("float64")).values, explain(model, tokens).values)
    with pytest.raises(ValueError, match="`x` must be whole numbers"):
        explain(model, tokens + 0.9)
    with pytest.raises(ValueError, match="`baseline` must be whole numbers"):
        explain(model, tokens, baseline=0.5)


def test_tokens_that_the_embedding_does_not_know_are_named(tokens):
    tokens[1, 2] = 20
    with pytest.raises(ValueError, match="`x` must be tokens from 0 to 19.*Received: tokens from 1 to 20"):
        ks.fast_shapley_values(of_tokens(), tokens, 0)
    with pytest.raises(ValueError, match="`baseline` must be tokens from 0 to 19"):
        ks.fast_shapley_values(of_tokens(), np.ones((1, STEPS), "int32"), 0, baseline=-1)


@pytest.mark.parametrize("swapped", [False, True])
def test_pixels_beside_tokens_may_have_a_baseline_between(swapped, rng):
    """Each input is what the model takes there: 8-bit pixels where it takes floats, and tokens where it takes ints."""
    pixels, words = keras.Input((4,), name="pixels"), keras.Input((3,), dtype="int32", name="words")
    vectors = layers.Flatten()(layers.Embedding(9, 2)(words))
    model = keras.Model({"pixels": pixels, "words": words}, layers.Dense(2)(layers.Concatenate()([pixels, vectors])))
    x = {"pixels": rng.integers(0, 255, (2, 4)).astype("uint8"), "words": rng.integers(1, 9, (2, 3))}
    x = {key: x[key] for key in sorted(x, reverse=swapped)}
    values = ks.shapley_values(model, x, 0, baseline={"pixels": 0.5, "words": 0})
    np.testing.assert_allclose(values.residual, 0, atol=1e-3)
    with pytest.raises(ValueError, match="`baseline` must be whole numbers"):
        ks.shapley_values(model, x, 0, baseline={"pixels": 0, "words": 0.5})
    with pytest.raises(ValueError, match="inputs"):
        ks.shapley_values(model, x["pixels"], 0)


@pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict")
def test_flags_of_integers_follow_the_batch_however_it_is_nested():
    pixels, more, words = (keras.Input((2,), dtype=dtype) for dtype in ("float32", "float32", "int32"))
    outputs = layers.Concatenate()([pixels, more, layers.Flatten()(layers.Embedding(9, 2)(words))])
    nested = keras.Model({"a": [pixels, more], "b": words}, outputs)
    ones = np.ones((1, 2))
    assert takes_integers(nested, {"b": ones, "a": [ones, ones]}) == [True, False, False]
    assert takes_integers(nested, {"a": [ones, ones], "b": ones}) == [False, False, True]
    assert takes_integers(nested, {"c": ones}) == []
    listed = keras.Model([{"b": words, "a": pixels}, more], outputs)
    assert takes_integers(listed, [{"b": ones, "a": ones}, ones]) == [True, False, False]

    class Function:
        inputs = (words,)

        def __call__(self, x):
            return x

    assert takes_integers(Function(), ones) == []
    values = ks.shapley_values(nested, {"b": np.array([[1, 2]]), "a": [ones, ones]}, 0, baseline=0)
    np.testing.assert_allclose(values.residual, 0, atol=1e-5)
    with pytest.raises(ValueError, match="`baseline` must be finite"):
        ks.shapley_values(of_tokens(), np.ones((1, STEPS), "int32"), 0, baseline=np.nan)
