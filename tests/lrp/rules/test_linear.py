"""Every rule for linear layers against its formula on the dense matrix of the layer, in float64 NumPy."""

import math

import keras
import numpy as np
import pytest
from keras import layers, ops
from reference.calls import BIAS, call_of, propagate

import keras_shapley as ks
from keras_shapley import rules
from keras_shapley.models.tracing import trace

EPSILON = 1e-6

# type, arguments, shape of the input
LINEAR = [
    (layers.Dense, dict(units=4), (5,)),
    (layers.Dense, dict(units=4, use_bias=False), (5,)),
    (layers.Dense, dict(units=4), (3, 5)),
    (layers.EinsumDense, dict(equation="abc,cd->abd", output_shape=(3, 4), bias_axes="d"), (3, 5)),
    (layers.EinsumDense, dict(equation="...bc,bcd->...d", output_shape=4, bias_axes="d"), (3, 5)),
    (layers.EinsumDense, dict(equation="abc,bcd->abd", output_shape=(3, 4), bias_axes="bd"), (3, 5)),
    (layers.Conv1D, dict(filters=4, kernel_size=3, padding="causal", dilation_rate=2), (6, 2)),
    (layers.Conv1D, dict(filters=4, kernel_size=3, strides=2, padding="same"), (6, 2)),
    (layers.Conv2D, dict(filters=4, kernel_size=3, padding="same"), (5, 4, 2)),
    (layers.Conv2D, dict(filters=4, kernel_size=(3, 2), strides=(2, 1)), (5, 4, 2)),
    (layers.Conv2D, dict(filters=6, kernel_size=3, padding="same", groups=2), (4, 4, 4)),
    (layers.Conv2D, dict(filters=2, kernel_size=3, padding="same", dilation_rate=2), (5, 5, 2)),
    (layers.Conv3D, dict(filters=2, kernel_size=2, padding="same"), (3, 3, 2, 2)),
    (layers.DepthwiseConv2D, dict(kernel_size=3, padding="same", depth_multiplier=2), (4, 4, 3)),
    (layers.DepthwiseConv1D, dict(kernel_size=3, strides=2, padding="same"), (5, 3)),
    (layers.Conv2DTranspose, dict(filters=3, kernel_size=3, strides=2, padding="same"), (3, 3, 2)),
    (layers.Conv1DTranspose, dict(filters=3, kernel_size=3), (4, 2)),
    (layers.SeparableConv2D, dict(filters=3, kernel_size=3, padding="same", depth_multiplier=2), (4, 4, 2)),
    (layers.SeparableConv1D, dict(filters=3, kernel_size=3, strides=2), (7, 2)),
    (ks.SADense, dict(units=4), (5,)),
    (ks.SAConv2D, dict(filters=4, kernel_size=3, strides=2, padding="same"), (5, 5, 2)),
    (ks.ShapLUConv2D, dict(filters=4, kernel_size=3, padding="same"), (4, 4, 2)),
    (ks.ShapLUDepthwiseConv2D, dict(kernel_size=3, padding="same"), (4, 4, 2)),
    (ks.SADepthwiseConv1D, dict(kernel_size=3, padding="same"), (5, 2)),
    (ks.SASeparableConv1D, dict(filters=3, kernel_size=3, padding="same"), (5, 2)),
    (ks.SASeparableConv2D, dict(filters=3, kernel_size=3, padding="same", depth_multiplier=2), (4, 4, 2)),
    (ks.ShapLUConv1DTranspose, dict(filters=3, kernel_size=4, padding="same"), (4, 2)),
    (ks.ShapLUConv2DTranspose, dict(filters=3, kernel_size=3, strides=2, padding="same"), (3, 3, 2)),
    (ks.SAConv3DTranspose, dict(filters=2, kernel_size=2), (2, 2, 2, 2)),
]
# dense, einsum, convolutions plain and in groups, depthwise
FEW = [LINEAR[i] for i in (0, 3, 8, 10, 13)]
# of our layers, which their parents do not have
OPTIONS = ("second_moment", "moment_gradient", "gradient")


def dense_matrix(layer, shape):
    """The layer's linear map as a matrix (inputs, outputs): what its parent gives on every basis vector."""
    if isinstance(layer, layers.Dense) and len(shape) == 1:
        # Keras's own Dense computes in float32 on PyTorch
        kernel = ops.convert_to_numpy(layer.kernel).astype("float64")
        return kernel, np.ones(kernel.shape, bool)
    parent = next(cls for cls in type(layer).__mro__ if cls.__module__.startswith("keras.src.layers"))
    config = {k: v for k, v in layer.get_config().items() if k not in OPTIONS}
    plain = parent.from_config(config | {"activation": None, "name": "plain"})
    plain.build((None, *shape))

    kernels = layer.get_weights()[: len(layer.weights) - (layer.bias is not None)]
    no_bias = [np.zeros(layer.bias.shape)] if layer.bias is not None else []

    def matrix(kernels):
        plain.set_weights([*kernels, *no_bias])
        basis = np.eye(math.prod(shape), dtype="float32").reshape(-1, *shape)
        return ops.convert_to_numpy(plain(basis)).astype("float64").reshape(len(basis), -1)

    return matrix(kernels), matrix([np.ones_like(kernel) for kernel in kernels]) > 0


@pytest.mark.parametrize("cls, config, shape", LINEAR)
def test_eq_2_matches_its_dense_matrix(cls, config, shape, rng):
    layer = cls(**config, **(dict(bias_initializer=BIAS) if config.get("use_bias", True) else {}))
    call = call_of(layer, shape)
    w, tap = dense_matrix(layer, shape)
    x = rng.normal(size=(3, *shape))
    out_shape = (3, *layer.compute_output_shape((3, *shape))[1:])
    flat = x.reshape(3, -1)
    b = np.zeros(1) if layer.bias is None else ops.convert_to_numpy(layer.bias).astype("float64")
    b = np.broadcast_to(b, out_shape[1:]).ravel()
    n = tap.sum(axis=0)
    # relevance in proportion to the output: no denominator near zero spoils the comparison in float32
    r = (flat @ w + b) * rng.normal(size=(3, len(b)))
    messages = (flat[:, :, None] * w + tap * (b / n)) / (flat @ w + b)[:, None]  # eq. (2), input by output
    expected = (messages * r[:, None]).sum(axis=2)

    (r_in,) = propagate(rules.Shapley(), call, [x], r.reshape(out_shape))
    assert r_in.shape == x.shape
    scale = np.abs(messages * r[:, None]).sum(axis=2).max()
    np.testing.assert_allclose(r_in.reshape(3, -1), expected, atol=1e-4 * scale)
    np.testing.assert_allclose(r_in.sum(), r.sum(), atol=2e-4 * scale)


def test_bias_never_leaves_the_image():
    """With padding="same", all weights 0 and a bias: a border pixel gets its share, and nothing is lost."""
    layer = layers.Conv2D(1, 3, padding="same", kernel_initializer="zeros", bias_initializer="ones")
    call = call_of(layer, (3, 3, 1))
    (r_in,) = propagate(rules.Shapley(), call, [np.ones((1, 3, 3, 1))], np.ones((1, 3, 3, 1)))
    corner = 1 / 4 + 2 / 6 + 1 / 9  # windows that hold the corner: its own, two edges, the centre
    np.testing.assert_allclose(r_in[0, 0, 0, 0], corner, rtol=1e-6)
    np.testing.assert_allclose(r_in.sum(), 9, rtol=1e-6)


@pytest.mark.parametrize("margins", [((1, 1),), ((1, 0), (0, 2))])
def test_zero_padding_in_front_receives_nothing(margins, rng):
    """ZeroPadding + valid convolution shares relevance as the same convolution with padding="same" does."""
    inputs = keras.Input((5, 5, 2))
    x = inputs
    for top, bottom in margins:
        x = layers.ZeroPadding2D(((top, bottom), (top, bottom)))(x)
    conv = layers.Conv2D(3, 3, bias_initializer=BIAS)
    padded = keras.Model(inputs, conv(x))
    data, relevance = rng.normal(size=(2, 5, 5, 2)), rng.normal(size=(2, *padded.output_shape[1:]))
    calls = trace(padded).calls
    full = np.pad(data, [(0, 0), *[tuple(np.sum(margins, axis=0))] * 2, (0, 0)])
    (r_in,) = propagate(rules.Shapley(), calls[-1], [full], relevance)
    for call in reversed(calls[:-1]):
        lost = np.abs(r_in).sum()
        (r_in,) = propagate(rules.Move(), call, [np.zeros((2, *_shape(call)))], r_in)
        assert np.abs(r_in).sum() == pytest.approx(lost, rel=1e-6)  # the margin held nothing
    assert r_in.shape == data.shape
    np.testing.assert_allclose(r_in.sum(), relevance.sum(), atol=1e-3)


def _shape(call):
    """Input shape of a ZeroPadding2D call of the test above, from its place in the chain."""
    size = 5
    value, chain = call.inputs[0], []
    while value.producer is not None:
        chain.append(value.producer.op)
        value = value.producer.inputs[0]
    for layer in chain:
        size += sum(layer.padding[0])
    return (size, size, 2)


def test_an_output_over_padding_alone_gives_finite_relevance(rng):
    """3 rows of zeros around a 3x3 window: corners have no real input, and what their bias holds is lost."""
    inputs = keras.Input((2, 2, 1))
    model = keras.Model(inputs, layers.Conv2D(1, 3, bias_initializer="ones")(layers.ZeroPadding2D(3)(inputs)))
    padded = np.pad(rng.uniform(1, 2, size=(1, 2, 2, 1)), [(0, 0), (3, 3), (3, 3), (0, 0)])
    (r_in,) = propagate(rules.Shapley(), trace(model).calls[-1], [padded], np.ones((1, 6, 6, 1)))
    assert np.isfinite(r_in).all()
    assert r_in.sum() == pytest.approx(4 * 4, rel=1e-3)  # the windows that see the image: 4 by 4 of them


def test_a_zero_denominator_gives_finite_relevance():
    call = call_of(layers.Dense(2, use_bias=False), (3,))
    (r_in,) = propagate(rules.Shapley(), call, [np.zeros((1, 3))], np.ones((1, 2)))
    assert np.isfinite(r_in).all()


def plus(x):
    return np.maximum(x, 0)


def minus(x):
    return np.minimum(x, 0)


def share(z, b, r, mode, tap):
    """`sum_j z_kj / (sum_i z_ij + b_j) r_j` of one image, the bias as `mode` says; `b/n` where a tap is."""
    b = 0 * b if mode == "ignore" else b
    denominator = z.sum(axis=0) + b
    denominator = denominator + EPSILON * np.where(denominator < 0, -1, 1)
    if mode == "distribute":
        z = z + tap * (b / tap.sum(axis=0))
    return (z / denominator * r).sum(axis=1)


def epsilon(x, w, b, r, mode, tap):
    return share(x[:, None] * w, b, r, mode, tap)


def gamma(x, w, b, r, mode, tap, g=0.4):
    z = x[:, None] * w
    # the sign of the neuron's output, whether or not the bias has a share
    positive = z.sum(axis=0) + b >= 0
    up = share(z + g * plus(z), b + g * plus(b), np.where(positive, r, 0), mode, tap)
    return up + share(z + g * minus(z), b + g * minus(b), np.where(positive, 0, r), mode, tap)


def alpha_beta(x, w, b, r, mode, tap, alpha=2, beta=1):
    z = x[:, None] * w
    return alpha * share(plus(z), plus(b), r, mode, tap) - beta * share(minus(z), minus(b), r, mode, tap)


def z_plus(x, w, b, r, mode, tap):
    return share(plus(x[:, None] * w), plus(b), r, mode, tap)


def z_box(x, w, b, r, mode, tap, low=-2.0, high=3.0):
    return share(x[:, None] * w - low * plus(w) - high * minus(w), b, r, "ignore", tap)


def w_square(x, w, b, r, mode, tap):
    return share(w**2, b**2, r, mode, tap)


def flat(x, w, b, r, mode, tap):
    return share(tap * 1.0, b, r, "ignore", tap)


ANY_BIAS = ("distribute", "absorb", "ignore")
CASES = [
    *((epsilon, lambda mode=mode: rules.Epsilon(EPSILON, mode), mode) for mode in ANY_BIAS),
    *((gamma, lambda mode=mode: rules.Gamma(0.4, EPSILON, mode), mode) for mode in ANY_BIAS),
    *((alpha_beta, lambda mode=mode: rules.AlphaBeta(2, 1, EPSILON, mode), mode) for mode in ANY_BIAS),
    *((z_plus, lambda mode=mode: rules.ZPlus(EPSILON, mode), mode) for mode in ANY_BIAS),
    (z_box, lambda: rules.ZBox(-2.0, 3.0, EPSILON), "ignore"),
    *((w_square, lambda mode=mode: rules.WSquare(EPSILON, mode), mode) for mode in ANY_BIAS),
    (flat, lambda: rules.Flat(EPSILON), "ignore"),
]


@pytest.mark.parametrize("formula, rule, mode", CASES, ids=lambda case: getattr(case, "__name__", str(case)))
@pytest.mark.parametrize("cls, config, shape", FEW, ids=lambda case: getattr(case, "__name__", ""))
def test_a_rule_is_its_formula(formula, rule, mode, cls, config, shape, rng):
    check_formula(formula, rule, mode, cls(**config, bias_initializer=BIAS), shape, rng, "float32", 1e-4)


@pytest.mark.parametrize("formula, rule, mode", CASES, ids=lambda case: getattr(case, "__name__", str(case)))
@pytest.mark.parametrize("cls, config, shape", [FEW[0], FEW[2]], ids=lambda case: getattr(case, "__name__", ""))
def test_a_rule_is_its_formula_in_float64(float64, formula, rule, mode, cls, config, shape, rng):
    layer = cls(**config, bias_initializer=BIAS, dtype="float64")
    check_formula(formula, rule, mode, layer, shape, rng, "float64", 1e-9)


def denominator(formula, x, w, b, mode, g=0.4):
    """The sum of `epsilon`, or of what `gamma` divides by; that of the others is near zero where this one is."""
    z = x[:, None] * w
    used = 0 * b if mode == "ignore" else b
    if formula is not gamma:
        return z.sum(axis=0) + used
    signed = np.where(z.sum(axis=0) + b >= 0, plus(z).sum(axis=0) + plus(used), minus(z).sum(axis=0) + minus(used))
    return z.sum(axis=0) + used + g * signed


def check_formula(formula, rule, mode, layer, shape, rng, dtype, tolerance):
    call = call_of(layer, shape)
    w, tap = dense_matrix(layer, shape)
    out_shape = (2, *layer.compute_output_shape((2, *shape))[1:])
    b = np.broadcast_to(keras.ops.convert_to_numpy(layer.bias).astype("float64"), out_shape[1:]).ravel()
    x = rng.uniform(-2, 3, size=(2, *shape))
    # relevance in proportion to the denominator: where it is near zero the comparison would not hold in float32
    size = np.stack([denominator(formula, image.ravel(), w, b, mode) for image in x])
    r = size * rng.normal(size=(2, len(b)))
    (r_in,) = propagate(rule(), call, [x], r.reshape(out_shape), dtype)
    expected = np.stack([formula(x[i].ravel(), w, b, r[i], mode, tap) for i in range(2)])
    np.testing.assert_allclose(r_in.reshape(2, -1), expected, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize(
    "rule", [rules.WSquare(), rules.Flat(), rules.ZBox(-1.0, 1.0)], ids=["w_square", "flat", "z_box"]
)
def test_rules_that_look_past_the_input_leave_the_margin_of_zero_padding_alone(rule, rng):
    inputs = keras.Input((3, 3, 2))
    model = keras.Model(inputs, layers.Conv2D(3, 3)(layers.ZeroPadding2D(1)(inputs)))
    call = call_in(model)
    x = np.pad(rng.uniform(-1, 1, size=(2, 3, 3, 2)), [(0, 0), (1, 1), (1, 1), (0, 0)])
    (r_in,) = propagate(rule, call, [x], rng.normal(size=(2, 3, 3, 3)))
    r_in[:, 1:-1, 1:-1] = 0
    np.testing.assert_array_equal(r_in, 0)


def call_in(model):
    from keras_shapley.models.tracing import trace

    return trace(model).calls[-1]


@pytest.mark.parametrize(
    "name, rule",
    [
        ("epsilon", rules.Epsilon(1e-6, "absorb")),
        ("shapley", rules.Shapley(1e-9, "distribute")),
        ("gamma", rules.Gamma(0.25, 1e-6, "absorb")),
        ("alpha_beta", rules.AlphaBeta(2.0, 1.0, 1e-6, "absorb")),
        ("z_plus", rules.ZPlus(1e-6, "absorb")),
        ("w_square", rules.WSquare(1e-6, "ignore")),
        ("flat", rules.Flat(1e-6)),
    ],
)
def test_the_numbers_behind_a_name_stay_as_they_are(name, rule):
    """Those of users who write the name, or leave an argument out, would change without a word."""
    assert type(rules.get(name)) is type(rule) and vars(rules.get(name)) == vars(rule)
    assert vars(rules.ZBox(-1.0, 1.0)) == vars(rules.ZBox(-1.0, 1.0, 1e-6))


@pytest.mark.parametrize(
    "make, word",
    [
        (lambda: rules.Epsilon(bias="keep"), "bias.*'keep'"),
        (lambda: rules.AlphaBeta(2, 2), "alpha - beta"),
        (lambda: rules.AlphaBeta(0.5, -0.5), "negative"),
        (lambda: rules.get("epsilons"), "rule.*'epsilons'"),
    ],
)
def test_bad_options_are_named(make, word):
    with pytest.raises(ValueError, match=word):
        make()
