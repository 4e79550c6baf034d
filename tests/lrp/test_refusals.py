"""Models, layers and rules that LRP refuses: the error names what it is and what to do."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_shapley as ks


def test_a_layer_without_a_rule_is_named_with_the_remedy():
    x = keras.Input((4, 6))
    model = keras.Model(x, layers.Dense(2)(layers.LSTM(3, name="memory")(x)))
    with pytest.raises(ValueError, match=r"'memory' \(LSTM\) has no LRP rule.*rules=\[\(\(LSTM,\), rule\)\].*Dense"):
        ks.LRP(model)


@pytest.mark.parametrize(
    "layer",
    [
        layers.Dense(5, activation="softmax", name="mix"),
        layers.Dense(5, activation=lambda x: x, name="mix"),
    ],
)
def test_relevance_never_passes_silently_through_what_mixes_elements(layer):
    model = keras.Sequential([keras.Input((5,)), layer, layers.Dense(2)])
    with pytest.raises(ValueError, match="'mix'"):
        ks.LRP(model)


class Custom(keras.Model):
    def call(self, x):
        return x


def test_models_that_cannot_be_walked_are_refused():
    with pytest.raises(ValueError, match="'custom'.*Custom"):
        ks.LRP(Custom(name="custom"))
    with pytest.raises(ValueError, match="'lazy' is not built"):
        ks.LRP(keras.Sequential([layers.Dense(2)], name="lazy"))
    x = keras.Input((4,))
    with pytest.raises(ValueError, match=r"`output`.*\['one', 'other'\]"):
        ks.LRP(keras.Model(x, [layers.Dense(2, name="one")(x), layers.Dense(2, name="other")(x)]))
    with pytest.raises(ValueError, match="`output`"):
        ks.LRP(keras.Model(x, {"one": layers.Dense(2)(x), "other": layers.Dense(2)(x)}))
    with pytest.raises(ValueError, match=r"\(None, 4, 2\)"):
        x = keras.Input((4, 3))
        ks.LRP(keras.Model(x, layers.Dense(2)(x)))


class Mixing(layers.Dropout):
    def call(self, inputs, training=False):
        return ops.cumsum(inputs, axis=-1)


class Squashing(layers.Dense):
    def call(self, inputs):
        return ops.softmax(super().call(inputs))


@pytest.mark.parametrize("layer", [Mixing(0.5, name="mix"), Squashing(5, name="mix")])
def test_a_subclass_with_a_call_of_its_own_does_not_inherit_the_rule(layer):
    model = keras.Sequential([keras.Input((5,)), layer, layers.Dense(2)])
    with pytest.raises(ValueError, match="'mix'.*no LRP rule"):
        ks.LRP(model)
    ks.LRP(model, rules=[(type(layer), lambda call, inputs, relevance: [relevance])])


def test_a_quantized_layer_is_refused():
    model = keras.Sequential([keras.Input((5,)), layers.Dense(4, "relu", name="below"), layers.Dense(2)])
    model.layers[0].quantize("int8")
    with pytest.raises(ValueError, match="'below'.*quantized"):
        ks.LRP(model)


@pytest.mark.parametrize("wrong", [lambda call, x, r: r, lambda call, x, r: [], lambda call, x, r: [r[:, :1]]])
def test_what_a_rule_returns_is_checked(wrong, rng):
    model = keras.Sequential([keras.Input((4,)), layers.ReLU(name="relu"), layers.Dense(2)])
    with pytest.raises(ValueError, match="The rule of 'relu'"):
        ks.LRP(model, rules=[(layers.ReLU, wrong)])(rng.normal(size=(1, 4)))


class Standardised(layers.Conv2D):
    def convolution_op(self, inputs, kernel):
        return super().convolution_op(inputs, kernel - ops.mean(kernel, axis=(0, 1, 2)))


def test_a_convolution_with_an_operation_of_its_own_has_no_rule():
    model = keras.Sequential(
        [keras.Input((4, 4, 2)), Standardised(3, 2, name="own"), layers.Flatten(), layers.Dense(2)]
    )
    with pytest.raises(ValueError, match="'own'"):
        ks.LRP(model)


@pytest.mark.parametrize(
    "rule, layer",
    [
        (ks.rules.Airport(), layers.Flatten(name="wrong")),
        (ks.rules.Move(), layers.Dense(3, name="wrong")),
        (ks.rules.Sum(), layers.LayerNormalization(name="wrong")),
        (ks.rules.Attention(), layers.Dense(3, name="wrong")),
        (ks.rules.WinnerTakesAll(), layers.ReLU(name="wrong")),
    ],
)
def test_a_rule_on_a_layer_that_it_is_not_for_is_refused(rule, layer):
    model = keras.Sequential([keras.Input((3,)), layer, layers.Dense(2)])
    with pytest.raises(ValueError, match=f"{type(rule).__name__}.*'wrong'"):
        ks.LRP(model, rules=[("wrong", rule)])


def test_layers_of_float64_beside_others_are_refused(float64):
    model = keras.Sequential(
        [keras.Input((2,)), layers.Dense(2, dtype="float64", name="wide"), layers.Dense(2, name="narrow")]
    )
    with pytest.raises(ValueError, match="'wide'.*'narrow'.*float32"):
        ks.LRP(model)


@pytest.mark.parametrize("x, word", [([["a", "b"]], "numbers"), ([[1.5, 2.0]], "whole numbers")])
def test_inputs_of_another_kind_are_refused(x, word):
    model = keras.Sequential(
        [keras.Input((2,), dtype="int32"), layers.Embedding(5, 3), layers.Flatten(), layers.Dense(2)]
    )
    with pytest.raises(ValueError, match=word):
        ks.LRP(model)(np.array(x))
