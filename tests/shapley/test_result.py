"""Results: heatmaps in the shape of the input, and summaries of one line."""

import keras
import numpy as np
import pytest
from keras import layers
from reference.marks import MASKS_OF_FEW_PLAYERS, MAY_MISS_THE_TOTAL

import keras_shapley as ks
from keras_shapley.shapley.players import spread_equally

# totals of networks with random weights may be near zero
pytestmark = [MAY_MISS_THE_TOTAL, MASKS_OF_FEW_PLAYERS]

# four groups of 5, 1, 4 and 2 pixels
UNEQUAL = np.array([[0, 0, 0, 1], [0, 0, 2, 2], [3, 3, 2, 2]])


def spread_by_hand(values, players):
    """The value of each element's player over the number of its elements, by a loop."""
    heatmap = np.zeros((len(values), *players.shape))
    for index in np.ndindex(players.shape):
        heatmap[(slice(None), *index)] = values[:, players[index]] / np.sum(players == players[index])
    return heatmap


@pytest.fixture
def model(rng):
    layer = layers.Dense(3, "softmax", kernel_initializer=keras.initializers.RandomNormal(seed=1))
    return keras.Sequential([keras.Input((3, 4, 2)), layers.Flatten(), layer])


@pytest.fixture
def x(rng):
    return rng.normal(size=(2, 3, 4, 2)).astype("float32")


def test_values_of_groups_are_spread_over_their_elements(model, x):
    with_channels = np.broadcast_to(UNEQUAL[..., None], (3, 4, 2))
    for result in (
        ks.exact_shapley_values(model, x, 1, players=UNEQUAL),
        ks.sampled_shapley_values(model, x, None, players=UNEQUAL, n_paths=4),
        ks.fast_shapley_values(model, x, 1, players=UNEQUAL),
        ks.exact_shapley_values(model, x, [1.0, 0, -1], players=UNEQUAL == np.arange(4)[:, None, None]),
    ):
        assert result.values.shape == (2, 4) and result.heatmap.shape == x.shape
        np.testing.assert_allclose(result.heatmap.sum(axis=(1, 2, 3)), result.values.sum(axis=1), atol=1e-12)
        np.testing.assert_allclose(result.heatmap, spread_by_hand(result.values, with_channels), atol=1e-12)
        for group in range(4):
            sums = result.heatmap[:, with_channels == group].sum(axis=1)
            np.testing.assert_allclose(sums, result.values[:, group], atol=1e-12)


def test_values_of_elements_are_placed_where_they_are(model, x):
    sampled = ks.sampled_shapley_values(model, x, 2, n_paths=4)
    np.testing.assert_array_equal(sampled.heatmap, sampled.values.reshape(x.shape))
    fast = ks.fast_shapley_values(model, x, 2)
    np.testing.assert_array_equal(fast.heatmap, fast.values.reshape(x.shape))
    np.testing.assert_array_equal(spread_equally(np.array([[3.0, 4.0]]), np.array([1, 0, 1])), [[2, 3, 2]])


def test_all_outputs_of_a_single_unit_have_a_heatmap(rng):
    x = rng.normal(size=(2, 4))
    result = ks.exact_shapley_values(lambda batch: np.tanh(batch.sum(axis=1)), x)
    np.testing.assert_array_equal(result.heatmap, result.values[..., 0])


def test_several_targets_have_a_heatmap_each_and_all_outputs_have_none(model, x):
    """The axis of targets comes after the batch, as in the results of LRP."""
    with_channels = np.broadcast_to(UNEQUAL[..., None], (3, 4, 2))
    for result in (
        ks.sampled_shapley_values(model, x, [[0, 1]], players=UNEQUAL, n_paths=2),
        ks.fast_shapley_values(model, x, [[0, 1]], players=UNEQUAL),
    ):
        assert result.heatmap.shape == (2, 2, 3, 4, 2) == ks.LRP(model).explain(x, [[0, 1]]).input.shape
        for k in range(2):
            np.testing.assert_allclose(
                result.heatmap[:, k], spread_by_hand(result.values[:, :, k], with_channels), atol=1e-12
            )
    with pytest.raises(ValueError, match="`target=`"):
        _ = ks.exact_shapley_values(model, x, players=UNEQUAL).heatmap


@pytest.mark.parametrize("target", [0, None, [[0, 1]], [0.5, 0, -1]])
def test_a_result_is_summed_up_in_a_line(target, model, rng):
    x = rng.normal(size=(40, 3, 4, 2)).astype("float32")
    for result in (
        ks.exact_shapley_values(model, x, target, players=UNEQUAL),
        ks.sampled_shapley_values(model, x, target, players=UNEQUAL, n_paths=1, antithetic=False),
        ks.fast_shapley_values(model, x, target),
        ks.fast_shapley_values(model, x, target, method="masks", n=2),
    ):
        summary = repr(result)
        assert "\n" not in summary and len(summary) < 200 and "array" not in summary
        assert type(result).__name__ in summary and "40 inputs" in summary


def test_a_summary_says_what_is_explained(x, model):
    options = {"players": UNEQUAL}
    assert (
        repr(ks.exact_shapley_values(model, x, **options))
        == "ShapleyValues(exact, 2 inputs, 4 players, all outputs of shape (3,), largest standard error 0, "
        "31 evaluations)"
    )
    assert "target 1," in repr(ks.exact_shapley_values(model, x, 1, **options))
    assert "targets 0, 2," in repr(ks.exact_shapley_values(model, x, [2, 0], **options))
    assert "2 targets of each," in repr(ks.exact_shapley_values(model, x, [[2, 0]], **options))
    assert "a weighted sum of the outputs," in repr(ks.fast_shapley_values(model, x, [1.0, 0, -1], **options))
    wide = np.arange(8).repeat(8).reshape(8, 8)
    many = ks.exact_shapley_values(lambda batch: batch, np.eye(8), np.arange(8), players=wide[0])
    assert "targets 0, 1, 2, 3, 4, ...," in repr(many)
