"""What is zero has a scale, in every dtype."""

import keras
import numpy as np
import pytest

import keras_shapley as ks

if keras.backend.backend() == "jax":
    pytest.skip("the same as elsewhere, and JAX compiles each", allow_module_level=True)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16", "mixed_float16"])
@pytest.mark.parametrize("layer", [ks.SADense, ks.ShapLUDense])
@pytest.mark.parametrize("zero", ["input", "kernel"])
def test_a_neuron_without_signal_is_its_bias(dtype, layer, zero, gradients):
    """`relu(b)`, with finite gradients."""
    made = layer(2, dtype=dtype, kernel_initializer="zeros" if zero == "kernel" else "ones")
    made.build((None, 3))
    made.bias.assign([0.5, -0.5])
    x = np.zeros((2, 3)) if zero == "input" else np.ones((2, 3))
    x[1] = 1.0
    output = np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(made(x), "float32")))
    np.testing.assert_allclose(output[0], [0.5, 0.0], atol=1e-3)
    (slope,) = gradients(lambda x: keras.ops.sum(keras.ops.cast(made(x), "float32")), x.astype("float32"))
    assert np.isfinite(slope).all()


def test_the_default_explains_a_model_of_float64(rng):
    """Its baseline is an input of zeros."""
    model = keras.Sequential([keras.Input((3,), dtype="float64"), ks.SADense(4, dtype="float64")])
    model.add(keras.layers.Dense(1, dtype="float64"))
    explanation = ks.LRP(model).explain(rng.normal(size=(2, 3)))
    np.testing.assert_allclose(explanation.input.sum(axis=1), explanation.head_total, atol=1e-5)
