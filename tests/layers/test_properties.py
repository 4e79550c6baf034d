"""Properties of the layers over all sizes of float32: hypothesis looks for the numbers where they do not hold.

Expected values and gradients are those of `reference.paper` in float64, for the same float32 inputs and weights.
"""

import functools

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from keras import layers, ops
from reference import geometry, paper
from reference.layer_cases import CASES, MODES, build, operands_of

import keras_shapley as ks

# few, because compiling each takes seconds
FEW = ["Dense", "Conv2D, same, strided", "Conv2DTranspose, same, strided", "EinsumDense, kernel per position"]
EPS = np.finfo("float32").eps
# JAX and TensorFlow make zeros of numbers below the normal ones, also inside of a convolution's gradient
TINY = np.finfo("float32").tiny if keras.backend.backend() == "torch" else 1e-32
PATTERNS = {
    "alike": lambda rng, values: values,
    "one is large": lambda rng, values: np.where(
        np.arange(values.size).reshape(values.shape) == 1, values, 1e-7 * values
    ),
    "each of its own size": lambda rng, values: values * 10.0 ** -rng.uniform(0, 7, values.shape),
    "few are not zero": lambda rng, values: values * (rng.uniform(size=values.shape) < 0.3),
    "denormal": lambda rng, values: 1e-40 * np.sign(values),
    "zero": lambda rng, values: 0 * values,
}
PLAIN = ["alike", "one is large", "each of its own size"]
# the fixtures of conftest.py have no state
properties = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
seeds = st.integers(0, 2**32 - 1)


@st.composite
def sizes(draw):
    """Powers of ten of inputs, weights and biases, such that products of the first two stay in float32."""
    x = draw(st.integers(-30, 30))
    kernel = draw(st.integers(max(-30, -18 - x), min(30, 30 - x)))
    return x, kernel, x + kernel + draw(st.sampled_from([0, 0, -3, 3]))


@st.composite
def operands(draw, case, patterns=tuple(PATTERNS)):
    """The input, kernels and bias of a case, float32."""
    name, arguments, shape = CASES[case]
    rng = np.random.default_rng(draw(seeds))
    of_x, of_kernel, of_bias = draw(sizes())
    shapes = [w.shape for w in functions(case)[0].args[0].trainable_variables]
    kernels, bias = operands_of(getattr(layers, name), shapes)
    of_kernels = [of_kernel] + [0] * (len(kernels) - 1)

    def tensor(shape, size):
        pattern = PATTERNS[draw(st.sampled_from(patterns))]
        return (10.0**size * pattern(rng, rng.normal(size=shape))).astype("float32")

    x, *weights = (tensor(*pair) for pair in zip([shape, *kernels], [of_x, *of_kernels], strict=True))
    return [x, *weights] if bias is None else [x, *weights, (10.0**of_bias * rng.normal(size=bias)).astype("float32")]


@functools.cache
def functions(case, dtype="float32"):
    """Of a case, Keras's layer with ReLU and without, and ours in all modes: functions of the operands."""
    name, arguments, shape = CASES[case]
    parents = [build(getattr(layers, name), arguments, shape, dtype=dtype, activation=a) for a in ("relu", None)]
    ours = [build(getattr(ks, p + name), arguments, shape, dtype=dtype, **options) for p, options, *_ in MODES.values()]
    return tuple(functools.partial(call, layer) for layer in (*parents, *ours))


def call(layer, x, *weights):
    with keras.StatelessScope(state_mapping=list(zip(layer.trainable_variables, weights, strict=True))):
        return layer(x)


def results_of(case, operands, pullbacks, dtype="float32"):
    """`(y, slopes)` of each mode; the example is dropped where those of Keras's own layers are not finite."""
    fns = functions(case, dtype)
    upstream = ops.ones(fns[0].args[0].compute_output_shape(operands[0].shape), fns[0].args[0].compute_dtype)
    results = pullbacks(fns, operands, upstream)
    with np.errstate(all="ignore"):
        assume(all(np.all(np.isfinite(a)) for y, slopes in results[:2] for a in (y, *slopes)))
    return dict(zip(MODES, results[2:], strict=True))


def check_finite(case, operands, pullbacks, dtype="float32"):
    for mode, (y, slopes) in results_of(case, operands, pullbacks, dtype).items():
        assert all(np.all(np.isfinite(a)) for a in (y, *slopes)), mode


def check_right(case, operands, pullbacks):
    """To 1e-5 of what is summed: of sizes of terms, since a sum of both signs is no better than its terms."""
    results = results_of(case, operands, pullbacks)
    name, _, _ = CASES[case]
    cells = geometry.neurons(functions(case)[0].args[0], operands[0].shape)
    x, *weights = (a.astype("float64") for a in operands)
    kernels, bias = operands_of(getattr(layers, name), weights)
    magnitudes = [np.abs(kernel) for kernel in kernels]
    of_terms = [np.abs(x), geometry.kernel_of(magnitudes), None if bias is None else np.abs(bias)]
    terms = paper.forward(lambda x, w, b, _: w @ x + b, cells, *of_terms)
    of_slopes = slopes_of(lambda x, w, b, _: (w, x, 1.0), cells, *of_terms, magnitudes)
    for mode, (y, slopes) in results.items():
        _, _, value, gradient, pooled, options = MODES[mode]
        expected = paper.forward(value, cells, x, geometry.kernel_of(kernels), bias, pooled=pooled)
        close(y, expected, terms, mode)
        if mode == "ShapLU, full" and min(terms.max(), *(np.abs(a).max() for a in (x, *kernels))) < 1e-12:
            # cotangents of the third moment are of the size of the terms over their scaled cubes
            continue
        expected = slopes_of(gradient, cells, x, geometry.kernel_of(kernels), bias, kernels, pooled=pooled, **options)
        for actual, true, size in zip(slopes, expected, of_slopes, strict=True):
            # a pooled moment has a derivative by each input, whatever its weight
            close(actual, true, size.max() if pooled else size, mode)


def slopes_of(gradient, cells, x, kernel, bias, kernels, **options):
    dx, dkernel, dbias = paper.gradients(
        gradient, cells, x, kernel, bias, np.ones(geometry.output_shape(cells)), **options
    )
    return [dx, *geometry.kernel_gradients(dkernel, kernels), *([] if bias is None else [dbias])]


def close(actual, expected, size, message):
    wrong = np.abs(actual - expected) > 1e-5 * (np.abs(expected) + size) + TINY
    assert not np.any(wrong), (message, actual[wrong], expected[wrong])


@pytest.mark.parametrize("case", FEW)
@properties
@given(data=st.data())
def test_values_and_gradients_are_finite_where_those_of_relu_are(case, data, pullbacks):
    check_finite(case, data.draw(operands(case)), pullbacks)


@pytest.mark.parametrize("case", FEW)
@properties
@given(data=st.data())
def test_values_and_gradients_are_right_at_every_size(case, data, pullbacks):
    check_right(case, data.draw(operands(case, PLAIN)), pullbacks)


@properties
@given(size=st.sampled_from([1e-9, 1e5, 1e9]))
def test_both_factors_of_a_kernel_may_be_large_or_small(size, rng, pullbacks):
    """Within the range, two factors of 2**17 each have a product whose cube is not."""
    case = "SeparableConv2D"
    _, _, shape = CASES[case]
    depthwise, pointwise, bias = (
        rng.normal(size=weight.shape).astype("float32") for weight in functions(case)[0].args[0].trainable_variables
    )
    x = 1e5 * rng.normal(size=shape).astype("float32")
    factor = np.float32(size)
    check_right(case, [x, factor * depthwise, factor * pointwise, factor**2 * bias], pullbacks)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@properties
@given(data=st.data())
def test_values_and_gradients_in_every_geometry(case, data, pullbacks):
    try:
        functions(case)[0](np.ones(CASES[case][2], "float32"), *[w.value for w in functions(case)[0].args[0].weights])
    except Exception as error:
        pytest.skip(f"the parent itself: {str(error)[:200]}")
    check_finite(case, data.draw(operands(case)), pullbacks)
    check_right(case, data.draw(operands(case, PLAIN)), pullbacks)


@pytest.mark.parametrize("size", [1e-30, 1e-9, 1.0, 1e19, 1e30])
@pytest.mark.parametrize("of", ["inputs", "weights"])
def test_eq_5_is_right_at_every_size(size, of, numpy):
    """Squares of 1.8e19 are infinite in float32, and those of 1e-19 no normal numbers."""
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(3, 6)), rng.normal(size=(6, 4))
    x, kernel = (size * x, kernel) if of == "inputs" else (x, size * kernel)
    check_dense(x, kernel, size * rng.normal(size=4), numpy)


@pytest.mark.parametrize("large, ratio", [(1.0, 1e-14), (2e19, 1e-19), (1e20, 1e-19), (1e30, 1e-19)])
def test_a_large_input_that_meets_a_weight_of_zero_is_not_seen(large, ratio, numpy):
    small = large * ratio
    x, kernel = np.array([[large, small, -2 * small]]), np.array([[0.0], [1.0], [0.3]])
    check_dense(x, kernel, np.array([0.1 * small]), numpy)


def check_dense(x, kernel, bias, numpy):
    x, kernel, bias = (a.astype("float32") for a in (x, kernel, bias))
    layer = ks.SADense(kernel.shape[1])
    layer.build(x.shape)
    layer.set_weights([kernel, bias])
    cells = geometry.neurons(layer, x.shape)
    close(
        numpy(layer(x)),
        paper.forward(paper.shapley_activation, cells, x, kernel, bias),
        terms_of(cells, x, kernel, bias),
        "",
    )


def terms_of(cells, x, kernel, bias):
    """The sum of the magnitudes of what each neuron adds."""
    operands = (None if a is None else np.abs(a) for a in (x, kernel, bias))
    return paper.forward(lambda x, w, b, _: w @ x + b, cells, *operands)


def dense(x, kernel, bias):
    return functions("Dense")[2](*(ops.convert_to_tensor(a.astype("float32")) for a in (x, kernel, bias)))


@properties
@given(data=st.data())
def test_the_order_of_inputs_and_their_weights_does_not_count(data, numpy):
    x, kernel, bias = data.draw(operands("Dense"))
    order = np.array(data.draw(st.permutations(range(x.shape[1]))))
    size = (np.abs(x).astype("float64") @ np.abs(kernel)) + np.abs(bias)
    close(numpy(dense(x[:, order], kernel[order], bias)), numpy(dense(x, kernel, bias)), size, "")


@properties
@given(data=st.data(), exponent=st.integers(-12, 7))
def test_without_a_bias_a_multiple_of_the_input_has_that_multiple_of_the_output(data, exponent, numpy):
    x, kernel, bias = data.draw(operands("Dense", PLAIN))
    factor = np.float32(10.0**exponent)
    size = factor * (np.abs(x).astype("float64") @ np.abs(kernel))
    assume(np.log10(np.abs(x).max()) + exponent < 30)
    # a multiple that is denormal has lost digits
    assume(np.abs(factor * x[x != 0]).min(initial=1) >= np.finfo("float32").tiny)
    close(numpy(dense(factor * x, kernel, 0 * bias)), factor * numpy(dense(x, kernel, 0 * bias)), size, "")


@pytest.mark.parametrize("case", FEW)
@properties
@given(data=st.data())
def test_a_sample_does_not_depend_on_those_beside_it(case, data, numpy):
    x, *weights = data.draw(operands(case, PLAIN))
    sa = functions(case)[2]
    other = np.full_like(x[:1], np.float32(data.draw(st.sampled_from([0, 1e-40, 1, 1e30]))))
    both = np.concatenate([x[:1], other])
    alone, beside = (
        numpy(sa(ops.convert_to_tensor(a), *map(ops.convert_to_tensor, weights)))[0] for a in (x[:1], both)
    )
    np.testing.assert_allclose(beside, alone, rtol=1e-4, atol=1e-4 * np.abs(alone).max())


@pytest.mark.parametrize("case", FEW)
def test_an_empty_batch_has_an_empty_output(case, numpy):
    name, _, shape = CASES[case]
    parent, _, *ours = functions(case)
    x = ops.zeros((0, *shape[1:]))
    weights = [ops.ones(w.shape) for w in parent.args[0].trainable_variables]
    try:
        expected = numpy(parent(x, *weights)).shape
    except Exception as error:
        pytest.skip(f"the parent itself: {str(error)[:200]}")
    assert all(numpy(fn(x, *weights)).shape == expected for fn in ours)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@properties
@given(data=st.data())
def test_low_precision_is_finite_where_relu_is(policy, data, pullbacks):
    check_finite("Dense", data.draw(operands("Dense")), pullbacks, policy)
