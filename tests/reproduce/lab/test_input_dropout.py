"""`lab/input_dropout.py`: which inputs stay, how many, and what inference sees."""

import keras
import numpy as np
import pytest

from lab.activations import hidden_layer

N = 4


def kept(kind):
    """Which of N inputs stay, in 6,000 images: each is told from the others by what it adds."""
    keras.utils.set_random_seed(0)
    layer = hidden_layer(kind, "Dense")(N, kernel_initializer="identity")
    y = keras.ops.convert_to_numpy(layer(np.ones((6000, N), "float32"), training=True))
    assert set(np.unique(y)) == {0, 2}
    return y > 0


def test_permutation_keeps_any_number_as_often_and_any_input():
    present = kept("relu_permutation_dropout")
    # 1/5 each, with a standard error of 0.005
    np.testing.assert_allclose(np.bincount(present.sum(axis=1)) / len(present), np.full(N + 1, 1 / (N + 1)), atol=0.025)
    np.testing.assert_allclose(present.mean(axis=0), np.full(N, 0.5), atol=0.03)
    # all sets of a size as often
    pairs = present[present.sum(axis=1) == 2]
    np.testing.assert_allclose(np.cov(pairs.T)[0, 1:], np.full(N - 1, -1 / 12), atol=0.04)


def test_independent_dropout_keeps_binomially():
    present = kept("relu_dropout")
    counts = np.bincount(present.sum(axis=1)) / len(present)
    np.testing.assert_allclose(counts, np.array([1, 4, 6, 4, 1]) / 16, atol=0.025)


@pytest.mark.parametrize("kind", ["relu_permutation_dropout", "relu_dropout"])
def test_inference_is_a_dense_layer(kind, rng):
    layer = hidden_layer(kind, "Dense")(3)
    x = rng.normal(size=(2, N)).astype("float32")
    y = keras.ops.convert_to_numpy(layer(x))
    np.testing.assert_allclose(y, np.maximum(x @ keras.ops.convert_to_numpy(layer.kernel), 0), rtol=1e-5, atol=1e-6)


def test_masks_are_new_at_every_step_and_the_seeds():
    def masks():
        keras.utils.set_random_seed(3)
        layer = hidden_layer("relu_permutation_dropout", "Dense")(8, kernel_initializer="identity")
        return [keras.ops.convert_to_numpy(layer(np.ones((16, 8), "float32"), training=True)) for _ in range(2)]

    (first, second), (again, _) = masks(), masks()
    assert (first != second).any()
    np.testing.assert_array_equal(first, again)
