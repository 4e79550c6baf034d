"""`Dense(4, activation=PReLU())` is Dense and PReLU: whatever explains the one gives the same for the other."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_shapley as ks
from keras_shapley.models.last_layers import last_layers

INITIAL = {
    "kernel_initializer": keras.initializers.RandomNormal(stddev=0.7, seed=1),
    "bias_initializer": keras.initializers.RandomNormal(stddev=0.5, seed=2),
}
ACTIVATIONS = {
    "ReLU": layers.ReLU,
    "ReLU6": lambda: layers.ReLU(max_value=6.0),
    "LeakyReLU": lambda: layers.LeakyReLU(0.1),
    "PReLU": lambda: layers.PReLU(alpha_initializer=keras.initializers.RandomUniform(0.0, 0.5, seed=3)),
    "ELU": lambda: layers.ELU(0.7),
    "Softmax": layers.Softmax,
    "Activation": lambda: layers.Activation("tanh"),
    "Activation of softmax": lambda: layers.Activation("softmax"),
    "Activation of PReLU": lambda: layers.Activation(layers.PReLU(alpha_initializer="ones")),
}
# vectors, sequences and images
RANKS = {
    "Dense": ((5,), lambda activation: layers.Dense(4, activation, **INITIAL)),
    "Dense at steps": ((3, 5), lambda activation: layers.Dense(4, activation, **INITIAL)),
    "Conv2D": ((5, 5, 2), lambda activation: layers.Conv2D(3, 3, activation=activation, **INITIAL)),
}
EXPLANATIONS = {
    "LRP": lambda model, x: ks.LRP(model, baseline=0.1).explain(x, 1).input,
    "LRP, eq. (2)": lambda model, x: ks.LRP(model, rules="paper").explain(x, 1).input,
    "moments": lambda model, x: ks.fast_shapley_values(model, x, 1, method="moments").values,
    "masks": lambda model, x: ks.fast_shapley_values(model, x, 1, method="masks").values,
    "surrogate": lambda model, x: ks.shapley_values(model, x, 1, budget=60, method="surrogate", progress=False).values,
}

# where each model is compiled, one that has weights stands for all
COMPARED = list(ACTIVATIONS) if keras.config.backend() == "torch" else ["PReLU"]


def pair(rank, activation):
    """A model with an activation inside of a layer, and one with it behind the layer; neither was called yet."""
    shape, layer = RANKS[rank]
    end = [layers.Flatten(), layers.Dense(6, "relu", **INITIAL), layers.Dense(2, **INITIAL)]
    inside = keras.Sequential([keras.Input(shape), layer(activation()), *end])
    end = [type(part).from_config(part.get_config()) for part in end]
    behind = keras.Sequential([keras.Input(shape), layer(None), activation(), *end])
    return inside, behind


# small networks, of which moments and masks are rough estimates
@pytest.mark.filterwarnings("ignore:The values of", "ignore:method=.masks. is biased")
@pytest.mark.parametrize("explanation", EXPLANATIONS)
@pytest.mark.parametrize("activation", COMPARED)
@pytest.mark.parametrize("rank", RANKS)
def test_an_activation_inside_of_a_layer_is_explained_as_behind_it(rank, activation, explanation, rng):
    models = pair(rank, ACTIVATIONS[activation])
    x = rng.normal(size=(2, *RANKS[rank][0])).astype("float32")
    inside, behind = (np.asarray(EXPLANATIONS[explanation](model, x)) for model in models)
    np.testing.assert_allclose(models[0].predict(x, verbose=0), models[1].predict(x, verbose=0), atol=1e-6)
    assert np.abs(behind).max() > 1e-4
    np.testing.assert_allclose(inside, behind, atol=2e-4 * np.abs(behind).max())


@pytest.mark.parametrize("activation", sorted({"ReLU", *COMPARED}))
@pytest.mark.parametrize("rank", RANKS)
def test_a_conversion_keeps_an_activation_that_it_does_not_replace(rank, activation, rng):
    inside, _ = pair(rank, ACTIVATIONS[activation])
    x = rng.normal(size=(2, *RANKS[rank][0])).astype("float32")
    expected = inside.predict(x, verbose=0)
    converted, report = ks.to_shapley(inside, "shaplu")
    np.testing.assert_allclose(converted.predict(x, verbose=0), expected, atol=1e-6)
    name = inside.layers[0].name
    if activation == "ReLU":
        assert "with relu -> ShapLU" in report.changed[name]
    else:
        assert report.left[name].startswith("its activation is ")
    plain, _ = ks.to_relu(converted)
    np.testing.assert_allclose(plain.predict(x, verbose=0), expected, atol=1e-6)


def test_moments_of_one_neuron_are_exact_shapley_values_where_it_is_linear(rng):
    """PReLU with slope 1 is the identity."""
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(3, layers.PReLU(alpha_initializer="ones")), layers.Dense(2)]
    )
    x = rng.normal(size=(2, 6)).astype("float32")
    kernels = [layer.get_weights()[0] for layer in model.layers]
    values = ks.fast_shapley_values(model, x, 1, method="moments").values
    np.testing.assert_allclose(values, x * (kernels[0] @ kernels[1])[:, 1], atol=1e-5)


@pytest.mark.filterwarnings("ignore:The values of")
def test_moments_of_many_inputs_are_near_exact_shapley_values(rng):
    model = keras.Sequential([keras.Input((10,)), layers.Dense(30, ACTIVATIONS["PReLU"](), **INITIAL), layers.Dense(2)])
    x = rng.normal(size=(20, 10)).astype("float32")
    exact = ks.exact_shapley_values(model, x, 1, progress=False).values
    values = ks.fast_shapley_values(model, x, 1, method="moments").values
    assert np.corrcoef(values.ravel(), exact.ravel())[0, 1] > 0.99


@pytest.mark.parametrize("softmax", [layers.Softmax, lambda: layers.Activation("softmax"), lambda: ops.softmax])
def test_a_softmax_at_the_end_is_a_probability_in_every_form(softmax, rng):
    known, model = (
        keras.Sequential([keras.Input((5,)), layers.Dense(4, "tanh", **INITIAL), layers.Dense(3, last, **INITIAL)])
        for last in ("softmax", softmax())
    )
    x = rng.normal(size=(2, 5))
    model.set_weights(known.get_weights())
    explainer = ks.LRP(model)
    assert explainer.output.is_probability
    np.testing.assert_allclose(explainer.explain(x, 1).input, ks.LRP(known).explain(x, 1).input, atol=1e-6)


@pytest.mark.parametrize("rank", ["Dense", "Dense at steps"])
def test_the_last_layers_of_a_surrogate_apply_the_activation(rank, rng):
    """At an average over steps, sums are vectors, while the layer saw sequences."""
    shape, layer = RANKS[rank]
    pool = [layers.GlobalAveragePooling1D()] if len(shape) > 1 else []
    hidden = layers.Dense(4, ACTIVATIONS["PReLU"](), **INITIAL)
    model = keras.Sequential([keras.Input(shape), layer("relu"), *pool, hidden, layers.Dense(2, "sigmoid", **INITIAL)])
    x = rng.normal(size=(3, *shape)).astype("float32")
    last = last_layers(model)
    parts, outputs = last(x)
    np.testing.assert_allclose(last.outputs(parts.sum(axis=1)), outputs, atol=1e-6)
    np.testing.assert_allclose(outputs, model.predict(x, verbose=0), atol=1e-6)


def test_a_layer_that_is_not_known_is_refused_with_a_remedy():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, layers.Lambda(lambda x: x**2), name="own")])
    with pytest.raises(ValueError, match="'own'.*no moments|Lambda.*no moments.*sampled_shapley_values"):
        ks.fast_shapley_values(model, np.ones((1, 3)), 0, method="moments")
    for rules in ("auto", "paper"):
        with pytest.raises(ValueError, match="'own'.*Elementwise"):
            ks.LRP(model, rules=rules)


def test_a_subclass_with_a_call_of_its_own_is_not_known():
    class Squashing(layers.ReLU):
        def call(self, inputs):
            return ops.softmax(inputs)

    model = keras.Sequential([keras.Input((3,)), layers.Dense(4, Squashing(), name="own"), layers.Dense(2)])
    with pytest.raises(ValueError, match="'own'"):
        ks.LRP(model)
