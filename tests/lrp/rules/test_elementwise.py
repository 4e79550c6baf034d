"""Rules for elementwise operations: relevance passes unchanged, and each operation is tried element by element."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from reference.calls import call_of, propagate, total

import keras_shapley as ks
from keras_shapley import rules
from keras_shapley.models.tracing import trace


@pytest.mark.parametrize(
    "make, rule",
    [
        (lambda x: x / 255.0, rules.OneOperand()),
        (lambda x: x**2, rules.OneOperand()),
        (lambda x: 1.0 / x, rules.OneOperand()),
        (lambda x: ops.maximum(x, 1.5), rules.LargerOperand()),
    ],
)
def test_one_tensor_beside_constants_is_n_equal_to_1(make, rule, rng):
    inputs = keras.Input((4,))
    (call,) = trace(keras.Model(inputs, make(inputs))).calls
    relevance = rng.normal(size=(2, 4))
    (r_in,) = propagate(rule, call, [rng.uniform(1, 2, size=(2, 4))], relevance)
    np.testing.assert_allclose(r_in, relevance, rtol=1e-6)


def test_the_numerator_of_a_quotient_receives_its_relevance(rng):
    dividend, divisor = keras.Input((3, 4)), keras.Input((3, 1))
    (call,) = trace(keras.Model([dividend, divisor], dividend / divisor)).calls
    relevance = rng.normal(size=(2, 3, 4))
    a, b = propagate(rules.OneOperand(), call, [rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 3, 1))], relevance)
    np.testing.assert_allclose(a, relevance, rtol=1e-6)
    np.testing.assert_array_equal(b, np.zeros((2, 3, 1)))


def test_a_power_of_two_tensors_is_refused_when_the_explainer_is_made():
    base, exponent = keras.Input((4,)), keras.Input((4,))
    model = keras.Model([base, exponent], ops.power(base, exponent))
    with pytest.raises(ValueError, match=r"OneOperand.*Power\) of 2 tensors.*shapley_values"):
        ks.LRP(model, rules="paper")


@pytest.mark.parametrize("make", [lambda x: 1.0 - x, lambda x: x - 1.0, lambda x: x + 1.0, lambda x: 3.0 * x])
def test_a_constant_beside_a_tensor_changes_no_relevance(make, rng):
    x = keras.Input((3,))
    model = keras.Model(x, layers.Dense(2)(make(layers.Dense(4, name="below")(x))))
    explanation = ks.LRP(model, rules="paper").explain(rng.normal(size=(4, 3)), 0)
    below, above = (explanation.layers[name] for name in list(explanation.layers)[:2])
    np.testing.assert_allclose(below, above, rtol=1e-6)


def test_activations_given_as_operations_or_layers_pass(rng):
    x = keras.Input((4,))
    y = layers.Dense(4, activation=ops.relu)(x)
    y = layers.Dense(4, activation=layers.LeakyReLU(0.1))(y)
    model = keras.Model(x, layers.Dense(2)(keras.activations.relu(y)))
    explanation = ks.LRP(model, rules="paper").explain(rng.normal(size=(2, 4)), 0)
    np.testing.assert_allclose(
        explanation.head_total - total(explanation.input), sum(explanation.conservation_gap.signed.values()), atol=1e-4
    )


def elementwise(cls):
    """An operation of a type that relevance passes through."""
    arguments = {
        "Activation": ("gelu",),
        "Rescaling": (2.0,),
        "Clip": (-1.0, 1.0),
        "Cast": ("float32",),
        "Threshold": (0.5, 0.0),
        "LayerScale": (1.0, 3),
    }
    arguments |= dict.fromkeys(("Dropout", "AlphaDropout", "GaussianDropout", "GaussianNoise"), (0.5,))
    return cls(*arguments.get(cls.__name__, ()))


UNTRIED = ("Attach", "Random", "Spatial", "Stochastic")


PASSED = [cls for cls in ks.presets.ELEMENTWISE if not cls.__name__.startswith(UNTRIED)]


@pytest.mark.parametrize("cls", PASSED, ids=lambda cls: f"{cls.__module__.split('.')[-1]}.{cls.__name__}")
def test_what_relevance_passes_unchanged_mixes_no_elements(cls, rng):
    """Each output changes with its own input alone."""
    op = elementwise(cls)
    call = call_of(op, (2, 3))
    x = rng.uniform(0.1, 0.9, size=(1, 2, 3)).astype("float32")
    before = ops.convert_to_numpy(call(ops.convert_to_tensor(x)))
    for index in np.ndindex(2, 3):
        shifted = x.copy()
        shifted[(0, *index)] += 0.05
        changed = ops.convert_to_numpy(call(ops.convert_to_tensor(shifted))) != before
        changed[(0, *index)] = False
        assert not changed.any()


@pytest.mark.parametrize(
    "cls", [layers.RandomFlip, layers.RandomContrast, layers.RandomRotation, layers.SpatialDropout2D]
)
def test_augmentation_does_nothing_in_inference(cls, rng):
    layer = cls() if cls is layers.RandomFlip else cls(0.3)
    model = keras.Sequential([keras.Input((4, 4, 3)), layer, layers.Flatten(), layers.Dense(2)])
    x = rng.uniform(size=(2, 4, 4, 3)).astype("float32")
    plain = keras.Sequential([keras.Input((4, 4, 3)), *model.layers[1:]])
    np.testing.assert_allclose(
        ks.LRP(model, rules="paper").explain(x, 0).input, ks.LRP(plain, rules="paper").explain(x, 0).input, rtol=1e-6
    )


def test_pass_refuses_what_mixes_elements(rng):
    call = call_of(layers.GlobalAveragePooling1D(), (3, 4))
    with pytest.raises(ValueError, match=r"Pass.*'global_average_pooling1d.*\(GlobalAveragePooling1D\)"):
        propagate(rules.Pass(), call, [rng.normal(size=(2, 3, 4))], rng.normal(size=(2, 4)))
