"""Metrics that remove or insert elements: against functions that can be followed by hand."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_shapley as ks
from keras_shapley import metrics

W = np.array([[4.0, 1.0], [3.0, 0.0], [-2.0, 0.0], [1.0, 5.0]])
X = np.ones((1, 4))
TRUTH = X * W[:, 0]


def linear(x):
    return x.reshape(len(x), -1) @ W


def test_elements_are_removed_in_the_order_of_their_attributions():
    """By hand: the output is 6 and falls by 4, 3, 1 and -2."""
    curve = metrics.perturbation_curve(linear, X, TRUTH, 0, steps=4)
    # by default, fewer than fifty elements come one at a time
    np.testing.assert_array_equal(metrics.perturbation_curve(linear, X, TRUTH, 0), curve)
    np.testing.assert_allclose(curve, [[6, 2, -1, -2, 0]])
    np.testing.assert_allclose(metrics.deletion(linear, X, TRUTH, 0, steps=4), [(6 / 2 + 2 - 1 - 2 + 0 / 2) / 4])
    up = metrics.perturbation_curve(linear, X, TRUTH, 0, steps=4, order="least_relevant")
    np.testing.assert_allclose(up, [[6, 8, 7, 4, 0]])
    np.testing.assert_allclose(metrics.perturbation_curve(linear, X, TRUTH, 0, steps=2), [[6, -1, 0]])


def test_the_area_is_over_the_part_of_the_elements():
    """Steps need not be equal: for the sum of equal elements the area is half of the whole."""
    x = np.ones((2, 7))
    for steps in range(1, 8):
        area = metrics.deletion(lambda x: x.sum(axis=1, keepdims=True), x, x, 0, steps=steps)
        np.testing.assert_allclose(area, 3.5)


def test_inserting_begins_at_the_baseline():
    curve = metrics.perturbation_curve(linear, X, TRUTH, 0, steps=4, insert=True)
    np.testing.assert_allclose(curve, [[0, 4, 7, 8, 6]])
    np.testing.assert_allclose(metrics.insertion(linear, X, TRUTH, 0, steps=4), [(0 / 2 + 4 + 7 + 8 + 6 / 2) / 4])
    curve = metrics.perturbation_curve(linear, X, TRUTH, 0, steps=4, insert=True, baseline=np.array([1.0, 0, 0, -1]))
    np.testing.assert_allclose(curve, [[3, 3, 6, 8, 6]])


def test_pixel_flipping_is_the_mean_drop_of_the_first_steps():
    np.testing.assert_allclose(metrics.pixel_flipping(linear, X, TRUTH, 0, steps=4), [np.mean([0, 4, 7, 8, 6])])
    np.testing.assert_allclose(metrics.pixel_flipping(linear, X, TRUTH, 0, steps=4, first=2), [np.mean([0, 4, 7])])


def test_the_channels_of_a_pixel_go_together():
    x = np.ones((1, 2, 1, 2))
    seen = []

    def fn(inputs):
        seen.append(inputs.reshape(-1, 4))
        return linear(inputs)

    metrics.perturbation_curve(fn, x, np.array([[[1.0], [2.0]]]), 0, steps=2)
    np.testing.assert_array_equal(seen[-1], [[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]])


def test_each_image_has_its_own_target_and_batches_change_nothing(rng):
    x, attributions = rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    by_target = [metrics.deletion(linear, x, attributions, k, steps=4) for k in range(2)]
    areas = metrics.deletion(linear, x, attributions, np.array([1, 0, 1]), steps=4, batch_size=2)
    np.testing.assert_allclose(areas, [by_target[1][0], by_target[0][1], by_target[1][2]])
    largest = linear(x).argmax(axis=1)
    np.testing.assert_allclose(
        metrics.deletion(linear, x, attributions, steps=4), [by_target[k][i] for i, k in enumerate(largest)]
    )


def test_infidelity_is_zero_for_the_truth_of_an_additive_function(rng):
    x = rng.normal(size=(3, 4))
    truth = x * W[:, 0]
    np.testing.assert_allclose(metrics.infidelity(linear, x, truth, 0), 0, atol=1e-12)
    # an element whose attribution is 1 too large is removed half of the time
    wrong = truth + np.array([1.0, 0, 0, 0])
    np.testing.assert_allclose(metrics.infidelity(linear, x, wrong, 0, n=20000), 0.5, atol=0.02)


def test_infidelity_by_a_loop(rng):
    def fn(x):
        return np.tanh(x @ W)

    x, attributions, baseline = rng.normal(size=(2, 4)), rng.normal(size=(2, 4)), np.array([0.5, 0, -1, 0])
    infidelities = metrics.infidelity(fn, x, attributions, 1, baseline=baseline, n=30, seed=3)
    # not the stream of the same seed that attributions may come from
    draws = np.random.default_rng([3, 1])
    uniform, t = draws.uniform(size=(30, 4)), draws.uniform(size=30)
    for image, attribution, value in zip(x, attributions, infidelities):
        errors = []
        for row, time in zip(uniform, t):
            removed = row < time
            drop = fn(image[None])[0, 1] - fn(np.where(removed, baseline, image)[None])[0, 1]
            errors.append((attribution[removed].sum() - drop) ** 2)
        np.testing.assert_allclose(value, np.mean(errors))


def test_shapley_values_of_a_model_score_better_than_noise(rng):
    model = keras.Sequential([keras.Input((10,)), layers.Dense(20, "relu"), layers.Dense(2)])
    x = rng.normal(size=(6, 10))
    values = ks.exact_shapley_values(model, x).values[:, :, 0]
    noise = rng.normal(size=values.shape)

    def mean(metric, attributions, **options):
        return metric(model, x, attributions, 0, **options).mean()

    assert mean(metrics.infidelity, values) < 0.5 * mean(metrics.infidelity, noise)
    assert mean(metrics.deletion, values, steps=10) < mean(metrics.deletion, noise, steps=10)
    assert mean(metrics.insertion, values, steps=10) > mean(metrics.insertion, noise, steps=10)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: metrics.deletion(linear, X, TRUTH, 0, steps=5), "`steps` must be at most 4.*steps=5"),
        (lambda: metrics.deletion(linear, X.astype(int), TRUTH, 0, baseline=0.5), "`baseline` must have values that"),
        (lambda: metrics.deletion(linear, X, TRUTH, 0, steps=4, order="best"), "`order` must be one of"),
        (lambda: metrics.deletion(linear, X, TRUTH, 2, steps=4), r"`target` must be in \[0, 2\)"),
        (lambda: metrics.deletion(linear, X, TRUTH[:, :3], 0), r"`attributions` must be of the shape of `x`, \(1, 4\)"),
        (lambda: metrics.deletion(linear, X, TRUTH * np.nan, 0), "Attributions must be finite.*4 not finite"),
        (lambda: metrics.deletion(linear, X, TRUTH, 0, baseline=np.ones(3), steps=4), "`baseline` must be a finite"),
        (lambda: metrics.deletion(lambda x: x[:1, None], np.ones((2, 4)), np.ones((2, 4)), steps=4), "`fn` must give"),
        (lambda: metrics.pixel_flipping(linear, X, TRUTH, 0, steps=4, first=5), "`first` must be at most 4"),
        (lambda: metrics.infidelity(linear, X, TRUTH, 0, n=0), "`n` must be an int, 1 or more"),
        (lambda: metrics.deletion(linear, X * np.nan, TRUTH, 0), "`x` must be finite"),
        (lambda: metrics.deletion(keras.Sequential([layers.Dense(2)]), X, TRUTH), "is not built"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_attributions_without_channels_are_of_pixels_wherever_channels_are(rng):
    """One number a pixel, three channels of one size: the axis cannot be told by its length."""
    x = rng.normal(size=(2, 3, 3, 3))
    scores = rng.normal(size=(2, 3, 3))

    def fn(inputs):
        return np.tanh(inputs).reshape(len(inputs), -1)[:, :4]

    last = metrics.deletion(lambda inputs: fn(np.moveaxis(inputs, -1, 1)), np.moveaxis(x, 1, -1), scores, 0, steps=9)
    uneven = rng.normal(size=(2, 3, 4, 5))
    keras.config.set_image_data_format("channels_first")
    try:
        np.testing.assert_allclose(metrics.deletion(fn, x, scores, 0, steps=9), last)
        assert np.isfinite(metrics.infidelity(fn, uneven, uneven.sum(axis=1), 0, n=4)).all()
        with pytest.raises(ValueError, match=r"must be of the shape of `x`, \(2, 3, 4, 5\), or of it without"):
            metrics.deletion(fn, uneven, uneven.sum(axis=3), 0)
    finally:
        keras.config.set_image_data_format("channels_last")


def test_a_baseline_that_is_no_number_is_named():
    with pytest.raises(ValueError, match="`baseline` must be numbers. Received: baseline='mean'"):
        metrics.deletion(linear, X, TRUTH, 0, baseline="mean")
