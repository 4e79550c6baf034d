"""Layers that merge tensors where their masks are open: Keras takes nothing of a tensor where it is masked.

The mask of the input is also that of the baseline.
"""

import functools

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_shapley as ks

pytestmark = pytest.mark.filterwarnings("ignore:Layer 'flatten")

TOKENS = np.array([[0, 3, 0, 5, 2], [4, 0, 6, 1, 0]])
MERGES = {"maximum": layers.Maximum, "minimum": layers.Minimum, "product": layers.Multiply}
OPERANDS = {
    "first": lambda masked, other: [masked, other],
    "second": lambda masked, other: [other, masked],
    "both": lambda masked, other: [masked, layers.Dense(3)(masked)],
    "constant": lambda masked, other: [masked, ops.ones((1, 5, 3)) / 4],
}


def merging(merge, operands, rng):
    """A model of tokens that merges what `operands` makes of an Embedding with a mask and one without."""
    tokens = keras.Input((5,), dtype="int32")
    masked, other = layers.Embedding(7, 3, mask_zero=True)(tokens), layers.Embedding(7, 3)(tokens)
    merged = layers.Flatten()(merge()(operands(masked, other)))
    model = keras.Model(tokens, layers.Dense(1, dtype="float32")(merged))
    model.set_weights([rng.normal(size=weight.shape) for weight in model.get_weights()])
    return model


def assert_conserves(explanation, tolerance):
    assert max(gap.max() for gap in explanation.conservation_gap.absolute.values()) < tolerance
    np.testing.assert_allclose(explanation.input.sum(axis=1), explanation.head_total, rtol=1e-3, atol=tolerance)


@pytest.mark.parametrize("rules", ["auto", "epsilon_plus"])
@pytest.mark.parametrize("operands", OPERANDS.values(), ids=OPERANDS)
@pytest.mark.parametrize("merge", MERGES.values(), ids=MERGES)
def test_relevance_is_conserved(merge, operands, rules, rng):
    model = merging(merge, operands, rng)
    assert_conserves(ks.LRP(model, rules=rules, baseline=1).explain(TOKENS, 0), 1e-4)


@pytest.mark.parametrize("merge", MERGES.values(), ids=MERGES)
def test_masks_outlive_a_change_of_the_dtype(merge, rng):
    """The sums have 8 bits and are about 5; a mask that is lost changes them by 1 or more."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = merging(merge, OPERANDS["both"], rng)
    finally:
        keras.config.set_dtype_policy(policy)
    assert_conserves(ks.LRP(model, baseline=1).explain(TOKENS, 0), 0.1)


def test_three_factors_with_a_mask(rng):
    model = merging(layers.Multiply, lambda masked, other: [masked, other, layers.Dense(3)(masked)], rng)
    assert_conserves(ks.LRP(model, baseline=1).explain(TOKENS, 0), 1e-4)


def test_a_maximum_of_three_masked_tensors_is_refused(rng):
    model = merging(
        functools.partial(layers.Maximum, name="three"),
        lambda masked, other: [masked, layers.Dense(3)(masked), other],
        rng,
    )
    with pytest.raises(ValueError, match="at most two masked tensors. Received: 'three'"):
        ks.LRP(model, baseline=1).explain(np.ones((1, 5), "int32"), 0)


def two_masked_inputs(merge, units=1):
    a, b = keras.Input((4, 2), name="a"), keras.Input((4, 2), name="b")
    merged = layers.Flatten()(merge()([layers.Masking()(a), layers.Masking()(b)]))
    return keras.Model([a, b], layers.Dense(units, name="end")(merged))


def test_a_masked_factor_leaves_all_to_the_other(rng):
    """Steps where both, one and none of the factors are open, against the Shapley values of two factors."""
    model = two_masked_inputs(layers.Multiply)
    kernel, bias = rng.normal(size=(8, 1)), np.zeros(1)
    model.get_layer("end").set_weights([kernel, bias])
    a, b = rng.normal(size=(2, 3, 4, 2)).astype("float32")
    a[:, [1, 3]] = 0
    b[:, [2, 3]] = 0
    a0, b0 = 0.5, -0.25
    r_a, r_b = ks.LRP(model, baseline=[a0, b0]).explain([a, b], 0).input
    weights = kernel.reshape(4, 2)
    expected_a = np.stack([(a[:, 0] - a0) * (b[:, 0] + b0) / 2, 0 * a[:, 1], a[:, 2] - a0, 0 * a[:, 3]], axis=1)
    expected_b = np.stack([(b[:, 0] - b0) * (a[:, 0] + a0) / 2, b[:, 1] - b0, 0 * b[:, 2], 0 * b[:, 3]], axis=1)
    np.testing.assert_allclose(r_a, expected_a * weights, atol=1e-5)
    np.testing.assert_allclose(r_b, expected_b * weights, atol=1e-5)


def test_moments_refuse_masked_factors(rng):
    model = two_masked_inputs(layers.Multiply)
    x = [rng.normal(size=(1, 4, 2)).astype("float32") for _ in range(2)]
    with pytest.raises(ValueError, match="'multiply.* multiplies masked tensors"):
        ks.fast_shapley_values(model, x)
