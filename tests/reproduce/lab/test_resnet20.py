"""`lab/resnet20.py`: the network of the Keras example, and the layouts of its activations."""

import keras
import numpy as np
import pytest
from scipy.special import ndtr

import keras_shapley as ks
from lab import resnet20 as script

ARMS = {"relu": keras.layers.Conv2D, "sa": ks.SAConv2D, "shaplu": ks.ShapLUConv2D}


def before(model):
    """Type of the layer in front of each layer, by name of the layer."""
    tensors = {id(layer.output): layer for layer in model.layers}
    inner = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    return {layer.name: type(tensors[id(x)]) for layer in inner for x in keras.tree.flatten(layer.input)[:1]}


def count(model, cls):
    return sum(type(layer) is cls for layer in model.layers)


@pytest.mark.parametrize("layout", ["original", "paper"])
def test_parameters_are_those_of_the_keras_example(layout):
    model = script.resnet20("relu", layout=layout)
    assert model.count_params() == 574_090
    trainable = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    # 19 normalisations, two moving statistics a channel: 16 + (16 + 16) + 3 (64, 128) ... summed by hand
    channels = 16 + (2 * 16 + 64 + 2 * 16) + (64 + 2 * 64 + 128 + 2 * 64) + (128 + 2 * 128 + 256 + 2 * 128) + 256
    assert 574_090 - trainable == 2 * channels
    assert [layer.output.shape[1:] for layer in model.layers if isinstance(layer, keras.layers.Add)] == [
        (32, 32, 64),
        (32, 32, 64),
        (16, 16, 128),
        (16, 16, 128),
        (8, 8, 256),
        (8, 8, 256),
    ]


@pytest.mark.parametrize("activation", ARMS)
def test_13_activations_behind_a_convolution_and_6_behind_an_addition(activation):
    """In the paper's order BN is behind each of the 19, and in front of none."""
    model = script.resnet20(activation)
    in_front = before(model)
    relus = [in_front[layer.name] for layer in model.layers if isinstance(layer, keras.layers.ReLU)]
    normalised = [in_front[layer.name] for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert relus.count(keras.layers.Add) == 6
    assert len(normalised) == 19
    if activation == "relu":
        assert relus.count(keras.layers.Conv2D) == 13
        assert set(normalised) == {keras.layers.ReLU}
        assert count(model, keras.layers.Conv2D) == 22
    else:
        assert len(relus) == 6
        assert count(model, ARMS[activation]) == 13
        assert count(model, keras.layers.Conv2D) == 9
        assert normalised.count(ARMS[activation]) == 13


def test_original_order_has_normalisation_in_front_of_each_activation():
    model = script.resnet20("relu", layout="original")
    in_front = before(model)
    relus = [in_front[layer.name] for layer in model.layers if isinstance(layer, keras.layers.ReLU)]
    normalised = [in_front[layer.name] for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert relus == [keras.layers.BatchNormalization] * 19
    assert normalised.count(keras.layers.Conv2D) == 13
    assert normalised.count(keras.layers.Add) == 6
    with pytest.raises(ValueError, match="BN between convolution and activation"):
        script.resnet20("sa", layout="original")


def test_first_block_and_skips_take_the_raw_sum():
    """The first unit has no activation of its own, and a projection sees what the addition gave, before any ReLU."""
    in_front = before(script.resnet20("relu"))
    assert in_front["stage1_block1_conv1"] is keras.layers.BatchNormalization
    assert in_front["stage1_block1_skip"] is keras.layers.BatchNormalization  # the stem's
    assert in_front["stage2_block1_skip"] is in_front["stage3_block1_skip"] is keras.layers.Add


def test_options_of_the_layers():
    model = script.resnet20("sa_pooled")
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    for layer in convolutions:
        assert layer.padding == "same"
        assert layer.use_bias
        assert isinstance(layer.kernel_initializer, keras.initializers.HeNormal)
        assert float(layer.kernel_regularizer.l2) == pytest.approx(1e-4)
    assert len(model.losses) == 22
    assert {layer.second_moment for layer in convolutions if isinstance(layer, ks.SAConv2D)} == {"pooled"}
    strided = {layer.name for layer in convolutions if layer.strides == (2, 2)}
    assert strided == {f"stage{stage}_block1_{name}" for stage in (2, 3) for name in ("conv1", "skip")}


def test_arms_start_from_the_same_values():
    values = []
    for activation in ARMS:
        keras.utils.set_random_seed(7)
        weights = script.resnet20(activation).weights
        values.append({weight.path: keras.ops.convert_to_numpy(weight) for weight in weights})
    for other in values[1:]:
        assert other.keys() == values[0].keys()
        for path, value in other.items():
            np.testing.assert_array_equal(value, values[0][path])
    kernels = [value for path, value in values[0].items() if path.endswith("conv2/kernel")]
    assert len({kernel.tobytes() for kernel in kernels}) == 6


def test_units_have_a_convolution_in_front_of_each_of_19_activations():
    sa, relu = (script.resnet20(activation, layout="units") for activation in ("sa", "relu"))
    in_front = before(relu)
    relus = [in_front[layer.name] for layer in relu.layers if isinstance(layer, keras.layers.ReLU)]
    assert relus == [keras.layers.Conv2D] * 19
    assert count(sa, ks.SAConv2D) == 19 and count(sa, keras.layers.ReLU) == 0
    for model, behind in ((sa, ks.SAConv2D), (relu, keras.layers.ReLU)):
        in_front = before(model)
        normalised = [in_front[layer.name] for layer in model.layers if type(layer) is keras.layers.BatchNormalization]
        assert normalised == [behind] * 19
        # the second addend comes normalised, and nothing is behind the sum
        assert in_front["head_pool"] is in_front["stage2_block1_conv1"] is keras.layers.Add
    assert sa.count_params() == relu.count_params()


def test_joint_neurons_take_the_place_of_the_additions():
    model = script.resnet20("sa_pooled", layout="joint")
    joints = [layer for layer in model.layers if isinstance(layer, script.JointSAConv2D)]
    assert len(joints) == 6 and {layer.second_moment for layer in joints} == {"pooled"}
    assert count(model, ks.SAConv2D) == 13 and count(model, keras.layers.Add) == count(model, keras.layers.ReLU) == 0
    assert model.count_params() == script.resnet20("relu").count_params()
    assert script.resnet20("relu", layout="joint").count_params() == 574_090
    # the sum goes on to the next block, and its activation to the normalisation
    block = model.get_layer("stage1_block1_conv3")
    skip, bn = (model.get_layer(name) for name in ("stage1_block2_conv3", "stage1_block2_in_bn"))
    assert skip.input[1] is block.output[0] and bn.input is block.output[1]
    with pytest.raises(ValueError, match="'joint' is for relu and for SA, not 'gelu'"):
        script.resnet20("gelu", layout="joint")


@pytest.mark.parametrize("moment_gradient", [True, False])
def test_joint_neuron_is_eq_5_with_the_skip_as_one_more_input(moment_gradient, rng):
    layer = script.JointSAConv2D(3, 1, bias_initializer="normal", moment_gradient=moment_gradient)
    x = rng.normal(size=(2, 4, 4, 5)).astype("float32")
    skip = rng.normal(size=(2, 4, 4, 3)).astype("float32")
    total, y = (keras.ops.convert_to_numpy(value) for value in layer([x, skip]))
    kernel, bias = (keras.ops.convert_to_numpy(weight).astype("float64") for weight in (layer.kernel[0, 0], layer.bias))
    for place in np.ndindex(2, 4, 4):
        for unit in range(3):
            products = np.append(x[place] * kernel[:, unit], skip[place][unit])
            u, q, b = products.sum(), np.square(products).sum(), bias[unit]
            assert total[place][unit] == pytest.approx(u + b, rel=1e-5, abs=1e-6)
            expected = ndtr((u / 2 + b) / np.sqrt(q / 6 + u**2 / 12)) * (u + b)
            assert y[place][unit] == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.once
def test_networks_of_all_layouts_load_again(tmp_path, rng):
    x = rng.normal(size=(2, 32, 32, 3)).astype("float32")
    for layout in ("units", "joint"):
        model = script.resnet20("sa", layout=layout)
        model.save(tmp_path / "model.keras")
        again = keras.models.load_model(tmp_path / "model.keras")
        ours, theirs = (keras.ops.convert_to_numpy(m(x, training=False)) for m in (model, again))
        np.testing.assert_array_equal(ours, theirs)
