"""GateMonitor: its shares and norms in the logs of every epoch, against those computed from the weights."""

import csv

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_shapley as ks
from keras_shapley.layers import activations
from keras_shapley.layers.normal import normal_cdf

JIT = "auto" if keras.backend.backend() != "tensorflow" else False
BIAS = keras.initializers.RandomNormal(stddev=0.5, seed=1)


def network():
    return keras.Sequential(
        [
            keras.Input((6,)),
            ks.SADense(8, bias_initializer=BIAS, name="sa"),
            layers.Dense(7, "relu", bias_initializer=BIAS, name="relu"),
            layers.Dropout(0.5),
            layers.Dense(6, bias_initializer=BIAS, name="before"),
            layers.ReLU(name="alone"),
            layers.Dense(5, "gelu", bias_initializer=BIAS, name="gelu"),
            layers.Dense(4, name="frozen", trainable=False),
            ks.ShapLUDense(4, name="shaplu"),
            layers.Dense(3, "softmax", name="classes"),
        ]
    )


@pytest.fixture
def data(rng):
    return rng.normal(size=(40, 6)).astype("float32"), np.arange(40) % 3


def fit(model, data, callbacks, **options):
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", jit_compile=JIT)
    return model.fit(*data, batch_size=8, verbose=0, callbacks=callbacks, **options)


def test_shares_and_norms_are_those_of_the_weights_of_the_epoch(data, gradients, numpy):
    model, weights = network(), []
    keep = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: weights.append(model.get_weights()))
    history = fit(model, data, [ks.GateMonitor(*data, threshold=0.2), keep], epochs=2).history
    x, y = data
    indices = [i for i, variable in enumerate(model.trainable_variables) if variable.name == "kernel"]
    for epoch, weights_of_epoch in enumerate(weights):
        model.set_weights(weights_of_epoch)
        outputs = {}
        h = x
        for layer in model.layers:
            outputs[layer.name] = h = numpy(layer(h))
        gates_by_layer = {
            "sa": numpy(activations.gate(*model.get_layer("sa").gate_moments(x))),
            "relu": (outputs["relu"] > 0).astype(float),
            "alone": (outputs["before"] > 0).astype(float),
            "shaplu": numpy(activations.gate(*model.get_layer("shaplu").gate_moments(outputs["frozen"]))),
        }
        gelu = model.get_layer("gelu")
        gates_by_layer["gelu"] = numpy(normal_cdf(ops.matmul(outputs["alone"], gelu.kernel) + gelu.bias))
        for name, gates in gates_by_layer.items():
            np.testing.assert_allclose(history[f"{name}/closed"][epoch], np.mean(gates < 0.2), atol=1e-6)
            np.testing.assert_allclose(history[f"{name}/open"][epoch], np.mean(gates > 0.8), atol=1e-6)

        # the loss written out and differentiated by the backend
        def loss(*kernels):
            mapping = [(model.trainable_variables[i], kernel) for i, kernel in zip(indices, kernels)]
            with keras.StatelessScope(state_mapping=mapping):
                p = model(x, training=False)
            return -ops.mean(ops.log(ops.sum(p * ops.one_hot(y, 3), axis=1)))

        expected = gradients(loss, *(numpy(model.trainable_variables[i].value) for i in indices))
        trained = ("sa", "relu", "before", "gelu", "shaplu", "classes")
        for name, gradient in zip(trained, expected, strict=True):
            np.testing.assert_allclose(history[f"{name}/gradient_norm"][epoch], np.linalg.norm(gradient), rtol=1e-3)
    norms = {key for key in history if key.endswith("gradient_norm")}
    assert norms == {f"{name}/gradient_norm" for name in trained}
    assert history["sa/gradient_norm"][0] != history["sa/gradient_norm"][1]


def test_training_is_the_same_with_and_without(data):
    results = []
    for callbacks in ([], [ks.GateMonitor(*data)]):
        keras.utils.set_random_seed(5)
        model = network()
        fit(model, data, callbacks, epochs=2)
        results.append(model.get_weights())
    for weight, weight_with in zip(*results):
        np.testing.assert_array_equal(weight, weight_with)


def test_a_file_of_logs_has_them(data, tmp_path):
    path = tmp_path / "log.csv"
    history = fit(network(), data, [ks.GateMonitor(*data), keras.callbacks.CSVLogger(path)], epochs=2).history
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert len(rows) == 2
    for i, row in enumerate(rows):
        assert float(row["sa/gradient_norm"]) == history["sa/gradient_norm"][i]
        # a gate of ReLU is closed or open
        assert float(row["relu/closed"]) + float(row["relu/open"]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((3, 2)), np.zeros(2)), "`x` and `y` must have the same length.* Received lengths: .2, 3"),
        ((np.full((2, 2), np.nan), np.zeros(2)), "`x` must be finite"),
        ((np.zeros((0, 2)), np.zeros(0)), "Received lengths: .0"),
    ],
)
def test_bad_data_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        ks.GateMonitor(*arguments)


def test_a_bad_threshold_or_model_is_named(data):
    with pytest.raises(ValueError, match="`threshold` must be above 0 and below 0.5. Received: threshold=0.5"):
        ks.GateMonitor(*data, threshold=0.5)
    with pytest.raises(ValueError, match="`y` must be the labels of `x`"):
        ks.GateMonitor(data[0])


def two_of_each():
    """A model with two inputs and two outputs, and its data, by name in another order."""
    wide, deep = keras.Input((1,), name="wide"), keras.Input((6,), name="deep")
    hidden = layers.Dense(5, "relu", name="hidden", kernel_initializer=keras.initializers.GlorotUniform(3))(deep)
    joined = layers.Concatenate()([hidden, wide])
    outputs = {"kind": layers.Dense(3, "softmax", name="kind")(joined), "size": layers.Dense(1, name="size")(joined)}
    model = keras.Model({"wide": wide, "deep": deep}, outputs)
    model.compile("sgd", {"kind": "sparse_categorical_crossentropy", "size": "mse"}, jit_compile=JIT)
    rng = np.random.default_rng(0)
    x = {"deep": rng.normal(size=(12, 6)).astype("float32"), "wide": rng.normal(size=(12, 1)).astype("float32")}
    y = {"size": rng.normal(size=(12, 1)).astype("float32"), "kind": np.arange(12) % 3}
    return model, x, y


def in_batches(x, y):
    for start in range(0, 12, 5):
        yield tuple({name: part[start : start + 5] for name, part in parts.items()} for parts in (x, y))


@pytest.mark.parametrize("given", ["arrays", "a column", "a data set"])
def test_several_inputs_and_outputs(given):
    model, x, y = two_of_each()
    arguments = {
        "arrays": (x, y),
        "a column": ({**x, "wide": x["wide"][:, 0]}, y),
        "a data set": (in_batches(x, y),),
    }
    history = model.fit(x, y, verbose=0, callbacks=[ks.GateMonitor(*arguments[given])]).history
    assert {key for key in history if "/" in key} == {
        "hidden/closed",
        "hidden/open",
        "hidden/gradient_norm",
        "kind/gradient_norm",
        "size/gradient_norm",
    }
    kernel, bias = (ops.convert_to_numpy(w) for w in model.get_layer("hidden").weights)
    assert history["hidden/closed"][0] == pytest.approx(np.mean(x["deep"] @ kernel + bias <= 0))


def test_what_cannot_be_measured_is_refused_before_training():
    model, x, y = two_of_each()
    before = model.get_weights()
    for arguments, message in [
        ((x, {"kind": y["kind"]}), "`y`: y_true and y_pred have different structures"),
        (({"deep": x["deep"]}, y), "`x` must be"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.fit(x, y, verbose=0, callbacks=[ks.GateMonitor(*arguments)])
    for a, b in zip(before, model.get_weights()):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "body",
    [
        lambda: [keras.Input((5, 2)), layers.LSTM(3)],
        lambda: [keras.Input((5, 2)), layers.Flatten(), layers.Dense(3, "relu", trainable=False)],
    ],
    ids=["LSTM alone", "frozen"],
)
def test_models_without_trainable_kernels_have_no_norms(body, rng):
    model = keras.Sequential([*body(), layers.LayerNormalization()])
    x, y = rng.normal(size=(4, 5, 2)).astype("float32"), rng.normal(size=(4, 3)).astype("float32")
    model.compile("sgd", "mse", jit_compile=False)
    logs = model.fit(x, y, verbose=0, callbacks=[ks.GateMonitor(x, y)]).history
    assert "loss" in logs and not any(key.endswith("gradient_norm") for key in logs)


def test_the_norm_is_of_the_kernel_and_not_of_a_bias_of_two_axes(rng):
    layer = layers.EinsumDense("abc,cd->abd", output_shape=(5, 3), bias_axes="bd", name="einsum")
    model = keras.Sequential([keras.Input((5, 2)), layer])
    model.compile("sgd", "mse", jit_compile=False)
    x, y = np.zeros((4, 5, 2), "float32"), rng.normal(size=(4, 5, 3)).astype("float32")
    logs = model.fit(x, y, verbose=0, callbacks=[ks.GateMonitor(x, y)]).history
    # of zeros the kernel gets no gradient
    assert logs["einsum/gradient_norm"] == [0]
