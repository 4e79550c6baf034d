"""Gates measured on masked passes."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_shapley as ks
from keras_shapley.lrp.masked_passes import MaskedPasses
from keras_shapley.lrp.propagation import gates


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(4, 3, padding="same", name="conv"),
            layers.BatchNormalization(name="bn"),
            layers.ReLU(name="relu"),
            layers.MaxPooling2D(name="pool"),
            layers.Flatten(name="flat"),
            layers.Dense(8, "gelu", name="hidden"),
            layers.Dense(3, name="logits"),
        ]
    )


@pytest.fixture
def x(rng):
    return rng.normal(size=(3, 6, 6, 2)).astype("float32")


def test_masks_come_in_opposite_pairs_at_evenly_spread_shares():
    masks = MaskedPasses(200, None, 0).masks((50,))
    np.testing.assert_array_equal(masks[0::2], ~masks[1::2])
    shares = np.sort(masks.mean(axis=1))
    # of a uniform distribution, within the noise of fifty players
    np.testing.assert_allclose(shares, (np.arange(200) + 0.5) / 200, atol=0.15)


def test_patches_of_an_image_are_masked_together():
    masks = MaskedPasses(4, None, 0).masks((14, 21, 3))
    blocks = masks.reshape(4, 7, 2, 7, 3, 3)
    assert (blocks == blocks[:, :, :1, :, :1, :1]).all()


def test_players_are_masked_together_and_the_seed_draws_them(model, x):
    masks = MaskedPasses(16, np.array([0, 0, 1]), 0).masks((3,))
    assert (masks[:, 0] == masks[:, 1]).all() and (masks[:, 0] != masks[:, 2]).any()
    assert (MaskedPasses(16, np.array([0, 0, 1]), 1).masks((3,)) != masks).any()
    columns = np.broadcast_to(np.arange(6)[:, None], (6, 6, 2))
    explained = [
        ks.LRP(model, gates=8, **options).explain(x, 1).input
        for options in ({}, {"players": columns}, {"players": columns, "seed": 1})
    ]
    size = np.abs(explained[0]).max()
    assert np.abs(explained[1] - explained[0]).max() > 1e-3 * size
    assert np.abs(explained[2] - explained[1]).max() > 1e-3 * size


def test_many_passes_give_the_moments_of_eq_1_in_a_first_layer(rng, monkeypatch):
    """For independent inputs, mean `u/2` and variance `q/6 + u**2/12` are exact."""
    monkeypatch.setattr(gates, "_PRIOR", 0.0)
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((10,)), layers.Dense(6, "relu"), layers.Dense(2)])
    x = rng.normal(size=(2, 10)).astype("float32")
    expected = ks.LRP(model, baseline=0.3).explain(x, 1).input
    measured = ks.LRP(model, baseline=0.3, gates=2000).explain(x, 1).input
    np.testing.assert_allclose(measured, expected, atol=0.02 * np.abs(expected).max())


@pytest.mark.parametrize("n", [2, 8])
def test_relevance_is_conserved_whatever_the_gates(model, x, n):
    explanation = ks.LRP(model, baseline=0.5, gates=n).explain(x, 1)
    np.testing.assert_allclose(explanation.input.sum(axis=(1, 2, 3)), explanation.head_total, rtol=1e-4, atol=1e-5)
    assert max(np.abs(gap).max() for gap in explanation.conservation_gap.signed.values()) < 1e-4


def test_the_gates_of_an_image_do_not_depend_on_the_others(model, x):
    explainer = ks.LRP(model, gates=4)
    whole = ops.convert_to_numpy(explainer(x, 0))
    alone = ops.convert_to_numpy(explainer(x[1:2], 0))
    np.testing.assert_allclose(whole[1:2], alone, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(whole, ops.convert_to_numpy(explainer(x, 0)))
    assert np.abs(whole - ops.convert_to_numpy(ks.LRP(model)(x, 0))).max() > 1e-4


@pytest.mark.parametrize(
    "options, words",
    [
        (dict(gates=3), "even number"),
        (dict(gates=0), "gates"),
        (dict(gates="measured"), "'normal'"),
        (dict(gates=4, rules="paper"), "baseline"),
        (dict(players=np.zeros((6, 6, 2), int)), "`players` are what is masked to measure gates.*gates=8"),
    ],
)
def test_bad_gates(model, options, words):
    with pytest.raises(ValueError, match=words):
        ks.LRP(model, **options)


def test_gates_need_one_input(rng):
    a, b = keras.Input((2,)), keras.Input((2,))
    model = keras.Model([a, b], layers.Dense(1)(layers.Concatenate()([a, b])))
    with pytest.raises(ValueError, match="one input"):
        ks.LRP(model, gates=4)
