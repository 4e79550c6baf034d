"""Inputs of every kind: several, by name, whole numbers, masks, and of other precisions."""

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
    explainer = ks.LRP(model)
    found = explainer.explain(data, 0)
    assert set(found.input) == {"a", "b"}
    assert found.input["a"].shape == (4, 3)
    np.testing.assert_allclose(
        total(found.input["a"]) + total(found.input["b"]), found.head_total, rtol=1e-3, atol=1e-3
    )
    relevance = explainer(data, 0)
    np.testing.assert_allclose(ops.convert_to_numpy(relevance["b"]), found.input["b"], atol=1e-6)


def test_mixed_precision_models_are_explained_in_float32(rng):
    if keras.backend.backend() == "torch":
        policy = "mixed_bfloat16"
    else:
        policy = "mixed_float16"
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            ks.SAConv2D(4, 3, dtype=policy),
            layers.MaxPooling2D(2, dtype=policy),
            layers.Flatten(dtype=policy),
            layers.Dense(3, "softmax", dtype=policy),
        ]
    )
    found = ks.LRP(model).explain(rng.uniform(size=(2, 8, 8, 1)))
    assert found.input.dtype == np.float32
    np.testing.assert_allclose(total(found.input), found.head_total, atol=1e-3)


def test_inputs_given_by_name_reach_the_input_of_that_name(rng):
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    model = keras.Model([b, a], layers.Dense(2)(layers.Concatenate()([layers.Dense(3)(b), a])))
    data = {"a": rng.normal(size=(4, 3)), "b": rng.normal(size=(4, 2))}
    found = ks.LRP(model).explain(data, 0)
    np.testing.assert_allclose(found.output, model.predict([data["b"], data["a"]], verbose=0), rtol=1e-4, atol=1e-5)
    assert found.input["a"].shape == (4, 3) and found.input["b"].shape == (4, 2)
    with pytest.raises(ValueError, match="names of the model's inputs"):
        ks.LRP(model)({"a": data["a"], "c": data["b"]})


def test_zero_padding_and_mixed_precision_go_together(rng):
    policy = "mixed_bfloat16"
    model = keras.Sequential(
        [
            keras.Input((4, 4, 2)),
            layers.ZeroPadding2D(1, dtype=policy),
            layers.Conv2D(3, 3, bias_initializer=BIAS, dtype=policy),
            layers.Flatten(dtype=policy),
            layers.Dense(3, dtype=policy),
        ]
    )
    found = ks.LRP(model).explain(rng.uniform(size=(2, 4, 4, 2)), 0)
    np.testing.assert_allclose(total(found.input), found.head_total, rtol=0.05, atol=0.05)


def test_masks_and_indices_are_no_players(rng):
    """No relevance can reach the input through a comparison, so a factor made from one is a constant."""
    x = keras.Input((4, 3))
    kept = ops.cast(x > 1.2, "float32")
    z = layers.Multiply()([ops.take(x, [2, 0], axis=1), kept[:, :2]])
    model = keras.Model(x, layers.Dense(2, use_bias=False)(layers.Flatten()(z)))
    found = ks.LRP(model).explain(rng.uniform(1, 2, size=(2, 4, 3)), 0)
    assert not found.input[:, [1, 3]].any() and found.input[:, [0, 2]].any()
    np.testing.assert_allclose(total(found.input), found.head_total, rtol=1e-4)


@pytest.mark.parametrize("dtype", ["int32", "bool"])
def test_integers_and_booleans_are_players_as_floats_are(dtype, rng):
    x, counts = keras.Input((3,)), keras.Input((3,), dtype=dtype)
    y = layers.Dense(3, use_bias=False)(ops.cast(counts, "float32"))
    model = keras.Model(
        [x, counts], layers.Dense(2)(layers.Concatenate()([layers.Add()([x, y]), ops.cast(counts, "float32")]))
    )
    data = [rng.normal(size=(2, 3)), rng.integers(2, size=(2, 3)).astype(dtype)]
    found = ks.LRP(model).explain(data, 0)
    assert np.abs(found.input[1]).max() > 0
    np.testing.assert_allclose(sum(map(total, found.input)), found.head_total, rtol=1e-3, atol=1e-4)


def test_a_constant_table_is_looked_up_in(rng):
    tokens = keras.Input((4,), dtype="int32")
    table = rng.normal(size=(5, 3)).astype("float32")
    model = keras.Model(tokens, layers.Dense(2)(layers.Flatten()(ops.take(table, tokens, axis=0))))
    found = ks.LRP(model).explain(np.array([[0, 1, 4, 4]]), 0)
    np.testing.assert_allclose(found.input.sum(axis=1), found.head_total, rtol=1e-4)


BEHIND_A_MASK = [
    layers.Dense(4, "relu", bias_initializer=BIAS),
    layers.Conv1D(4, 3, padding="same", activation="relu", bias_initializer=BIAS),
    layers.Conv1D(4, 3, bias_initializer=BIAS),
    layers.SeparableConv1D(4, 3, padding="same", bias_initializer=BIAS),
    layers.EinsumDense("abc,cd->abd", (None, 4), bias_axes="d", bias_initializer=BIAS),
    layers.TimeDistributed(layers.Dense(4, "relu")),
]


@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask")
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("rules", [None, "epsilon_plus"])
@pytest.mark.parametrize("layer", BEHIND_A_MASK, ids=lambda layer: layer.name)
def test_what_is_explained_is_what_the_model_gives(layer, rules, nested, rng):
    """Masks too go where Keras sends them, and no further."""
    layer = type(layer).from_config(layer.get_config())
    parts = [layers.Embedding(9, 3, mask_zero=True), layer, layers.GlobalAveragePooling1D(), layers.Dense(3, "softmax")]
    inside = keras.Sequential(parts)
    tokens = keras.Input((6,), dtype="int32")
    model = keras.Model(tokens, inside(tokens)) if nested else keras.Sequential([tokens, *parts])
    text = np.array([[1, 2, 3, 0, 0, 0], [4, 5, 6, 7, 8, 0]])
    found = ks.LRP(model, rules=rules).explain(text)
    np.testing.assert_allclose(found.output, ops.convert_to_numpy(model(text)), rtol=1e-5)


@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask")
def test_a_mask_given_to_a_model_inside_is_the_one_that_it_sees(rng):
    inside = keras.Sequential([keras.Input((6, 3)), layers.Dense(4, "relu"), layers.GlobalAveragePooling1D()])
    x, mask = keras.Input((6, 3)), keras.Input((6,), dtype="bool")
    model = keras.Model([x, mask], layers.Dense(2)(inside(x, mask=mask)))
    data = [rng.normal(size=(2, 6, 3)), np.arange(6) < [[4], [2]]]
    found = ks.LRP(model).explain(data, 0)
    np.testing.assert_allclose(found.output, ops.convert_to_numpy(model([np.float32(data[0]), data[1]])), rtol=1e-5)
    assert not found.input[0][~data[1]].any() and not found.input[1].any()


def test_models_of_float64_are_explained_in_it(float64, rng):
    model = keras.Sequential([keras.Input((3,), dtype="float64")])
    for units in (4, 2):
        model.add(layers.Dense(units, bias_initializer=BIAS, dtype="float64"))
    found = ks.LRP(model).explain(rng.normal(size=(2, 3)), 0)
    assert found.input.dtype == "float64"
    np.testing.assert_allclose(total(found.input), found.head_total, rtol=1e-6)
