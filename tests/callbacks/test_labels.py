"""What `y` says of an output: classes where the output has classes, numbers elsewhere, and an error for neither."""

import numpy as np
import pytest

from keras_shapley.callbacks.labels import are_labels, true_values
from keras_shapley.models.outputs import ModelOutput


def output(*shape, link=None):
    return ModelOutput("out", 0, shape, link)


SOFTMAX = output(4, link="softmax")
LOGITS = output(4)
SIGMOID = output(1, link="sigmoid")
REGRESSION = output(1)
MAPS = output(2, 3, link="softmax")


@pytest.mark.parametrize("form", [np.array, lambda y: np.array(y)[:, None], lambda y: np.eye(4)[y], np.float32])
@pytest.mark.parametrize("described", [SOFTMAX, LOGITS])
def test_classes_are_numbers_columns_or_one_hot_rows(form, described):
    truth = true_values(form([3, 0, 2]), described)
    assert are_labels(truth)
    assert list(truth) == [3, 0, 2]


@pytest.mark.parametrize("y", [[0, 1, 1], [[0], [1], [1]], [[1, 0], [0, 1], [0, 1]]])
def test_a_single_probability_has_two_classes(y):
    truth = true_values(np.array(y), SIGMOID)
    assert are_labels(truth)
    assert list(truth) == [0, 1, 1]


@pytest.mark.parametrize("y", [[3, 0, 25], [[3], [0], [25]], [0.5, -1, 2]])
def test_a_single_unit_that_is_no_probability_has_numbers(y):
    truth = true_values(np.array(y), REGRESSION)
    assert not are_labels(truth)
    np.testing.assert_array_equal(truth, np.reshape(y, (3, 1)))


@pytest.mark.parametrize(
    "y, described",
    [
        (np.array([[0.5, -1, 2, 7]]), LOGITS),
        (np.array([[1, 2, 2, 0]]), LOGITS),
        (np.array([[0.9, 0.1, 0, 0]]), SOFTMAX),
        (np.array([[1, 0, 1, 1]]), output(4, link="sigmoid")),
        (np.array([[0.3]]), SIGMOID),
        (np.eye(3)[None, :2], MAPS),
    ],
    ids=["regression", "counts", "soft labels", "several labels", "share", "maps"],
)
def test_rows_of_the_outputs_shape_are_its_true_values(y, described):
    truth = true_values(y, described)
    assert not are_labels(truth)
    np.testing.assert_array_equal(truth, y)


@pytest.mark.parametrize(
    "y, described, message",
    [
        ([0, 7], SOFTMAX, r"`y` must be in \[0, 4\), the model's classes. Received: 7"),
        ([0, 2], SIGMOID, r"`y` must be in \[0, 2\), the model's classes. Received: 2"),
        ([-1, 1], SIGMOID, r"class labels in \[0, 2\), or true outputs in \[0, 1\] of shape \(2, 1\).*from -1 to 1"),
        ([-1, 1], LOGITS, r"class labels in \[0, 4\), or true outputs of shape \(2, 4\).*\(2,\) from -1 to 1"),
        ([0.5, 1], SOFTMAX, r"class labels in \[0, 4\)"),
        ([[1, 0, 0], [0, 1, 2]], SOFTMAX, r"true outputs in \[0, 1\] of shape \(2, 4\).*\(2, 3\)"),
        ([[1, 2], [0, 1]], REGRESSION, r"`y` must be true outputs of shape \(2, 1\).*\(2, 2\)"),
        ([1, 2], MAPS, r"`y` must be true outputs in \[0, 1\] of shape \(2, 2, 3\)"),
    ],
)
def test_what_is_neither_is_refused_with_what_would_be_right(y, described, message):
    with pytest.raises(ValueError, match=message):
        true_values(np.array(y), described)
