"""Keras's own contract for a layer: configuration, shapes, dtypes, a compiled training step, mixed precision."""

import keras.src.testing
import pytest

import keras_shapley as ks

# run_layer_test's own training step passes a generator to fit
pytestmark = pytest.mark.filterwarnings("ignore:`shuffle=True` was passed, but will be ignored:UserWarning")

# parent, arguments, shapes of input and output
CASES = [
    ("Dense", dict(units=3), (2, 4), (2, 3)),
    ("Dense", dict(units=3, use_bias=False), (2, 5, 4), (2, 5, 3)),
    ("Conv1D", dict(filters=3, kernel_size=2, padding="causal", dilation_rate=2), (2, 6, 4), (2, 6, 3)),
    ("Conv2D", dict(filters=4, kernel_size=3, padding="same", strides=2), (2, 5, 5, 2), (2, 3, 3, 4)),
    ("Conv3D", dict(filters=2, kernel_size=2), (2, 3, 3, 3, 2), (2, 2, 2, 2, 2)),
    ("DepthwiseConv2D", dict(kernel_size=2, depth_multiplier=2), (2, 4, 4, 3), (2, 3, 3, 6)),
    ("EinsumDense", dict(equation="abc,cd->abd", output_shape=(5, 3), bias_axes="d"), (2, 5, 4), (2, 5, 3)),
]
OPTIONS = {"SA": dict(second_moment="pooled", moment_gradient=False), "ShapLU": dict(gradient="full")}
CONTRACTS = [(prefix + name, *case) for prefix in OPTIONS for name, *case in CASES]
CONTRACTS += [
    (prefix + name, {**arguments, **options}, *shapes)
    for prefix, options in OPTIONS.items()
    for name, arguments, *shapes in (CASES[0], CASES[3])
]


@pytest.mark.parametrize("name, arguments, shape, output_shape", CONTRACTS)
def test_layer_keeps_the_contract_of_keras(name, arguments, shape, output_shape):
    keras.src.testing.TestCase().run_layer_test(
        getattr(ks, name),
        arguments,
        input_shape=shape,
        expected_output_shape=output_shape,
        expected_num_trainable_weights=1 + arguments.get("use_bias", True),
        expected_num_non_trainable_weights=0,
        expected_num_seed_generators=0,
        expected_num_losses=0,
        # of the parents, Dense alone says that it does
        supports_masking=name in ("SADense", "ShapLUDense"),
    )
