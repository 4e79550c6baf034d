"""What an output of a model is said to be."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from reference.heads import HEADS, several_outputs, with_head

from keras_shapley.models.outputs import ModelOutput, model_output, output_index


@pytest.mark.parametrize("head", HEADS)
def test_the_graph_says_what_is_a_probability(head):
    build, output, link = HEADS[head]
    described = model_output(build(), output)
    assert described.link == link
    assert described.is_probability == (link is not None)


@pytest.mark.parametrize(
    "activation",
    [
        lambda a, b: ops.softmax(a) + ops.softmax(b),
        lambda a, b: ops.softmax(a) * ops.softmax(b),
        lambda a, b: ops.softmax(a) - ops.softmax(b),
        lambda a, b: (ops.softmax(a) + ops.sigmoid(b)) / 2,
        lambda a, b: (ops.softmax(a) + b) / 2,
        lambda a, b: 2 / (ops.softmax(a) + ops.softmax(b)),
        lambda a, b: 0.5 * ops.softmax(a),
        lambda a, b: ops.log(ops.softmax(a)),
        lambda a, b: ops.tanh(a),
        lambda a, b: keras.activations.gelu(a),
    ],
)
def test_what_is_no_probability(activation):
    assert model_output(with_head(("first", 3), ("second", 3), activation=activation)).link is None


@pytest.mark.parametrize(
    "activation",
    [
        lambda a, b: 0.25 * ops.softmax(a) + 0.75 * ops.softmax(b),
        lambda a, b: ops.mean(ops.stack([ops.softmax(a), ops.softmax(b)], axis=1), axis=1),
        lambda a, b: layers.Add()([ops.softmax(a), ops.softmax(b)]) / 2,
        lambda a, b: ops.reshape(ops.softmax(a), (-1, 3)),
        lambda a, b: ops.cast(ops.softmax(a), "float16"),
    ],
)
def test_averages_and_reshapes_stay_probabilities(activation):
    assert model_output(with_head(("first", 3), ("second", 3), activation=activation)).link == "softmax"


@pytest.mark.parametrize("output, index", [("kind", 1), ("colour", 0), (1, 1)])
def test_an_output_is_found_by_its_key_or_index(output, index):
    model = several_outputs()
    assert output_index(model, output) == index
    assert model_output(model, output).shape == (tuple(model.outputs[index].shape[1:]))


def test_an_output_is_found_by_the_name_of_its_layer():
    x = keras.Input((2,))
    model = keras.Model(x, [layers.Dense(1, name="a")(x), layers.Dense(2, "softmax", name="b")(x)])
    assert model_output(model, "b") == ModelOutput("b", 1, (2,), "softmax")


@pytest.mark.parametrize("output, words", [(None, "must say which"), ("size", "'colour', 'kind'"), (2, "below 2")])
def test_no_such_output(output, words):
    with pytest.raises(ValueError, match=words):
        output_index(several_outputs(), output)


SOFTMAX = ModelOutput("y", 0, (3,), "softmax")
SIGMOID = ModelOutput("y", 0, (1,), "sigmoid")
PRICE = ModelOutput("y", 0, (1,), None)
MAPS = ModelOutput("y", 0, (2, 2, 3), "softmax")
LOGITS = ModelOutput("y", 0, (3,), None)


@pytest.mark.parametrize(
    "output, target, values, names, label",
    [
        (SOFTMAX, 1, [0.1, 0.456, 0.444], None, "class 1 (46 %)"),
        (SOFTMAX, 1, [0.1, 0.456, 0.444], ["ant", "bee", "cat"], "bee (46 %)"),
        (SIGMOID, 0, [0.46], None, "class 1 (46 %)"),
        (SIGMOID, 0, [0.46], ["cat", "dog"], "dog (46 %)"),
        (PRICE, 0, [3.2], None, "output 0: 3.2"),
        (PRICE, 0, [-181300.4], ["price"], "price: -181,300"),
        (LOGITS, 2, [0.1, 0.2, 4.256], None, "output 2: 4.26"),
        (LOGITS, 2, [0.1, 0.2, 4.256], ["ant", "bee", "cat"], "cat: 4.26"),
        (MAPS, 8, np.full((2, 2, 3), 0.25), None, "output (1, 0, 2) (25 %)"),
        (SOFTMAX, np.array([1.0, -1.0, 0.0]), [0.5, 0.3, 0.2], None, "weighted sum: 0.2"),
    ],
)
def test_labels(output, target, values, names, label):
    assert output.label(np.asarray(target), np.asarray(values), names) == label


@pytest.mark.parametrize("output, classes", [(SOFTMAX, 3), (SIGMOID, 2), (LOGITS, 3), (PRICE, None), (MAPS, None)])
def test_number_of_classes(output, classes):
    assert output.n_classes == classes


def test_both_classes_of_a_sigmoid_belong_to_its_unit():
    assert [SIGMOID.unit(label) for label in (0, 1)] == [0, 0]
    assert [SIGMOID.predicted(np.array([p])) for p in (0.2, 0.8)] == [0, 1]
    assert [SIGMOID.class_value(label, np.array([0.2])) for label in (0, 1)] == [0.8, 0.2]
