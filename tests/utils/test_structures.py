"""Structures of arrays: their leaves and skeletons, in the user's order."""

import keras
import numpy as np
import pytest

from keras_shapley.utils.structures import filled, is_nested, leaves, matched, ordered_as, skeleton_of

NESTED = {"z": np.ones((2, 1)), "a": [np.zeros((2, 3)), (np.full((2, 2), 2.0),)], "m": np.full((2, 1), 3.0)}


def test_leaves_are_in_the_order_of_the_user():
    assert [int(leaf[0, 0]) for leaf in leaves(NESTED)] == [1, 0, 2, 3]
    assert skeleton_of(NESTED) == {"z": 0, "a": [1, (2,)], "m": 3}
    assert list(skeleton_of(NESTED)) == ["z", "a", "m"]


def test_a_skeleton_is_filled_and_matched_by_key():
    skeleton = skeleton_of(NESTED)
    assert filled(skeleton, "wxyz") == {"z": "w", "a": ["x", ("y",)], "m": "z"}
    assert matched("baseline", {"m": 3, "z": 0, "a": [1, (2,)]}, skeleton) == [0, 1, 2, 3]


def test_other_structures_take_the_order_of_the_keys():
    other = keras.tree.pack_sequence_as(NESTED, list(range(4)))
    assert list(ordered_as(NESTED, other)) == ["z", "a", "m"]
    assert ordered_as(NESTED, other) == other


@pytest.mark.parametrize("x", [np.ones((2, 3)), [[1.0, 2.0]], [np.ones(3), np.ones(3)]])
def test_lists_of_numbers_are_arrays(x):
    assert not is_nested(x) and skeleton_of(x) == 0
