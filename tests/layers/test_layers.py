"""The layers against the reference: values, gradients, and in low precision."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from reference import geometry, paper
from reference.layer_cases import CASES, MODES, arguments_of, build, close, operands_of

import keras_shapley as ks

FEW = [
    "Dense",
    "Conv1D, causal, dilated",
    "Conv2D, same, strided",
    "Conv2DTranspose, same, strided",
    "DepthwiseConv2D",
    "SeparableConv2D",
    "SeparableConv2D, same, dilated, depth_multiplier",
    "EinsumDense, heads",
]
LOW_PRECISION = [
    "Dense",
    "Conv2D, same, strided",
    "Conv2DTranspose, same, strided",
    "DepthwiseConv1D, same, strided",
    "SeparableConv2D",
    "SeparableConv2D, same, dilated, depth_multiplier",
]


def unless_the_parent_fails(run, parent):
    """`run()`; where that raises and `parent()` raises too, the backend cannot do it and the test is skipped."""
    try:
        return run()
    except Exception:
        try:
            parent()
        except Exception as error:
            pytest.skip(f"the parent itself: {str(error)[:200]}")
        raise


def reference_values(layer, value, cells, x, weights, **options):
    """The output of a layer with these weights, `value` being one neuron's."""
    kernels, bias = operands_of(type(layer), weights)
    return paper.forward(value, cells, x, geometry.kernel_of(kernels), bias, **options)


def reference_gradients(layer, gradient, cells, x, weights, upstream, **options):
    """The derivatives of `sum of upstream * y` by the input and by each weight, `gradient` being one neuron's."""
    kernels, bias = operands_of(type(layer), weights)
    kernel = geometry.kernel_of(kernels)
    dx, dkernel, dbias = paper.gradients(gradient, cells, x, kernel, bias, upstream, **options)
    return [dx, *geometry.kernel_gradients(dkernel, kernels), *([] if bias is None else [dbias])]


def check_against_reference(case, modes, rng, apply, pullbacks, dtype, rtol):
    name, arguments, shape = CASES[case]
    x = rng.normal(size=shape).astype(dtype)
    parent = build(getattr(layers, name), arguments, shape, rng, dtype=dtype)
    weights = parent.get_weights()
    cells = geometry.neurons(parent, shape)
    upstream = rng.normal(size=geometry.output_shape(cells)).astype(dtype)

    def run(*layers):
        fns = [lambda *operands, layer=layer: apply(layer, *operands) for layer in layers]
        return pullbacks(fns, (x, *weights), upstream)

    ours = [
        build(getattr(ks, prefix + name), arguments, shape, dtype=dtype, **options)
        for prefix, options, *_ in (MODES[mode] for mode in modes)
    ]
    results = unless_the_parent_fails(lambda: run(*ours), lambda: run(parent))
    for mode, (y, slopes) in zip(modes, results, strict=True):
        _, _, value, gradient, pooled, extra = MODES[mode]
        assert y.dtype == dtype and all(slope.dtype == dtype for slope in slopes)
        close(y, reference_values(parent, value, cells, x, weights, pooled=pooled), rtol, mode)
        expected = reference_gradients(parent, gradient, cells, x, weights, upstream, pooled=pooled, **extra)
        for actual, true in zip(slopes, expected, strict=True):
            close(actual, true, rtol, mode)


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_the_papers(case, rng, apply, pullbacks):
    check_against_reference(case, MODES, rng, apply, pullbacks, "float32", rtol=1e-5)


@pytest.mark.parametrize("pooled", [False, True], ids=["exact", "pooled"])
@pytest.mark.parametrize("case", FEW)
def test_values_and_gradients_in_float64(float64, case, pooled, rng, apply, pullbacks, numpy):
    name, arguments, shape = CASES[case]
    parent = build(getattr(layers, name), arguments, shape, rng, dtype="float64")
    x, cells = rng.normal(size=shape), geometry.neurons(parent, shape)
    linear = reference_values(parent, lambda x, w, b, _: w @ x + b, cells, x, parent.get_weights())
    mean_error = numpy(ops.mean(ops.convert_to_tensor(x, "float64"))) - np.mean(x)
    if np.abs(numpy(parent(x)) - linear).max() > 1e-12 or pooled and abs(mean_error) > 1e-12:
        pytest.skip("Keras itself computes float64 in float32 here")
    modes = [mode for mode, (*_, of_mode, _) in MODES.items() if of_mode == pooled]
    check_against_reference(case, modes, rng, apply, pullbacks, "float64", rtol=1e-10)


# from one end of float16 to the other
WIDE = np.array([6e4, 300, 1, 1e-4, 6e-8])


@pytest.mark.parametrize("extreme", ["inputs", "weights"])
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("case", LOW_PRECISION)
def test_low_precision_is_finite_wherever_the_parent_is(case, policy, extreme, rng, apply, pullbacks):
    """Squares leave float16 at 256 and vanish below 2e-4. Bound: the parent with ReLU, and without for the gradient."""
    name, arguments, shape = CASES[case]
    shape = (5, *shape[1:])
    kernels, bias = operands_of(cls := getattr(layers, name), build(cls, arguments, shape, rng).get_weights())
    x, kernels = rng.uniform(-1, 1, size=shape), [rng.uniform(-1, 1, size=kernel.shape) for kernel in kernels]
    fan_in = [kernel.size / kernel.shape[-1] for kernel in kernels]
    if extreme == "inputs":
        x = x * WIDE.reshape((5,) + (1,) * (x.ndim - 1))
        kernels = [kernel / n for kernel, n in zip(kernels, fan_in, strict=True)]
    else:
        x = x / np.prod(fan_in)
        kernels[-1] = kernels[-1] * np.resize(WIDE, kernels[-1].shape[-1])
    operands = [a.astype("float32") for a in (x, *kernels, bias) if a is not None]

    def finite(*layers):
        # an upstream gradient of 1/64, since sums of 6e4 over positions leave float16 on the parent too
        upstream = ops.full(layers[0].compute_output_shape(shape), 1 / 64, layers[0].compute_dtype)
        results = pullbacks([lambda *o, layer=layer: apply(layer, *o) for layer in layers], operands, upstream)
        return [all(np.all(np.isfinite(a)) for a in (y, *slopes)) for y, slopes in results]

    modes = ["SA", "SA, pooled", "ShapLU", "ShapLU, full"]
    ours = [
        build(getattr(ks, prefix + name), arguments, shape, dtype=policy, **options)
        for prefix, options, *_ in (MODES[mode] for mode in modes)
    ]
    parents = [build(getattr(layers, name), arguments, shape, dtype=policy, activation=a) for a in ("relu", None)]
    of_modes = unless_the_parent_fails(lambda: finite(*ours), lambda: finite(*parents))
    assert all(finite(*parents))
    assert all(of_modes), dict(zip(modes, of_modes, strict=True))


@pytest.mark.parametrize("mode", ["SA", "SA, pooled", "ShapLU", "ShapLU, full"])
def test_a_sum_below_the_range_of_float16_leaves_a_finite_output_and_gradient(mode, apply, gradients, numpy):
    """Four times -30,000 is -inf in float16, of which ReLU makes 0."""
    prefix, options, *_ = MODES[mode]
    layer = build(getattr(ks, prefix + "Dense"), dict(units=1), (1, 4), dtype="mixed_float16", **options)
    x, kernel, bias = np.full((1, 4), -3e4, "float32"), np.ones((4, 1), "float32"), np.zeros(1, "float32")
    slopes = gradients(lambda x, *w: ops.sum(ops.cast(apply(layer, x, *w), "float32")), x, kernel, bias)
    layer.set_weights([kernel, bias])
    assert np.all(np.isfinite(numpy(layer(x))))
    assert all(np.all(np.isfinite(slope)) for slope in slopes)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_low_precision_agrees_with_the_reference(policy, rng, numpy):
    """Inputs above 256, whose squares are not in float16: right to the last bits, not only finite."""
    x = (300 * rng.normal(size=(8, 16))).astype("float16").astype("float32")
    layer = build(ks.SADense, dict(units=5), x.shape, dtype=policy)
    assert keras.backend.standardize_dtype(layer(x).dtype) == policy.removeprefix("mixed_")
    layer.set_weights([rng.normal(size=(16, 5)) / 4, rng.normal(size=5)])
    # what the layer sees are the rounded operands
    kernel, bias = (numpy(ops.cast(ops.cast(w, layer.compute_dtype), "float32")) for w in layer.get_weights())
    x = numpy(ops.cast(ops.cast(x, layer.compute_dtype), "float32"))
    expected = paper.forward(paper.shapley_activation, geometry.neurons(layer, x.shape), x, kernel, bias)
    # u is rounded once, the output once more
    close(numpy(layer(x)), expected, rtol={"mixed_float16": 2**-10, "mixed_bfloat16": 2**-7}[policy])


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("gradient", ["simplified", "full"])
@pytest.mark.parametrize("case", FEW)
def test_shaplu_is_its_parent_with_relu_bit_for_bit(case, gradient, policy, rng, numpy):
    name, arguments, shape = CASES[case]
    x = rng.normal(size=shape).astype("float32")
    parent = build(getattr(layers, name), arguments, shape, rng, dtype=policy, activation="relu")
    layer = build(getattr(ks, "ShapLU" + name), arguments, shape, dtype=policy, gradient=gradient)
    layer.set_weights(parent.get_weights())
    y = unless_the_parent_fails(lambda: layer(x), lambda: parent(x))
    np.testing.assert_array_equal(numpy(y), numpy(parent(x)))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "name", ["Dense", "Conv2D", "Conv2DTranspose", "DepthwiseConv2D", "SeparableConv2D", "EinsumDense"]
)
def test_a_layer_without_input_is_a_step_with_finite_gradients(name, mode, rng, apply, gradients, numpy):
    arguments, shape = arguments_of(name)
    prefix, options, *_ = MODES[mode]
    layer = build(getattr(ks, prefix + name), arguments, shape, rng, **options)
    *kernels, bias = layer.get_weights()
    bias = np.resize([0, 0.5, -0.5], bias.shape).astype("float32")
    layer.set_weights([*kernels, bias])
    x = np.zeros(shape, "float32")
    y = numpy(layer(x))
    np.testing.assert_array_equal(y, np.broadcast_to(np.maximum(bias, 0), y.shape))
    slopes = gradients(lambda x, *w: ops.sum(apply(layer, x, *w)), x, *kernels, bias)
    assert all(np.all(np.isfinite(slope)) for slope in slopes)
    # at b = 0 the gate is 1/2, at b > 0 open, at b < 0 closed
    share = slopes[-1] / (y.size / bias.size)
    np.testing.assert_allclose(share, np.where(bias == 0, 0.5, bias > 0), rtol=1e-6)


def test_a_blank_patch_does_not_spoil_the_others(rng, apply, gradients, hessian_vector, numpy):
    """Half of the image is blank: values and gradients of the other half, and second derivatives everywhere."""
    x = rng.normal(size=(1, 6, 6, 2)).astype("float32")
    x[:, :3] = 0
    layer = build(ks.SAConv2D, dict(filters=2, kernel_size=2), x.shape, rng)
    kernel, bias = layer.get_weights()
    cells = [cell for cell in geometry.neurons(layer, x.shape) if cell.output[1] >= 2]
    y = paper.forward(paper.shapley_activation, cells, x, kernel, bias)
    close(numpy(layer(x))[:, 2:], y[:, 2:], rtol=1e-5)

    def below(x):
        return ops.sum(apply(layer, x, kernel, bias)[:, 2:])

    (slope,) = gradients(below, x)
    expected, *_ = paper.gradients(paper.sa_gradient, cells, x, kernel, bias, np.ones_like(y))
    close(slope, expected, rtol=1e-5)
    curvature = hessian_vector(
        lambda x, *w: ops.sum(apply(layer, x, *w)), (x, kernel, bias), [np.ones_like(a) for a in (x, kernel, bias)]
    )
    assert all(np.all(np.isfinite(c)) for c in curvature)


@pytest.mark.parametrize("prefix", ["SA", "ShapLU"])
def test_a_neuron_deep_in_the_off_state_still_learns(prefix, rng, apply, gradients):
    """At z = -8, where ReLU's gradient is zero."""
    x, kernel = np.array([[1.0, -0.5, 0.25]], "float32"), np.ones((3, 1), "float32")
    mu, variance = paper.mean_and_variance(x[0].astype("float64"), kernel[:, 0])
    bias = np.array([-8 * np.sqrt(variance) - mu], "float32")
    layer = build(getattr(ks, prefix + "Dense"), dict(units=1), x.shape)
    slopes = gradients(lambda x, *w: ops.sum(apply(layer, x, *w)), x, kernel, bias)
    of_neuron = paper.sa_gradient if prefix == "SA" else paper.shapley_gradient
    options = {} if prefix == "SA" else dict(full=False)
    expected = of_neuron(x[0].astype("float64"), kernel[:, 0], bias[0].astype("float64"), **options)
    assert all(np.all(slope != 0) for slope in slopes)
    for actual, true in zip(slopes, expected, strict=True):
        close(actual.ravel(), np.ravel(true), rtol=1e-4)


@pytest.mark.parametrize("mode", ["SA", "SA, pooled"])
@pytest.mark.parametrize("case", FEW)
def test_forward_mode_and_second_derivatives_of_sa(case, mode, rng, apply, directional, hessian_vector):
    """Against finite differences of the reference's values and gradients."""
    name, arguments, shape = CASES[case]
    x = rng.normal(size=shape).astype("float32")
    prefix, options, value, gradient, pooled, _ = MODES[mode]
    layer = build(getattr(ks, prefix + name), arguments, x.shape, rng, **options)
    operands = (x, *layer.get_weights())
    vectors = [rng.normal(size=a.shape).astype("float32") for a in operands]
    cells = geometry.neurons(layer, x.shape)

    def along(function, step=1e-5):
        ahead, behind = ([a + sign * step * v for a, v in zip(operands, vectors, strict=True)] for sign in (1, -1))
        return [(f - g) / (2 * step) for f, g in zip(function(*ahead), function(*behind), strict=True)]

    operands = tuple(a.astype("float64") for a in operands)
    (slope,) = along(lambda x, *weights: [reference_values(layer, value, cells, x, weights, pooled=pooled)])
    ones = np.ones(geometry.output_shape(cells))
    curvature = along(lambda x, *w: reference_gradients(layer, gradient, cells, x, w, ones, pooled=pooled))
    operands = tuple(a.astype("float32") for a in operands)
    close(directional(lambda *o: apply(layer, *o), operands, vectors), slope, rtol=1e-4)
    for actual, expected in zip(
        hessian_vector(lambda *o: ops.sum(apply(layer, *o)), operands, vectors), curvature, strict=True
    ):
        close(actual, expected, rtol=1e-4)


def plain(new):
    """Small networks, which between them hold every layer of one kind but Conv3D; `new` finds a type by its name."""
    return [
        new("DepthwiseConv2D")(3, padding="same"),
        new("Conv2D")(4, 3, strides=2, padding="same"),
        layers.Reshape((9, 4)),
        new("Conv1D")(6, 3, padding="causal"),
        new("EinsumDense")("abc,cd->abd", (9, 4), bias_axes="d"),
        layers.Flatten(),
        new("Dense")(8),
    ]


def separable(new):
    return [
        new("SeparableConv2D")(8, 3, strides=2, padding="same"),
        layers.Reshape((9, 8)),
        new("DepthwiseConv1D")(3, padding="same"),
        new("SeparableConv1D")(8, 3, padding="same"),
        layers.Flatten(),
    ]


def transposed(new):
    return [
        new("Conv2DTranspose")(4, 3, strides=2, padding="same"),
        layers.Reshape((36, 16)),
        new("Conv1DTranspose")(4, 3, padding="same"),
        layers.Reshape((6, 6, 4, 1)),
        new("Conv3DTranspose")(2, 2),
        layers.Flatten(),
    ]


@pytest.mark.parametrize("middle", [plain, separable, transposed])
@pytest.mark.parametrize("prefix", ["SA", "ShapLU"])
def test_a_network_of_the_layers_learns(prefix, middle, rng):
    """`fit` as each backend compiles it by default."""
    x = rng.normal(size=(64, 6, 6, 2)).astype("float32")
    y = x[:, :3].mean((1, 2, 3))[:, None] * 3
    hidden = middle(lambda name: getattr(ks, prefix + name))
    model = keras.Sequential([keras.Input((6, 6, 2)), *hidden, layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.01), "mse")
    losses = model.fit(x, y, batch_size=32, epochs=12, verbose=0).history["loss"]
    assert np.all(np.isfinite(losses))
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("mode", MODES)
def test_depthwise_1d_is_depthwise_2d_of_height_1(mode, rng, apply, pullbacks):
    prefix, options, *_ = MODES[mode]
    x = rng.normal(size=(2, 7, 3)).astype("float32")
    line = build(getattr(ks, prefix + "DepthwiseConv1D"), dict(kernel_size=3, depth_multiplier=2), x.shape, **options)
    image = build(
        getattr(ks, prefix + "DepthwiseConv2D"), dict(kernel_size=(1, 3), depth_multiplier=2), (2, 1, 7, 3), **options
    )
    kernel, bias = (rng.normal(size=w.shape).astype("float32") for w in line.weights)

    def flat(x, kernel, bias):
        return apply(image, x[:, None], kernel[None], bias)[:, 0]

    upstream = rng.normal(size=(2, 5, 6)).astype("float32")
    one, other = pullbacks([lambda *o: apply(line, *o), flat], (x, kernel, bias), upstream)
    for actual, expected in zip((one[0], *one[1]), (other[0], *other[1]), strict=True):
        close(actual, expected, rtol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_separable_with_an_identity_behind_is_depthwise(mode, rng, apply, pullbacks):
    prefix, options, *_ = MODES[mode]
    if options.get("second_moment") == "pooled":
        pytest.skip("the mean over the channels is of all of them here, and of one there")
    x = rng.normal(size=(2, 5, 5, 3)).astype("float32")
    separable = build(getattr(ks, prefix + "SeparableConv2D"), dict(filters=3, kernel_size=3), x.shape, **options)
    depthwise = build(getattr(ks, prefix + "DepthwiseConv2D"), dict(kernel_size=3), x.shape, **options)
    kernel, bias = (rng.normal(size=w.shape).astype("float32") for w in depthwise.weights)
    identity = np.eye(3, dtype="float32")[None, None]
    fns = [lambda x, k, b: apply(separable, x, k, identity, b), lambda *o: apply(depthwise, *o)]
    upstream = rng.normal(size=(2, 3, 3, 3)).astype("float32")
    if mode == "ShapLU, full":
        # weights of zero count as inputs, among which eq. (4) divides the bias
        bias[:] = 0
    one, other = pullbacks(fns, (x, kernel, bias), upstream)
    for actual, expected in zip((one[0], *one[1]), (other[0], *other[1]), strict=True):
        close(actual, expected, rtol=1e-5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_transposed_convolution_is_a_step_where_no_input_reaches(rank, mode, rng, apply, pullbacks):
    """Strides of 3 and a kernel of 2; a batch of one."""
    prefix, options, *_ = MODES[mode]
    x = rng.normal(size=(1, *[2] * rank, 4)).astype("float32")
    arguments = dict(filters=3, kernel_size=2, strides=3)
    layer = build(getattr(ks, f"{prefix}Conv{rank}DTranspose"), arguments, x.shape, rng, **options)
    kernel, _ = layer.get_weights()
    bias = np.array([0.0, 0.5, -0.5], "float32")
    ((y, slopes),) = pullbacks(
        [lambda *o: apply(layer, *o)], (x, kernel, bias), np.ones((1, *[6] * rank, 3), "float32")
    )
    unreached = y[(slice(None), *[slice(2, None, 3)] * rank)]
    np.testing.assert_array_equal(unreached, np.broadcast_to([0, 0.5, 0], unreached.shape))
    assert all(np.all(np.isfinite(slope)) for slope in slopes)


@pytest.mark.parametrize("name", ["SeparableConv2D", "Conv2DTranspose"])
def test_gradients_are_those_of_finite_differences(name, rng, apply, gradients, numpy):
    """SA alone has the gradient of its function; the output in float64 is a loop over the addends of each neuron."""
    arguments, shape = arguments_of(name)
    layer = build(getattr(ks, "SA" + name), arguments, shape, rng)
    operands = [a.astype("float64") for a in (rng.normal(size=shape), *layer.get_weights())]
    cells = geometry.neurons(layer, shape)

    def total(x, *weights):
        return np.sum(reference_values(layer, paper.shapley_activation, cells, x, weights))

    slopes = gradients(lambda x, *w: ops.sum(apply(layer, x, *w)), *(a.astype("float32") for a in operands))
    for place, slope in enumerate(slopes):
        direction = rng.normal(size=slope.shape)
        ahead, behind = (
            total(*(a + sign * 1e-5 * direction if i == place else a for i, a in enumerate(operands)))
            for sign in (1, -1)
        )
        close(np.sum(slope * direction), (ahead - behind) / 2e-5, rtol=1e-4)


def test_the_second_moment_of_a_separable_layer_is_as_cheap_as_its_sum(monkeypatch):
    """Two small kernels, never their product; with a depth multiplier, squares are no product, and are one kernel."""
    used = []
    for name in ("conv", "separable_conv"):
        function = getattr(ops, name)
        monkeypatch.setattr(ops, name, lambda *a, _f=function, _n=name, **k: used.append(_n) or _f(*a, **k))
    for multiplier, expected in ((1, ["separable_conv"] * 2), (2, ["separable_conv", "conv"])):
        layer = ks.SASeparableConv2D(8, 3, depth_multiplier=multiplier)
        used.clear()
        layer.build((1, 6, 6, 4))
        layer.gate_moments(ops.ones((1, 6, 6, 4)))
        assert used == expected
