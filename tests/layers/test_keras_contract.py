"""What layers owe to Keras: its own test of a layer, and all that they inherit from their parents."""

import warnings

import keras
import keras.src.testing
import numpy as np
import pytest
from keras import layers
from reference import geometry, paper
from reference.layer_cases import NAMES, arguments_of, build, close, kernels_of

import keras_shapley as ks

# parent, arguments, shapes of input and output
CASES = [
    ("Dense", dict(units=3), (2, 4), (2, 3)),
    ("Dense", dict(units=3, use_bias=False), (2, 5, 4), (2, 5, 3)),
    ("Conv1D", dict(filters=3, kernel_size=2, padding="causal", dilation_rate=2), (2, 6, 4), (2, 6, 3)),
    ("Conv2D", dict(filters=4, kernel_size=3, padding="same", strides=2), (2, 5, 5, 2), (2, 3, 3, 4)),
    ("Conv3D", dict(filters=2, kernel_size=2), (2, 3, 3, 3, 2), (2, 2, 2, 2, 2)),
    ("DepthwiseConv2D", dict(kernel_size=2, depth_multiplier=2), (2, 4, 4, 3), (2, 3, 3, 6)),
    ("DepthwiseConv1D", dict(kernel_size=3, padding="same"), (2, 4, 3), (2, 4, 3)),
    ("SeparableConv1D", dict(filters=3, kernel_size=2, use_bias=False), (2, 5, 4), (2, 4, 3)),
    ("SeparableConv2D", dict(filters=3, kernel_size=3, depth_multiplier=2, strides=2), (2, 5, 5, 2), (2, 2, 2, 3)),
    ("Conv1DTranspose", dict(filters=3, kernel_size=3, strides=2), (2, 3, 4), (2, 7, 3)),
    ("Conv2DTranspose", dict(filters=3, kernel_size=3, strides=2, padding="same"), (2, 3, 2, 4), (2, 6, 4, 3)),
    ("Conv3DTranspose", dict(filters=2, kernel_size=2), (2, 2, 2, 2, 3), (2, 3, 3, 3, 2)),
    ("EinsumDense", dict(equation="abc,cd->abd", output_shape=(5, 3), bias_axes="d"), (2, 5, 4), (2, 5, 3)),
]
OPTIONS = {"SA": dict(second_moment="pooled", moment_gradient=False), "ShapLU": dict(gradient="full")}
LAYERS = [getattr(ks, prefix + name) for prefix in OPTIONS for name in NAMES]
CONTRACTS = [(prefix + name, *case) for prefix in OPTIONS for name, *case in CASES]
CONTRACTS += [
    (prefix + name, {**arguments, **options}, *shapes)
    for prefix, options in OPTIONS.items()
    for name, arguments, *shapes in (CASES[0], CASES[3])
]


def parent_of(cls):
    """Name of the type of Keras that a layer type is made from."""
    return cls.__name__.removeprefix("SA").removeprefix("ShapLU")


# run_layer_test's own training step passes a generator to fit
@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed, but will be ignored:UserWarning")
@pytest.mark.parametrize("name, arguments, shape, output_shape", CONTRACTS)
def test_layer_keeps_the_contract_of_keras(name, arguments, shape, output_shape):
    keras.src.testing.TestCase().run_layer_test(
        getattr(ks, name),
        arguments,
        input_shape=shape,
        expected_output_shape=output_shape,
        expected_num_trainable_weights=len(kernels_of(getattr(ks, name))) + arguments.get("use_bias", True),
        expected_num_non_trainable_weights=0,
        expected_num_seed_generators=0,
        expected_num_losses=0,
        # of the parents, Dense alone says that it does
        supports_masking=name in ("SADense", "ShapLUDense"),
    )


@pytest.mark.parametrize("cls", LAYERS, ids=lambda cls: cls.__name__)
def test_lora_is_the_parents(cls, rng, numpy):
    if not hasattr(cls, "enable_lora"):
        pytest.skip("the parent has no LoRA")
    name = parent_of(cls)
    arguments, shape = arguments_of(name)
    x = rng.normal(size=shape).astype("float32")
    layer, parent = build(cls, arguments, shape, rng), build(getattr(layers, name), arguments, shape, activation="relu")
    weights = layer.get_weights()
    for each in (layer, parent):
        each.set_weights(weights)
        each.enable_lora(2)
    for variable, same in zip(layer.trainable_variables, parent.trainable_variables, strict=True):
        variable.assign(rng.normal(size=variable.shape))
        same.assign(variable)
    if cls.__name__.startswith("ShapLU"):
        expected = numpy(parent(x))
    else:
        cells = geometry.neurons(layer, shape)
        expected = paper.forward(paper.shapley_activation, cells, x, numpy(parent.kernel), numpy(parent.bias))
    close(numpy(layer(x)), expected, rtol=1e-5)


@pytest.mark.parametrize("cls", [ks.SADense, ks.ShapLUConv2D, ks.SADepthwiseConv2D, ks.ShapLUEinsumDense])
def test_constraints_hold_after_a_training_step(cls, rng, numpy):
    name = parent_of(cls)
    arguments, shape = arguments_of(name)
    (prefix,) = kernels_of(cls)
    layer = cls(**arguments, **{f"{prefix}_constraint": "unit_norm"}, bias_constraint="non_neg")
    model = keras.Sequential([keras.Input(shape[1:]), layer])
    model.compile(keras.optimizers.SGD(0.5), "mse", jit_compile=False)
    x = rng.normal(size=shape).astype("float32")
    model.fit(x, rng.normal(size=model(x).shape) - 2, epochs=1, verbose=0)
    kernel, bias = layer.get_weights()
    np.testing.assert_allclose(np.linalg.norm(kernel, axis=0), 1, rtol=1e-4)
    assert bias.min() >= 0


@pytest.mark.parametrize("cls", LAYERS, ids=lambda cls: cls.__name__)
def test_regularisation_losses_are_the_parents(cls, rng, numpy):
    name = parent_of(cls)
    arguments, shape = arguments_of(name)
    regularizers = {f"{kernel}_regularizer": "l2" for kernel in kernels_of(cls)}
    arguments = {**arguments, **regularizers, "bias_regularizer": "l1", "activity_regularizer": "l1"}
    x = rng.normal(size=shape).astype("float32")
    layer, parent = build(cls, arguments, shape, rng), build(getattr(layers, name), arguments, shape, activation="relu")
    parent.set_weights(layer.get_weights())
    sizes = [np.abs(numpy(each(x))).sum() for each in (layer, parent)]
    losses, expected = ([float(numpy(loss)) for loss in each.losses] for each in (layer, parent))
    assert len(losses) == len(expected) == 2 + len(regularizers)
    np.testing.assert_allclose(losses[1:], expected[1:], rtol=1e-6)
    # that of the activity is of the layer's own output; Keras divides it by the batch size from 3.14 on
    np.testing.assert_allclose(losses[0] / expected[0], sizes[0] / sizes[1], rtol=1e-5)


@pytest.mark.parametrize("cls", LAYERS, ids=lambda cls: cls.__name__)
def test_weights_and_output_have_the_parents_shapes(cls):
    name = parent_of(cls)
    arguments, shape = arguments_of(name)
    layer, parent = cls(**arguments), getattr(layers, name)(**arguments)
    # the batch unknown, and the sizes of images
    unknown = (None,) + ((None,) * (len(shape) - 2) if "Conv" in name else shape[1:-1]) + shape[-1:]
    assert layer(keras.Input(batch_shape=unknown)).shape == parent(keras.Input(batch_shape=unknown)).shape
    assert [tuple(w.shape) for w in layer.weights] == [tuple(w.shape) for w in parent.weights]
    assert layer.compute_output_shape(shape) == parent.compute_output_shape(shape)


@pytest.mark.parametrize("cls", LAYERS, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize(
    "activation",
    ["relu", keras.activations.gelu, lambda x: x, layers.LeakyReLU()],
    ids=["name", "function", "lambda", "layer"],
)
def test_another_activation_is_refused(cls, activation):
    arguments, _ = arguments_of(parent_of(cls))
    with pytest.raises(
        ValueError, match=f"{cls.__name__}.*`activation` must be None or 'linear'.*Received: activation="
    ):
        cls(**arguments, activation=activation)


@pytest.mark.parametrize("cls", LAYERS, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("activation", [None, "linear", keras.activations.linear])
def test_no_activation_is_accepted_however_it_is_said(cls, activation):
    arguments, _ = arguments_of(parent_of(cls))
    cls(**arguments, activation=activation)


@pytest.mark.parametrize(
    "cls, argument, value, allowed",
    [
        (ks.SADense, "second_moment", "mean", ["'exact'", "'pooled'"]),
        (ks.ShapLUDense, "second_moment", None, ["'exact'", "'pooled'"]),
        (ks.SADense, "moment_gradient", "yes", ["True", "False"]),
        (ks.ShapLUDense, "gradient", "exact", ["'simplified'", "'full'"]),
    ],
)
def test_unknown_option_is_refused_with_the_argument_what_came_and_what_is_allowed(cls, argument, value, allowed):
    with pytest.raises(ValueError) as raised:
        cls(3, **{argument: value})
    assert f"`{argument}`" in str(raised.value) and f"{argument}={value!r}" in str(raised.value)
    assert all(choice in str(raised.value) for choice in allowed)


@pytest.mark.parametrize("cls", [cls for cls in LAYERS if cls.__name__.startswith("ShapLU")], ids=lambda c: c.__name__)
def test_pooled_moment_has_no_meaning_in_the_full_gradient(cls):
    arguments, _ = arguments_of(parent_of(cls))
    with pytest.raises(ValueError, match="gradient='full'.*second_moment='exact'.*Received: second_moment='pooled'"):
        cls(**arguments, gradient="full", second_moment="pooled")


@pytest.mark.parametrize("dtype", ["int8_from_float32", "float8_from_float32"])
@pytest.mark.parametrize("cls", LAYERS, ids=lambda cls: cls.__name__)
def test_quantized_dtype_policy_is_refused_at_build(cls, dtype):
    arguments, shape = arguments_of(parent_of(cls))
    layer = cls(**arguments, dtype=dtype)
    with pytest.raises(ValueError, match=f"'{layer.name}' .{cls.__name__}.*float.*Received: dtype='{dtype}'"):
        layer.build(shape)


@pytest.mark.parametrize("mode", ["int8", "int4"])
def test_quantizing_a_model_warns_of_our_layers_and_goes_on_with_the_others(mode, rng, numpy):
    model = keras.Sequential([keras.Input((4,)), ks.SADense(6, name="shapley"), layers.Dense(5, name="plain")])
    x = rng.normal(size=(3, 4)).astype("float32")
    inner = keras.Model(model.inputs[0], model.get_layer("shapley").output)
    before = numpy(inner(x))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.quantize(mode)
    messages = [str(warning.message) for warning in caught if "'shapley'" in str(warning.message)]
    assert len(messages) == 1 and "SADense" in messages[0] and f"mode={mode!r}" in messages[0]
    assert model.get_layer("plain").dtype_policy.quantization_mode == mode
    assert model.get_layer("shapley").dtype_policy.quantization_mode is None
    np.testing.assert_array_equal(numpy(inner(x)), before)
    assert np.all(np.isfinite(numpy(model(x))))


@pytest.mark.parametrize("cls", LAYERS, ids=lambda cls: cls.__name__)
def test_quantizing_a_layer_is_refused_as_keras_expects(cls):
    arguments, shape = arguments_of(parent_of(cls))
    layer = build(cls, arguments, shape)
    with pytest.raises(NotImplementedError, match=f"'{layer.name}' .{cls.__name__}.*mode='int8'"):
        layer.quantize("int8")
    assert layer.dtype_policy.quantization_mode is None
