"""TimeDistributed around a model, against the same model called on each step."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_shapley as ks

STEPS = 3


def frames():
    model = keras.Sequential([keras.Input((6, 6, 1)), layers.ZeroPadding2D(), layers.Conv2D(3, 3)])
    for layer in (layers.BatchNormalization(), layers.ReLU(), layers.MaxPooling2D(), layers.Flatten()):
        model.add(layer)
    model.add(layers.Dense(4, "relu"))
    return model


def branches():
    x = keras.Input((6, 6, 1))
    y = layers.Conv2D(3, 3, padding="same")(x) + layers.Conv2D(3, 1)(x)
    return keras.Model(x, layers.Dense(4)(layers.GlobalAveragePooling2D()(layers.ReLU()(y))))


def nested():
    return keras.Sequential([keras.Input((6, 6, 1)), frames(), keras.Sequential([layers.Dense(3, "tanh")])])


def sentences():
    model = keras.Sequential([keras.Input((4,), dtype="int32"), layers.Embedding(9, 3, mask_zero=True)])
    model.add(layers.LSTM(3))
    return model


def shaken(model, rng):
    for weight in model.trainable_weights:
        weight.assign(0.5 * rng.normal(size=weight.shape))
    return model


@pytest.mark.once
@pytest.mark.parametrize("rules", ["auto", "paper", "epsilon", "epsilon_plus_flat"])
@pytest.mark.parametrize("build", [frames, branches, nested, sentences])
def test_a_model_on_every_step_is_the_model_called_on_each(build, rules, rng):
    inner = build()
    is_text = build is sentences
    x = keras.Input((STEPS, *inner.input_shape[1:]), dtype="int32" if is_text else "float32")
    y = layers.TimeDistributed(inner)(x)
    model = shaken(keras.Model(x, layers.Dense(2)(layers.LSTM(3)(y))), rng)
    each = ops.stack([inner(x[:, t]) for t in range(STEPS)], axis=1)
    twin = keras.Model(x, model.layers[-1](model.layers[-2](each)))
    shape = (4, *model.input_shape[1:])
    batch = rng.integers(9, size=shape) if is_text else rng.normal(size=shape).astype("float32")
    relevance, expected = (ops.convert_to_numpy(ks.LRP(m, rules=rules)(batch, target=1)) for m in (model, twin))
    np.testing.assert_allclose(relevance, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_from_a_baseline_a_model_on_every_step_conserves(rng):
    model = keras.Sequential([keras.Input((STEPS, 6, 6, 1)), layers.TimeDistributed(frames(), name="each")])
    shaken(model, rng).add(layers.GlobalAveragePooling1D())
    explanation = ks.LRP(model, baseline=0.1).explain(rng.normal(size=(2, STEPS, 6, 6, 1)), target=1)
    np.testing.assert_allclose(explanation.input.sum(axis=(1, 2, 3, 4)), explanation.head_total, rtol=1e-4)
    assert np.abs(explanation.conservation_gap.signed["each"]).max() < 1e-5


def test_a_layer_inside_without_a_rule_is_named(rng):
    inner = keras.Sequential([keras.Input((4, 2)), layers.Lambda(lambda x: ops.sort(x, axis=1), name="odd")])
    inner.add(layers.Flatten())
    model = keras.Sequential([keras.Input((STEPS, 4, 2)), layers.TimeDistributed(inner), layers.Flatten()])
    with pytest.raises(ValueError, match="'odd'"):
        ks.LRP(model, rules="paper")
    with pytest.raises(ValueError, match="'odd'"):
        ks.LRP(model)


def test_what_is_not_known_inside_is_refused(rng):
    def rolled(x):
        return ops.roll(x, 1, axis=-1)

    inside = {
        "a layer": layers.Dense(3, activation=rolled),
        "a model": keras.Sequential([keras.Input((3,)), layers.Dense(3), layers.Activation(rolled)]),
    }
    for layer in inside.values():
        model = keras.Sequential(
            [keras.Input((2, 3)), layers.TimeDistributed(layer), layers.Flatten(), layers.Dense(1)]
        )
        with pytest.raises(ValueError, match="'rolled', which is not known to act on each element alone"):
            ks.LRP(model)


def test_rules_for_layers_inside_are_refused_from_a_baseline(rng):
    inner = keras.Sequential([keras.Input((3,)), layers.Dense(3, "relu")])
    model = keras.Sequential([keras.Input((2, 3)), layers.TimeDistributed(inner), layers.Flatten(), layers.Dense(1)])
    with pytest.raises(ValueError, match="cannot be set for layers inside .*such as Dense"):
        ks.LRP(model, rules=[(layers.Dense, "epsilon")], baseline=0.0)
