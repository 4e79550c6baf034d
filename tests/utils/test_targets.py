"""What `target` may be, and what is refused."""

import numpy as np
import pytest
from keras import ops

from keras_shapley.utils.targets import as_weights, class_labels, is_weights, parse_targets


@pytest.mark.parametrize(
    "target, columns, has_axis",
    [
        (2, [[2, 2, 2]], False),
        ([0, 1, 2], [[0, 1, 2]], False),
        ([[0], [1], [2]], [[0, 1, 2]], False),
        (np.uint8([[3], [1], [0]]), [[3, 1, 0]], False),
        ([[1, 3]], [[1, 1, 1], [3, 3, 3]], True),
        ([[0, 1], [2, 3], [1, 1]], [[0, 2, 1], [1, 3, 1]], True),
    ],
)
def test_indices(target, columns, has_axis):
    targets = parse_targets(target, 3, (4,))
    np.testing.assert_array_equal(targets.columns, columns)
    assert targets.has_axis == has_axis


def test_a_tensor_is_as_good_as_an_array():
    (column,) = parse_targets(ops.convert_to_tensor([0, 3, 1]), 3, (4,)).columns
    np.testing.assert_array_equal(column, [0, 3, 1])


def test_none_is_the_largest_output_of_each_sample():
    outputs = np.array([[1.0, 3.0, 2.0], [4.0, 0.0, 0.0]])
    (column,) = parse_targets(None, 2, (3,)).resolved(outputs)
    np.testing.assert_array_equal(column, [1, 0])
    maps = outputs.reshape(2, 3, 1)
    np.testing.assert_array_equal(parse_targets(None, 2, (3, 1)).resolved(maps), [[1, 0]])


@pytest.mark.parametrize("weights", [[0.5, -1.0, 0.0], np.float32([0.5, -1, 0]), [True, False, True]])
def test_weights_of_one_output_hold_for_every_sample(weights):
    (column,) = parse_targets(weights, 2, (3,)).columns
    assert is_weights(column)
    np.testing.assert_array_equal(as_weights(column, (3,)), np.float64([weights, weights]))


def test_weights_may_differ_from_sample_to_sample(rng):
    weights = rng.normal(size=(5, 2, 3))
    (column,) = parse_targets(weights, 5, (2, 3)).columns
    np.testing.assert_array_equal(as_weights(column, (2, 3)), weights.reshape(5, 6))


def test_outputs_of_several_axes_are_numbered_as_ravel_does():
    index = np.ravel_multi_index((1, 0, 2), (2, 2, 3))
    (column,) = parse_targets(int(index), 1, (2, 2, 3)).columns
    weights = as_weights(column, (2, 2, 3)).reshape(2, 2, 3)
    assert weights[1, 0, 2] == weights.sum() == 1


@pytest.mark.parametrize(
    "target, shape, words",
    [
        (4, (4,), r"in \[0, 4\)"),
        (-1, (4,), "Received: -1"),
        (1, (1,), "must be 0"),
        ([0, 1, 0], (1,), "class labels"),
        ([1, 2], (4,), "shape"),
        ("cat", (4,), "None for the largest"),
        ([[[0]]], (4,), "shape"),
        ([], (4,), "shape"),
        ([1.0, 2.0], (4,), "weights"),
        ([1.0, 2.0, 3.0], (4,), "must be ints"),
        ([1.0, np.nan, 0.0, 0.0], (4,), "finite"),
        (np.eye(4, dtype=int)[[0, 2, 1]], (4,), "argmax"),
        (np.eye(2, dtype=int)[[0, 1, 1]], (2,), "argmax"),
    ],
)
def test_refused(target, shape, words):
    with pytest.raises(ValueError, match=words) as caught:
        parse_targets(target, 3, shape, name="versus")
    assert "`versus" in str(caught.value)


def test_one_row_of_targets_for_all_is_not_one_hot():
    assert len(parse_targets([[0, 1]], 3, (2,)).columns) == 2
    assert len(parse_targets([[0, 1]], 1, (2,)).columns) == 2
    assert len(parse_targets([[0, 1, 0]], 2, (3,)).columns) == 3
    with pytest.raises(ValueError, match="argmax"):
        parse_targets([[0, 1], [0, 1]], 2, (2,))


def test_rows_of_zeros_and_ones_are_no_indices():
    with pytest.raises(ValueError, match=r"read as indices 0 and 1.*versus.astype\(float\)"):
        parse_targets([[0, 1, 1], [1, 0, 1]], 2, (3,), name="versus")


def test_floats_that_look_like_labels_are_no_weights():
    with pytest.raises(ValueError, match="look like labels"):
        parse_targets([0.0, 2.0, 1.0], 3, (3,))


@pytest.mark.parametrize("y", [[0, 2, 1], [[0], [2], [1]], np.eye(3)[[0, 2, 1]], np.eye(3, dtype=int)[[0, 2, 1]]])
def test_class_labels(y):
    np.testing.assert_array_equal(class_labels("y", np.asarray(y), 3), [0, 2, 1])


@pytest.mark.parametrize("y", [[0.5, 1, 2], [-1, 0, 1], [[0, 1], [1, 1], [1, 0]], [0, 1]])
def test_no_class_labels(y):
    with pytest.raises(ValueError, match="`y` must be class numbers"):
        class_labels("y", np.asarray(y), 3)
