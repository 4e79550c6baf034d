"""The neuron of Shapley propagation against loops over its inputs, enumeration, and numerical integrals."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from reference import propagation as reference
from reference.paper import normal_cdf

import keras_shapley as ks

BIAS = keras.initializers.RandomNormal(stddev=0.5, seed=3)


def dense(units, activation=None, **options):
    return layers.Dense(units, activation, bias_initializer=BIAS, **options)


def explained(model, x, baseline, target=0, **options):
    return ks.LRP(model, rules="auto", baseline=baseline, head="linear", **options).explain(x, target).input


def close(ours, theirs, tolerance=1e-5):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


@pytest.fixture
def mlp(rng):
    model = keras.Sequential(
        [
            keras.Input((5,)),
            dense(7, "relu", kernel_initializer=keras.initializers.RandomNormal(stddev=1.0, seed=4)),
            dense(6, kernel_initializer=keras.initializers.RandomNormal(stddev=2.0, seed=5)),
            layers.ReLU(max_value=6.0),
            dense(6),
            layers.LeakyReLU(negative_slope=0.3),
            dense(3),
        ]
    )
    names = iter(["relu", "relu6", "leaky", "linear"])
    sizes = iter([5, 7, 6, 6])
    parts = [reference.layer_of(layer, (1, next(sizes)), next(names)) for layer in model.layers if layer.weights]
    return model, parts


@pytest.mark.parametrize("is_array", [False, True])
def test_an_mlp_agrees_with_a_loop_over_its_neurons(mlp, rng, is_array):
    model, parts = mlp
    x = rng.normal(size=(3, 5)).astype("float32")
    baseline = rng.normal(size=5).astype("float32") if is_array else 0.25
    ours = explained(model, x, baseline, 2)
    for image, ours_of_one in zip(x, ours, strict=True):
        theirs = reference.relevance(parts, image[None], np.broadcast_to(baseline, (1, 5)), [0, 0, 1])
        close(ours_of_one, theirs[0])


@pytest.mark.parametrize("is_array", [False, True])
def test_a_conv_net_agrees_with_a_loop_over_its_neurons(rng, is_array):
    model = keras.Sequential(
        [
            keras.Input((5, 6, 2)),
            layers.Conv2D(3, 3, padding="same", activation="relu", bias_initializer=BIAS),
            layers.Conv2D(4, 2, strides=2, bias_initializer=BIAS),
            layers.Activation("relu6"),
            layers.Flatten(),
            dense(2),
        ]
    )
    shapes, names = [(1, 5, 6, 2), (1, 5, 6, 3), (1, 24)], ["relu", "relu6", "linear"]
    weighted = [layer for layer in model.layers if layer.weights]
    parts = [reference.layer_of(*part) for part in zip(weighted, shapes, names, strict=True)]
    x = rng.normal(size=(2, 5, 6, 2)).astype("float32")
    baseline = rng.normal(size=(5, 6, 2)).astype("float32") if is_array else -0.5
    ours = explained(model, x, baseline, [0.5, -1.0])
    for image, ours_of_one in zip(x, ours, strict=True):
        theirs = reference.relevance(parts, image[None], np.broadcast_to(baseline, (1, 5, 6, 2)), [0.5, -1.0])
        close(ours_of_one, theirs[0])


@pytest.mark.parametrize("n, limit", [(4, 0.10), (8, 0.065), (12, 0.05)])
def test_a_neuron_is_nearer_to_its_exact_values_than_eq_1(rng, n, limit):
    """The relative error of 150 neurons of normal contributions, without a bias: all errors over all values."""
    x, kernel = np.ones((1, n)), rng.normal(size=(n, 150))
    exact, paper = (
        ops.convert_to_numpy(ks.neuron_shapley_values(x, kernel, method=method))[0] for method in ("exact", "gaussian")
    )
    model = keras.Sequential([keras.Input((n,)), layers.Dense(150, "relu", use_bias=False), layers.Dense(150)])
    model.set_weights([kernel, np.eye(150), np.zeros(150)])
    ours = explained(model, np.ones((150, n)), 0.0, np.arange(150)).T

    def error(values):
        return np.linalg.norm(values - exact) / np.linalg.norm(exact)

    assert error(ours) < limit
    assert error(ours) < error(paper)


SMOOTH = {
    "gelu": lambda z: z * np.vectorize(normal_cdf)(z),
    "tanh": np.tanh,
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "silu": lambda z: z / (1 + np.exp(-z)),
    "elu": lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
    "softplus": lambda z: np.log1p(np.exp(z)),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_the_mean_slope_of_a_smooth_activation_is_an_integral(name, rng):
    """Of `r_k/a_k = G + H a_k` the intercept is `G`, the mean of `f'` over the normal, and the slope is `H`."""
    f = SMOOTH[name]
    x, baseline = rng.normal(size=(6, 5)), rng.normal(size=5)
    kernel, bias = 0.6 * rng.normal(size=(5, 1)), 0.3
    model = keras.Sequential([keras.Input((5,)), layers.Dense(1, name), layers.Dense(1, use_bias=False)])
    model.set_weights([kernel, np.array([bias]), np.ones((1, 1))])
    nodes = np.linspace(-9, 9, 20001)
    density = np.exp(-(nodes**2) / 2) / np.sqrt(2 * np.pi)
    for image, values in zip(x, explained(model, x, baseline), strict=True):
        a = (image - baseline) * kernel[:, 0]
        u, q, z0 = a.sum(), np.sum(a**2), baseline @ kernel[:, 0] + bias
        sigma = np.sqrt(q / 6 + u**2 / 12)
        z = z0 + u / 2 + sigma * nodes
        g = np.sum((f(z + 1e-5) - f(z - 1e-5)) / 2e-5 * density) * (nodes[1] - nodes[0])
        h = (f(z0 + u) - f(z0) - g * u) / q
        # seven nodes see the kink in the slope of ELU less well
        tolerance = 2e-2 if name == "elu" else 1e-2
        np.testing.assert_allclose(values, g * a + h * a**2, atol=tolerance)
        found_h, found_g = np.polyfit(a, values / a, 1, w=np.abs(a))
        np.testing.assert_allclose(found_g, g, atol=tolerance)
        np.testing.assert_allclose(found_g * u + found_h * q, f(z0 + u) - f(z0), atol=1e-4)


def test_batch_normalization_behind_a_convolution_is_part_of_the_neuron(rng):
    x = rng.normal(size=(2, 6, 6, 2))
    conv = layers.Conv2D(3, 3, bias_initializer=BIAS)
    norm, flat, last = layers.BatchNormalization(), layers.Flatten(), dense(2)
    model = keras.Sequential([keras.Input((6, 6, 2)), conv, norm, layers.ReLU(), flat, last])
    gamma, beta, mean = rng.normal(size=(3, 3))
    variance = rng.uniform(0.5, 2, size=3)
    norm.set_weights([gamma, beta, mean, variance])
    merged = keras.Sequential([keras.Input((6, 6, 2)), layers.Conv2D(3, 3, activation="relu"), flat, last])
    kernel, bias = conv.get_weights()
    scale = gamma / np.sqrt(variance + norm.epsilon)
    merged.layers[0].set_weights([kernel * scale, (bias - mean) * scale + beta])
    close(explained(model, x, 0.3, 1), explained(merged, x, 0.3, 1))


def test_a_convolution_and_a_skip_behind_one_relu_are_one_neuron(rng):
    """Their `u` and `q` add: the neuron has the taps of the convolution, and one more for the skip."""
    x = rng.normal(size=(2, 4, 4, 2)).astype("float32")
    image = keras.Input((4, 4, 2))
    conv = layers.Conv2D(2, 3, padding="same", bias_initializer=BIAS)
    y = layers.ReLU()(layers.Add()([conv(image), image]))
    last = dense(2)
    model = keras.Model(image, last(layers.Flatten()(y)))
    ours = explained(model, x, 0.2, 1)

    delta = np.zeros((3, 3, 2, 2))
    delta[1, 1] = np.eye(2)
    kernel = np.concatenate([np.array(conv.get_weights()[0], "float64"), delta], axis=2)
    parts = [
        reference.layer_of(conv, (1, 4, 4, 4), "relu", kernel),
        reference.layer_of(last, (1, 32)),
    ]
    for picture, ours_of_one in zip(x, ours, strict=True):
        twice = np.concatenate([picture, picture], axis=-1)[None]
        theirs = reference.relevance(parts, twice, np.full(twice.shape, np.float32(0.2)), [0, 1])
        close(ours_of_one, (theirs[..., :2] + theirs[..., 2:])[0])


def test_an_average_of_branches_has_the_squares_of_its_factors(rng):
    x = rng.normal(size=(2, 4)).astype("float32")
    value = keras.Input((4,))
    first, second, last = dense(3), dense(3), dense(1)
    model = keras.Model(value, last(layers.ReLU()(layers.Average()([first(value), second(value)]))))
    whole = keras.Sequential([keras.Input((8,)), layers.Dense(3, "relu"), last])
    kernels, biases = zip(*(layer.get_weights() for layer in (first, second)), strict=True)
    whole.layers[0].set_weights([np.concatenate(kernels) / 2, sum(biases) / 2])
    theirs = explained(whole, np.concatenate([x, x], axis=1), 0.4)
    close(explained(model, x, 0.4), theirs[:, :4] + theirs[:, 4:])


def test_an_activation_of_the_input_is_rescaled(rng):
    """It has one contribution, so there is nothing to average over."""
    x = rng.normal(size=(4, 3)).astype("float32")
    model = keras.Sequential([keras.Input((3,)), layers.Activation("tanh"), layers.Dense(1)])
    kernel = model.layers[-1].get_weights()[0][:, 0]
    close(explained(model, x, 0.5), kernel * (np.tanh(x) - np.tanh(0.5)))
    # no difference at all, from a baseline of zero
    np.testing.assert_array_equal(explained(model, np.zeros((1, 3)), 0.0), 0)


@pytest.mark.parametrize("activation", ["relu", "relu6", "leaky_relu", "gelu", "tanh"])
def test_a_unit_whose_inputs_are_those_of_the_baseline_is_finite(activation, rng):
    model = keras.Sequential([keras.Input((6,)), layers.Reshape((2, 3)), dense(4, activation), layers.Flatten()])
    model.add(dense(2))
    x = rng.normal(size=(2, 6))
    x[0] = 0.5
    x[1, :3] = 0.5
    relevance = explained(model, x, 0.5)
    np.testing.assert_array_equal(relevance[0], 0)
    np.testing.assert_array_equal(relevance[1, :3], 0)
    assert np.all(np.isfinite(relevance)) and np.any(relevance[1, 3:] != 0)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_contributions_that_cancel_are_conserved(activation):
    """`u = 0` while `q` is not: a rescaled neuron would divide by it."""
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1, activation), layers.Dense(1, use_bias=False)])
    model.set_weights([np.array([[1.0], [-1.0]]), np.zeros(1), np.ones((1, 1))])
    relevance = explained(model, np.array([[2.0, 2.0]]), 0.0)
    np.testing.assert_allclose(relevance.sum(), 0, atol=1e-6)
    assert relevance[0, 0] > 0.5


@pytest.mark.parametrize("layer_type", [ks.SADense, ks.ShapLUDense])
def test_layers_with_shapley_activations_use_the_gate_and_conserve(layer_type, rng):
    x = rng.normal(size=(3, 4)).astype("float32")
    baseline = rng.normal(size=4).astype("float32")
    model = keras.Sequential([keras.Input((4,)), layer_type(1, bias_initializer=BIAS)])
    model.add(layers.Dense(1, use_bias=False, kernel_initializer="ones"))
    kernel, bias = (np.array(weight, "float64") for weight in model.layers[0].get_weights()[:2])
    relevance = explained(model, x, baseline)
    dy = model.predict(x, verbose=0)[:, 0] - model.predict(baseline[None], verbose=0)[0, 0]
    for image, values, difference in zip(x, relevance, dy, strict=True):
        a = kernel[:, 0] * (image - baseline)
        u, q = a.sum(), np.sum(a**2)
        g = normal_cdf((baseline @ kernel[:, 0] + bias[0] + u / 2) / np.sqrt(q / 6 + u**2 / 12))
        close(values, g * a + (difference - g * u) / q * a**2)
