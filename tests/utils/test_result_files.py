"""Results as files: what is loaded is what was saved."""

import dataclasses
import os

import keras
import ml_dtypes
import numpy as np
import pytest
from keras import layers
from reference.games import network

import keras_shapley as ks


def two_inputs(batch):
    return np.tanh(batch["a"][0].sum(axis=1) + batch["a"][1].sum(axis=(1, 2)))


def results(rng):
    x = rng.normal(size=(3, 5))
    nested = {"b": np.arange(2), "a": (rng.normal(size=(2, 2)).astype("float16"), rng.integers(9, size=(2, 1, 3)))}
    result = ks.exact_shapley_values(network, x, 1)
    return {
        "one target": result,
        "targets": ks.sampled_shapley_values(network, x, [[1, 0]], n_paths=4, players=[0, 1, 1, 0, 2]),
        "all outputs": ks.sampled_shapley_values(network, x, n_paths=1, antithetic=False),
        "weights": ks.exact_shapley_values(network, x, [0.5, -1.0]),
        "nested": ks.exact_shapley_values(two_inputs, nested, None, players="inputs"),
        "no errors": dataclasses.replace(result, stderr=None, method="moments"),
        "names": dataclasses.replace(result, feature_names=["é", "b", "c", "d", "e"]),
        "bfloat16": ks.exact_shapley_values(
            lambda x: np.asarray(x, "float32").sum(axis=1), x.astype(ml_dtypes.bfloat16), None
        ),
    }


VALUES = ["one target", "targets", "all outputs", "weights", "nested", "no errors", "names", "bfloat16"]


@pytest.mark.parametrize("name", VALUES)
def test_a_result_survives_its_file(name, rng, tmp_path):
    survives(results(rng)[name], tmp_path / "values.npz")


def survives(result, path):
    """Whether all of a result is in its file, and nothing of it is pickled."""
    result.save(path)
    loaded = type(result).load(str(path))
    for field in dataclasses.fields(result):
        same(getattr(result, field.name), getattr(loaded, field.name))
    np.testing.assert_array_equal(repr(loaded), repr(result))
    with np.load(path, allow_pickle=False) as file:
        assert all(file[key].dtype != object for key in file.files)


def same(before, after):
    """The same values of the same types in the same order."""
    # an array without axes may be a number
    assert type(before) is type(after) or isinstance(before, np.generic)
    if dataclasses.is_dataclass(before):
        before, after = vars(before), vars(after)
    if isinstance(before, dict):
        assert list(before) == list(after)
        before, after = list(before.values()), list(after.values())
    if isinstance(before, (list, tuple)):
        assert len(before) == len(after)
        for a, b in zip(before, after):
            same(a, b)
        return
    np.testing.assert_array_equal(before, after)
    assert getattr(before, "dtype", None) == getattr(after, "dtype", None)


def explanations(rng):
    """Of all kinds: heads, targets, inputs, and names of layers."""
    x = rng.normal(size=(3, 5)).astype("float32")
    stack = [keras.Input((5,)), layers.Dense(6, "relu", name="höhe"), layers.Dense(4, "softmax", name="b")]
    softmax = keras.Sequential(stack)
    parts = {"b": keras.Input((5,), name="b"), "a": keras.Input((4, 2), name="a")}
    states = layers.LSTM(3, return_sequences=True, return_state=True)(parts["a"])
    joined = layers.Concatenate()([parts["b"], layers.Flatten()(states[0]), states[1]])
    several = keras.Model(parts, layers.Dense(2)(joined))
    batch = {"b": x, "a": rng.normal(size=(3, 4, 2)).astype("float32")}
    image = keras.Input((5,))
    ends = [layers.Dense(3, "softmax")(image) for _ in range(2)]
    average = keras.Model(image, layers.Average()(ends))
    alone = keras.Sequential([keras.Input((5,)), layers.Dense(1, "sigmoid")])
    single = ks.LRP(softmax).explain(x[:1])
    return {
        "softmax": ks.LRP(softmax).explain(x),
        "one image": single,
        "targets": ks.LRP(softmax, rules="paper").explain(x, [[0, 3, 1]]),
        "weights": ks.LRP(softmax).explain(x, [0.5, -1.0, 0.0, 2.0]),
        "versus": ks.LRP(softmax).explain(x, 1, versus=2),
        "sampled": ks.LRP(softmax, head_method="sampled", n_paths=4).explain(x, 1),
        "several inputs": ks.LRP(several).explain(batch, [[0, 1]]),
        "average of softmaxes": ks.LRP(average).explain(x),
        "one layer": ks.LRP(alone).explain(x),
    }


EXPLANATIONS = ["softmax", "one image", "targets", "weights", "versus", "sampled", "several inputs"]
EXPLANATIONS += ["average of softmaxes", "one layer"]


@pytest.mark.parametrize("name", EXPLANATIONS)
def test_an_explanation_survives_its_file(name, rng, tmp_path):
    survives(explanations(rng)[name], tmp_path / "relevance.npz")


def test_a_loaded_explanation_is_taken_wherever_one_is(rng, tmp_path):
    model = keras.Sequential([keras.Input((5,)), layers.Dense(6, "relu"), layers.Dense(4, "softmax")])
    x = rng.normal(size=(3, 5)).astype("float32")
    explanation = ks.LRP(model).explain(x)
    explanation.save(tmp_path / "relevance.npz")
    loaded = ks.Explanation.load(tmp_path / "relevance.npz")
    again = ks.LRP(model).explain(x, loaded.target)
    np.testing.assert_allclose(again.input, loaded.heatmap, atol=1e-6)
    expected, found = (ks.metrics.deletion(model, x, each, steps=3) for each in (explanation, loaded))
    np.testing.assert_array_equal(expected, found)


def test_explanations_and_values_are_not_taken_for_each_other(rng, tmp_path):
    results(rng)["one target"].save(tmp_path / "values.npz")
    explanations(rng)["softmax"].save(tmp_path / "relevance.npz")
    with pytest.raises(ValueError, match="`path` must be a file that Explanation.save wrote. Received: .*values.npz"):
        ks.Explanation.load(tmp_path / "values.npz")
    with pytest.raises(ValueError, match="`path` must be a file that ShapleyValues.save wrote"):
        ks.ShapleyValues.load(tmp_path / "relevance.npz")


def test_objects_are_not_written(rng, tmp_path):
    result = dataclasses.replace(results(rng)["one target"], x=np.array([["a", None]], object))
    with pytest.raises(ValueError, match="writes arrays of numbers. Received: 'x.0' of dtype object"):
        result.save(tmp_path / "values.npz")
    assert not os.listdir(tmp_path)


def test_fields_that_do_not_fit_each_other_are_no_explanation(rng, tmp_path):
    explanation = explanations(rng)["targets"]
    path = tmp_path / "relevance.npz"
    gap = explanation.conservation_gap
    for change in (
        {"input": explanation.input[:1]},
        {"input": explanation.input.astype(int)},
        {"layers": {name: values[:, 0] for name, values in explanation.layers.items()}},
        {"layers": explanation.input},
        {"output": explanation.output[:2]},
        {"probability": explanation.output[:, :2]},
        {"target": explanation.target[:, :2]},
        {"versus": explanation.target[:1]},
        {"head": [explanation.head, explanation.head]},
        {"head_total": explanation.head_total[0]},
        {"head_total": explanation.head_total[:, 0]},
        {"head_paths": "many"},
        {"arrived": explanation.arrived[:1]},
        {"amplification": {"b": explanation.head}},
        {"conservation_gap": dataclasses.replace(gap, signed={})},
    ):
        dataclasses.replace(explanation, **change).save(path)
        with pytest.raises(ValueError, match="`path` must be a file that Explanation.save wrote"):
            ks.Explanation.load(path)


def test_a_file_is_never_half_written(rng, tmp_path, monkeypatch):
    first, second = (ks.exact_shapley_values(network, rng.normal(size=(1, 5)), 0) for _ in range(2))
    path = tmp_path / "values.npz"
    first.save(path)

    def fail(*paths):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        second.save(path)
    np.testing.assert_array_equal(ks.ShapleyValues.load(path).values, first.values)
    assert os.listdir(tmp_path) == ["values.npz"]


def test_other_files_are_named(tmp_path):
    np.savez(tmp_path / "other.npz", values=np.ones(3))
    np.savez(tmp_path / "pickled.npz", description=np.array({"format": 1}, object))
    np.save(tmp_path / "array.npy", np.ones(3))
    np.savez(tmp_path / "later.npz", description='{"format": "a later one"}')
    (tmp_path / "text.npz").write_text("values")
    for name in ("other.npz", "pickled.npz", "later.npz", "array.npy", "text.npz"):
        with pytest.raises(
            ValueError, match=f"`path` must be a file that ShapleyValues.save wrote. Received: .*{name}"
        ):
            ks.ShapleyValues.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        ks.ShapleyValues.load(tmp_path / "none.npz")


def test_a_result_that_is_all_zeros_survives_its_file(tmp_path):
    """Compressed, it would be as small as an attack that unpacks to much more than the file holds."""
    x = np.zeros((3, 3_200_000))
    result = ks.exact_shapley_values(lambda x: x.sum(axis=1), x, players=np.zeros(x.shape[1], int))
    result.save(tmp_path / "values.npz")
    loaded = ks.ShapleyValues.load(tmp_path / "values.npz")
    np.testing.assert_array_equal(loaded.x, result.x)


def test_fields_that_do_not_fit_each_other_are_no_result(rng, tmp_path):
    result = ks.exact_shapley_values(network, rng.normal(size=(2, 5)), 1)
    path = tmp_path / "values.npz"
    for name, value in {
        "values": result.values[0],
        "total": result.total[:1],
        "stderr": result.values[:, :2],
        "players": np.arange(5) + 1,
        "x": result.x[:, :3],
        "n_evaluations": "many",
        "method": None,
        "feature_names": ["a"],
        "residual": result.total.astype(int),
    }.items():
        dataclasses.replace(result, **{name: value}).save(path)
        with pytest.raises(ValueError, match="`path` must be a file that ShapleyValues.save wrote"):
            ks.ShapleyValues.load(path)


def test_a_pipe_is_no_result(tmp_path):
    os.mkfifo(tmp_path / "values.npz")
    with pytest.raises(ValueError, match="which is no file"):
        ks.ShapleyValues.load(tmp_path / "values.npz")
