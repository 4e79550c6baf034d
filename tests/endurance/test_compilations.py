"""How often functions are compiled, and that what was made for a model dies with it."""

import copy
import gc
import weakref

import keras
import numpy as np
import pytest
from keras import layers, ops
from reference.calls import BIAS
from reference.marks import slow_on_jax

import keras_shapley as ks
from keras_shapley.models.evaluation import padded_size
from keras_shapley.models.kept import are_same, kept, parts_of

# the cheapest explainer, which JAX compiles in a second
OPTIONS = {"rules": "epsilon", "head": "linear"}
# in an order in which no size is that of the batch before
SIZES = (10, 1, 50, 7, 33, 2, 20, 49, 3)


@pytest.fixture
def model(rng):
    return mlp()


@pytest.fixture
def x(rng):
    return rng.normal(size=(50, 4)).astype("float32")


def mlp(*front):
    dense = layers.Dense(5, "relu", bias_initializer=BIAS)
    return keras.Sequential([keras.Input((4,)), *front, dense, layers.Dense(3, bias_initializer=BIAS)])


def relevance_of(explainer, x, target=1):
    return ops.convert_to_numpy(explainer(x, target))


@pytest.mark.parametrize("first", range(1, 65))
def test_batches_up_to_64_have_four_sizes_whatever_came_first(first):
    sizes = [padded_size(n, first) for n in range(1, 65)]
    assert len(set(sizes)) <= 4
    assert all(size >= n for n, size in enumerate(sizes, start=1))
    # what always comes is never padded, nor is a single input
    assert padded_size(first, first) == first and sizes[0] == 1


@pytest.mark.parametrize("first", [1, 33, 100, 1000])
def test_larger_batches_are_padded_to_twice_their_size_at_most(first):
    sizes = {n: padded_size(n, first) for n in range(65, 5000)}
    assert all(n <= size < 2 * n for n, size in sizes.items())
    assert len(set(sizes.values())) <= 8


def test_an_explainer_compiles_four_times_for_batches_of_1_to_50(model, x, traced):
    explainer = ks.LRP(model, **OPTIONS)
    one_by_one = {n: relevance_of(explainer, x[:n]) for n in SIZES}
    assert bool(traced) == (keras.backend.backend() != "torch")
    # a warning, which names a layer, takes an explanation more
    assert len([name for name in traced if "report" not in name]) <= 4
    for n, relevance in one_by_one.items():
        np.testing.assert_allclose(relevance, one_by_one[50][:n], rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*miss more than a quarter", "ignore:.*is biased")
@pytest.mark.parametrize("method", ["moments", "masks"])
def test_fast_values_compile_four_gradients_for_batches_of_1_to_50(method, model, x, traced):
    def values(n):
        return ks.fast_shapley_values(model, x[:n], 1, method=method, normalize=True).values

    whole = values(50)
    for n in SIZES:
        np.testing.assert_allclose(values(n), whole[:n], rtol=1e-3, atol=1e-5)
    assert sum("gradient" in name for name in traced) <= 4


def test_coalitions_are_evaluated_in_few_sizes(model, x, traced):
    for n in SIZES:
        ks.exact_shapley_values(model, x[:n], 1)
        ks.metrics.deletion(model, x[:n], x[:n], 1, steps=4)
    assert len(traced) <= 4


def test_padding_is_not_seen(model, x):
    """Neither in the arrays nor in what is said of the whole batch."""
    model.layers[-1].activation = keras.activations.softmax
    options = {"rules": "paper", "head_method": "sampled", "n_paths": 20}
    explainer = ks.LRP(model, **options)
    explainer.explain(x[:20], 1)
    padded = explainer.explain(x[:13], 1)
    exact = ks.LRP(copy.deepcopy(model), **options).explain(x[:13], 1)
    assert padded.head_paths == exact.head_paths and len(padded.output) == 13
    for name in ("input", "output", "head_total", "head_stderr", "amplified", "arrived", "target"):
        np.testing.assert_allclose(getattr(padded, name), getattr(exact, name), rtol=1e-4, atol=1e-5, err_msg=name)
    for name, gap in exact.conservation_gap.signed.items():
        np.testing.assert_allclose(padded.conservation_gap.signed[name], gap, atol=1e-5)


def test_a_second_explainer_with_the_same_options_compiles_nothing(model, x, traced):
    def table(gamma):
        return [(layers.Dense, ks.rules.Gamma(gamma)), (ks.presets.First(layers.Dense), "flat")]

    for options in (OPTIONS, {"rules": table(0.5), "head": "linear"}):
        first = relevance_of(ks.LRP(model, **options), x[:2])
        traced.clear()
        if "Gamma" in str(options):
            options = {"rules": table(0.5), "head": "linear"}
        np.testing.assert_array_equal(relevance_of(ks.LRP(model, **options), x[:2]), first)
        assert not traced
    other = relevance_of(ks.LRP(model, rules=table(0.1), head="linear"), x[:2])
    assert np.abs(other - first).max() > 1e-3


def test_what_depends_on_a_function_of_the_user_is_not_shared(model, x):
    """It may be another one each time, as a lambda in a loop is, and the model must not collect them."""

    def scaled(factor):
        return ks.LRP(model, rules="epsilon", head=lambda logits, target: factor * logits)

    np.testing.assert_allclose(relevance_of(scaled(3.0), x[:1]), 3 * relevance_of(scaled(1.0), x[:1]), rtol=1e-5)
    assert "__keras_shapley__" not in model.__dict__


def test_a_rule_that_was_changed_is_seen(model, x):
    rule = ks.rules.Gamma(0.5)
    before = relevance_of(ks.LRP(model, rules=[(layers.Dense, rule)], head="linear"), x[:1])
    rule.gamma = 0.0
    after = relevance_of(ks.LRP(model, rules=[(layers.Dense, rule)], head="linear"), x[:1])
    assert np.abs(after - before).max() > 1e-3


def test_new_weights_are_seen_and_nothing_is_compiled(model, x, traced, backend):
    explainer = ks.LRP(model, **OPTIONS)
    explainer(x[:2], 1)
    ks.exact_shapley_values(model, x[:2], 1)
    n_traced = len(traced)
    if backend != "jax":
        model.compile("sgd", "mse", run_eagerly=True)
        model.fit(x[:8], np.ones((8, 3)), epochs=2, verbose=0)
    model.set_weights([2 * weights for weights in model.get_weights()])
    present = copy.deepcopy(model)
    relevance, values = relevance_of(explainer, x[:2]), ks.exact_shapley_values(model, x[:2], 1).values
    assert len(traced) == n_traced
    np.testing.assert_allclose(relevance, relevance_of(ks.LRP(present, **OPTIONS), x[:2]), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(values, ks.exact_shapley_values(present, x[:2], 1).values, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name, value", [("negative_slope", 0.7), ("name_of_no_option", 0.7)])
def test_a_changed_option_of_a_layer_is_seen(name, value, x, rng):
    model = mlp(layers.LeakyReLU(negative_slope=0.1))
    before = ks.exact_shapley_values(model, x[:1], 1).values
    setattr(model.layers[0], name, value)
    after = ks.exact_shapley_values(model, x[:1], 1).values
    assert np.allclose(after, before) == (name != "negative_slope")


class Scaled(keras.Model):
    """A model of a user with numbers of its own, which are stored in `kind`."""

    def __init__(self, kind=float):
        super().__init__()
        self.dense, self.kind = layers.Dense(3), kind
        self.factor = kind(2.0)

    def call(self, x):
        factor = self.factor[0] if isinstance(self.factor, (list, dict)) else self.factor
        return ops.multiply(self.dense(x), factor)


@pytest.mark.parametrize(
    "kind",
    [float, np.float32, np.array, lambda number: [number], lambda number: {0: number}],
    ids=["float", "float32", "array", "list", "dict"],
)
def test_a_changed_attribute_of_a_users_model_is_seen(kind, x):
    model = Scaled(kind)
    model(x)
    values = ks.exact_shapley_values(model, x[:1], 1).values
    model.factor = kind(-6.0)
    np.testing.assert_allclose(ks.exact_shapley_values(model, x[:1], 1).values, -3 * values, rtol=1e-4)


def test_training_and_prediction_change_nothing_that_is_kept(x):
    model = Scaled()
    model.compile("sgd", "mse")
    model(x)
    before = parts_of(model)
    model.fit(x, np.ones((50, 3)), verbose=0)
    model.evaluate(x, np.ones((50, 3)), verbose=0)
    model.predict(x, verbose=0)
    assert are_same(before, parts_of(model))


def test_a_normalization_that_adapts_again_is_seen(x, rng):
    front = layers.Normalization()
    front.adapt(x)
    model = mlp(front)
    before = ks.exact_shapley_values(model, x[:1], 1).total
    front.adapt(3 * x + 1)
    after = ks.exact_shapley_values(model, x[:1], 1).total
    expected = [ops.convert_to_numpy(model(part))[:, 1] for part in (x[:1], np.zeros_like(x[:1]))]
    np.testing.assert_allclose(after, expected[0] - expected[1], rtol=1e-4)
    assert np.abs(after - before) > 1e-3


def test_a_model_keeps_64_things_at_most(model):
    made = [kept(model, number, lambda number=number: [number]) for number in range(200)]
    assert len(model.__dict__["__keras_shapley__"].entries) == 64
    assert kept(model, 199, list) is made[199] and kept(model, 0, list) == []


def training_with_callbacks(model, x):
    class Epoch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            ks.LRP(self.model, **OPTIONS)(x, 1)

    model.compile("sgd", "mse", jit_compile=False, run_eagerly=keras.backend.backend() != "jax")
    monitor = ks.GateMonitor(x, np.ones((len(x), 3)))
    model.fit(x, np.ones((len(x), 3)), verbose=0, callbacks=[Epoch(), monitor])


USES = {
    "explainer": lambda model, x: ks.LRP(model, **OPTIONS)(x, 1),
    "propagation": lambda model, x: ks.LRP(model, head="linear").explain(x, 1),
    "moments": lambda model, x: ks.fast_shapley_values(model, x, 1),
    "masks": lambda model, x: ks.fast_shapley_values(model, x, 1, method="masks"),
    "values": lambda model, x: ks.shapley_values(model, x, 1),
    "interactions": lambda model, x: ks.shapley_interactions(model, x, 1),
    "conversion": lambda model, x: ks.shapley_values(ks.to_shapley(model)[0], x, 1),
    "callbacks": training_with_callbacks,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("use", ["explainer", *(slow_on_jax(use) for use in USES if use != "explainer")])
def test_a_model_dies_with_all_that_was_made_for_it(use, x, rng, backend):
    def graphs():
        """TensorFlow's graphs that are alive."""
        gc.collect()
        things = gc.get_objects() if backend == "tensorflow" else ()
        return sum(type(thing).__name__ == "FuncGraph" for thing in things)

    def used():
        model = mlp()
        USES[use](model, x[:2])
        return weakref.ref(model)

    used()
    n_graphs = graphs()
    reference = used()
    assert graphs() <= n_graphs
    assert reference() is None


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow warns of it")
def test_models_one_after_the_other_look_like_no_retracing(x, rng, tensorflow_log):
    for _ in range(6):
        model = mlp()
        ks.LRP(model, **OPTIONS)(x[:1], 1)
        ks.exact_shapley_values(model, x[:1], 1)
    assert not [text for text in tensorflow_log if "retracing" in text]


def test_an_explainer_from_before_a_change_leaves_no_walk_to_later_ones(rng):
    x = rng.normal(size=(4, 5)).astype("float32")

    def made(activation):
        keras.utils.set_random_seed(0)
        hidden = keras.layers.Dense(6, "tanh")
        return keras.Sequential([keras.Input((5,)), hidden, keras.layers.Dense(3, activation)])

    model = made("softmax")
    before = ks.LRP(model)
    before(x, 0)
    model.layers[-1].activation = keras.activations.linear
    before(x, 0)
    expected = keras.ops.convert_to_numpy(ks.LRP(made("linear"))(x, 0))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(ks.LRP(model)(x, 0)), expected, atol=1e-5)


def test_a_rule_belongs_to_the_explainer_that_it_was_given_to(rng):
    x = rng.normal(size=(4, 5)).astype("float32")
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(6, "tanh"), keras.layers.Dense(3)])
    first, second = ks.rules.Epsilon(1e-6), ks.rules.Epsilon(1e-6)
    explainers = [ks.LRP(model, rules=[(keras.layers.Dense, rule)]) for rule in (first, second)]
    before = [keras.ops.convert_to_numpy(explainer(x, 0)) for explainer in explainers]
    first.epsilon = 10.0
    for explainer, relevance in zip(explainers, before):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(explainer(x, 0)), relevance)
