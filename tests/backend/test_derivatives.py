"""Operations with a derivative of their own, against the backend's derivative of the plain formula."""

import keras
import numpy as np
import pytest
from keras import Variable, ops

import keras_shapley as ks
from keras_shapley.backend.derivatives import elementwise, sum_of_squares


def product(x, y):
    return ops.sin(x) * y


def product_slopes(x, y):
    return ops.cos(x) * y, ops.sin(x)


@pytest.fixture
def operands(rng):
    return rng.standard_normal((4, 3, 5)).astype("float32")


@pytest.mark.parametrize("shape", [(4, 3, 5), (5,), (3, 1), (1, 3, 5), (4, 1, 1), ()])
def test_derivative_by_an_operand_that_was_broadcast(shape, operands, rng, gradients):
    y = np.asarray(rng.standard_normal(shape), "float32")
    weights = rng.standard_normal(operands.shape).astype("float32")
    own = gradients(
        lambda x, y: ops.sum(ops.multiply(weights, elementwise(product, product_slopes)(x, y))), operands, y
    )
    plain = gradients(lambda x, y: ops.sum(ops.multiply(weights, product(x, y))), operands, y)
    for a, b in zip(own, plain, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_the_slopes_are_what_counts(operands, gradients):
    """Else the tests of ShapLU, whose gradient is not its value's, would be all that tells."""
    (found,) = gradients(lambda x: ops.sum(elementwise(ops.square, lambda x: (ops.sin(x),))(x)), operands)
    np.testing.assert_allclose(found, np.sin(operands), rtol=1e-5)


def test_no_slope_is_no_gradient(operands, gradients):
    function = elementwise(lambda x, y: x * y, lambda x, y: (y, None))
    by_x, by_y = gradients(lambda x, y: ops.sum(function(x, y)), operands, operands + 1)
    np.testing.assert_allclose(by_x, operands + 1)
    np.testing.assert_array_equal(by_y, 0)


def test_a_variable_as_operand(operands, numpy):
    """A layer's weights come so, outside of its call."""
    variable = Variable(operands)
    np.testing.assert_allclose(numpy(sum_of_squares(variable, 0))[0], np.square(operands).sum(0), rtol=1e-5)


@pytest.mark.parametrize("axis", [-1, 0, (0, 2), 1])
def test_sum_of_squares(axis, operands, rng, numpy, gradients, hessian_vector, directional):
    y = numpy(sum_of_squares(ops.convert_to_tensor(operands), axis))
    np.testing.assert_allclose(y, np.square(operands).sum(axis, keepdims=True), rtol=1e-5)
    weights, direction = rng.standard_normal(y.shape).astype("float32"), operands[::-1].copy()

    def total(x):
        return ops.sum(ops.multiply(weights, ops.square(sum_of_squares(x, axis))))

    def plain(x):
        return ops.sum(ops.multiply(weights, ops.square(ops.sum(ops.square(x), axis=axis, keepdims=True))))

    (own,), (expected,) = gradients(total, operands), gradients(plain, operands)
    np.testing.assert_allclose(own, expected, rtol=1e-4, atol=1e-4)
    forward = directional(total, [operands], [direction])
    np.testing.assert_allclose(forward, (expected * direction).sum(), rtol=1e-4)
    (own,), (expected,) = (hessian_vector(fn, [operands], [direction]) for fn in (total, plain))
    np.testing.assert_allclose(own, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="graphs of TensorFlow")
def test_a_graph_outlives_the_one_that_was_traced_around_it():
    import gc

    import tensorflow as tf

    layer = ks.SADense(3)
    x = tf.constant(np.random.default_rng(0).random((2, 4)).astype("float32"))
    layer(x)
    inner = tf.function(lambda x: layer(x))

    def used_once():
        tf.function(lambda x: 2 * inner(x))(x)

    used_once()
    gc.collect()
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = inner(x)
    with tf.GradientTape() as eager:
        eager.watch(x)
        z = layer(x)
    np.testing.assert_allclose(tape.gradient(y, x), eager.gradient(z, x), rtol=1e-5)
