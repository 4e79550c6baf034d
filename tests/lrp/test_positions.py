"""Outputs of several axes: segmentation maps and sequences, each position against a game of its own."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers, ops
from reference.calls import BIAS, total
from reference.permutations import by_permutations

import keras_shapley as ks


def softmax(logits):
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits))


PROBABILITIES = {"softmax": softmax, "sigmoid": sigmoid}


def segmentation(activation=None, classes=3, channels=4, size=5, **options):
    """A convolution with ReLU, and a 1x1 convolution to classes at each pixel."""
    return keras.Sequential(
        [
            keras.Input((size, size, 2)),
            layers.Conv2D(channels, 3, padding="same", activation="relu", bias_initializer=BIAS, name="features"),
            layers.Conv2D(classes, 1, activation=activation, bias_initializer=BIAS, name="classes", **options),
        ]
    )


def features_of(model, x):
    features = keras.Model(model.inputs[0], model.get_layer("features").output)
    return ops.convert_to_numpy(features(x)).astype("float64")


def region(size, classes, k):
    """Weights of a region of one class's map."""
    weights = np.zeros((size, size, classes), bool)
    weights[1:3, 2:5, k] = True
    return weights


@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
@pytest.mark.parametrize("where", [(0, 0, 0), (2, 3, 1)])
def test_one_pixel_of_one_class_has_the_shapley_values_of_its_features(link, where, rng):
    model = segmentation(link)
    x = rng.normal(size=(2, 5, 5, 2)).astype("float32")
    index = int(np.ravel_multi_index(where, (5, 5, 3)))
    explanation = ks.LRP(model, rules="paper").explain(x, index)
    kernel, bias = (w.astype("float64").reshape(-1, 3) for w in model.get_weights()[2:])
    features = features_of(model, x)
    i, j, k = where
    for image in range(2):

        def value(present):
            return PROBABILITIES[link](present * features[image, i, j] @ kernel + bias[0])[k]

        expected = np.zeros((5, 5, 4))
        expected[i, j] = by_permutations(value, 4)
        np.testing.assert_allclose(explanation.head[image], expected, atol=1e-6)
        np.testing.assert_allclose(explanation.head_baseline[image], value(np.zeros(4)), atol=1e-6)
        np.testing.assert_allclose(explanation.head_total[image], value(np.ones(4)) - value(np.zeros(4)), atol=1e-6)
    np.testing.assert_array_equal(explanation.target, [index, index])
    np.testing.assert_allclose(
        explanation.head_total + explanation.head_baseline, explanation.probability[(slice(None), *where)], atol=1e-6
    )
    np.testing.assert_allclose(total(explanation.input), explanation.head_total, atol=1e-3)


@pytest.mark.parametrize("activation", [None, "softmax", "sigmoid"])
def test_a_region_of_a_map_is_the_sum_of_its_pixels(activation, rng):
    """`target=mask`: the head of the region is the sum of the pixels' heads, and so are totals and baselines."""
    model = segmentation(activation)
    x = rng.normal(size=(2, 5, 5, 2)).astype("float32")
    mask = region(5, 3, 1)
    explainer = ks.LRP(model, rules="paper")
    explanation = explainer.explain(x, mask)
    pixels = [explainer.explain(x, int(index)) for index in np.flatnonzero(mask)]
    for name in ("head", "head_total", "head_baseline"):
        expected = sum(getattr(pixel, name) for pixel in pixels)
        np.testing.assert_allclose(getattr(explanation, name), expected, atol=1e-5, err_msg=name)
    expected = (model.predict(x, verbose=0) * mask).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(explanation.head_total + explanation.head_baseline, expected, rtol=1e-4, atol=1e-5)
    scale = sum(np.abs(pixel.input).max() for pixel in pixels)
    np.testing.assert_allclose(explanation.input, sum(pixel.input for pixel in pixels), atol=1e-4 * scale)
    np.testing.assert_allclose(total(explanation.input), explanation.head_total, rtol=1e-3, atol=1e-3)
    # no relevance at pixels that the region cannot see
    assert not explanation.input[:, 4].any() and explanation.input[:, 1].any()


@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
def test_a_region_has_the_exact_shapley_values_of_the_whole_map(link, rng):
    """Two pixels of two features: enumeration of all coalitions of the map's four features, by `ks`."""
    model = keras.Sequential([keras.Input((1, 2, 2)), layers.Conv2D(3, 1, activation=link, bias_initializer=BIAS)])
    x = rng.normal(size=(2, 1, 2, 2)).astype("float32")
    weights = rng.normal(size=(1, 2, 3))
    explanation = ks.LRP(model, rules="paper").explain(x, weights)

    exact = ks.exact_shapley_values(model, x, weights)
    np.testing.assert_allclose(explanation.head.reshape(2, 4), exact.values, atol=1e-5)
    np.testing.assert_allclose(explanation.head_baseline, np.broadcast_to(exact.baseline_value, 2), atol=1e-5)
    np.testing.assert_array_equal(explanation.head, explanation.input)


@pytest.mark.parametrize("method", ["exact", "sampled", "quadrature"])
def test_blocks_of_positions_give_the_same_as_all_at_once(method, rng, monkeypatch):
    model = segmentation("softmax")
    x = rng.normal(size=(2, 5, 5, 2)).astype("float32")
    weights = rng.normal(size=(5, 5, 3))
    options = dict(head_method=method, n_paths=10)
    whole = ks.LRP(model, **{"rules": "paper", **options}).explain(x, weights)
    # seven games at a time, of fifty
    monkeypatch.setattr("keras_shapley.lrp.probability_head._MAX_ELEMENTS", 7 * 256 * 3)
    parts = ks.LRP(model, **{"rules": "paper", **options}).explain(x, weights)
    for name in ("head", "head_stderr", "head_total", "head_baseline", "head_paths"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), atol=2e-6, err_msg=name)


def test_maps_of_many_features_are_explained_by_quadrature(rng):
    """Twenty features at each of nine pixels: near the values by random paths, and the gap says what is missing."""
    model = segmentation("softmax", channels=20, size=3)
    x = rng.normal(size=(2, 3, 3, 2)).astype("float32")
    weights = np.zeros((3, 3, 3))
    weights[:2, :2, 1] = 1
    explanation = ks.LRP(model, rules="paper").explain(x, weights)
    sampled = ks.LRP(model, rules="paper", head_method="sampled").explain(x, weights)
    assert np.isnan(explanation.head_stderr).all() and explanation.head_paths == 0 and sampled.head_paths == 1000
    np.testing.assert_allclose(explanation.head_total, sampled.head_total, atol=1e-6)
    assert np.linalg.norm(explanation.head - sampled.head) < 0.1 * np.linalg.norm(sampled.head)
    missed = explanation.head_total - total(explanation.head)
    np.testing.assert_allclose(explanation.conservation_gap.signed["classes"], missed, atol=1e-5)
    one_pixel = ks.LRP(model, rules="paper").explain(x, 4)
    assert np.isnan(one_pixel.head_stderr[:, 0, 1]).all() and not one_pixel.head_stderr[:, 2].any()


def test_a_sequence_of_probabilities(rng):
    """A Dense with softmax on each step of a sequence, and the sum over time of one class."""
    model = keras.Sequential(
        [
            keras.Input((4, 3)),
            layers.Dense(5, "relu", bias_initializer=BIAS),
            layers.Dense(2, "softmax", bias_initializer=BIAS),
        ]
    )
    x = rng.normal(size=(3, 4, 3)).astype("float32")
    over_time = np.tile([0.0, 1.0], (4, 1))
    explanation = ks.LRP(model, rules="paper").explain(x, over_time)
    assert explanation.head.shape == (3, 4, 5)
    np.testing.assert_allclose(
        explanation.head_total + explanation.head_baseline, explanation.output[:, :, 1].sum(axis=1), rtol=1e-5
    )
    step = ks.LRP(model, rules="paper").explain(x, [5, 0, 7])
    assert [np.flatnonzero(np.abs(head).sum(axis=1)).tolist() for head in step.head] == [[2], [0], [3]]
    np.testing.assert_array_equal(
        ks.LRP(model, rules="paper").explain(x).target, explanation.output.reshape(3, -1).argmax(axis=1)
    )


@pytest.mark.parametrize(
    "end, axis",
    [
        ([layers.Conv2D(3, 3, padding="same", bias_initializer=BIAS), layers.Softmax()], -1),
        ([layers.Conv2D(3, 1, bias_initializer=BIAS), layers.Permute((3, 1, 2)), layers.Softmax(axis=1)], 1),
        ([layers.Conv2D(3, 1, bias_initializer=BIAS), layers.Softmax(axis=2)], 2),
    ],
    ids=["3x3", "channels first", "rows"],
)
def test_where_features_do_not_feed_one_softmax_each_position_shares_among_its_logits(end, axis, rng):
    model = keras.Sequential([keras.Input((4, 3, 2)), *end])
    x = rng.normal(size=(2, 4, 3, 2)).astype("float32")
    weights = rng.normal(size=model.outputs[0].shape[1:])
    explanation = ks.LRP(model, rules="paper").explain(x, weights)
    logits = keras.Model(model.inputs[0], model.layers[-2].output)
    logits = np.moveaxis(ops.convert_to_numpy(logits(x)).astype("float64"), axis, -1)
    assert explanation.head.shape == (2, *model.outputs[0].shape[1:])
    heads, by_position = (np.moveaxis(part, axis, -1) for part in (explanation.head, np.stack([weights, weights])))
    for place in itertools.product(*map(range, logits.shape[:-1])):
        expected = by_permutations(
            lambda present: by_position[place] @ softmax(present * logits[place]), logits.shape[-1]
        )
        np.testing.assert_allclose(heads[place], expected, atol=1e-6)
    single = ks.LRP(model, rules="paper").explain(x, 7)
    expected = np.eye(np.prod(weights.shape))[7].reshape(weights.shape)
    np.testing.assert_allclose(single.head, ks.LRP(model, rules="paper").explain(x, expected).head, atol=1e-6)


def test_sigmoids_of_other_logits_share_nothing(rng):
    """A sigmoid depends on one logit, whose Shapley value is what it adds to 1/2."""
    model = keras.Sequential([keras.Input((4, 4, 2)), layers.Conv2D(2, 3, activation="sigmoid", bias_initializer=BIAS)])
    x = rng.normal(size=(2, 4, 4, 2)).astype("float32")
    weights = rng.normal(size=(2, 2, 2))
    explanation = ks.LRP(model, rules="paper").explain(x, weights)
    np.testing.assert_allclose(explanation.head, weights * (explanation.output - 0.5), atol=1e-6)
    np.testing.assert_allclose(explanation.head_baseline, weights.sum() / 2, rtol=1e-5)
    index = ks.LRP(model, rules="paper").explain(x, 5)
    np.testing.assert_allclose(index.head_total, explanation.output[:, 1, 0, 1] - 0.5, atol=1e-6)
    assert np.count_nonzero(index.head) == 2


def test_maps_of_any_size(rng):
    """The model leaves height and width open, and targets are numbered for the size that is explained."""
    x = keras.Input((None, None, 2), name="x")
    y = layers.Conv2D(3, 1, activation="softmax", bias_initializer=BIAS)(layers.Conv2D(4, 3, activation="relu")(x))
    model = keras.Model({"x": x}, {"map": y, "another": layers.Conv2D(1, 1)(x)})
    explainer = ks.LRP(model, rules="paper", output="map")
    assert explainer.output.shape == (None, None, 3)
    for size in (4, 5):
        data = {"x": rng.normal(size=(2, size, size, 2)).astype("float32")}
        n = (size - 2) ** 2 * 3
        explanation = explainer.explain(data, n - 1)
        np.testing.assert_allclose(
            explanation.head_total + explanation.head_baseline, explanation.output[:, -1, -1, -1], atol=1e-6
        )
        with pytest.raises(ValueError, match=rf"`target` must be in \[0, {n}\)"):
            explainer(data, n)


def test_softmax_of_logits_at_each_pixel_if_asked(rng):
    """`head="softmax"` of a map of logits is the softmax of its last axis."""
    asked, model = segmentation(), segmentation("softmax")
    asked.set_weights(model.get_weights())
    x = rng.normal(size=(2, 5, 5, 2)).astype("float32")
    mask = region(5, 3, 2)
    explanation, expected = (
        ks.LRP(asked, rules="paper", head="softmax").explain(x, mask),
        ks.LRP(model, rules="paper").explain(x, mask),
    )
    for name in ("probability", "head", "head_total", "input"):
        np.testing.assert_allclose(getattr(explanation, name), getattr(expected, name), atol=1e-5, err_msg=name)
    assert not np.allclose(explanation.output, expected.output)


@pytest.mark.parametrize("activation", ["relu", ks.SADense])
def test_other_heads_of_maps_start_with_weights_too(activation, rng):
    last = activation(3) if isinstance(activation, type) else layers.Dense(3, activation, bias_initializer=BIAS)
    model = keras.Sequential([keras.Input((4, 2)), layers.Dense(5, "relu", bias_initializer=BIAS), last])
    x = rng.normal(size=(2, 4, 2)).astype("float32")
    weights = rng.normal(size=(4, 3))
    explainer = ks.LRP(model, rules="paper")
    explanation = explainer.explain(x, weights)
    alone = [explainer.explain(x, k) for k in range(12)]
    expected = sum(w * part.head for w, part in zip(weights.ravel(), alone))
    np.testing.assert_allclose(explanation.head, expected, atol=1e-6)
    np.testing.assert_allclose(total(explanation.input), explanation.head_total, atol=1e-3)
