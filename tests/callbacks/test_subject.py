"""Titles and headlines say what the maps show: the model's own percentages, and no class where there is none."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_shapley as ks

pytestmark = pytest.mark.once

WEIGHTED = "a weighted sum of outputs"
LIKELY = np.array([0.1, 0.7, 0.15, 0.05])


def pixels_model(units, end=None):
    """A model of 2x2 images: the first `units` pixels go through `end`, an activation, layer or function."""
    image = keras.Input((2, 2))
    logits = layers.Dense(units, use_bias=False, name="logits")
    y = logits(layers.Flatten()(image))
    logits.set_weights([np.eye(4)[:, :units]])
    end = layers.Activation(end) if isinstance(end, str) else end
    return keras.Model(image, y if end is None else end(y))


def image_of(*pixels):
    """One 2x2 image with these first pixels."""
    return np.float32([*pixels, *[0.1] * (4 - len(pixels))]).reshape(1, 2, 2)


def logit(p):
    return np.log(p / (1 - p))


@pytest.mark.parametrize("end", ["sigmoid", ops.sigmoid], ids=["layer", "ops"])
@pytest.mark.parametrize(
    "p, y, title",
    [
        (0.46, 1, "class 1 (46 %)\npredicted: class 0 (54 %)"),
        (0.46, 0, "class 1 (46 %)\npredicted and true: class 0 (54 %)"),
        (0.46, None, "class 1 (46 %)\npredicted: class 0 (54 %)"),
        (0.9, 1, "class 1 (90 %)"),
        (0.9, 0, "class 1 (90 %)\ntrue: class 0 (10 %)"),
        (0.9, None, "class 1 (90 %)"),
    ],
)
def test_a_single_sigmoid_is_titled_by_class_1_whatever_the_label(p, y, title, end, show):
    shown = show(pixels_model(1, end), image_of(logit(p)), None if y is None else [y])
    assert shown.titles == [title]
    assert shown.headline == "Relevance of class 1, rules auto, epoch 1"


@pytest.mark.parametrize("target", [None, "true", "predicted", 0, 1])
def test_a_single_sigmoid_is_never_negated(target, show):
    """Each target explains the unit: the pixel that raises the probability is positive for both labels."""
    model = pixels_model(1, "sigmoid")
    x = np.concatenate([image_of(2.0), image_of(1.0)])
    shown = show(model, x, [0, 1], target=target, class_names=["well", "ill"])
    np.testing.assert_allclose(shown.arrays["relevance"], ks.LRP(model).explain(x).input, atol=1e-6)
    assert (shown.arrays["relevance"][:, 0, 0] > 0).all()
    assert shown.arrays["target"].tolist() == [0, 0]
    assert shown.arrays["y"].tolist() == [0, 1]
    assert shown.titles == ["ill (88 %)\ntrue: well (12 %)", "ill (73 %)"]
    assert shown.headline == "Relevance of ill, rules auto, epoch 1"


def average_of_two(z):
    return layers.Average()([layers.Softmax()(z), layers.Softmax()(2 * z)])


def half_the_sum(z):
    return (ops.softmax(z) + ops.softmax(2 * z)) / 2


def softmax(z):
    return np.exp(z) / np.exp(z).sum()


@pytest.mark.parametrize(
    "end, probability",
    [
        (layers.Softmax(), LIKELY),
        (keras.activations.softmax, LIKELY),
        (ops.softmax, LIKELY),
        (average_of_two, (LIKELY + softmax(2 * np.log(LIKELY))) / 2),
        (half_the_sum, (LIKELY + softmax(2 * np.log(LIKELY))) / 2),
        (ops.sigmoid, LIKELY / (1 + LIKELY)),
    ],
    ids=["layer", "activations", "ops", "average", "half the sum", "several sigmoids"],
)
def test_percentages_are_the_models_own(end, probability, show):
    """No softmax of the softmax, however the model's is written."""
    shown = show(pixels_model(4, end), image_of(*np.log(LIKELY)), [2])
    true, best = (f"{100 * probability[k]:.0f} %" for k in (2, 1))
    assert shown.titles == [f"class 2 ({true})\npredicted: class 1 ({best})"]
    assert shown.headline == "Relevance of the true class, rules auto, epoch 1"
    np.testing.assert_allclose(shown.arrays["probability"], probability[None], atol=1e-6)


@pytest.mark.parametrize(
    "options, title, headline",
    [
        ({"y": [1]}, "cat (70 %)", "the true class"),
        ({"y": [1], "target": 0}, "ant (10 %)\npredicted and true: cat (70 %)", "ant"),
        ({"y": [2], "target": 0}, "ant (10 %)\npredicted: cat (70 %)\ntrue: dog (15 %)", "ant"),
        ({"y": [2], "target": "predicted"}, "cat (70 %)\ntrue: dog (15 %)", "the predicted class"),
        ({"y": [[0.1, 0.8, 0.1, 0]]}, "cat (70 %)\ntrue: 0.8", "the predicted class"),
        ({}, "cat (70 %)", "the predicted class"),
        ({"target": 3}, "owl (5 %)\npredicted: cat (70 %)", "owl"),
        (
            {"target": [1.0, -1, 0, 0], "y": [2]},
            "weighted sum: -0.6\npredicted: cat (70 %)\ntrue: dog (15 %)",
            WEIGHTED,
        ),
        ({"target": np.array([0, 1, 1, 0], bool)}, "weighted sum: 0.85\npredicted: cat (70 %)", WEIGHTED),
    ],
)
def test_a_softmax_is_titled_by_the_class_that_is_explained(options, title, headline, show):
    model = pixels_model(4, "softmax")
    shown = show(model, image_of(*np.log(LIKELY)), class_names=["ant", "cat", "dog", "owl"], **options)
    assert shown.titles == [title]
    assert shown.headline == f"Relevance of {headline}, rules auto, epoch 1"


def test_weights_are_what_is_explained(show):
    """The map of a contrast is the map of one class less that of the other, where logits are explained."""
    model, x = pixels_model(3), image_of(2.0, 1.5, -1.0)
    contrast = show(model, x, target=[1.0, -1.0, 0.0]).arrays
    one, other = (ks.LRP(model).explain(x, k).input for k in (0, 1))
    np.testing.assert_allclose(contrast["relevance"], one - other, atol=1e-5)
    np.testing.assert_array_equal(contrast["target"], [[1, -1, 0]])


@pytest.mark.parametrize(
    "options, title, headline",
    [
        ({}, "output 1: 6.1", "the largest output"),
        ({"y": [2]}, "output 2: 4.2\npredicted: output 1 (6.1)", "the true class"),
        ({"y": [1]}, "output 1: 6.1", "the true class"),
        ({"target": 2}, "output 2: 4.2", "output 2"),
        ({"target": 2, "class_names": ["a", "b", "c"]}, "c: 4.2\npredicted: b (6.1)", "c"),
        ({"class_names": ["a", "b", "c"]}, "b: 6.1", "the predicted class"),
        ({"y": [[1.0, 6.5, 4.0]]}, "output 1: 6.1\ntrue: 6.5", "the largest output"),
        ({"y": [[1.0, 6.5, 4.0]], "target": 2}, "output 2: 4.2\ntrue: 4", "output 2"),
        ({"y": [[1.0, 6.5, 4.0]], "target": [0, 1.0, 1.0]}, "weighted sum: 10.3\ntrue: 10.5", WEIGHTED),
    ],
)
def test_logits_and_regressions_have_numbers(options, title, headline, show):
    shown = show(pixels_model(3), image_of(1.0, 6.1, 4.2), **options)
    assert shown.titles == [title]
    assert shown.headline == f"Relevance of {headline}, rules auto, epoch 1"
    assert "probability" not in shown.arrays


@pytest.mark.parametrize("target", [None, "true", "predicted", 0])
@pytest.mark.parametrize("y", [[3.5, 1], [[3.5], [1]]])
def test_a_regression_has_no_class_and_no_percentage(target, y, show):
    model, x = pixels_model(1), np.concatenate([image_of(3.2), image_of(-0.5)])
    shown = show(model, x, y, target=target)
    assert shown.titles == ["output 0: 3.2\ntrue: 3.5", "output 0: -0.5\ntrue: 1"]
    assert shown.headline == "Relevance of output 0, rules auto, epoch 1"
    np.testing.assert_allclose(shown.arrays["relevance"], ks.LRP(model).explain(x).input, atol=1e-6)
    assert "probability" not in shown.arrays
    np.testing.assert_array_equal(shown.arrays["y"], [[3.5], [1]])


def test_a_regression_without_labels_and_with_a_name(show):
    assert show(pixels_model(1), image_of(3.2)).titles == ["output 0: 3.2"]
    shown = show(pixels_model(1), image_of(3.2), class_names=["price"])
    assert (shown.titles, shown.headline) == (["price: 3.2"], "Relevance of price, rules auto, epoch 1")


def segmentation():
    """Two classes for each pixel; the logit of class 1 is the pixel."""
    image = keras.Input((2, 2, 1))
    logits = layers.Conv2D(2, 1, use_bias=False, name="maps")
    y = logits(image)
    logits.set_weights([np.float32([0, 1]).reshape(1, 1, 1, 2)])
    return keras.Model(image, layers.Softmax()(y))


@pytest.mark.parametrize(
    "options, title, headline",
    [
        ({}, "output (1, 0, 1) (80 %)", "the largest output"),
        ({"target": 5}, "output (1, 0, 1) (80 %)", "output (1, 0, 1)"),
        ({"target": 1}, "output (0, 0, 1) (60 %)", "output (0, 0, 1)"),
        ({"target": np.array([[[0, 1], [0, 0]], [[0, 1], [0, 0]]], bool)}, "weighted sum: 1.4", WEIGHTED),
        ({"target": 5, "y": np.full((1, 2, 2, 2), 0.5)}, "output (1, 0, 1) (80 %)\ntrue: 0.5", "output (1, 0, 1)"),
    ],
    ids=["largest", "index of the largest", "index", "region", "labels"],
)
def test_a_segmentation_is_titled_by_places(options, title, headline, show):
    x = logit(np.float32([0.6, 0.3, 0.8, 0.5])).reshape(1, 2, 2, 1)
    shown = show(segmentation(), x, **options)
    assert shown.titles == [title]
    assert shown.headline == f"Relevance of {headline}, rules auto, epoch 1"


def test_the_region_of_a_segmentation_is_explained(show):
    """A mask as target: only pixels of the region have relevance."""
    x = logit(np.float32([0.6, 0.3, 0.8, 0.4])).reshape(1, 2, 2, 1)
    mask = np.zeros((2, 2, 2))
    mask[0, :, 1] = 1
    relevance = show(segmentation(), x, target=mask).arrays["relevance"][0, ..., 0]
    assert np.abs(relevance[0]).min() > 0.01
    np.testing.assert_allclose(relevance[1], 0, atol=1e-6)


@pytest.mark.parametrize("output", ["kind", 1])
def test_one_of_several_outputs_is_explained(output, show):
    image = keras.Input((2, 2))
    flat = layers.Flatten()(image)
    model = keras.Model(image, [layers.Dense(1, name="price")(flat), layers.Dense(3, "softmax", name="kind")(flat)])
    x = image_of(0.5)
    shown = show(model, x, [2], output=output)
    p = ops.convert_to_numpy(model(x)[1])
    assert shown.titles[0].startswith(f"class 2 ({100 * p[0, 2]:.0f} %)")
    np.testing.assert_allclose(shown.arrays["relevance"], ks.LRP(model, output="kind").explain(x, 2).input, atol=1e-6)
    with pytest.raises(ValueError, match=r"`output` must say which.*\['price', 'kind'\]"):
        show(model, x)
    with pytest.raises(ValueError, match=r"`output` is for the default explainer.*LRP\(model, output="):
        ks.LRPHeatmaps(x, output=output, explainer=ks.LRP(model, output=output))


@pytest.mark.parametrize(
    "units, end, head, title, headline",
    [
        (4, None, "softmax", "class 2 (15 %)\npredicted: class 1 (70 %)", "the true class"),
        (4, "softmax", "linear", "class 2 (15 %)\npredicted: class 1 (70 %)", "the true class"),
        (1, "sigmoid", "linear", "class 1 (70 %)\ntrue: class 0 (30 %)", "class 1"),
        (1, None, "sigmoid", "class 1 (70 %)\ntrue: class 0 (30 %)", "class 1"),
    ],
)
def test_the_head_of_the_explainer_says_what_is_a_probability(units, end, head, title, headline, show):
    x = image_of(*np.log(LIKELY)) if units == 4 else image_of(logit(0.7))
    model = pixels_model(units, end)
    shown = show(model, x, [2 if units == 4 else 0], explainer=ks.LRP(model, head=head))
    assert shown.titles == [title]
    assert shown.headline == f"Relevance of {headline}, rules auto, epoch 1"


class Plain:
    """An explainer that has nothing but `explain`."""

    def __init__(self, model):
        self.explain = ks.LRP(model).explain


@pytest.mark.parametrize(
    "units, end, y",
    [(1, "sigmoid", [0, 1]), (1, None, [0.5, 3]), (4, "softmax", [2, 1]), (4, None, [2, 1]), (4, None, None)],
)
def test_an_explainer_that_does_not_describe_its_output_is_described_by_an_explanation(units, end, y, show):
    model = pixels_model(units, end)
    x = np.concatenate([image_of(*[0.7, 0.4, 0.8, 0.2][:units]), image_of(*[-1.0, 0.2, 0.1, 0.3][:units])])
    plain, described = (show(model, x, y, explainer=explainer) for explainer in (Plain(model), None))
    assert plain.titles == described.titles
    # it does not say its rules
    assert plain.headline == described.headline.replace(", rules auto", "")
    np.testing.assert_allclose(plain.arrays["relevance"], described.arrays["relevance"], atol=1e-6)


@pytest.mark.parametrize(
    "units, end, options, message",
    [
        (1, "sigmoid", {"y": [2]}, r"`y` must be in \[0, 2\).*2"),
        (1, "sigmoid", {"target": 2}, "`target` must be 0, or None"),
        (1, None, {"target": 1}, "`target` must be 0, or None"),
        (1, "sigmoid", {"class_names": ["ill"]}, "`class_names` must have length 2. Received: 1"),
        (1, None, {"class_names": ["well", "ill"]}, "`class_names` must have length 1. Received: 2"),
        (4, None, {"class_names": ["a", "b"]}, "`class_names` must have length 4. Received: 2"),
        (4, None, {"y": [[0.5, 1, 2, 3]], "target": "true"}, "target='true' needs class numbers"),
        (4, "softmax", {"target": [0.5, 1.0]}, r"`target` of bools or floats.*\(4,\)"),
        (4, "softmax", {"y": {"kind": [1]}}, "`y` must be numbers"),
    ],
)
def test_what_does_not_fit_the_output_is_refused_before_training(units, end, options, message, show):
    with pytest.raises(ValueError, match=message):
        show(pixels_model(units, end), image_of(0.5), **options)


def test_names_are_refused_for_an_output_of_several_axes(show):
    with pytest.raises(ValueError, match=r"`class_names` must be None for an output of several axes.*\(2, 2, 2\)"):
        show(segmentation(), np.zeros((1, 2, 2, 1)), class_names=["a", "b"])


def test_the_headline_ends_in_the_epoch_and_the_logs_without_those_of_layers(show):
    logs = {"loss": 0.12345, "val_accuracy": np.float32(0.5), "nested": {}, "dense/closed": 0.5}
    shown = show(pixels_model(4, "softmax"), image_of(0.5), logs=logs)
    assert shown.headline == "Relevance of the predicted class, rules auto, epoch 1: loss 0.123, val_accuracy 0.5"
