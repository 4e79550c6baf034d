"""`Elementwise`: what the user vouches for, and what the errors offer for a layer that is not known."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_shapley as ks

WALKS = ["auto", "paper"]
VOUCHED = ks.rules.Elementwise()


class Cubic(layers.Layer):
    """A layer of the user's own, with a weight for each element."""

    def build(self, input_shape):
        self.factor = self.add_weight(shape=input_shape[1:], initializer="random_normal")

    def call(self, inputs):
        return self.factor * inputs**3 + inputs


def model_of(*hidden, shape=(5,)):
    return keras.Sequential([keras.Input(shape), *hidden, layers.Flatten(), layers.Dense(2, name="last")])


def walk(model, rules, key=None):
    """An explainer, by Shapley propagation or by eq. (2), where the user vouches for what has this key."""
    table = [(key, VOUCHED), *(ks.presets.paper() if rules == "paper" else [])]
    return ks.LRP(model, rules=rules if key is None else table)


FUNCTIONS = {
    "Lambda": lambda f: [layers.Dense(4), layers.Lambda(f, name="own")],
    "Activation": lambda f: [layers.Dense(4), layers.Activation(f, name="own")],
    "activation of Dense": lambda f: [layers.Dense(4, f, name="own")],
    "activation of Conv1D": lambda f: [layers.Reshape((5, 1)), layers.Conv1D(4, 2, activation=f, name="own")],
    "Lambda as an activation": lambda f: [layers.Dense(4, layers.Lambda(f), name="own")],
}


@pytest.mark.parametrize("rules", WALKS)
@pytest.mark.parametrize("kind", FUNCTIONS)
def test_a_function_that_is_vouched_for_is_the_activation_that_it_is(kind, rules, rng):
    unknown, known = (model_of(*FUNCTIONS[kind](f)) for f in (lambda x: ops.tanh(x), ops.tanh))
    if "Lambda" in kind:
        known = model_of(layers.Dense(4, "tanh"))
    known.set_weights(unknown.get_weights())
    x = rng.normal(size=(3, 5))
    expected = walk(known, rules).explain(x, 1)
    explanation = walk(unknown, rules, "own").explain(x, 1)
    np.testing.assert_allclose(explanation.input, expected.input, atol=1e-6)
    with pytest.raises(ValueError, match="'own'"):
        walk(unknown, rules)


@pytest.mark.parametrize("key", ["own", Cubic, (Cubic, layers.Lambda)])
def test_a_layer_of_the_users_own_conserves(key, rng):
    model = model_of(layers.Dense(4), Cubic(name="own"))
    x, baseline = rng.normal(size=(3, 5)), rng.normal(size=5)
    explanation = ks.LRP(model, rules=[(key, VOUCHED)], baseline=baseline).explain(x, 0)
    difference = model.predict(x, verbose=0)[:, 0] - model.predict(baseline[None], verbose=0)[0, 0]
    np.testing.assert_allclose(explanation.input.sum(axis=1), difference, atol=1e-5)
    explanation = walk(model, "paper", key).explain(x, 0)
    np.testing.assert_allclose(explanation.input.sum(axis=1), explanation.output[:, 0], atol=1e-4)


def test_a_neuron_of_two_inputs_is_nearer_to_its_shapley_values_than_rescale(rng):
    """The closed form takes the mean slope of the function that is vouched for."""
    model = keras.Sequential([keras.Input((4,)), layers.Dense(1, lambda x: ops.exp(x), name="own")])
    model.set_weights([0.5 * rng.normal(size=(4, 1)), np.zeros(1)])
    x = rng.normal(size=(20, 4)).astype("float32")
    exact = ks.exact_shapley_values(model, x, 0, progress=False).values
    errors = [
        np.abs(ks.LRP(model, rules=[("own", VOUCHED), *more], baseline=0.0).explain(x).input - exact).max()
        for more in ([], [("own", "rescale")])
    ]
    assert errors[0] < 0.5 * errors[1]


def test_the_layer_follows_the_rule_that_it_would_have_without():
    model = model_of(layers.Dense(4, lambda x: ops.tanh(x), name="own"))
    table = [(layers.Dense, VOUCHED), (layers.Dense, "z_plus")]
    rules = [type(rule).__name__ for _, rule in ks.LRP(model, rules=table).rules.values()]
    assert rules == ["ZPlus", "Move", "ZPlus"]


MIXING = {
    "Lambda": lambda: layers.Lambda(lambda x: x - ops.mean(x, axis=-1, keepdims=True), name="own"),
    "another shape": lambda: layers.Lambda(lambda x: x[:, 1:], name="own"),
    "over the batch": lambda: layers.Lambda(lambda x: x - ops.mean(x, axis=0), name="own"),
    "activation": lambda: layers.Dense(4, lambda x: ops.softmax(x), name="own"),
    "Softmax": lambda: layers.Softmax(name="own"),
}


@pytest.mark.parametrize("rules", WALKS)
@pytest.mark.parametrize("kind", MIXING)
def test_who_vouches_wrongly_is_told_so_when_the_explainer_is_made(kind, rules):
    model = model_of(MIXING[kind]())
    with pytest.raises(ValueError, match="'own'.*depend on other elements.*rule.*shapley_values"):
        walk(model, rules, "own")


def test_lengths_that_are_not_known_do_not_matter(rng):
    model = keras.Sequential([keras.Input((None, 3)), layers.Lambda(lambda x: ops.tanh(x), name="own")])
    model.add(layers.GlobalAveragePooling1D())
    explanation = ks.LRP(model, rules=[("own", VOUCHED)]).explain(rng.normal(size=(2, 7, 3)), 1)
    np.testing.assert_allclose(explanation.input.sum((1, 2)), explanation.output[:, 1], atol=1e-5)


def test_two_tensors_cannot_be_vouched_for():
    a, b = keras.Input((3,)), keras.Input((3,))
    model = keras.Model([a, b], layers.Lambda(lambda parts: parts[0] * parts[1], name="own")([a, b]))
    with pytest.raises(ValueError, match="one tensor.*'own'.*2 tensors"):
        ks.LRP(model, rules=[("own", VOUCHED)])


UNKNOWN = {
    "layer": lambda: layers.Lambda(lambda x: x * x, name="own"),
    "activation": lambda: layers.Dense(3, lambda x: x * x, name="own"),
}


@pytest.mark.parametrize("rules", WALKS)
@pytest.mark.parametrize("kind", UNKNOWN)
def test_the_error_names_what_works_the_simplest_first(kind, rules):
    with pytest.raises(ValueError) as error:
        ks.LRP(model_of(UNKNOWN[kind]()), rules=rules)
    message = str(error.value)
    entry = "[('own', ks.rules.Elementwise())" + (", *ks.presets.paper()]" if rules == "paper" else "]")
    places = [message.index(remedy) for remedy in ("'own'", entry, "rule(call, inputs, relevance)", "shapley_values")]
    assert places == sorted(places)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(2)

    def call(self, inputs):
        return self.dense(ops.square(inputs))


def test_a_subclassed_model_is_told_what_lrp_needs_and_what_takes_it(rng):
    model, x = Subclassed(), rng.normal(size=(2, 4)).astype("float32")
    model(x)
    with pytest.raises(
        ValueError, match=r"Sequential and Functional.*Subclassed.*shapley_values\(model, x\).*keras.Model\("
    ):
        ks.LRP(model)
    values = ks.shapley_values(model, x, 1, progress=False)
    np.testing.assert_allclose(values.values, x**2 * model.dense.get_weights()[0][:, 1], atol=1e-4)
