"""Metrics that change the input a little, or the model's weights."""

import keras
import numpy as np
import pytest
import scipy.stats
from keras import layers
from reference.marks import MASKS_OF_FEW_PLAYERS, MAY_MISS_THE_TOTAL

import keras_shapley as ks
from keras_shapley import metrics
from keras_shapley.utils.quiet import warn


def test_sensitivity_of_a_map_whose_change_is_known(rng):
    """Attributions `3 x` change by 3 times the change of x, whose norm is at most radius sqrt(n)."""
    x = rng.uniform(1, 2, size=(4, 6))
    sensitivity = metrics.sensitivity_max(lambda x: 3 * x, x, radius=0.1, n=200)
    bound = 0.1 * np.sqrt(6) / np.linalg.norm(x, axis=1)
    assert np.all(sensitivity <= bound)
    assert np.all(sensitivity > 0.6 * bound)
    np.testing.assert_array_equal(metrics.sensitivity_max(np.ones_like, x), 0)
    assert np.isnan(metrics.sensitivity_max(np.zeros_like, x)).all()


@MASKS_OF_FEW_PLAYERS
@MAY_MISS_THE_TOTAL
def test_randomization_shuffles_from_the_output_down_and_restores_the_weights(rng):
    model = keras.Sequential(
        [keras.Input((8,)), layers.Dense(6, "relu", name="low"), layers.Dense(5, name="middle"), layers.Dense(3)]
    )
    x, before, seen = rng.normal(size=(4, 8)), model.get_weights(), []

    def explain(x):
        seen.append(model.get_weights())
        return ks.fast_shapley_values(model, x, 0, method="masks", n=2).values

    correlations = metrics.randomization(model, explain, x, seed=1)
    assert [path.split("/")[-1] for path in correlations][1:] == ["middle", "low"]
    assert len(correlations) == 3
    # kernels and biases take turns; 1, 2 and 3 layers of them differ from the model's, with the same values
    changed = [[not np.array_equal(a, b) for a, b in zip(weights, before)] for weights in seen]
    assert [row[::2] for row in changed] == [[False] * 3, [False, False, True], [False, True, True], [True] * 3]
    for a, b in zip(seen[-1], before):
        np.testing.assert_array_equal(np.sort(a.ravel()), np.sort(b.ravel()))
    for a, b in zip(model.get_weights(), before):
        np.testing.assert_array_equal(a, b)
    assert all(values.shape == (4,) for values in correlations.values())
    np.testing.assert_allclose(metrics.randomization(model, lambda x: x, x)[list(correlations)[0]], 1)


def test_randomization_is_the_rank_correlation_with_the_attributions_before(rng):
    model = keras.Sequential([keras.Input((8,)), layers.Dense(6, "relu", name="low"), layers.Dense(3, name="high")])
    x, seen = rng.normal(size=(4, 8)), []

    def explain(x):
        low, high = model.layers[0].get_weights()[0], model.layers[1].get_weights()[0]
        seen.append(x * (low @ high[:, 0]))
        return seen[-1]

    correlations = metrics.randomization(model, explain, x, seed=1)
    for found, values in zip(correlations.values(), seen[1:], strict=True):
        expected = [scipy.stats.spearmanr(*pair).statistic for pair in zip(values, seen[0])]
        np.testing.assert_allclose(found, expected, atol=1e-6)
        assert np.abs(found).max() < 1
    other = metrics.randomization(model, explain, x, seed=2)
    assert any(np.abs(other[path] - correlations[path]).max() > 0.01 for path in other)


def test_warnings_of_shuffled_networks_are_not_shown(rng):
    """Whatever they say of their values; those of the network itself are."""
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])

    def explain(x):
        # as the package says it of its own values; a filter for all warnings would be one for all threads
        warn(f"by {model.get_weights()[0][0, 0]}", stacklevel=2)
        return x

    with pytest.warns(RuntimeWarning) as record:
        metrics.randomization(model, explain, rng.normal(size=(2, 3)))
    shown = [str(warning.message) for warning in record if warning.category is RuntimeWarning]
    assert shown == [f"by {model.get_weights()[0][0, 0]}"]


def test_layers_of_one_name_in_two_models_are_shuffled_one_by_one(rng):
    inner = []
    for name, n in (("low", 4), ("high", 3)):
        inner.append(keras.Sequential([keras.Input((n,)), layers.Dense(3, name="d")], name=name))
    image = keras.Input((4,))
    model = keras.Model(image, inner[1](inner[0](image)))
    before, seen = model.get_weights(), []

    def explain(x):
        seen.append(model.get_weights())
        return x

    assert len(metrics.randomization(model, explain, rng.normal(size=(2, 4)))) == 2
    changed = [[not np.array_equal(a, b) for a, b in zip(weights, before)][::2] for weights in seen]
    assert changed == [[False, False], [False, True], [True, True]]


def test_weights_are_restored_after_an_error(rng):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(3)])
    before, calls = model.get_weights()[0], []

    def explain(x):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("no")
        return x

    with pytest.raises(RuntimeError, match="no"):
        metrics.randomization(model, explain, rng.normal(size=(2, 3)))
    np.testing.assert_array_equal(model.get_weights()[0], before)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"x": np.ones((1, 4), int)}, "`x` must be floats.*int64"),
        ({"radius": 0}, "`radius` must be a positive number"),
        ({"radius": "a"}, "`radius` must be a positive number"),
        ({"explain": lambda x: x[:1], "x": np.ones((2, 4))}, "each of the 2 inputs. Received: 1"),
        ({"x": np.ones(3)}, "`x` must be a batch"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        metrics.sensitivity_max(**{"explain": lambda x: x, "x": np.ones((1, 4)), **arguments})
