"""Results as files: what is loaded is what was saved."""

import dataclasses
import os

import numpy as np
import pytest
from keras import tree
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
    }


@pytest.mark.parametrize("name", ["one target", "targets", "all outputs", "weights", "nested", "no errors", "names"])
def test_a_result_survives_its_file(name, rng, tmp_path):
    result = results(rng)[name]
    result.save(tmp_path / "values.npz")
    loaded = ks.ShapleyValues.load(str(tmp_path / "values.npz"))
    for field in dataclasses.fields(result):
        before, after = getattr(result, field.name), getattr(loaded, field.name)
        tree.assert_same_structure(before, after)
        assert type(before) is type(after)
        for a, b in zip(tree.flatten(before), tree.flatten(after)):
            np.testing.assert_array_equal(a, b)
            assert getattr(a, "dtype", None) == getattr(b, "dtype", None)
    np.testing.assert_array_equal(repr(loaded), repr(result))
    # arrays alone: nothing is pickled
    with np.load(tmp_path / "values.npz", allow_pickle=False) as file:
        assert all(file[key].dtype != object for key in file.files)


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
