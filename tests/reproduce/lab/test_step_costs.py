"""`lab/step_costs.py`: products, convolutions and multiply-adds of a training step, counted by hand."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_shapley as ks
from lab import step_costs


def count(*stack, shape):
    model = keras.Sequential([keras.Input(shape), *stack, layers.Flatten(), layers.Dense(3, "softmax")])
    return step_costs.count(model, ops.ones((2, *shape)), ops.convert_to_tensor(np.array([0, 2], "int32")))


def test_products_of_an_mlp_are_counted():
    """Forward, for the kernel, and for the input of every layer but the first: 3 + 3 + 2 products."""
    n, multiply_adds = count(layers.Dense(7, "relu"), layers.Dense(4, "relu"), shape=(5,))
    assert n == 8
    assert multiply_adds == 2 * (2 * 5 * 7 + 3 * 7 * 4 + 3 * 4 * 3)


@pytest.mark.parametrize("strides", [1, 2])
def test_convolutions_are_counted(strides):
    """A stride leaves out outputs, in the forward pass and in both gradients."""
    stack = layers.Conv2D(4, 3, padding="same"), layers.Conv2D(5, 3, strides=strides, padding="same")
    n, multiply_adds = count(*stack, shape=(8, 8, 2))
    size = 8 // strides
    assert n == 8
    assert multiply_adds == 2 * (2 * 64 * 9 * 2 * 4 + 3 * size**2 * 9 * 4 * 5 + 3 * size**2 * 5 * 3)


@pytest.mark.parametrize(
    ("options", "of_two_layers"),
    [
        ({}, 5 + 5),  # forward, two kernels, one input: once more
        ({"moment_gradient": False}, 5 + 2),
        ({"second_moment": "pooled"}, 5),
    ],
)
def test_second_moment_costs_a_second_map_unless_pooled(options, of_two_layers):
    stack = ks.SADense(7, **options), ks.SADense(4, **options)
    assert count(*stack, shape=(5,))[0] == of_two_layers + 3
