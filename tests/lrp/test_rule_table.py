"""Which rule a layer follows: the user's first, the first linear layer's, none that it is not for."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from reference.calls import total

import keras_shapley as ks


def test_a_rule_of_the_users_own_comes_first(convnet, images):
    seen = []

    def spy(call, inputs, relevance):
        seen.append((call.name, tuple(inputs[0].shape), tuple(relevance.shape)))
        return [ops.zeros_like(inputs[0])]

    explanation = ks.LRP(convnet, rules=[((layers.MaxPooling2D,), spy)]).explain(images)
    assert seen == [("max", (4, 5, 5, 6), (4, 3, 3, 6))]
    np.testing.assert_allclose(explanation.conservation_gap.signed["max"], total(explanation.layers["max"]), atol=1e-6)


def test_the_first_linear_layer_may_be_inside_another(rng):
    tokens = keras.Input((4,), dtype="int32")
    x = layers.Embedding(5, 6)(tokens)
    x = layers.MultiHeadAttention(2, 3)(x, x)
    x = layers.TimeDistributed(layers.Dense(4, name="step"))(layers.TimeDistributed(layers.Dense(4))(x))
    model = keras.Model(tokens, layers.Dense(2, name="out")(layers.Flatten()(x)))
    rules = ks.LRP(model, rules="epsilon_plus_flat").rules
    steps = [rule.rule for _, rule in rules.values() if isinstance(rule, ks.rules.EachStep)]
    assert [type(rule) for rule in [*steps, rules["out"][1]]] == [ks.rules.Epsilon] * 3
    image = keras.Sequential([keras.Input((2, 5, 5, 1))])
    for _ in range(2):
        image.add(layers.TimeDistributed(layers.Conv2D(2, 2)))
    image.add(layers.Flatten())
    image.add(layers.Dense(2))
    rules = ks.LRP(image, rules="epsilon_plus_flat").rules
    steps = [type(rule.rule) for _, rule in rules.values() if isinstance(rule, ks.rules.EachStep)]
    assert steps == [ks.rules.Flat, ks.rules.ZPlus]


def test_a_layer_without_a_rule_is_named_with_the_remedy():
    x = keras.Input((4, 6, 2))
    model = keras.Model(x, layers.Dense(2)(layers.ConvLSTM1D(3, 2, name="memory")(x)))
    with pytest.raises(ValueError, match=r"'memory' \(ConvLSTM1D\) has no LRP rule.*rules=\[\('memory', ks"):
        ks.LRP(model, rules="paper")


@pytest.mark.parametrize(
    "layer",
    [
        layers.Dense(5, activation=layers.Softmax(axis=1), name="mix"),
        layers.Dense(5, activation=lambda x: x, name="mix"),
    ],
)
def test_relevance_never_passes_silently_through_what_mixes_elements(layer):
    model = keras.Sequential([keras.Input((5,)), layer, layers.Dense(2)])
    with pytest.raises(ValueError, match="'mix'.*not known to act on each element alone"):
        ks.LRP(model, rules="paper")


class Mixing(layers.Dropout):
    def call(self, inputs, training=False):
        return ops.cumsum(inputs, axis=-1)


class Squashing(layers.Dense):
    def call(self, inputs):
        return ops.softmax(super().call(inputs))


@pytest.mark.parametrize("layer", [Mixing(0.5, name="mix"), Squashing(5, name="mix")])
def test_a_subclass_with_a_call_of_its_own_does_not_inherit_the_rule(layer):
    model = keras.Sequential([keras.Input((5,)), layer, layers.Dense(2)])
    with pytest.raises(ValueError, match="'mix'.*no LRP rule"):
        ks.LRP(model, rules="paper")
    ks.LRP(model, rules=[(type(layer), lambda call, inputs, relevance: [relevance])])


class Doubled(layers.Dense):
    def call(self, inputs):
        return 2 * super().call(inputs)


class Sorted(layers.Dense):
    def call(self, inputs):
        return ops.sort(super().call(inputs), axis=-1)


def test_a_subclass_with_a_rule_of_the_users_computes_its_own_outputs(rng):
    model = keras.Sequential([keras.Input((6,)), Doubled(6, bias_initializer="normal"), layers.Dense(2)])
    x = rng.normal(size=(3, 6))
    explanation = ks.LRP(model, rules=[(Doubled, lambda call, inputs, r: [r])], baseline=0.0).explain(x, 1)
    outputs, (at_zero,) = model.predict(x, verbose=0), model.predict(0 * x[:1], verbose=0)
    np.testing.assert_allclose(explanation.output, outputs, rtol=1e-5)
    np.testing.assert_allclose(explanation.head_total, outputs[:, 1] - at_zero[1], rtol=1e-4)
    with pytest.raises(
        ValueError, match="Epsilon is for layers with a linear map.*'doubled.*has none. Remove the entry"
    ):
        ks.LRP(model, rules=[(Doubled, "epsilon")])


class Incomplete(ks.rules.LinearRule):
    """Says nothing of its parts."""


def test_a_rule_without_its_parts_says_which_are_missing(rng):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    with pytest.raises(TypeError, match="Incomplete does not define `parts`"):
        ks.LRP(model, rules=[(layers.Dense, Incomplete())]).explain(rng.normal(size=(2, 3)))


def test_nobody_can_vouch_for_a_layer_that_mixes_elements():
    model = keras.Sequential([keras.Input((6,)), Sorted(6), layers.Dense(2)])
    with pytest.raises(ValueError, match="Sorted.*outputs depend on other elements"):
        ks.LRP(model, rules=[(Sorted, ks.rules.Elementwise())])


class Tripled(ks.SADense):
    def call(self, inputs):
        return 3 * super().call(inputs)


class Renamed(ks.SADense):
    """Computes as its parent does."""


def test_a_subclass_of_a_layer_of_this_package_does_not_inherit_the_rule_either(rng):
    with pytest.raises(ValueError, match="Tripled.*no LRP rule"):
        ks.LRP(keras.Sequential([keras.Input((5,)), Tripled(4), layers.Dense(2)]))
    model = keras.Sequential([keras.Input((5,)), Renamed(4), layers.Dense(2)])
    explanation = ks.LRP(model).explain(rng.normal(size=(3, 5)), 1)
    np.testing.assert_allclose(explanation.input.sum(axis=1), explanation.head_total, rtol=1e-4)


def test_a_function_of_the_users_with_the_name_of_an_activation_is_its_own(rng):
    def clip(x):
        return ops.clip(x, -1.0, 1.0)

    def relu(x):
        return ops.clip(x, -1.0, 1.0)

    x, explained = rng.normal(size=(3, 6)), []
    for function in (clip, relu):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((6,)), layers.Dense(5, function, name="own"), layers.Dense(2)])
        explained.append(ks.LRP(model, rules=[("own", ks.rules.Elementwise())]).explain(x, 1).input)
    np.testing.assert_array_equal(*explained)


class Standardised(layers.Conv2D):
    def convolution_op(self, inputs, kernel):
        return super().convolution_op(inputs, kernel - ops.mean(kernel, axis=(0, 1, 2)))


def test_a_convolution_with_an_operation_of_its_own_has_no_rule():
    model = keras.Sequential(
        [keras.Input((4, 4, 2)), Standardised(3, 2, name="own"), layers.Flatten(), layers.Dense(2)]
    )
    with pytest.raises(ValueError, match="'own'"):
        ks.LRP(model, rules="paper")


@pytest.mark.parametrize(
    "rule, layer",
    [
        (ks.rules.Airport(), layers.Flatten(name="wrong")),
        (ks.rules.Move(), layers.Dense(3, name="wrong")),
        (ks.rules.Sum(), layers.LayerNormalization(name="wrong")),
        (ks.rules.Attention(), layers.Dense(3, name="wrong")),
        (ks.rules.WinnerTakesAll(), layers.ReLU(name="wrong")),
    ],
)
def test_a_rule_on_a_layer_that_it_is_not_for_is_refused(rule, layer):
    model = keras.Sequential([keras.Input((3,)), layer, layers.Dense(2)])
    with pytest.raises(ValueError, match=f"{type(rule).__name__}.*'wrong'"):
        ks.LRP(model, rules=[("wrong", rule)])


def test_a_quantized_layer_is_refused():
    model = keras.Sequential([keras.Input((5,)), layers.Dense(4, "relu", name="below"), layers.Dense(2)])
    model.layers[0].quantize("int8")
    with pytest.raises(ValueError, match="'below'.*quantized"):
        ks.LRP(model, rules="paper")


@pytest.mark.parametrize("baseline", [None, 0.0])
@pytest.mark.parametrize("key", [layers.Layer, (layers.Conv3D, layers.LSTM), ks.presets.First(layers.Conv1D)])
def test_a_table_of_which_no_entry_fits_is_an_error(key, baseline):
    model = keras.Sequential([keras.Input((6, 6, 1)), layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(2)])
    with pytest.raises(ValueError, match="No entry of `rules` fits a layer.*Conv2D.*Dense"):
        ks.LRP(model, rules=[(key, "epsilon")], baseline=baseline)


def test_some_entries_need_not_fit(convnet):
    rules = ks.LRP(convnet, rules=[(layers.Conv3D, "flat"), (layers.Conv2D, "epsilon")]).rules.values()
    assert "Epsilon" in [type(rule).__name__ for _, rule in rules]
    assert ks.LRP(convnet, rules=[]).preset == "table"
