"""Rules that users write: what they receive, what they must return, and subclasses of the package's own rules."""

import dataclasses
import doctest

import keras
import numpy as np
import pytest
from keras import layers, ops
from reference.calls import BIAS

import keras_shapley as ks
from keras_shapley import rules
from keras_shapley.lrp.explanation import ConservationGap


@pytest.mark.parametrize("documented", [rules, ConservationGap])
def test_the_example_in_the_documentation_runs(documented):
    (example,) = doctest.DocTestFinder(recurse=False).find(
        documented, "example", module=False, globs={"keras": keras, "ks": ks, "np": np}
    )
    assert example.examples
    assert not doctest.DocTestRunner().run(example).failed


def test_a_rule_is_told_what_was_called(rng):
    """The layer, its name, and its linear map with a merged BatchNormalization."""
    model = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="dense"), layers.BatchNormalization(name="bn")])
    model.add(layers.Dense(2))
    dense, bn = (model.get_layer(name) for name in ("dense", "bn"))
    bn.set_weights([rng.uniform(0.5, 2, size=4) for _ in range(4)])
    calls = []

    class Outputs(rules.LinearRule):
        """Returns the outputs of the linear map, which have the shape of the inputs here."""

        def __call__(self, call, inputs, relevance):
            (x,) = inputs
            calls.append(call)
            return [call.linear_map(x, call.linear_map.kernel) + call.linear_map.bias]

    x = rng.normal(size=(2, 4)).astype("float32")
    explanation = ks.LRP(model, rules=[("dense", Outputs())], merge_batch_norm=True).explain(x, 0)
    (call,) = calls
    assert (call.op, call.name, call.description) == (dense, "dense", "'dense' (Dense)")
    np.testing.assert_allclose(explanation.input, ops.convert_to_numpy(bn(dense(x))), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("wrong", [lambda call, x, r: r, lambda call, x, r: [], lambda call, x, r: [r[:, :1]]])
def test_what_a_rule_returns_is_checked(wrong, rng):
    model = keras.Sequential([keras.Input((4,)), layers.ReLU(name="relu"), layers.Dense(2)])
    with pytest.raises(ValueError, match="The rule of 'relu'"):
        ks.LRP(model, rules=[(layers.ReLU, wrong)])(rng.normal(size=(1, 4)))


class OtherDenominator(rules.Epsilon):
    """In proportion to `|z_kj|`, with a part of its own."""

    def parts(self, x, kernel, b, real, relevance, linear):
        return [rules.Part(relevance, [(ops.abs(x), ops.abs(kernel))], ops.abs(b))]


class OtherInput(rules.Epsilon):
    """The same, by the parent's part on another input and kernel."""

    def parts(self, x, kernel, b, real, relevance, linear):
        return super().parts(ops.abs(x), ops.abs(kernel), ops.abs(b), real, relevance, linear)


class OtherTerms(rules.Epsilon):
    """The same, by a change of the parent's part."""

    def parts(self, x, kernel, b, real, relevance, linear):
        (part,) = super().parts(x, kernel, b, real, relevance, linear)
        return [dataclasses.replace(part, terms=[(ops.abs(x), ops.abs(kernel))], bias=ops.abs(b))]


@pytest.mark.parametrize("rule", [OtherDenominator(1e-9), OtherInput(1e-9), OtherTerms(1e-9)])
def test_a_subclass_of_epsilon_may_divide_by_another_sum(rule, rng):
    """The walk keeps the pre-activation that `Epsilon` divides by; a subclass with other parts must not get it."""
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, "tanh", bias_initializer=BIAS, name="dense")])
    model.add(layers.Dense(2, bias_initializer=BIAS))
    x = rng.normal(size=(2, 4))
    explanation = ks.LRP(model, rules=[("dense", rule)]).explain(x, 0)
    kernel, bias = (weight.astype("float64") for weight in model.get_layer("dense").get_weights())
    z = np.abs(x[:, :, None] * kernel)
    shares = z / (z.sum(axis=1) + np.abs(bias))[:, None]
    expected = (shares * explanation.layers["dense"][:, None]).sum(axis=2)
    np.testing.assert_allclose(explanation.input, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("use_bias", [True, False])
def test_an_ignored_bias_is_not_in_the_denominator(use_bias, rng):
    """The pre-activation that the walk keeps has the bias in it."""
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, "tanh", use_bias, bias_initializer=BIAS, name="dense")]
    )
    model.add(layers.Dense(2))
    x = rng.normal(size=(2, 4))
    explanation = ks.LRP(model, rules=[("dense", rules.Epsilon(1e-9, "ignore"))]).explain(x, 0)
    z = x[:, :, None] * model.get_layer("dense").get_weights()[0].astype("float64")
    expected = (z / z.sum(axis=1, keepdims=True) * explanation.layers["dense"][:, None]).sum(axis=2)
    np.testing.assert_allclose(explanation.input, expected, rtol=1e-3, atol=1e-5)


class OnAbsoluteInputs(rules.Epsilon):
    """`Epsilon` as if the layer had other inputs."""

    def __call__(self, call, inputs, relevance):
        return super().__call__(call, [ops.abs(x) for x in inputs], relevance)


def test_a_subclass_of_epsilon_may_change_the_inputs(rng):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, "tanh", bias_initializer=BIAS, name="dense")])
    model.add(layers.Dense(2, bias_initializer=BIAS))
    x = rng.normal(size=(2, 4))
    explanation = ks.LRP(model, rules=[("dense", OnAbsoluteInputs(1e-9))]).explain(x, 0)
    kernel, bias = (weight.astype("float64") for weight in model.get_layer("dense").get_weights())
    z = np.abs(x)[:, :, None] * kernel
    shares = z / (z.sum(axis=1) + bias)[:, None]
    expected = (shares * explanation.layers["dense"][:, None]).sum(axis=2)
    np.testing.assert_allclose(explanation.input, expected, rtol=1e-3, atol=1e-5)


def test_a_call_is_shown_by_its_name_and_type(rng):
    """In a residual network too, where each call comes after two others."""
    x = y = keras.Input((4,))
    for _ in range(30):
        y = layers.Add()([y, layers.Dense(4)(y)])
    shown = []

    def rule(call, inputs, relevance):
        shown.append(repr(call))
        return [relevance for _ in inputs]

    ks.LRP(keras.Model(x, y), rules=[(layers.Add, rule)])(rng.normal(size=(1, 4)))
    assert max(map(len, shown)) < 300
    assert "add" in shown[0]


def test_fits_is_ignored_unless_it_is_a_tuple_of_types(rng):
    class Rule:
        def fits(self):
            raise AssertionError

        def __call__(self, call, inputs, relevance):
            return [relevance]

    model = keras.Sequential([keras.Input((3,)), layers.ReLU(), layers.Dense(2)])
    assert tuple(ks.LRP(model, rules=[(layers.ReLU, Rule())])(rng.normal(size=(2, 3))).shape) == (2, 3)
