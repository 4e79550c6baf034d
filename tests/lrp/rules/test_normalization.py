"""The rule for normalisation against the dense matrix of centring and scaling, in float64 NumPy."""

import keras
import numpy as np
import pytest
from keras import layers
from reference.calls import BIAS, call_of, propagate

from keras_shapley import rules


def test_layer_normalization_with_constant_deviation_is_its_dense_matrix(rng):
    layer = layers.LayerNormalization(beta_initializer=BIAS, gamma_initializer=BIAS)
    call = call_of(layer, (3, 5))
    x = rng.normal(size=(2, 3, 5))
    gamma = keras.ops.convert_to_numpy(layer.gamma).astype("float64")
    deviation = np.sqrt(x.var(axis=-1, keepdims=True) + layer.epsilon)
    matrix = np.eye(5) - 1 / 5  # of centring: outputs by inputs
    y = gamma / deviation * (x @ matrix.T)
    relevance = y * rng.normal(size=y.shape)
    messages = x[..., None, :] * (gamma[:, None] * matrix) / deviation[..., None] / y[..., None] * relevance[..., None]
    (r_in,) = propagate(rules.CentredScale(), call, [x], relevance)
    np.testing.assert_allclose(r_in, messages.sum(axis=-2), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("groups, axis, shape", [(2, -1, (2, 3, 4)), (4, -1, (3, 4)), (1, -1, (4,)), (2, 1, (4, 3))])
def test_group_normalization_with_constant_deviation_is_its_dense_matrix(groups, axis, shape, rng):
    layer = layers.GroupNormalization(groups, axis=axis, beta_initializer=BIAS, gamma_initializer=BIAS)
    call = call_of(layer, shape)
    x = rng.normal(size=(2, *shape))
    gamma = keras.ops.convert_to_numpy(layer.gamma).astype("float64")
    relevance = rng.normal(size=x.shape)
    (r_in,) = propagate(rules.CentredScale(), call, [x], relevance)

    n = int(np.prod(shape))
    channel = (np.indices(shape)[axis % len(x.shape) - 1]).ravel()
    group = channel // (shape[axis if axis < 0 else axis - 1] // groups)
    for i in range(2):
        expected = np.zeros(n)
        flat = x[i].ravel()
        for j in range(n):
            members = np.flatnonzero(group == group[j])
            scale = gamma[channel[j]] / np.sqrt(flat[members].var() + layer.epsilon)
            z = np.zeros(n)
            z[members] = -flat[members] / len(members)
            z[j] += flat[j]
            y = scale * z.sum()
            expected += scale * z / y * relevance[i].ravel()[j]
        np.testing.assert_allclose(r_in[i].ravel(), expected, rtol=2e-3, atol=2e-4 * np.abs(expected).max())


@pytest.mark.parametrize("layer", [layers.UnitNormalization(), layers.RMSNormalization()])
def test_a_norm_without_a_centre_is_a_constant(layer, rng):
    relevance = rng.normal(size=(2, 4))
    (r_in,) = propagate(rules.CentredScale(), call_of(layer, (4,)), [rng.normal(size=(2, 4))], relevance)
    np.testing.assert_allclose(r_in, relevance, rtol=1e-6)


def test_layer_normalization_conserves_in_float64(float64, rng):
    call = call_of(layers.LayerNormalization(dtype="float64"), (6,))
    r = rng.normal(size=(3, 6))
    (r_in,) = propagate(rules.CentredScale(epsilon=0.0), call, [rng.normal(size=(3, 6))], r, "float64")
    np.testing.assert_allclose(r_in.sum(axis=1), r.sum(axis=1), rtol=1e-10)
