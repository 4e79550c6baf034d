"""Moments of a network's values: against integrals, enumeration of all coalitions, and draws."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers, ops
from reference import geometry
from reference.marks import MAY_MISS_THE_TOTAL
from scipy import stats

import keras_shapley as ks
from keras_shapley.models.tracing import trace
from keras_shapley.shapley.moment_rules import moment_rule
from keras_shapley.shapley.moments import ForwardPass, channel_axes
from keras_shapley.shapley.normal_moments import Moments, quadrature_moments

# totals of networks with random weights may be near zero
pytestmark = MAY_MISS_THE_TOTAL

GRID = np.linspace(-9, 9, 40001)
WEIGHTS = stats.norm.pdf(GRID) * (GRID[1] - GRID[0])


def carried(model, mean, variance, samples=None):
    """Moments of a model's output, NumPy arrays."""
    graph = trace(model)
    (image,) = graph.inputs
    moments = Moments(*(ops.convert_to_tensor(part, "float32") for part in (mean, variance)))
    sampled = {} if samples is None else {image: ops.convert_to_tensor(samples, "float32")}
    state = ForwardPass({image: moments}, sampled)
    axes = channel_axes(graph.calls)
    for call in graph.calls:
        # the addends of the first call are independent
        state.carry(call, moment_rule(call), None if call is graph.calls[0] else axes[call])
    return [ops.convert_to_numpy(part).astype("float64") for part in state.moments[graph.outputs[0]]]


def coalitions(x, p):
    """The inputs of all coalitions, with absent elements at zero, and their probabilities."""
    present = np.array(list(itertools.product((False, True), repeat=x.size)))
    probability = np.where(present, p.ravel(), 1 - p.ravel()).prod(axis=1)
    return (present * x.ravel()).reshape(-1, *x.shape), probability


def moments_over_coalitions(model, x, p):
    """Mean and variance of a model's output if input k is present with probability p_k."""
    inputs, probability = coalitions(x, p)
    outputs = ops.convert_to_numpy(model(inputs.astype("float32"))).astype("float64")
    mean = np.tensordot(probability, outputs, axes=1)
    return mean, np.tensordot(probability, np.square(outputs - mean), axes=1)


ACTIVATIONS = [
    layers.Activation("relu"),
    layers.ReLU(),
    layers.ReLU(max_value=1.0, negative_slope=0.1),
    layers.LeakyReLU(negative_slope=0.3),
    layers.Activation("leaky_relu"),
    layers.PReLU(alpha_initializer=keras.initializers.Constant(0.25)),
    layers.Activation("gelu"),
    layers.Activation("tanh"),
    layers.Activation("sigmoid"),
    layers.ELU(),
    layers.Activation("linear"),
]


@pytest.mark.parametrize("layer", ACTIVATIONS, ids=lambda layer: layer.name)
def test_an_activation_of_what_does_not_vary_is_its_value(layer):
    m = np.array([[-3.0], [-0.4], [0.0], [0.7], [5.0]])
    model = keras.Sequential([keras.Input((1,)), layer])
    mean, variance = carried(model, m, np.zeros_like(m))
    np.testing.assert_allclose(mean, ops.convert_to_numpy(model(m.astype("float32"))), atol=1e-6)
    np.testing.assert_allclose(variance, 0, atol=1e-11)


@pytest.mark.parametrize("layer", ACTIVATIONS, ids=lambda layer: layer.name)
def test_an_activation_has_the_moments_of_its_integral(layer):
    m, v = (part.ravel() for part in np.meshgrid([-3.0, -0.4, 0.0, 0.7, 5.0], [1e-4, 0.09, 1.0, 6.0]))
    model = keras.Sequential([keras.Input((1,)), layer])
    mean, variance = carried(model, m[:, None], v[:, None])
    values = ops.convert_to_numpy(model(np.float32(m + GRID[:, None] * np.sqrt(v)).reshape(-1, 1))).astype("float64")
    values = values.reshape(len(GRID), -1)
    expected = WEIGHTS @ values
    # quadrature sees a kink as a bend
    tolerance = 0.02 if getattr(layer, "max_value", None) else 2e-3
    np.testing.assert_allclose(mean[:, 0], expected, atol=tolerance)
    np.testing.assert_allclose(variance[:, 0], WEIGHTS @ np.square(values - expected), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(
    "layer, expected",
    [
        (layers.Dense(2), 1),
        (layers.Dense(2, "relu"), 1),
        (layers.MaxPooling1D(3), 3),
        (layers.AveragePooling1D(2, 1), 2),
        (layers.GlobalMaxPooling1D(), 1),
        (layers.Activation("softmax"), 128),
        (layers.Dense(2, "softmax"), 128),
        (layers.Softmax(), 128),
        (layers.LeakyReLU(), 1),
        (layers.Activation("leaky_relu"), 1),
        (layers.Dropout(0.5), 1),
        (ks.ShapLUDense(2), 1),
        (ks.SADense(2), 24),
        (layers.Dense(2, "gelu"), 24),
        (layers.Activation("tanh"), 24),
        (layers.ELU(), 24),
    ],
    ids=lambda part: getattr(part, "name", str(part)),
)
def test_some_calls_compute_many_values_of_each_element(layer, expected):
    """Memory is in proportion to them: images of a network with SA come in smaller batches."""
    call, _ = trace(keras.Sequential([keras.Input((4, 3)), layer, layers.Dense(2)])).calls
    assert moment_rule(call).n_values(call) == expected


def test_quadrature_is_exact_for_a_straight_line_and_for_the_mean_of_a_square(rng):
    m, v = rng.normal(size=(2, 5)), rng.uniform(0.1, 2, size=(2, 5))
    tensors = [ops.convert_to_tensor(part, "float32") for part in (m, v)]
    line = quadrature_moments(lambda z: 3 * z - 1, *tensors)
    np.testing.assert_allclose(ops.convert_to_numpy(line.mean), 3 * m - 1, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ops.convert_to_numpy(line.variance), 9 * v, rtol=1e-5)
    square = quadrature_moments(ops.square, *tensors)
    np.testing.assert_allclose(ops.convert_to_numpy(square.mean), m**2 + v, rtol=1e-5)


def test_relu_far_from_its_kink_keeps_its_digits():
    """With large means and small variances a difference of squares would leave noise."""
    model = keras.Sequential([keras.Input((1,)), layers.ReLU()])
    mean, variance = carried(model, [[300.0], [-300.0]], [[1e-3], [1e-3]])
    np.testing.assert_allclose(mean[:, 0], [300, 0], rtol=1e-6)
    np.testing.assert_allclose(variance[:, 0], [1e-3, 0], rtol=1e-4)


@pytest.mark.parametrize(
    "layer",
    [
        layers.Dense(3, bias_initializer="normal"),
        layers.Reshape((6, 1)),
        layers.Rescaling(2.0, offset=-1.0),
        layers.Dropout(0.5),
    ],
    ids=lambda layer: layer.name,
)
def test_moments_behind_the_first_layer_of_vectors_are_exact(layer, rng):
    model = keras.Sequential([keras.Input((6,)), layer])
    check_exact(model, rng)


@pytest.mark.parametrize(
    "layer",
    [
        layers.Conv2D(2, 2, padding="same", bias_initializer="normal"),
        layers.Conv2D(2, 2, strides=2),
        layers.DepthwiseConv2D(2, depth_multiplier=2),
        layers.SeparableConv2D(2, 2),
        layers.Conv2DTranspose(2, 2),
        layers.AveragePooling2D((2, 1)),
        layers.AveragePooling2D(2, padding="same"),
        layers.GlobalAveragePooling2D(),
        layers.ZeroPadding2D(1),
        layers.BatchNormalization(
            moving_mean_initializer="normal", moving_variance_initializer=keras.initializers.Constant(0.3)
        ),
        layers.Permute((2, 1, 3)),
    ],
    ids=lambda layer: layer.name,
)
def test_moments_behind_the_first_layer_of_images_are_exact(layer, rng):
    check_exact(keras.Sequential([keras.Input((3, 2, 2)), layer]), rng)


def check_exact(model, rng):
    shape = model.input_shape[1:]
    x, p = rng.normal(size=shape), rng.uniform(size=shape)
    mean, variance = carried(model, (p * x)[None], (p * (1 - p) * x**2)[None])
    expected = moments_over_coalitions(model, x, p)
    np.testing.assert_allclose(mean[0], expected[0], atol=1e-5)
    np.testing.assert_allclose(variance[0], expected[1], atol=1e-5)


@pytest.mark.parametrize(
    "combined",
    [
        lambda a, b: layers.Add()([a, b]),
        lambda a, b: layers.Subtract()([a, b]),
        lambda a, b: layers.Average()([a, b]),
        lambda a, b: layers.Multiply()([a, b]),
        lambda a, b: layers.Concatenate()([a, b]),
        lambda a, b: a * 3.0 - b / 2.0 + 1.0,
        lambda a, b: ops.mean(ops.stack([a, b], axis=1), axis=1),
    ],
)
def test_independent_tensors_combine_exactly(combined, rng):
    inputs = keras.Input((6,))
    a, b = (layers.Dense(2, bias_initializer="normal")(part) for part in (inputs[:, :3], inputs[:, 3:]))
    check_exact(keras.Model(inputs, combined(a, b)), rng)


@pytest.mark.parametrize("shape, layer", [((2, 2), layers.MaxPooling1D(2)), ((2, 3), layers.GlobalMaxPooling1D())])
def test_the_maximum_of_two_has_the_moments_of_its_integral(shape, layer, rng):
    m, v = rng.normal(size=shape), rng.uniform(0.1, 2, size=shape)
    mean, variance = carried(keras.Sequential([keras.Input(shape), layer]), m[None], v[None])
    x = np.linspace(-15, 15, 40001)[:, None]
    (m1, m2), (s1, s2) = m, np.sqrt(v)
    cdf = stats.norm.cdf(x, m1, s1) * stats.norm.cdf(x, m2, s2)
    weights, middle = np.diff(cdf, axis=0), (x[1:] + x[:-1]) / 2
    expected = (weights * middle).sum(axis=0)
    np.testing.assert_allclose(mean.ravel(), expected, atol=1e-4)
    np.testing.assert_allclose(variance.ravel(), (weights * (middle - expected) ** 2).sum(axis=0), atol=1e-4)


@pytest.mark.parametrize(
    "layer", [layers.MaxPooling2D(2, padding="same"), layers.GlobalMaxPooling2D(), layers.MaxPooling2D(3, strides=1)]
)
def test_max_pooling_is_near_the_mean_over_draws(layer, rng):
    """The inputs are negative, so that a padding of zeros would be the maximum."""
    shape = (5, 5, 2)
    model = keras.Sequential([keras.Input(shape), layer])
    m, v = rng.normal(size=shape) - 4, rng.uniform(0.1, 1, size=shape)
    mean, variance = carried(model, m[None], v[None])
    draws = ops.convert_to_numpy(model((m + rng.normal(size=(20000, *shape)) * np.sqrt(v)).astype("float32")))
    np.testing.assert_allclose(mean[0], draws.mean(axis=0), atol=0.06)
    np.testing.assert_allclose(variance[0], draws.var(axis=0), atol=0.15)


def test_a_softmax_is_the_mean_over_draws(rng):
    model = keras.Sequential([keras.Input((4,)), layers.Softmax()])
    m, v = rng.normal(size=(2, 4)), rng.uniform(0.1, 2, size=(2, 4))
    mean, variance = carried(model, m, v)
    logits = m + rng.normal(size=(100000, 2, 4)) * np.sqrt(v)
    values = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(mean, values.mean(axis=0), atol=0.03)
    np.testing.assert_allclose(variance, values.var(axis=0), atol=0.02)
    np.testing.assert_allclose(mean.sum(axis=1), 1, rtol=1e-5)
    dense = keras.Sequential([keras.Input((4,)), layers.Dense(4, "softmax", kernel_initializer="identity")])
    np.testing.assert_allclose(carried(dense, m, v)[0], mean, rtol=1e-5)


@pytest.mark.parametrize("second_moment", ["exact", "pooled"])
@pytest.mark.parametrize("depth_multiplier", [1, 2])
def test_a_separable_layer_carries_moments_as_the_convolution_with_its_kernel(depth_multiplier, second_moment, rng):
    options = dict(second_moment=second_moment, bias_initializer="normal")
    separable = ks.SASeparableConv2D(4, 3, depth_multiplier=depth_multiplier, **options)
    convolution = ks.SAConv2D(4, 3, **options)
    models = [keras.Sequential([keras.Input((4, 4, 3)), layer]) for layer in (separable, convolution)]
    *kernels, bias = separable.get_weights()
    convolution.set_weights([geometry.kernel_of(kernels), bias])
    mean, variance = rng.normal(size=(2, 4, 4, 3)), rng.uniform(size=(2, 4, 4, 3))
    for actual, expected in zip(*(carried(model, mean, variance) for model in models), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("second_moment", ["exact", "pooled"])
def test_a_shapley_activation_is_integrated_with_its_mean_second_moment(second_moment, rng):
    layer = ks.SADense(3, second_moment=second_moment, bias_initializer="normal")
    model = keras.Sequential([keras.Input((6,)), layer])
    m, v = rng.normal(size=(1, 6)), rng.uniform(size=(1, 6))
    mean, variance = carried(model, m, v)
    w, b = (ops.convert_to_numpy(weight).astype("float64") for weight in (layer.kernel, layer.bias))
    square = m**2 + v
    q = square @ w**2 if second_moment == "exact" else square.mean() * (w**2).sum(axis=0)
    u = (m @ w)[0] + GRID[:, None] * np.sqrt(v @ w**2)
    values = stats.norm.cdf((u / 2 + b) / np.sqrt(q / 6 + u**2 / 12)) * (u + b)
    expected = WEIGHTS @ values
    np.testing.assert_allclose(mean[0], expected, atol=1e-3)
    np.testing.assert_allclose(variance[0], WEIGHTS @ (values - expected) ** 2, atol=2e-3)
    shaplu = keras.Sequential([keras.Input((6,)), ks.ShapLUDense(3)])
    relu = keras.Sequential([keras.Input((6,)), layers.Dense(3, "relu")])
    relu.set_weights(shaplu.get_weights())
    np.testing.assert_allclose(carried(shaplu, m, v), carried(relu, m, v), rtol=1e-5)


def test_samples_correct_the_variance_of_dependent_addends(rng):
    """Two linear layers are one, whose variance is known; independent neurons would have another."""
    model = keras.Sequential([keras.Input((6,)), layers.Dense(20), layers.Dense(4)])
    x, p = rng.normal(size=(1, 6)), np.full((1, 6), 0.4)
    kernel = np.linalg.multi_dot([ops.convert_to_numpy(layer.kernel).astype("float64") for layer in model.layers])
    expected = (p * (1 - p) * x**2) @ kernel**2
    alone = carried(model, p * x, p * (1 - p) * x**2)[1]
    samples = (rng.uniform(size=(4000, 6)) < 0.4) * x
    mean, corrected = carried(model, p * x, p * (1 - p) * x**2, samples)
    np.testing.assert_allclose(mean, p * x @ kernel, atol=1e-5)
    np.testing.assert_allclose(corrected, expected, rtol=0.1)
    assert np.abs(alone / expected - 1).max() > 0.3


def test_the_correction_of_a_channel_is_one_factor(rng):
    model = keras.Sequential([keras.Input((6, 2)), layers.Conv1D(3, 3), layers.Conv1D(2, 2)])
    p, x = 0.5, rng.normal(size=(1, 6, 2))
    samples = (rng.uniform(size=(50, 6, 2)) < p) * x
    plain = carried(model, p * x, p * (1 - p) * x**2)[1]
    corrected = carried(model, p * x, p * (1 - p) * x**2, samples)[1]
    ratio = corrected / plain
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:, :1], ratio.shape), rtol=1e-4)
    outputs = ops.convert_to_numpy(model(samples.astype("float32")))
    np.testing.assert_allclose(corrected.sum(axis=1)[0], outputs.var(axis=0, ddof=1).sum(axis=0), rtol=2e-3)


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="no pooling of channels_first on a CPU")
def test_the_correction_is_by_channel_wherever_the_channels_are(rng):
    x, p = rng.uniform(size=(1, 6, 4, 3)), 0.4
    samples = (rng.uniform(size=(30, 6, 4, 3)) < p) * x
    moments = []
    for axis, data_format in ((-1, "channels_last"), (1, "channels_first")):
        parts = [np.moveaxis(part, -1, axis) for part in (p * x, p * (1 - p) * x**2, samples)]
        model = keras.Sequential(
            [
                keras.Input(parts[0].shape[1:]),
                layers.Rescaling(2.0),
                layers.BatchNormalization(axis=axis),
                layers.AveragePooling2D(2, data_format=data_format),
                # a layer that does not say where its channels are
                layers.Rescaling(0.5),
            ]
        )
        moments.append([np.moveaxis(part, axis, -1) for part in carried(model, *parts)])
    np.testing.assert_allclose(moments[1], moments[0], rtol=1e-4)


def test_the_channel_axis_is_known_behind_a_mean_over_time(rng):
    """A mean over time is the same by a layer and by an operation."""
    image = keras.Input((6, 3))
    values = []
    convolution = layers.Conv1D(4, 3, activation="relu", bias_initializer="normal")
    head = layers.Dense(2, "softmax")
    for mean in (layers.GlobalAveragePooling1D(), lambda x: ops.mean(x, axis=1)):
        model = keras.Model(image, head(mean(convolution(image))))
        values.append(ks.fast_shapley_values(model, np.ones((2, 6, 3)), 0).values)
    np.testing.assert_allclose(values[1], values[0], rtol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("images", [False, True])
@pytest.mark.parametrize("in_front", [layers.Rescaling, layers.Normalization, layers.BatchNormalization])
def test_moments_are_carried_at_full_precision(policy, images, in_front, rng):
    """Layers of another dtype policy in front of a linear one, against float32 with the same weights."""
    shape, models = (6, 6, 2) if images else (10,), []
    options = {layers.Rescaling: {"scale": 0.02, "offset": -2.0}, layers.Normalization: {"mean": 100, "variance": 2500}}
    for dtype in ("float32", policy):
        first = in_front(**options.get(in_front, {}), dtype=dtype)
        middle = layers.Conv2D(4, 3, activation="relu", dtype=dtype) if images else layers.Dense(8, "relu", dtype=dtype)
        rest = [first, middle, layers.Flatten(), layers.Dense(3, "softmax", dtype="float32")]
        models.append(keras.Sequential([keras.Input(shape), *rest]))
    if in_front is layers.BatchNormalization:
        models[0].layers[0].set_weights([np.full(shape[-1], value) for value in (1.0, 0.0, 100.0, 2500.0)])
    models[1].set_weights(models[0].get_weights())
    x = rng.uniform(0, 200, size=(3, *shape))
    expected, values = (ks.fast_shapley_values(model, x, 0, n_samples=0).values for model in models)
    # the error that is left is that of the layers behind
    assert ks.metrics.relative_rmse(values, expected).max() < 0.02


def test_a_layer_without_moments_is_named():
    model = keras.Sequential([keras.Input((4,)), layers.LayerNormalization(name="odd"), layers.Dense(2)])
    with pytest.raises(
        ValueError, match=r"'odd' \(LayerNormalization\) has no moments. Use sampled_shapley_values.*LRP.*layer\.$"
    ):
        ks.fast_shapley_values(model, np.ones((1, 4)))
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, "log_softmax", name="head")])
    with pytest.raises(ValueError, match="'head' .*activation 'log_softmax', which has no moments.*sampled_shapley"):
        ks.fast_shapley_values(model, np.ones((1, 4)))
    inputs = keras.Input((4,))
    model = keras.Model(
        inputs, layers.Dense(2)(layers.Dense(3)(inputs) / layers.Dense(3, bias_initializer="ones")(inputs))
    )
    with pytest.raises(ValueError, match="'true_divide.*' .* one tensor alone"):
        ks.fast_shapley_values(model, np.ones((1, 4)))


@pytest.mark.parametrize("options", [{"max_value": 0.5}, {"negative_slope": 0.3}, {"threshold": 0.4}])
def test_a_relu_with_options_is_not_taken_for_relu(options, rng):
    """The function has the moments of the layer with the same options."""
    inputs = keras.Input((5,))
    hidden = layers.Dense(6)(inputs)
    function = keras.Model(inputs, layers.Dense(2)(keras.activations.relu(hidden, **options)))
    layer = keras.Model(inputs, layers.Dense(2)(layers.ReLU(**options)(hidden)))
    layer.set_weights(function.get_weights())
    x = rng.normal(size=(3, 5))
    values, expected = (ks.fast_shapley_values(model, x, 0).values for model in (function, layer))
    np.testing.assert_allclose(values, expected, atol=1e-5)
