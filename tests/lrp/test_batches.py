"""Targets of a data set, batch by batch: the same as those of all samples at once."""

import keras
import numpy as np
import pytest
from keras import layers
from reference.calls import BIAS

import keras_shapley as ks

N = 7


def network(*end):
    return keras.Sequential([keras.Input((4,)), layers.Dense(5, "relu", bias_initializer=BIAS), *end])


@pytest.fixture
def model(rng):
    return network(layers.Dense(3, "softmax", bias_initializer=BIAS))


@pytest.fixture
def unit(rng):
    return network(layers.Dense(1, "sigmoid", bias_initializer=BIAS))


@pytest.fixture
def x(rng):
    return rng.normal(size=(N, 4)).astype("float32")


def in_batches(explainer, data, *args, **options):
    """Relevance and targets of all batches."""
    parts = list(explainer.explain_batches(data, *args, batch_size=3, progress=False, **options))
    return [np.concatenate([getattr(part, name) for part in parts]) for name in ("input", "target")]


TARGETS = {
    "one": 1,
    "indices": np.arange(N) % 3,
    "list": [0, 1, 2, 0, 1, 2, 0],
    "column": (np.arange(N) % 3)[:, None],
    "two": np.stack([np.arange(N) % 3, np.arange(N) % 2], axis=1),
    "two for all": [[0, 2]],
    "weights": np.random.default_rng(1).normal(size=(N, 3)),
    "weights of all": np.array([1.0, 0.0, -1.0]),
    "mask": np.array([True, False, True]),
}


@pytest.mark.parametrize("form", TARGETS)
def test_targets_of_arrays_are_cut_with_them(form, model, x):
    explainer = ks.LRP(model, rules="paper")
    expected = explainer.explain(x, TARGETS[form])
    relevance, target = in_batches(explainer, x, TARGETS[form])
    np.testing.assert_allclose(relevance, expected.input, atol=1e-5)
    np.testing.assert_array_equal(target, expected.target)
    relevance, _ = in_batches(explainer, x, 0, TARGETS[form])
    np.testing.assert_allclose(relevance, explainer.explain(x, 0, TARGETS[form]).input, atol=1e-5)


def test_weights_are_no_rows_even_for_as_many_samples_as_outputs(model, x):
    """Three samples of three outputs: floats (3,) weigh the outputs, ints (3,) are one for each sample."""
    explainer = ks.LRP(model, rules="paper")
    weights, indices = np.array([1.0, 0.0, -1.0]), np.array([0, 2, 1])
    for target in (weights, indices):
        relevance, _ = in_batches(explainer, x[:3], target)
        np.testing.assert_allclose(relevance, explainer.explain(x[:3], target).input, atol=1e-5)


def test_targets_of_maps_are_cut_with_them(rng):
    model = keras.Sequential([keras.Input((3, 3, 2)), layers.Conv2D(2, 1, activation="softmax", bias_initializer=BIAS)])
    x = rng.normal(size=(N, 3, 3, 2)).astype("float32")
    explainer = ks.LRP(model, rules="paper")
    for target in (rng.normal(size=(N, 3, 3, 2)), rng.normal(size=(3, 3, 2)) > 0, rng.integers(18, size=N)):
        relevance, given = in_batches(explainer, x, target)
        expected = explainer.explain(x, target)
        np.testing.assert_allclose(relevance, expected.input, atol=1e-5)
        np.testing.assert_array_equal(given, expected.target)


@pytest.mark.parametrize("target", [[0, 1, 2], np.zeros((3, 1), int), np.zeros((3, 2), int), np.ones((6, 3))])
def test_rows_for_another_number_of_samples_are_refused(target, model, x):
    """Also where they would fit one batch, for which each batch would then be explained."""
    with pytest.raises(ValueError, match=r"`target`.*Received: \w+ of shape \([36]"):
        in_batches(ks.LRP(model, rules="paper"), x, target)


def test_one_hot_rows_of_ints_are_refused_before_the_first_batch(model, x):
    """Rows of one batch could be read as targets 0 and 1, were it not for the others."""
    explainer = ks.LRP(network(layers.Dense(2, "softmax")), rules="paper")
    one_hot = np.eye(2, dtype=int)[[1, 1, 1, 1, 1, 1, 0]]
    with pytest.raises(ValueError, match="one-hot rows of ints.*argmax"):
        next(explainer.explain_batches(x, one_hot, batch_size=3))


def pairs(x, y):
    return iter([(x[:3], y[:3]), (x[3:], y[3:])])


@pytest.mark.parametrize("kind", ["numbers", "column", "one-hot ints", "one-hot floats"])
def test_labels_are_the_targets_if_asked(kind, model, x):
    labels = np.arange(N) % 3
    y = {
        "numbers": labels,
        "column": labels[:, None].astype("uint8"),
        "one-hot ints": np.eye(3, dtype=int)[labels],
        "one-hot floats": np.eye(3, dtype="float32")[labels],
    }[kind]
    explainer = ks.LRP(model, rules="paper")
    relevance, target = in_batches(explainer, pairs(x, y), "true")
    np.testing.assert_array_equal(target, labels)
    np.testing.assert_allclose(relevance, explainer.explain(x, labels).input, atol=1e-5)
    relevance, _ = in_batches(explainer, pairs(x, y), None, "true")
    np.testing.assert_allclose(relevance, explainer.explain(x, versus=labels).input, atol=1e-5)


@pytest.mark.parametrize("y", [np.arange(N) % 2, (np.arange(N) % 2)[:, None].astype("float32")])
def test_both_labels_of_a_single_unit_explain_that_unit(y, unit, x):
    explainer = ks.LRP(unit, rules="paper")
    relevance, target = in_batches(explainer, pairs(x, y), "true")
    assert not target.any()
    np.testing.assert_allclose(relevance, explainer.explain(x).input, atol=1e-5)
    with pytest.raises(ValueError, match="Labels of a single output unit must be 0 and 1. Received: 2"):
        in_batches(explainer, pairs(x, y + 1), "true")
    with pytest.raises(ValueError, match="class labels 0 and 1"):
        in_batches(explainer, x, y.astype(int))


def test_beside_a_data_set_a_target_is_the_same_for_all_its_samples(model, x):
    explainer = ks.LRP(model, rules="paper")
    data = (x[:3], x[3:6])
    for target in (1, [[0, 2]], np.array([1.0, 0.0, -1.0])):
        relevance, _ = in_batches(explainer, iter(data), target)
        np.testing.assert_allclose(relevance, explainer.explain(x[:6], target).input, atol=1e-5)
    for name in ("target", "versus"):
        with pytest.raises(ValueError, match=rf"`{name}` with a row for each sample needs arrays as `data`.*\(3,\)"):
            in_batches(explainer, iter(data), **{name: np.array([0, 1, 2])})
