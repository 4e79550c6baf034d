"""`lab/activations.py`: each name makes the layer that it names, and all start from the same weights."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_shapley as ks
from lab.activations import ACTIVATIONS, hidden_layer
from lab.input_dropout import InputDropoutDense
from lab.networks import cifar10_mlp


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_every_kind_makes_the_layer_of_its_name(kind):
    layer = hidden_layer(kind, "Dense")(3)
    types = {"sa": ks.SADense, "shaplu": ks.ShapLUDense}
    if kind.endswith("dropout"):
        types["relu"] = InputDropoutDense
    assert type(layer) is types.get(kind.partition("_")[0], keras.layers.Dense)
    if isinstance(layer, ks.SADense):
        assert (layer.second_moment == "pooled") == ("pooled" in kind)
        assert layer.moment_gradient == ("no_moment_gradient" not in kind)
    elif not isinstance(layer, ks.ShapLUDense):
        name, _, slope = kind.partition("_0.")
        found = getattr(layer.activation, "func", layer.activation).__name__
        for suffix in ("_he", "_normal", "_permutation_dropout", "_dropout"):
            name = name.removesuffix(suffix)
        assert found == name
        assert not slope or ops.convert_to_numpy(layer.activation(-1.0)) == pytest.approx(-float(f"0.{slope}"))


def test_the_options_of_a_kind_go_before_those_of_the_call():
    model = cifar10_mlp("relu_he")
    layer = model.get_layer("hidden1")
    assert type(layer.kernel_initializer).__name__ == "HeNormal"
    assert type(layer.bias_initializer).__name__ == "Zeros"


@pytest.mark.parametrize("kind", ["gelu", "sa", "shaplu_full", "relu_permutation_dropout"])
def test_arms_start_from_the_same_weights(kind, numpy):
    models = []
    for name in ("relu", kind):
        keras.utils.set_random_seed(3)
        models.append(cifar10_mlp(name))
    for weights, others in zip(*([numpy(v) for v in model.trainable_variables] for model in models), strict=True):
        np.testing.assert_array_equal(weights, others)


@pytest.mark.parametrize("kind", ["leaky_relu_normal", "gelu_normal", "silu_normal"])
def test_kernels_of_a_normal_kind_keep_the_mean_square_of_a_normal_signal(kind, numpy):
    """By quadrature of the activation's square; and each layer has a kernel of its own."""
    layer = hidden_layer(kind, "Dense")(3)
    t, step = np.linspace(-12, 12, 4801, retstep=True)
    density = np.exp(-(t**2) / 2) / np.sqrt(2 * np.pi)
    output = numpy(layer.activation(t.astype("float32"))).astype("float64")
    scale = layer.kernel_initializer.scale
    assert scale * np.sum(output**2 * density) * step == pytest.approx(1, rel=1e-4)
    other = hidden_layer(kind, "Dense")(3)
    kernels = []
    for each in (layer, other):
        each.build((None, 2000))
        kernels.append(numpy(each.kernel))
    assert np.var(kernels[0]) == pytest.approx(scale / 2000, rel=0.1)
    assert not np.array_equal(*kernels)
