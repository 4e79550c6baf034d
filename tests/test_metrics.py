"""Measures of faithfulness: against what they are for functions that can be followed by hand, and other libraries."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from scipy import stats

import keras_shapley as ks
from keras_shapley import metrics

W = np.array([[4.0, 1.0], [3.0, 0.0], [-2.0, 0.0], [1.0, 5.0]])


def linear(x):
    return x.reshape(len(x), -1) @ W


X = np.ones((1, 4))
TRUTH = X * W[:, 0]


def test_taking_away_follows_the_order_of_the_attributions():
    """By hand: the output is 6 and falls by 4, 3, 1 and -2."""
    curve = metrics.perturbation_curve(linear, X, TRUTH, 0, steps=4)
    # of fewer than fifty elements, one at a time
    np.testing.assert_array_equal(metrics.perturbation_curve(linear, X, TRUTH, 0), curve)
    np.testing.assert_allclose(curve, [[6, 2, -1, -2, 0]])
    np.testing.assert_allclose(metrics.deletion(linear, X, TRUTH, 0, steps=4), [(6 / 2 + 2 - 1 - 2 + 0 / 2) / 4])
    up = metrics.perturbation_curve(linear, X, TRUTH, 0, steps=4, order="least_relevant")
    np.testing.assert_allclose(up, [[6, 8, 7, 4, 0]])
    np.testing.assert_allclose(metrics.perturbation_curve(linear, X, TRUTH, 0, steps=2), [[6, -1, 0]])


def test_the_area_is_over_the_part_of_the_elements():
    """Of steps that are not equal: of an additive function of equal elements it is half of the whole."""
    x = np.ones((2, 7))
    for steps in range(1, 8):
        found = metrics.deletion(lambda x: x.sum(axis=1, keepdims=True), x, x, 0, steps=steps)
        np.testing.assert_allclose(found, 3.5)


def test_putting_in_begins_at_the_baseline():
    curve = metrics.perturbation_curve(linear, X, TRUTH, 0, steps=4, insert=True)
    np.testing.assert_allclose(curve, [[0, 4, 7, 8, 6]])
    np.testing.assert_allclose(metrics.insertion(linear, X, TRUTH, 0, steps=4), [(0 / 2 + 4 + 7 + 8 + 6 / 2) / 4])
    curve = metrics.perturbation_curve(linear, X, TRUTH, 0, steps=4, insert=True, baseline=np.array([1.0, 0, 0, -1]))
    np.testing.assert_allclose(curve, [[3, 3, 6, 8, 6]])


def test_pixel_flipping_is_the_mean_drop_of_the_first_steps():
    np.testing.assert_allclose(metrics.pixel_flipping(linear, X, TRUTH, 0, steps=4), [np.mean([0, 4, 7, 8, 6])])
    np.testing.assert_allclose(metrics.pixel_flipping(linear, X, TRUTH, 0, steps=4, first=2), [np.mean([0, 4, 7])])


def test_the_channels_of_a_pixel_go_together():
    x, seen = np.ones((1, 2, 1, 2)), []

    def fn(inputs):
        seen.append(inputs.reshape(-1, 4))
        return linear(inputs)

    metrics.perturbation_curve(fn, x, np.array([[[1.0], [2.0]]]), 0, steps=2)
    np.testing.assert_array_equal(seen[-1], [[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]])


def test_each_image_has_its_own_target_and_batches_change_nothing(rng):
    x, attributions = rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    each = [metrics.deletion(linear, x, attributions, k, steps=4) for k in range(2)]
    found = metrics.deletion(linear, x, attributions, np.array([1, 0, 1]), steps=4, batch_size=2)
    np.testing.assert_allclose(found, [each[1][0], each[0][1], each[1][2]])
    largest = linear(x).argmax(axis=1)
    np.testing.assert_allclose(
        metrics.deletion(linear, x, attributions, steps=4), [each[k][i] for i, k in enumerate(largest)]
    )


def test_infidelity_is_zero_for_the_truth_of_an_additive_function(rng):
    x = rng.normal(size=(3, 4))
    truth = x * W[:, 0]
    np.testing.assert_allclose(metrics.infidelity(linear, x, truth, 0), 0, atol=1e-12)
    # what is said too much of one element is seen half of the time
    wrong = truth + np.array([1.0, 0, 0, 0])
    np.testing.assert_allclose(metrics.infidelity(linear, x, wrong, 0, n=20000), 0.5, atol=0.02)


def test_infidelity_by_a_loop(rng):
    def fn(x):
        return np.tanh(x @ W)

    x, attributions, baseline = rng.normal(size=(2, 4)), rng.normal(size=(2, 4)), np.array([0.5, 0, -1, 0])
    found = metrics.infidelity(fn, x, attributions, 1, baseline=baseline, n=30, seed=3)
    # not the stream of the same seed that attributions may come from
    draws = np.random.default_rng([3, 1])
    uniform, t = draws.uniform(size=(30, 4)), draws.uniform(size=30)
    for image, attribution, value in zip(x, attributions, found):
        errors = []
        for row, time in zip(uniform, t):
            gone = row < time
            drop = fn(image[None])[0, 1] - fn(np.where(gone, baseline, image)[None])[0, 1]
            errors.append((attribution[gone].sum() - drop) ** 2)
        np.testing.assert_allclose(value, np.mean(errors))


def test_sensitivity_of_a_map_whose_change_is_known(rng):
    """Attributions 3 x change by 3 times the change of x, whose norm is at most radius sqrt(n)."""
    x = rng.uniform(1, 2, size=(4, 6))
    found = metrics.sensitivity_max(lambda x: 3 * x, x, radius=0.1, n=200)
    bound = 0.1 * np.sqrt(6) / np.linalg.norm(x, axis=1)
    assert np.all(found <= bound) and np.all(found > 0.6 * bound)
    np.testing.assert_array_equal(metrics.sensitivity_max(np.ones_like, x), 0)
    assert np.isnan(metrics.sensitivity_max(np.zeros_like, x)).all()


def test_randomization_shuffles_from_the_top_and_gives_back(rng):
    model = keras.Sequential(
        [keras.Input((8,)), layers.Dense(6, "relu", name="low"), layers.Dense(5, name="middle"), layers.Dense(3)]
    )
    x, before, seen = rng.normal(size=(4, 8)), model.get_weights(), []

    def explain(x):
        seen.append(model.get_weights())
        return ks.fast_shapley_values(model, x, 0, method="masks", n=2).values

    found = metrics.randomization(model, explain, x, seed=1)
    assert [path.split("/")[-1] for path in found][1:] == ["middle", "low"] and len(found) == 3
    # kernels and biases take turns; 1, 2 and 3 layers of them differ from the model's, with the same values
    changed = [[not np.array_equal(a, b) for a, b in zip(weights, before)] for weights in seen]
    assert [row[::2] for row in changed] == [[False] * 3, [False, False, True], [False, True, True], [True] * 3]
    for a, b in zip(seen[-1], before):
        np.testing.assert_array_equal(np.sort(a.ravel()), np.sort(b.ravel()))
    for a, b in zip(model.get_weights(), before):
        np.testing.assert_array_equal(a, b)
    assert all(of_layer.shape == (4,) for of_layer in found.values())
    np.testing.assert_allclose(metrics.randomization(model, lambda x: x, x)[list(found)[0]], 1)


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


def test_weights_come_back_after_an_error(rng):
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


def test_conservation_is_what_is_left_out():
    attributions = np.array([[1.0, 2.0], [1.0, 2.0], [0.0, 0.0]])
    np.testing.assert_allclose(metrics.conservation(attributions, [3.0, 6.0, -2.0]), [0, 0.5, -1])
    assert np.isnan(metrics.conservation(attributions[:1], [0.0])).all()


def test_correlations_are_those_of_scipy(rng):
    a, b = rng.normal(size=(3, 4, 5)), rng.integers(0, 4, size=(3, 4, 5))
    for image, (one, other) in enumerate(zip(a, b)):
        expected = stats.pearsonr(one.ravel(), other.ravel()).statistic
        np.testing.assert_allclose(metrics.correlation(a, b)[image], expected)
        np.testing.assert_allclose(
            metrics.rank_correlation(a, b)[image], stats.spearmanr(one.ravel(), other.ravel()).statistic
        )
    assert np.isnan(metrics.correlation(a, np.full_like(a, 0.1))).all()
    assert np.isnan(metrics.correlation(np.full_like(a, 0.3), np.full_like(a, 0.1))).all()


def test_the_error_is_relative_to_the_truth(rng):
    truth = rng.normal(size=(3, 7))
    np.testing.assert_allclose(metrics.relative_rmse(1.1 * truth, truth), 0.1)
    np.testing.assert_allclose(metrics.relative_rmse(ops.convert_to_tensor(truth), truth), 0, atol=1e-6)


def test_of_a_model_shapley_values_score_better_than_noise(rng):
    model = keras.Sequential([keras.Input((10,)), layers.Dense(20, "relu"), layers.Dense(2)])
    x = rng.normal(size=(6, 10))
    values = ks.exact_shapley_values(model, x).values[:, :, 0]
    noise = rng.normal(size=values.shape)
    assert metrics.infidelity(model, x, values, 0).mean() < 0.5 * metrics.infidelity(model, x, noise, 0).mean()
    assert (
        metrics.deletion(model, x, values, 0, steps=10).mean() < metrics.deletion(model, x, noise, 0, steps=10).mean()
    )
    assert (
        metrics.insertion(model, x, values, 0, steps=10).mean() > metrics.insertion(model, x, noise, 0, steps=10).mean()
    )


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: metrics.deletion(linear, X, TRUTH, 0, steps=5), "`steps` must be at most 4.*steps=5"),
        (lambda: metrics.deletion(linear, X.astype(int), TRUTH, 0, baseline=0.5), "`baseline` must have values that"),
        (lambda: metrics.sensitivity_max(lambda x: x, np.ones((1, 4), int)), "`x` must be floats.*int64"),
        (lambda: metrics.deletion(linear, X, TRUTH, 0, steps=4, order="best"), "`order` must be one of"),
        (lambda: metrics.deletion(linear, X, TRUTH, 2, steps=4), r"`target` must be in \[0, 2\)"),
        (lambda: metrics.deletion(linear, X, TRUTH[:, :3], 0), r"`attributions` must be of the shape of `x`, \(1, 4\)"),
        (lambda: metrics.deletion(linear, X, TRUTH * np.nan, 0), "Attributions must be finite.*4 not finite"),
        (lambda: metrics.deletion(linear, X, TRUTH, 0, baseline=np.ones(3), steps=4), "`baseline` must be a finite"),
        (lambda: metrics.deletion(lambda x: x[:1, None], np.ones((2, 4)), np.ones((2, 4)), steps=4), "`fn` must give"),
        (lambda: metrics.pixel_flipping(linear, X, TRUTH, 0, steps=4, first=5), "`first` must be at most 4"),
        (lambda: metrics.infidelity(linear, X, TRUTH, 0, n=0), "`n` must be an int, 1 or more"),
        (lambda: metrics.sensitivity_max(lambda x: x, X, radius=0), "`radius` must be a positive number"),
        (lambda: metrics.sensitivity_max(lambda x: x, X, radius="a"), "`radius` must be a positive number"),
        (lambda: metrics.sensitivity_max(lambda x: x[:1], np.ones((2, 4))), "each of the 2 inputs. Received: 1"),
        (lambda: metrics.deletion(linear, X * np.nan, TRUTH, 0), "`x` must be finite"),
        (lambda: metrics.deletion(keras.Sequential([layers.Dense(2)]), X, TRUTH), "is not built"),
        (lambda: metrics.conservation(X, [1.0, 2.0]), r"`total` must be of shape \(1,\)"),
        (lambda: metrics.correlation(X, np.ones((1, 3))), r"one shape. Received: \(1, 4\) and \(1, 3\)"),
        (lambda: metrics.sensitivity_max(lambda x: x, np.ones(3)), "`x` must be a batch"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
