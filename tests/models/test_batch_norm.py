"""BatchNormalization merged into linear layers, against the dense matrix of both together, in float64."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_shapley as ks
from keras_shapley.layers.linear_maps import linear_map
from keras_shapley.models.batch_norm import merges
from keras_shapley.models.tracing import trace

BIAS = keras.initializers.RandomNormal(stddev=0.3, seed=1)


def normalization(**config):
    """With statistics and weights that are not those of a new layer; `gamma` of either sign."""
    return layers.BatchNormalization(
        gamma_initializer=keras.initializers.RandomNormal(stddev=1.0, seed=2),
        beta_initializer=BIAS,
        moving_mean_initializer=BIAS,
        moving_variance_initializer=keras.initializers.RandomUniform(0.5, 2, seed=3),
        **config,
    )


LINEAR = [
    (layers.Dense(4, bias_initializer=BIAS), (5,)),
    (layers.Dense(4, use_bias=False), (3, 5)),
    (layers.EinsumDense("abc,cd->abd", (3, 4), bias_axes="d", bias_initializer=BIAS), (3, 5)),
    (layers.Conv1D(4, 3, padding="causal", bias_initializer=BIAS), (6, 2)),
    (layers.Conv2D(4, 3, padding="same", bias_initializer=BIAS), (5, 4, 2)),
    (layers.Conv2D(6, 3, padding="same", groups=2, bias_initializer=BIAS), (4, 4, 4)),
    (layers.Conv2D(4, 3, strides=2, use_bias=False), (5, 5, 2)),
    (layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, bias_initializer=BIAS), (4, 4, 3)),
    (layers.Conv2DTranspose(3, 3, strides=2, padding="same", bias_initializer=BIAS), (3, 3, 2)),
    (layers.SeparableConv2D(3, 3, padding="same", depth_multiplier=2, bias_initializer=BIAS), (4, 4, 2)),
]


@pytest.mark.parametrize("where", ["before", "behind", "both"])
@pytest.mark.parametrize("layer, shape", LINEAR)
def test_the_merged_map_gives_what_both_layers_give(layer, shape, where, rng):
    """At padded borders too, where the shift of a normalisation in front has no part."""
    layer = type(layer).from_config(layer.get_config())
    x = y = keras.Input(shape)
    if where != "behind":
        y = normalization()(y)
    y = layer(y)
    if where != "before":
        y = normalization()(y)
    model = keras.Model(x, y)
    calls = trace(model).calls
    (merge,) = merges(calls, [call for call in calls if call.op is layer]).values()
    data = rng.normal(size=(2, *shape)).astype("float32")
    tensor = ops.convert_to_tensor(data)
    linear = merge(linear_map(layer), tensor)
    np.testing.assert_allclose(
        ops.convert_to_numpy(linear.sums(tensor) + linear.bias), ops.convert_to_numpy(model(tensor)), atol=1e-4
    )


def matrix(model, shape):
    """`(A, c)` of an affine model: `A x + c`, flattened."""
    n = int(np.prod(shape))
    flat = [
        ops.convert_to_numpy(model(np.reshape(x, (len(x), *shape)))).reshape(len(x), -1)
        for x in (np.zeros((1, n)), np.eye(n))
    ]
    return (flat[1] - flat[0]).T.astype("float64"), flat[0][0].astype("float64")


@pytest.mark.parametrize("rule", ["shapley", "z_plus"])
@pytest.mark.parametrize("where", ["before", "behind", "both"])
def test_rules_see_the_product_of_both_layers(rule, where, rng):
    x = y = keras.Input((4, 4, 2))
    y = normalization(name="before")(y) if where != "behind" else y
    y = layers.Conv2D(3, 3, padding="same", bias_initializer=BIAS)(y)
    y = normalization(name="behind")(y) if where != "before" else y
    both = keras.Model(x, y)
    model = keras.Model(x, layers.Dense(2, name="out")(layers.Flatten()(layers.ReLU(name="relu")(both(x)))))
    data = rng.normal(size=(2, 4, 4, 2))
    found = ks.LRP(model, rules=[(layers.Conv2D, rule)], merge_batch_norm=True).explain(data, 0)

    a, c = matrix(both, (4, 4, 2))
    taps = matrix(
        keras.Sequential([keras.Input((4, 4, 2)), layers.Conv2D(3, 3, padding="same", kernel_initializer="ones")]),
        (4, 4, 2),
    )[0]
    for i in range(2):
        z = a * data[i].ravel()
        r = found.layers["relu"][i].ravel().astype("float64")
        if rule == "shapley":
            shares = (z + taps * (c / taps.sum(axis=1))[:, None]) / (z.sum(axis=1) + c)[:, None]
        else:
            shares = np.maximum(z, 0) / (np.maximum(z, 0).sum(axis=1) + np.maximum(c, 0))[:, None]
        expected = (shares * r[:, None]).sum(axis=0)
        np.testing.assert_allclose(found.input[i].ravel(), expected, rtol=1e-2, atol=2e-3 * np.abs(expected).max())


def test_where_no_linear_layer_is_beside_it_relevance_passes(rng):
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(4, "relu"), normalization(name="alone"), layers.ReLU(), layers.Dense(2)]
    )
    x = rng.normal(size=(2, 3))
    one, other = (ks.LRP(model, rules="paper", merge_batch_norm=merged).explain(x, 0) for merged in (True, False))
    np.testing.assert_allclose(one.input, other.input, rtol=1e-6)


def test_gaps_add_up_with_merged_layers_as_well(rng):
    x = keras.Input((5, 5, 2))
    y = layers.Conv2D(3, 3, use_bias=False)(x)
    y = layers.ReLU()(normalization()(y))
    y = layers.Conv2D(4, 3, bias_initializer=BIAS)(normalization()(y))
    model = keras.Model(x, layers.Dense(2, "softmax")(layers.Flatten()(y)))
    found = ks.LRP(model, rules="paper", merge_batch_norm=True).explain(rng.normal(size=(3, 5, 5, 2)))
    missing = found.head_total - found.input.sum(axis=(1, 2, 3))
    np.testing.assert_allclose(sum(found.conservation_gap.signed.values()), missing, atol=1e-4)
    assert max(gap[1] for _, gap in found.conservation_gap.summary().values()) < 1e-3


def test_what_cannot_be_merged_exactly_is_named():
    x = keras.Input((4, 4, 3))
    y = layers.Conv2D(3, 3, padding="same", name="conv")(x)
    shared = keras.Model(
        x, layers.Dense(2)(layers.Flatten()(layers.Add()([y, layers.BatchNormalization(name="bn")(y)])))
    )
    with pytest.raises(ValueError, match="'bn'.*'conv'.*other layers use"):
        ks.LRP(shared, rules="paper", merge_batch_norm=True)
    y = layers.BatchNormalization(axis=1, name="bn")(layers.Conv2D(3, 3, name="conv")(x))
    with pytest.raises(ValueError, match="'bn'.*'conv'.*axis 1"):
        ks.LRP(keras.Model(x, layers.Dense(2)(layers.Flatten()(y))), rules="paper", merge_batch_norm=True)


def test_padding_in_front_of_the_normalisation_gets_nothing(rng):
    x = keras.Input((4, 4, 2))
    y = normalization()(layers.ZeroPadding2D(1, name="pad")(x))
    y = layers.Flatten()(layers.Conv2D(3, 3, bias_initializer=BIAS)(y))
    model = keras.Model(x, layers.Dense(2, use_bias=False)(y))
    found = ks.LRP(model, rules="paper", merge_batch_norm=True).explain(rng.normal(size=(2, 4, 4, 2)), 0)
    np.testing.assert_allclose(found.conservation_gap.signed["pad"], 0, atol=1e-5)


def test_a_layer_with_a_rule_of_the_users_own_is_left_alone(rng):
    x = keras.Input((4, 4, 3))
    y = layers.Conv2D(3, 3, padding="same", name="conv")(x)
    y = layers.Add()([y, layers.BatchNormalization()(y)])
    model = keras.Model(x, layers.Dense(2)(layers.Flatten()(y)))
    ks.LRP(model, rules=[("conv", lambda call, inputs, relevance: [relevance])], merge_batch_norm=True)(
        np.ones((1, 4, 4, 3))
    )
