"""Every rule for linear layers against its formula on the dense matrix of the layer, in float64 NumPy."""

import keras
import numpy as np
import pytest
from keras import layers
from test_rules import LINEAR, call_of, dense_matrix, propagate

from keras_shapley import rules

BIAS = keras.initializers.RandomNormal(stddev=0.3, seed=1)
EPSILON = 1e-6
LAYERS = [LINEAR[i] for i in (0, 3, 8, 10, 13)]  # dense, einsum, convolutions plain and in groups, depthwise


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
    used = 0 * b if mode == "ignore" else b
    positive = z.sum(axis=0) + used >= 0
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
@pytest.mark.parametrize("cls, config, shape", LAYERS, ids=lambda case: getattr(case, "__name__", ""))
def test_a_rule_is_its_formula(formula, rule, mode, cls, config, shape, rng):
    layer = cls(**config, bias_initializer=BIAS)
    call = call_of(layer, shape)
    w, tap = dense_matrix(layer, shape)
    out_shape = tuple(layer.compute_output_shape((2, *shape)))
    b = np.broadcast_to(keras.ops.convert_to_numpy(layer.bias).astype("float64"), out_shape[1:]).ravel()
    x = rng.uniform(-2, 3, size=(2, *shape))
    # relevance in proportion to the output: no denominator near zero spoils the comparison in float32
    r = (x.reshape(2, -1) @ w + (0 if mode == "ignore" else b)) * rng.normal(size=(2, len(b)))
    (found,) = propagate(rule(), call, [x], r.reshape(out_shape))
    expected = np.stack([formula(x[i].ravel(), w, b, r[i], mode, tap) for i in range(2)])
    np.testing.assert_allclose(found.reshape(2, -1), expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    "rule", [rules.WSquare(), rules.Flat(), rules.ZBox(-1.0, 1.0)], ids=["w_square", "flat", "z_box"]
)
def test_rules_that_look_past_the_input_leave_the_margin_of_zero_padding_alone(rule, rng):
    inputs = keras.Input((3, 3, 2))
    model = keras.Model(inputs, layers.Conv2D(3, 3)(layers.ZeroPadding2D(1)(inputs)))
    call = call_in(model)
    x = np.pad(rng.uniform(-1, 1, size=(2, 3, 3, 2)), [(0, 0), (1, 1), (1, 1), (0, 0)])
    (found,) = propagate(rule, call, [x], rng.normal(size=(2, 3, 3, 3)))
    found[:, 1:-1, 1:-1] = 0
    np.testing.assert_array_equal(found, 0)


def call_in(model):
    from keras_shapley._graph import trace

    return trace(model).calls[-1]


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
