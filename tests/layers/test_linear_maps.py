"""Linear maps of layers, against the reference's lists of neurons."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from reference import geometry, paper
from reference.layer_cases import operands_of

import keras_shapley
from keras_shapley.layers.linear_maps import LINEAR_TYPES, ConvMap, linear_map

CASES = {
    "dense": (layers.Dense, dict(units=3), (2, 4)),
    "dense, n-D": (layers.Dense, dict(units=3), (2, 3, 4)),
    "conv1d, causal": (layers.Conv1D, dict(filters=3, kernel_size=3, padding="causal", dilation_rate=2), (2, 6, 2)),
    "conv1d, causal, strided": (layers.Conv1D, dict(filters=3, kernel_size=2, padding="causal", strides=2), (2, 5, 2)),
    "conv2d, same, strided": (layers.Conv2D, dict(filters=3, kernel_size=3, padding="same", strides=2), (2, 6, 5, 2)),
    "conv2d, dilated": (
        layers.Conv2D,
        dict(filters=2, kernel_size=(2, 3), padding="same", dilation_rate=(2, 1)),
        (1, 4, 5, 2),
    ),
    "conv2d, groups": (layers.Conv2D, dict(filters=4, kernel_size=2, padding="same", groups=2), (2, 3, 3, 6)),
    "conv2d, channels_first": (
        layers.Conv2D,
        dict(filters=4, kernel_size=2, groups=2, data_format="channels_first"),
        (2, 4, 3, 4),
    ),
    "conv3d": (layers.Conv3D, dict(filters=2, kernel_size=2, padding="same"), (1, 3, 2, 3, 2)),
    "depthwise1d": (layers.DepthwiseConv1D, dict(kernel_size=3, padding="same", depth_multiplier=2), (2, 5, 3)),
    "depthwise2d": (
        layers.DepthwiseConv2D,
        dict(kernel_size=3, padding="same", depth_multiplier=2, strides=2),
        (2, 5, 5, 3),
    ),
    # an output as wide as it has channels makes Keras on TensorFlow add the bias to the wrong axis
    "depthwise2d, channels_first": (
        layers.DepthwiseConv2D,
        dict(kernel_size=2, data_format="channels_first"),
        (2, 3, 4, 5),
    ),
    "transposed1d, dilated": (layers.Conv1DTranspose, dict(filters=3, kernel_size=3, dilation_rate=2), (2, 4, 2)),
    "transposed2d, strided": (
        layers.Conv2DTranspose,
        dict(filters=3, kernel_size=(2, 3), strides=2),
        (1, 3, 2, 2),
    ),
    "transposed2d, same, strided": (
        layers.Conv2DTranspose,
        dict(filters=2, kernel_size=4, strides=(3, 2), padding="same"),
        (1, 3, 2, 3),
    ),
    "transposed2d, output_padding": (
        layers.Conv2DTranspose,
        dict(filters=2, kernel_size=(4, 3), strides=3, padding="same", output_padding=(2, 1)),
        (1, 3, 2, 3),
    ),
    "transposed2d, channels_first": (
        layers.Conv2DTranspose,
        dict(filters=4, kernel_size=2, strides=2, data_format="channels_first"),
        (2, 2, 2, 3),
    ),
    "transposed3d": (layers.Conv3DTranspose, dict(filters=2, kernel_size=2, strides=2), (1, 1, 2, 2, 2)),
    "separable1d": (layers.SeparableConv1D, dict(filters=4, kernel_size=3, padding="same", strides=2), (2, 5, 3)),
    "separable2d": (
        layers.SeparableConv2D,
        dict(filters=3, kernel_size=3, padding="same", dilation_rate=2, depth_multiplier=2),
        (2, 4, 4, 2),
    ),
    "separable2d, channels_first": (
        layers.SeparableConv2D,
        dict(filters=3, kernel_size=2, data_format="channels_first"),
        (2, 2, 3, 5),
    ),
    "einsum": (layers.EinsumDense, dict(equation="abc,cd->abd", output_shape=(None, 4), bias_axes="d"), (2, 3, 5)),
    "einsum, heads": (
        layers.EinsumDense,
        dict(equation="abc,cde->abde", output_shape=(3, 2, 4), bias_axes="de"),
        (2, 3, 5),
    ),
    "einsum, two axes contracted": (
        layers.EinsumDense,
        dict(equation="abcd,cde->abe", output_shape=(3, 4), bias_axes="e"),
        (2, 3, 2, 3),
    ),
    "einsum, ellipsis": (
        layers.EinsumDense,
        dict(equation="...x,xy->...y", output_shape=(4,), bias_axes="y"),
        (2, 3, 5),
    ),
    "einsum, elided behind": (
        layers.EinsumDense,
        dict(equation="ab...,bc->ac...", output_shape=(4, None), bias_axes="c"),
        (2, 5, 3),
    ),
    "einsum, one input each": (layers.EinsumDense, dict(equation="ab,b->ab", output_shape=(4,), bias_axes="b"), (2, 4)),
    "einsum, kernel per position": (
        layers.EinsumDense,
        dict(equation="abc,bcd->abd", output_shape=(3, 4), bias_axes="bd"),
        (2, 3, 5),
    ),
    "einsum, input summed alone": (
        layers.EinsumDense,
        dict(equation="abc,bd->ad", output_shape=(4,), bias_axes="d"),
        (2, 3, 2),
    ),
}


@pytest.fixture(params=CASES)
def case(request, rng):
    """`(map, x, kernel, bias, cells)` of a layer with random weights, as NumPy arrays."""
    cls, arguments, shape = CASES[request.param]
    layer = cls(**arguments)
    x = rng.normal(size=shape).astype("float32")
    try:
        layer(x)
    except Exception as error:
        pytest.skip(f"{type(layer).__name__} itself: {error}")
    layer.set_weights([rng.normal(size=w.shape) for w in layer.weights])
    kernels, bias = operands_of(cls, layer.get_weights())
    return linear_map(layer), x, geometry.kernel_of(kernels), bias, geometry.neurons(layer, shape)


def close(actual, expected, numpy):
    np.testing.assert_allclose(numpy(actual), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_map_is_the_sum_over_the_inputs_of_each_neuron(case, numpy):
    linear, x, kernel, _, cells = case
    expected = paper.forward(lambda x, w, b, _: w @ x, cells, x, kernel)
    close(linear(x, linear.kernel), expected, numpy)


def test_map_and_bias_together_are_the_layer(case, numpy):
    linear, x, *_ = case
    close(linear(x, linear.kernel) + linear.bias, numpy(linear.layer(x)), numpy)


def test_preactivation_and_activation_are_the_layer(case, numpy):
    linear, x, *_ = case
    close(linear.layer.activation(linear.preactivation(ops.convert_to_tensor(x))), numpy(linear.layer(x)), numpy)


@pytest.mark.parametrize(
    "layer",
    [
        layers.SeparableConv1D(3, 3, strides=2, depth_multiplier=2, activation="tanh", bias_initializer="normal"),
        layers.SeparableConv2D(3, 3, padding="same", dilation_rate=2, bias_initializer="normal"),
        layers.Conv2DTranspose(3, 3, strides=2, padding="same", activation="relu", bias_initializer="normal"),
    ],
)
def test_preactivation_of_layers_with_other_geometries_too(layer, rng, numpy):
    x = ops.convert_to_tensor(rng.normal(size=(2, *[7] * layer.rank, 2)).astype("float32"))
    y = numpy(layer(x))
    linear = linear_map(layer)
    close(layer.activation(linear.preactivation(x)), y, numpy)
    close(linear.sums(x), numpy(linear(x, linear.kernel)), numpy)


def test_map_of_powers_is_the_sum_of_powers(case, numpy):
    """What eq. (1) needs of it: the map serves any kernel of the layer's geometry, not the layer's weights alone."""
    linear, x, kernel, _, cells = case
    expected = paper.forward(lambda x, w, b, _: paper.second_moment(x, w), cells, x, kernel)
    close(linear(np.square(x), np.square(kernel)), expected, numpy)


@pytest.mark.parametrize("power", [1, 2, 3])
def test_power_sums_of_the_layers_own_kernels_are_those_of_each_neurons_addends(case, power, numpy):
    linear, x, kernel, _, cells = case
    expected = paper.forward(lambda x, w, b, _: np.sum((w * x) ** power), cells, x, kernel)
    kernels = [ops.convert_to_tensor(kernel) for kernel in linear.kernels]
    close(linear.power_sums(ops.convert_to_tensor(x), kernels, power), expected, numpy)


def test_fan_in_counts_the_real_inputs_of_each_neuron(case, numpy):
    linear, x, _, _, cells = case
    expected = geometry.fan_in(cells)
    counts = numpy(linear.fan_in(ops.ones_like(x[:1])))
    np.testing.assert_allclose(np.broadcast_to(counts, expected.shape), expected, rtol=1e-6)


def test_fan_in_leaves_out_what_the_caller_calls_padding(numpy):
    layer = layers.Conv2D(1, 2)
    layer.build((None, 3, 3, 1))
    players = np.ones((1, 3, 3, 1), "float32")
    players[:, 0] = 0
    counts = numpy(linear_map(layer).fan_in(ops.convert_to_tensor(players)))
    np.testing.assert_allclose(counts[0, :, :, 0], [[2, 2], [4, 4]])


def test_pooled_operands_give_the_mean_field_of_the_second_moment(case, numpy):
    linear, x, kernel, _, cells = case
    expected = paper.forward(lambda x, w, b, sites: paper.second_moment(x, w, sites), cells, x, kernel, pooled=True)
    close(linear.pooled_second_moment(ops.convert_to_tensor(x), ops.convert_to_tensor(kernel)), expected, numpy)


@pytest.mark.parametrize("groups", [1, 2])
def test_pooled_moment_is_a_map_of_one_input_channel_a_group(groups, monkeypatch):
    """Otherwise pooling saves nothing."""
    layer = layers.Conv2D(8, 3, groups=groups)
    layer.build((None, 5, 5, 16))
    operands = []
    apply = ConvMap.__call__
    monkeypatch.setattr(ConvMap, "__call__", lambda self, *args: operands.extend(args) or apply(self, *args))
    linear_map(layer).pooled_second_moment(ops.ones((1, 5, 5, 16)), ops.convert_to_tensor(layer.kernel))
    assert [tuple(operand.shape) for operand in operands] == [(1, 5, 5, groups), (3, 3, 1, 8)]


def test_what_is_merged_and_spread_reaches_each_input_in_equal_shares(case, numpy, rng):
    """The share of the bias in eq. (2): an amount at a neuron goes to each of its inputs, and to no other."""
    linear, x, _, bias, cells = case
    amount = rng.normal(size=geometry.output_shape(cells)).astype("float32")
    weighted = amount * numpy(linear.bias)
    expected = np.zeros(x.shape)
    for cell in cells:
        for index in cell.inputs:
            expected[index] += weighted[cell.output]
    actual = linear.spread(linear.merge(ops.convert_to_tensor(amount), linear.bias), ops.convert_to_tensor(x))
    np.testing.assert_allclose(np.broadcast_to(numpy(actual), x.shape), expected, rtol=1e-5, atol=1e-5)


def test_unit_kernel_has_one_output_for_all_units_with_the_same_inputs(case):
    linear, x, *_, cells = case
    # transposed and dilated, units at several positions share their inputs, through other taps
    sets = {frozenset(zip(cell.inputs, cell.sites, strict=True)) for cell in cells}
    y = linear(ops.convert_to_tensor(x), linear.unit_kernel("float32"))
    assert int(np.prod(y.shape)) == len(sets)


def test_kernel_is_the_one_that_lora_has_changed(rng, numpy):
    layer = layers.Dense(3)
    layer.build((None, 4))
    layer.enable_lora(2)
    layer.lora_kernel_a.assign(rng.normal(size=(4, 2)))
    layer.lora_kernel_b.assign(rng.normal(size=(2, 3)))
    x = rng.normal(size=(2, 4)).astype("float32")
    linear = linear_map(layer)
    close(linear(x, linear.kernel) + linear.bias, numpy(layer(x)), numpy)


def test_layer_without_bias_has_none():
    layer = layers.Conv2D(1, 2, use_bias=False, data_format="channels_first")
    layer.build((None, 1, 3, 3))
    assert linear_map(layer).bias is None


def test_subclass_of_a_layer_has_its_map():
    assert type(linear_map(keras_shapley.SAConv2D(1, 2))) is type(linear_map(layers.Conv2D(1, 2)))


@pytest.mark.parametrize("layer", [layers.LSTM(2, name="memory"), layers.MaxPooling2D(2, name="pool")])
def test_layer_without_a_map_is_named(layer):
    message = rf"'{layer.name}' \({type(layer).__name__}\) has no linear map, as Dense and convolutions have"
    with pytest.raises(ValueError, match=message):
        linear_map(layer)


def test_types_with_a_map_are_keras_layers():
    assert all(issubclass(cls, keras.layers.Layer) for cls in LINEAR_TYPES)
