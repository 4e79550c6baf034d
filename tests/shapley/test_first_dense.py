"""Models that begin with a Dense layer: adding players one by one gives the values of the whole model."""

import tracemalloc

import keras
import numpy as np
import pytest
from keras import layers

import keras_shapley as ks
from keras_shapley.shapley.first_dense import first_dense

BIAS = keras.initializers.RandomNormal(stddev=0.5, seed=1)
NORMALIZATION = {"mean": 0.3, "variance": 2.0}
MODELS = {
    "dense": [layers.Dense(6, "tanh", bias_initializer=BIAS)],
    "no bias": [layers.Dense(6, "relu", use_bias=False)],
    "behind elementwise layers": [
        layers.Rescaling(0.5, offset=-0.2),
        layers.Normalization(**NORMALIZATION),
        layers.Dropout(0.5),
        layers.Dense(6, "relu", bias_initializer=BIAS),
    ],
    "sa": [ks.SADense(6, bias_initializer=BIAS)],
    "sa pooled": [ks.SADense(6, bias_initializer=BIAS, second_moment="pooled")],
    "sa, no bias": [ks.SADense(6, use_bias=False)],
    "shaplu": [ks.ShapLUDense(6, bias_initializer=BIAS)],
}


def model_of(hidden, shape=(2, 3, 2)):
    inputs = keras.Input(shape)
    x = layers.Flatten()(inputs)
    for layer in hidden:
        x = type(layer).from_config({**layer.get_config(), "name": f"front_{type(layer).__name__.lower()}"})(x)
    # a branch behind it
    return keras.Model(inputs, layers.Dense(3, "softmax")(layers.Concatenate()([layers.Dense(4, "relu")(x), x])))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("players", [None, np.arange(6).reshape(2, 3)[:, ::-1].copy()])
def test_values_are_those_of_the_whole_model(name, players, rng):
    model = model_of(MODELS[name])
    assert first_dense(model) is not None
    x = rng.normal(size=(2, 2, 3, 2)).astype("float32")
    x[0, 0, 1] = 0.0
    background = rng.normal(size=(2, 2, 3, 2)).astype("float32")
    for baseline in (0.0, background):
        options = {"players": players, "n_paths": 6, "baseline": baseline, "batch_size": 16}
        result = ks.sampled_shapley_values(model, x, **options)
        whole = ks.sampled_shapley_values(lambda batch: model(batch, training=False), x, **options)
        np.testing.assert_allclose(result.values, whole.values, atol=2e-6)
        np.testing.assert_allclose(result.stderr, whole.stderr, atol=2e-6)
        assert result.n_evaluations == whole.n_evaluations


@pytest.mark.parametrize(
    "shape, front",
    [
        ((3, 2, 2), [layers.Flatten(data_format="channels_first"), layers.Dense(6, "tanh")]),
        ((1, 6), [layers.Dense(6, "tanh"), layers.Flatten()]),
        ((1, 6), [layers.Dense(4, "tanh"), layers.Flatten()]),
    ],
)
def test_the_whole_model_is_evaluated_where_inputs_are_no_rows_of_the_kernel(shape, front, rng):
    model = keras.Sequential([keras.Input(shape), *front, layers.Dense(3, "softmax")])
    assert first_dense(model) is None
    x = rng.normal(size=(2, *shape)).astype("float32")
    result = ks.sampled_shapley_values(model, x, n_paths=6)
    whole = ks.sampled_shapley_values(lambda batch: model(batch, training=False), x, n_paths=6)
    np.testing.assert_allclose(result.values, whole.values, atol=2e-6)
    assert np.abs(result.values).max() > 1e-3


def test_memory_is_bounded_by_the_batch_where_orders_come_in_groups():
    """Sums of 1,000 neurons along the 16 orders of a group, and their reverses, are 15 MB."""
    model = keras.Sequential([keras.Input((60,)), layers.Dense(1000, "relu"), layers.Dense(1)])
    x = np.random.default_rng(0).normal(size=(1, 60))
    ks.sampled_shapley_values(model, x, n_paths=2, batch_size=64)
    tracemalloc.start()
    ks.sampled_shapley_values(model, x, n_paths=512, orders="orthogonal", batch_size=64)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8e6


def test_the_present_weights_count(rng):
    hidden = layers.Dense(6, "relu", bias_initializer=BIAS)
    model = keras.Sequential([keras.Input((5,)), hidden, layers.Dense(2, "softmax")])
    x = rng.normal(size=(1, 5)).astype("float32")
    before = ks.sampled_shapley_values(model, x, n_paths=4).values
    hidden.set_weights([2 * weight + 0.1 for weight in hidden.get_weights()])
    after = ks.sampled_shapley_values(model, x, n_paths=4).values
    whole = ks.sampled_shapley_values(lambda batch: model(batch), x, n_paths=4).values
    np.testing.assert_allclose(after, whole, atol=2e-6)
    assert np.abs(after - before).max() > 1e-3


def test_each_output_of_a_model_may_be_what_follows(rng):
    """One output is a map; the other one needs none of its layers."""
    inputs = keras.Input((5,))
    hidden = layers.Dense(6, "relu", bias_initializer=BIAS)(inputs)
    maps = layers.Reshape((2, 3))(layers.Dense(6, "tanh")(hidden))
    model = keras.Model(inputs, [layers.Dense(2, "softmax")(hidden), maps])
    x = rng.normal(size=(2, 5)).astype("float32")
    for output, target in ((0, "all"), (0, None), (1, "all"), (1, 4), (1, np.arange(6.0).reshape(2, 3))):
        assert first_dense(model, output) is not None
        result = ks.sampled_shapley_values(model, x, target, output=output, n_paths=6)
        whole = ks.sampled_shapley_values(lambda batch: model(batch)[output], x, target, n_paths=6)
        np.testing.assert_allclose(result.values, whole.values, atol=1e-5)
        assert result.n_evaluations == whole.n_evaluations


class OwnDense(layers.Dense):
    def call(self, inputs):
        return super().call(inputs) ** 2


class OwnModel(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(2)

    def call(self, inputs):
        return self.dense(inputs)


def two_users():
    x = keras.Input((4,))
    return keras.Model(x, layers.Dense(2)(layers.Concatenate()([layers.Dense(3)(x), x])))


def own_model():
    model = OwnModel()
    model(np.zeros((1, 4), "float32"))
    return model


@pytest.mark.parametrize(
    "model",
    [
        lambda: keras.Sequential([keras.Input((4,)), OwnDense(3), layers.Dense(2)]),
        lambda: keras.Sequential([keras.Input((4,)), layers.LayerNormalization(), layers.Dense(3), layers.Dense(2)]),
        lambda: keras.Sequential([keras.Input((3, 4)), layers.Dense(2), layers.Flatten(), layers.Dense(2)]),
        lambda: keras.Sequential([keras.Input((4,)), layers.Dense(2)]),
        lambda: keras.Sequential([keras.Input((4,)), layers.Dense(3, dtype="mixed_bfloat16"), layers.Dense(2)]),
        two_users,
        own_model,
    ],
)
def test_other_models_are_evaluated_as_a_whole(model, rng):
    model = model()
    assert first_dense(model) is None
    x = rng.normal(size=(1, 4) if isinstance(model, OwnModel) else (1, *model.inputs[0].shape[1:])).astype("float32")
    result = ks.sampled_shapley_values(model, x, n_paths=2)
    whole = ks.sampled_shapley_values(lambda batch: model(batch, training=False), x, n_paths=2)
    np.testing.assert_allclose(result.values, whole.values, atol=1e-5)
