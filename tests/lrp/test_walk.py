"""What the walk explains is what the model computes: with masks, in other precisions, in inference mode."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from reference.calls import BIAS, total

import keras_shapley as ks


def test_dropout_and_batch_norm_run_in_inference_mode(convnet, images):
    convnet.get_layer("bn").set_weights([np.full(4, v, "float32") for v in (1.5, 0.2, 0.3, 2.0)])
    explanation = ks.LRP(convnet, rules="paper").explain(images)
    np.testing.assert_allclose(explanation.output, convnet.predict(images, verbose=0), atol=1e-6)


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
@pytest.mark.parametrize("rules", ["paper", "epsilon_plus"])
@pytest.mark.parametrize("layer", BEHIND_A_MASK, ids=lambda layer: layer.name)
def test_what_is_explained_is_what_the_model_gives(layer, rules, nested, rng):
    """Masks too go where Keras sends them, and no further."""
    layer = type(layer).from_config(layer.get_config())
    parts = [layers.Embedding(9, 3, mask_zero=True), layer, layers.GlobalAveragePooling1D(), layers.Dense(3, "softmax")]
    inside = keras.Sequential(parts)
    tokens = keras.Input((6,), dtype="int32")
    model = keras.Model(tokens, inside(tokens)) if nested else keras.Sequential([tokens, *parts])
    text = np.array([[1, 2, 3, 0, 0, 0], [4, 5, 6, 7, 8, 0]])
    explanation = ks.LRP(model, rules=rules).explain(text)
    np.testing.assert_allclose(explanation.output, ops.convert_to_numpy(model(text)), rtol=1e-5)


@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask")
def test_a_mask_given_to_a_model_inside_is_the_one_that_it_sees(rng):
    inside = keras.Sequential([keras.Input((6, 3)), layers.Dense(4, "relu"), layers.GlobalAveragePooling1D()])
    x, mask = keras.Input((6, 3)), keras.Input((6,), dtype="bool")
    model = keras.Model([x, mask], layers.Dense(2)(inside(x, mask=mask)))
    data = [rng.normal(size=(2, 6, 3)), np.arange(6) < [[4], [2]]]
    explanation = ks.LRP(model, rules="paper").explain(data, 0)
    np.testing.assert_allclose(
        explanation.output, ops.convert_to_numpy(model([np.float32(data[0]), data[1]])), rtol=1e-5
    )
    assert not explanation.input[0][~data[1]].any() and not explanation.input[1].any()


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
    explanation = ks.LRP(model, rules="paper").explain(rng.uniform(size=(2, 8, 8, 1)))
    assert explanation.input.dtype == np.float32
    np.testing.assert_allclose(total(explanation.input), explanation.head_total, atol=1e-3)


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
    explanation = ks.LRP(model, rules="paper").explain(rng.uniform(size=(2, 4, 4, 2)), 0)
    np.testing.assert_allclose(total(explanation.input), explanation.head_total, rtol=0.05, atol=0.05)


def test_models_of_float64_are_explained_in_it(float64, rng):
    model = keras.Sequential([keras.Input((3,), dtype="float64")])
    for units in (4, 2):
        model.add(layers.Dense(units, bias_initializer=BIAS, dtype="float64"))
    explanation = ks.LRP(model, rules="paper").explain(rng.normal(size=(2, 3)), 0)
    assert explanation.input.dtype == "float64"
    np.testing.assert_allclose(total(explanation.input), explanation.head_total, rtol=1e-6)
