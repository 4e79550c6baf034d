"""Explanations of data sets: any source of batches gives what one call gives."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_shapley as ks
from keras_shapley.utils import progress


@pytest.fixture
def model(rng):
    return keras.Sequential([keras.Input((6,)), layers.Dense(8, "relu"), layers.Dense(3, "softmax")])


@pytest.fixture
def data(rng):
    return rng.normal(size=(10, 6)).astype("float32"), np.arange(10) % 3


class InBatches(keras.utils.PyDataset):
    def __init__(self, *arrays):
        super().__init__()
        self.arrays = arrays

    def __len__(self):
        return 3

    def __getitem__(self, i):
        return tuple(array[4 * i : 4 * i + 4] for array in self.arrays)


def tf_data(*arrays):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices(arrays).batch(4)


def generator(*arrays):
    return (tuple(array[i : i + 4] for array in arrays) for i in range(0, 10, 4))


@pytest.mark.parametrize("make", [InBatches, tf_data, generator])
def test_data_sets_are_explained_batch_by_batch(make, model, data):
    x, y = data
    explainer = ks.LRP(model, rules="paper")
    expected = explainer.explain(x, y)
    found = list(explainer.explain_batches(make(x, y), "true", progress=False))
    assert [len(part.input) for part in found] == [4, 4, 2]
    np.testing.assert_allclose(np.concatenate([part.input for part in found]), expected.input, atol=1e-5)
    np.testing.assert_array_equal(np.concatenate([part.target for part in found]), y)
    one_hot = list(explainer.explain_batches(make(x, np.eye(3)[y]), "true", progress=False))
    np.testing.assert_array_equal(np.concatenate([part.target for part in one_hot]), y)
    predicted = list(explainer.explain_batches(make(x), progress=False))
    np.testing.assert_array_equal(np.concatenate([part.target for part in predicted]), expected.output.argmax(axis=1))


def test_arrays_are_cut_with_their_targets(model, data):
    x, y = data
    explainer = ks.LRP(model, rules="paper")
    expected = explainer.explain(x, y, versus=(y + 1) % 3)
    found = list(explainer.explain_batches(x, y, (y + 1) % 3, batch_size=4, progress=False))
    assert [len(part.input) for part in found] == [4, 4, 2]
    np.testing.assert_allclose(np.concatenate([part.input for part in found]), expected.input, atol=1e-5)
    for name, gap in expected.conservation_gap.signed.items():
        parts = [part.conservation_gap.signed[name] for part in found]
        np.testing.assert_allclose(np.concatenate(parts), gap, atol=1e-5)
    several = list(explainer.explain_batches(x, [[0, 2]], batch_size=6, progress=False))
    assert [part.input.shape for part in several] == [(6, 2, 6), (4, 2, 6)]


def test_a_shorter_last_batch_costs_no_new_trace(model, data):
    calls = []

    def counting(call, inputs, relevance):
        calls.append(relevance.shape[0])
        return ks.rules.Shapley()(call, inputs, relevance)

    explainer = ks.LRP(model, rules=[(model.layers[0].name, counting)])
    list(explainer.explain_batches(data[0], batch_size=4, progress=False))
    assert set(calls) == {4}
    assert len(calls) == (3 if keras.backend.backend() == "torch" else 1)


def test_batches_are_made_when_they_are_asked_for(model):
    """An endless data set can be explained as far as one likes."""

    def endless():
        while True:
            yield np.ones((2, 6), "float32")

    parts = ks.LRP(model, rules="paper").explain_batches(endless(), progress=False)
    assert next(parts).input.shape == next(parts).input.shape == (2, 6)


def test_the_progress_bar_counts_batches(model, data, capsys, monkeypatch):
    monkeypatch.setattr(progress, "_DELAY", 0.0)
    list(ks.LRP(model, rules="paper").explain_batches(data[0], batch_size=4))
    assert "3/3" in capsys.readouterr().out


def test_several_inputs_are_cut_alike(rng):
    one, other = keras.Input((3,), name="one"), keras.Input((2,), name="other")
    model = keras.Model({"one": one, "other": other}, layers.Dense(2)(layers.Concatenate()([one, other])))
    x = {"one": rng.normal(size=(5, 3)), "other": rng.normal(size=(5, 2))}
    explainer = ks.LRP(model, rules="paper")
    expected = explainer.explain(x).input
    found = [part.input for part in explainer.explain_batches(x, batch_size=2, progress=False)]
    for name in x:
        np.testing.assert_allclose(np.concatenate([part[name] for part in found]), expected[name], atol=1e-5)


@pytest.mark.parametrize(
    "given, options, word",
    [
        (np.ones((4, 6)), dict(batch_size=0), "`batch_size`.*0"),
        (np.ones((0, 6)), dict(), "`data`"),
        (np.ones((4, 6)), dict(target="true"), "labels"),
        (np.ones((4, 6)), dict(target="predicted"), "`target`.*'true'.*'predicted'"),
        (iter([]), dict(), "`data` has no batch"),
        (iter([(np.ones((2, 6)), np.array([0.5, 1]))]), dict(target="true"), "`y`"),
        ({"a": np.ones((4, 6)), "b": np.ones((3, 6))}, dict(), r"\[3, 4\]"),
    ],
)
def test_bad_data_sets_are_named(given, options, word, model):
    with pytest.raises(ValueError, match=word):
        list(ks.LRP(model, rules="paper").explain_batches(given, progress=False, **options))
    with pytest.raises(TypeError, match="`data`.*int"):
        list(ks.LRP(model, rules="paper").explain_batches(3))
