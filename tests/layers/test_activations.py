"""Elementwise functions of a neuron's moments, against the reference and SciPy."""

import gc
import math

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
from keras import ops
from reference import paper

from keras_shapley.layers import activations
from keras_shapley.layers.normal import normal_cdf, normal_pdf

N = 6


def moments(x, w):
    """`u`, `q` and `c` of every row of `x` and `w`, shape `(neurons, n)`."""
    return [np.sum((w * x) ** power, axis=-1) for power in (1, 2, 3)]


def of_each_neuron(function, x, w, b, **options):
    """`function(x, w, b)` of the reference, row by row."""
    results = [function(*neuron, **options) for neuron in zip(x, w, b, strict=True)]
    return [np.array(part) for part in zip(*results, strict=True)] if isinstance(results[0], tuple) else results


@pytest.fixture
def cells(rng):
    """Forty neurons of six inputs."""
    return rng.normal(size=(40, N)), rng.normal(size=(40, N)), rng.normal(size=40)


def test_normal_cdf_keeps_its_relative_precision_down_to_minus_12(numpy):
    z = np.linspace(-12, 6, 2001).astype("float32")
    true = scipy.special.ndtr(z.astype("float64"))
    error = np.abs(numpy(normal_cdf(ops.convert_to_tensor(z))) / true - 1)
    # exp(-z**2/2) turns the rounding of z**2 into this relative error
    allowed = np.finfo("float32").eps * (4 + z**2)
    assert np.all(error < allowed)


def test_slope_of_normal_cdf_is_the_density_in_its_tail_too(gradients):
    z = np.linspace(-12, 6, 2001).astype("float32")
    (slope,) = gradients(lambda z: ops.sum(normal_cdf(z)), z)
    np.testing.assert_allclose(slope, scipy.stats.norm.pdf(z.astype("float64")), rtol=3e-5)


def test_normal_cdf_has_no_step_where_its_two_branches_meet(numpy):
    edge = np.float32(-1)
    z = np.array([np.nextafter(edge, np.float32(-2)), edge, np.nextafter(edge, np.float32(0))])
    left, at, right = numpy(normal_cdf(ops.convert_to_tensor(z)))
    assert max(abs(at - left), abs(right - at)) < 4 * np.finfo("float32").eps * at


def test_normal_cdf_in_float64(float64, numpy, gradients):
    z = np.linspace(-37, 8, 400)
    value = numpy(normal_cdf(ops.convert_to_tensor(z, "float64")))
    (slope,) = gradients(lambda z: ops.sum(normal_cdf(z)), z)
    assert value.dtype == "float64"
    np.testing.assert_allclose(value, scipy.special.ndtr(z), rtol=1e-12)
    np.testing.assert_allclose(slope, scipy.stats.norm.pdf(z), rtol=1e-12)


def test_normal_cdf_at_the_ends_of_the_range_is_0_and_1_with_finite_slope(numpy, gradients):
    z = np.array([-1e30, -200, 200, 1e30], "float32")
    np.testing.assert_array_equal(numpy(normal_cdf(ops.convert_to_tensor(z))), [0, 0, 1, 1])
    (slope,) = gradients(lambda z: ops.sum(normal_cdf(z)), z[1:3])
    np.testing.assert_array_equal(slope, 0)


def test_distribution_leaves_float32_without_a_step(numpy):
    z = np.linspace(-38, -11, 5401).astype("float32")
    normal = float(np.finfo("float32").tiny)  # the smallest number that every backend keeps
    for function, true in ((normal_cdf, scipy.special.ndtr), (normal_pdf, scipy.stats.norm.pdf)):
        value = numpy(function(ops.convert_to_tensor(z)))
        np.testing.assert_allclose(value, true(z.astype("float64")), rtol=5e-5, atol=1.1 * normal)
        assert np.all(np.diff(value) >= -1e-4 * value[1:])
        np.testing.assert_array_equal(value[z < -15], 0)


def test_gate_and_activation_are_eqs_1_and_5(cells, numpy):
    x, w, b = cells
    u, q, _ = (m.astype("float32") for m in moments(x, w))
    tensors = [ops.convert_to_tensor(m) for m in (u, q, b.astype("float32"))]
    sa = of_each_neuron(paper.shapley_activation, x, w, b)
    np.testing.assert_allclose(numpy(activations.shapley_activation(*tensors)), sa, rtol=1e-5, atol=1e-6)
    gate = np.array(sa) / (np.sum(w * x, -1) + b)
    np.testing.assert_allclose(numpy(activations.gate(*tensors)), gate, rtol=1e-5)


def test_gate_on_the_neuron_of_table_1(numpy):
    """Eq. (1) gives alpha = Phi (w_k x_k + b/n): all three alphas of the paper's example agree on Phi."""
    x, w, b = np.array([[-1.0, 2.0, -1.0]]), np.array([[1.0, 2.0, 3.0]]), np.array([-1.0])
    u, q, _ = moments(x, w)
    gate = numpy(activations.gate(*(ops.convert_to_tensor(m, "float32") for m in (u, q, b))))
    np.testing.assert_allclose(gate * (w * x + b / 3), [[-0.421, 1.157, -1.052]], atol=5e-4)


def test_everything_agrees_to_1e_10_in_float64(float64, cells, numpy, gradients):
    x, w, b = cells
    u, q, c = moments(x, w)
    sa = numpy(activations.shapley_activation(*(ops.convert_to_tensor(m, "float64") for m in (u, q, b))))
    slopes = gradients(lambda *m: ops.sum(activations.shapley_activation(*m)), u, q, b)
    full = gradients(lambda u, q, c, b: ops.sum(activations.shaplu_full(u, q, c, b, N)), u, q, c, b)
    np.testing.assert_allclose(sa, of_each_neuron(paper.shapley_activation, x, w, b), rtol=1e-10)
    check_chain(slopes, x, w, of_each_neuron(paper.sa_gradient, x, w, b), rtol=1e-10)
    check_chain(full, x, w, of_each_neuron(paper.shapley_gradient, x, w, b), rtol=1e-10)


def check_chain(cotangents, x, w, expected, rtol):
    """Carries cotangents of `(u, q, b)` or `(u, q, c, b)` back to `x`, `w` and `b` and compares."""
    *powers, db = (np.asarray(c, "float64") for c in cotangents)
    of_a = sum(p[:, None] * k * (w * x) ** (k - 1) for k, p in enumerate(powers, start=1))
    for actual, true in zip((of_a * w, of_a * x, db), expected, strict=True):
        np.testing.assert_allclose(actual, true, rtol=rtol, atol=rtol * np.abs(true).max())


def test_gradient_of_sa_is_the_derivative_of_eq_5(cells, gradients):
    x, w, b = (a.astype("float32") for a in cells)
    u, q, _ = moments(x, w)
    slopes = gradients(lambda *m: ops.sum(activations.shapley_activation(*m)), u, q, b)
    expected = of_each_neuron(paper.sa_gradient, *(a.astype("float64") for a in (x, w, b)))
    check_chain(slopes, x, w, expected, rtol=1e-5)


def test_gradient_of_shaplu_is_eq_4_as_the_paper_ran_it(cells, gradients):
    x, w, b = (a.astype("float32") for a in cells)
    u, q, _ = moments(x, w)
    slopes = gradients(lambda *m: ops.sum(activations.shaplu(*m)), u, q, b)
    expected = of_each_neuron(paper.shapley_gradient, *(a.astype("float64") for a in (x, w, b)), full=False)
    check_chain(slopes, x, w, expected, rtol=1e-5)
    np.testing.assert_array_equal(slopes[1], 0)


def test_gradient_of_full_shaplu_is_all_of_eq_4(cells, gradients):
    x, w, b = (a.astype("float32") for a in cells)
    u, q, c = moments(x, w)
    slopes = gradients(lambda u, q, c, b: ops.sum(activations.shaplu_full(u, q, c, b, N)), u, q, c, b)
    expected = of_each_neuron(paper.shapley_gradient, *(a.astype("float64") for a in (x, w, b)))
    check_chain(slopes, x, w, expected, rtol=1e-5)


def test_shaplu_is_relu_bit_for_bit(cells, numpy):
    x, w, b = (a.astype("float32") for a in cells)
    u, q, c = moments(x, w)
    relu = np.maximum(u + b, 0)
    tensors = [ops.convert_to_tensor(m) for m in (u, q, c, b)]
    np.testing.assert_array_equal(numpy(activations.shaplu(tensors[0], tensors[1], tensors[3])), relu)
    np.testing.assert_array_equal(numpy(activations.shaplu_full(*tensors, N)), relu)


@pytest.mark.parametrize("name", ["shaplu", "shaplu_full"])
def test_second_derivative_of_shaplu_is_that_of_its_gradient(cells, hessian_vector, name):
    """The gradient is a smooth function of the moments: its own derivative must not be lost in what was saved."""
    x, w, b = (a[:4].astype("float32") for a in cells)
    u, q, c = moments(x, w)
    operands = (u, q, b) if name == "shaplu" else (u, q, c, b)
    rest = () if name == "shaplu" else (N,)

    def of_u(u, b):
        # the gradient with respect to u at unit upstream is a formula in (u, q, b): finite differences of the reference
        mu, sigma = u / 2, np.sqrt(q64 / 6 + u**2 / 12)
        z = (mu + b) / sigma
        gate = scipy.special.ndtr(z)
        if name == "shaplu":
            return gate
        phi, share = scipy.stats.norm.pdf(z), b / N
        return gate + phi * share * (1 / (2 * sigma) - mu * z / (6 * sigma**2))

    u64, q64, b64 = (m.astype("float64") for m in (u, q, b))
    vectors = [np.zeros_like(m) for m in operands]
    vectors[0] = np.ones_like(u)
    slopes = hessian_vector(lambda *m: ops.sum(getattr(activations, name)(*m, *rest)), operands, vectors)
    step = 1e-6
    expected_u = (of_u(u64 + step, b64) - of_u(u64 - step, b64)) / (2 * step)
    expected_b = (of_u(u64, b64 + step) - of_u(u64, b64 - step)) / (2 * step)
    np.testing.assert_allclose(slopes[0], expected_u, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(slopes[-1], expected_b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_sa_without_bias_is_homogeneous_of_degree_1(cells, numpy, scale):
    x, w, _ = cells
    u, q, _ = (ops.convert_to_tensor(m, "float32") for m in moments(x, w))
    scaled = activations.shapley_activation(scale * u, scale**2 * q, 0.0)
    np.testing.assert_allclose(numpy(scaled), scale * numpy(activations.shapley_activation(u, q, 0.0)), rtol=1e-5)


def test_gate_without_bias_lies_within_sqrt_3(rng, numpy):
    """|mu/sigma| <= sqrt(3), reached with very many equal inputs; one input alone has 0.841 or 0.159."""
    u = rng.normal(size=1000)
    q = np.square(u) * rng.uniform(0, 1, size=1000) ** 4
    gate = numpy(activations.gate(*(ops.convert_to_tensor(m, "float32") for m in (u, q)), 0.0))
    low, high = scipy.special.ndtr([-math.sqrt(3), math.sqrt(3)])
    np.testing.assert_allclose([low, high], [0.042, 0.958], atol=5e-4)
    assert low - 1e-6 <= gate.min() < 0.05 and 0.95 < gate.max() <= high + 1e-6
    alone = numpy(activations.gate(*(ops.convert_to_tensor(m, "float32") for m in ([3.0, -3.0], [9.0, 9.0])), 0.0))
    np.testing.assert_allclose(alone, [0.841, 0.159], atol=5e-4)


@pytest.mark.parametrize("z", [-5.0, -8.0, -11.0])
def test_a_neuron_deep_in_the_off_state_still_learns(gradients, z):
    """The gradient at z = -8 is 1e-14, not zero: in float32 `(1 + erf)/2` would have lost it."""
    x, w = np.array([[1.0, -0.5, 0.25]]), np.array([[1.0, 1.0, 1.0]])
    mu, variance = paper.mean_and_variance(x[0], w[0])
    b = np.array([z * math.sqrt(variance) - mu], "float32")
    u, q, _ = (m.astype("float32") for m in moments(x, w))
    slopes = gradients(lambda *m: ops.sum(activations.shapley_activation(*m)), u, q, b)
    assert all(np.all(slope != 0) for slope in slopes)
    expected = of_each_neuron(paper.sa_gradient, x, w, b.astype("float64"))
    # the value of z itself is known to float32 only, and phi changes by z dz
    check_chain(slopes, x, w, expected, rtol=1e-6 * z**2)


@pytest.mark.parametrize("b, gate, value", [(0.0, 0.5, 0.0), (0.3, 1.0, 0.3), (-0.3, 0.0, 0.0)])
def test_a_neuron_without_input_is_a_step_in_the_sign_of_its_bias(numpy, b, gate, value):
    nothing = ops.zeros((1,))
    bias = ops.convert_to_tensor([b], "float32")
    np.testing.assert_allclose(numpy(activations.gate(nothing, nothing, bias)), [gate])
    np.testing.assert_allclose(numpy(activations.shapley_activation(nothing, nothing, bias)), [value])


@pytest.mark.parametrize("name", ["shapley_activation", "shaplu", "shaplu_full"])
def test_a_neuron_without_input_has_finite_derivatives(gradients, hessian_vector, name):
    """Of the first and second order, with respect to every moment and the bias."""
    b = np.array([0.0, 1e-9, -3e-9, 1e-6, 0.3, -0.3, 1e4, -1e4], "float32")
    operands, vectors, rest = [np.zeros_like(b), np.zeros_like(b), b], [np.ones_like(b)] * 3, ()
    if name == "shaplu_full":
        # cubes of inputs do not move where these are zero
        operands, vectors, rest = (
            [*operands[:2], np.zeros_like(b), b],
            [*vectors[:2], np.zeros_like(b), vectors[2]],
            (N,),
        )

    def y(*m):
        return ops.sum(getattr(activations, name)(*m, *rest))

    assert np.all(np.isfinite(gradients(y, *operands)))
    assert np.all(np.isfinite(hessian_vector(y, operands, vectors)))


def test_forward_mode_agrees_with_reverse_mode(cells, gradients, directional, rng):
    x, w, b = (a.astype("float32") for a in cells)
    operands = (*moments(x, w)[:2], b)
    vectors = [rng.normal(size=m.shape).astype("float32") for m in operands]
    slopes = gradients(lambda *m: ops.sum(activations.shapley_activation(*m)), *operands)
    forward = directional(activations.shapley_activation, operands, vectors)
    np.testing.assert_allclose(forward, sum(g * v for g, v in zip(slopes, vectors, strict=True)), rtol=1e-4, atol=1e-5)


def test_forward_mode_of_a_neuron_without_input_is_finite(directional):
    b = np.array([0.0, 1e-9, 0.3, -0.3], "float32")
    zero, one = np.zeros_like(b), np.ones_like(b)
    assert np.all(np.isfinite(directional(activations.shapley_activation, (zero, zero, b), (one, zero, one))))


@pytest.mark.parametrize("point", [(0.0, 1.0, 0.0), (2.0, 1.0, -1.0)])
def test_second_derivatives_where_the_gate_is_half_open(point, hessian_vector):
    """z = 0 is where the two halves of the normal distribution function meet."""
    operands, ones = [np.float32([value]) for value in point], [np.ones(1, "float32")] * 3
    found = hessian_vector(lambda *m: ops.sum(activations.shapley_activation(*m)), operands, ones)
    # central differences of the closed-form gradient, in float64
    u, q, b = point

    def gradient(t):
        sigma = np.sqrt((q + t) / 6 + (u + t) ** 2 / 12)
        z, s = ((u + t) / 2 + b + t) / sigma, u + b + 2 * t
        cdf, phi = scipy.stats.norm.cdf(z), scipy.stats.norm.pdf(z)
        du = cdf + s * phi / sigma * (0.5 - z * (u + t) / (12 * sigma))
        return np.array([du, -s * phi * z / (12 * sigma**2), cdf + s * phi / sigma])

    expected = (gradient(1e-5) - gradient(-1e-5)) / 2e-5
    np.testing.assert_allclose(np.ravel(found), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX traces what it has not seen")
def test_a_second_call_traces_nothing_anew():
    x = ops.ones((4, 3))
    activations.shapley_activation(x, x, x)
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(20):
        activations.shapley_activation(x, x, x)
    gc.collect()
    assert len(gc.get_objects()) - before < 200


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="PyTorch's own")
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("name", ["shapley_activation", "shaplu"])
def test_torch_compile_takes_it_whole(name):
    import torch

    u, q, b = torch.randn(4, 3, requires_grad=True), torch.rand(4, 3), torch.randn(3)
    function = getattr(activations, name)
    compiled = torch.compile(function, backend="aot_eager", fullgraph=True)
    for each in (function, compiled):
        u.grad = None
        each(u, q, b).sum().backward()
        if each is function:
            expected = u.grad.clone()
    np.testing.assert_allclose(u.grad, expected, rtol=1e-6)


def test_a_number_for_the_bias_takes_the_type_of_the_moments(float64, numpy):
    u = ops.convert_to_tensor(np.array([0.3, -0.2]))
    y = activations.shapley_activation(u, ops.square(u), 0.5)
    assert keras.backend.standardize_dtype(y.dtype) == "float64"
