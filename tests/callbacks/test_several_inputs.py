"""LRPHeatmaps of models with several inputs, and of data sets."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_shapley as ks

JIT = "auto" if keras.backend.backend() != "tensorflow" else False


def network(names=("scan", "age"), output=None):
    scan, age = keras.Input((8, 8, 1), name="scan"), keras.Input((1,), name="age")
    maps = layers.Flatten()(layers.Conv2D(3, 3, activation="relu")(scan))
    y = (output or layers.Dense(3, "softmax"))(layers.Concatenate()([maps, age]))
    model = keras.Model({"age": age, "scan": scan} if names else [scan, age], y)
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=JIT)
    return model


@pytest.fixture
def x(rng):
    return {
        "scan": rng.random((6, 8, 8, 1)).astype("float32"),
        "age": rng.normal(size=(6, 1)).astype("float32"),
    }


@pytest.fixture
def y():
    return np.arange(6) % 3


def saved(model, x, y, directory, *arguments, **options):
    heatmaps = ks.LRPHeatmaps(*arguments, directory=directory, save_arrays=True, **options)
    model.fit(x, y, verbose=0, callbacks=[heatmaps])
    with np.load(directory / "epoch_0001.npz") as file:
        return dict(file)


@pytest.mark.parametrize("names", [True, False])
def test_the_image_among_the_inputs_is_drawn(names, x, y, tmp_path):
    model = network(names)
    given = x if names else list(x.values())
    arrays = saved(model, given, y, tmp_path, given, y, class_means=(given, y))
    keys = ("scan", "age") if names else ("0", "1")
    expected = ks.LRP(model).explain(given, y).input
    for key, name in zip(keys, (("scan", "age") if names else (0, 1))):
        np.testing.assert_allclose(arrays[f"relevance.{key}"], expected[name], atol=1e-5)
        np.testing.assert_array_equal(arrays[f"x.{key}"], given[name])
    of_scan = expected["scan" if names else 0]
    means = np.stack([of_scan[y == k].mean(axis=0) for k in range(3)])
    np.testing.assert_allclose(arrays["class_means"], means, atol=1e-5)
    assert (tmp_path / "epoch_0001.png").stat().st_size > 10_000


def test_columns_without_an_axis_and_data_sets_are_taken(x, y, tmp_path):
    model = network()
    column = {**x, "age": x["age"][:, 0]}
    arrays = saved(model, x, y, tmp_path / "column", column, y)
    np.testing.assert_allclose(arrays["relevance.age"], ks.LRP(model).explain(x, y).input["age"], atol=1e-5)

    class InBatches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, i):
            return {name: part[3 * i : 3 * i + 3] for name, part in x.items()}, y[3 * i : 3 * i + 3]

    of_batches = saved(model, x, y, tmp_path / "batches", InBatches())
    np.testing.assert_array_equal(of_batches["y"], y)
    np.testing.assert_array_equal(of_batches["x.scan"], x["scan"])


def test_which_input_is_drawn_may_have_to_be_said(x, tmp_path):
    twice = {**x, "other": x["scan"]}
    with pytest.raises(ValueError, match=r"`shown` must be .*\['scan', 'age', 'other'\], of which 2 are images"):
        ks.LRPHeatmaps(twice)
    with pytest.raises(ValueError, match="`shown` must be one of 'scan', 'age', 'other'"):
        ks.LRPHeatmaps(twice, shown="scans")
    with pytest.raises(ValueError, match="`shown` is for models with several inputs"):
        ks.LRPHeatmaps(x["scan"], shown="scan")
    with pytest.raises(ValueError, match="inputs of one length"):
        ks.LRPHeatmaps({**x, "age": x["age"][:3]})
    assert ks.LRPHeatmaps(twice, shown="other").shown == 2


def test_multi_label_outputs(x, tmp_path):
    model = network(output=layers.Dense(3, "sigmoid"))
    model.compile("sgd", "binary_crossentropy", jit_compile=JIT)
    y = np.array([[0, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 1], [0, 1, 0], [1, 0, 1]])
    arrays = saved(model, x, y, tmp_path, x, y)
    np.testing.assert_array_equal(arrays["y"], y)
    np.testing.assert_array_equal(arrays["target"], arrays["probability"].argmax(axis=1))
