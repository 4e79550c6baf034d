"""Models and functions of several inputs, in lists and dicts, and inputs of integers."""

import functools

import keras
import numpy as np
import pytest
from keras import layers, ops
from reference.marks import MASKS_OF_FEW_PLAYERS, MAY_MISS_THE_TOTAL
from reference.permutations import by_permutations

import keras_shapley as ks

pytestmark = [MAY_MISS_THE_TOTAL, MASKS_OF_FEW_PLAYERS]

EXPLAIN = {
    "exact": ks.exact_shapley_values,
    "sampled": functools.partial(ks.sampled_shapley_values, n_paths=6),
    "moments": functools.partial(ks.fast_shapley_values, n=3, n_samples=4),
    "masks": functools.partial(ks.fast_shapley_values, method="masks", n=40),
}


def two_and_one():
    """A model of the inputs `zebra` and `apple`, and the same model of both in one array.

    The names sort in another order than that of the inputs.
    """
    keras.utils.set_random_seed(3)
    rest = [layers.Dense(7, "relu", bias_initializer="normal"), layers.Dense(3, "softmax")]
    first, second = keras.Input((3,), name="zebra"), keras.Input((2, 2), name="apple")
    y = layers.Concatenate()([first, layers.Flatten()(second)])
    whole = keras.Input((7,))
    z = whole
    for layer in rest:
        y, z = layer(y), layer(z)
    return first, second, y, keras.Model(whole, z)


@pytest.fixture
def parts(rng):
    return rng.normal(size=(3, 3)).astype("float32"), rng.normal(size=(3, 2, 2)).astype("float32")


@pytest.mark.parametrize("name", EXPLAIN)
@pytest.mark.parametrize("model_takes", ["list", "dict"])
@pytest.mark.parametrize("given", ["list", "dict"])
def test_two_inputs_have_the_values_of_one_that_holds_both(name, model_takes, given, parts):
    first, second, y, one = two_and_one()
    if model_takes == "dict" and given == "list":
        pytest.skip("Keras takes dicts there")
    inputs = {"zebra": first, "apple": second} if model_takes == "dict" else [first, second]
    model = keras.Model(inputs, y)
    x = {"zebra": parts[0], "apple": parts[1]} if given == "dict" else list(parts)
    of_one = np.concatenate([part.reshape(3, -1) for part in parts], axis=1)

    explain = EXPLAIN[name]
    result = explain(model, x, [[2, 0]], baseline=0.5)
    expected = explain(one, of_one, [[2, 0]], baseline=0.5)
    if name in ("exact", "sampled"):
        np.testing.assert_allclose(result.values, expected.values, atol=1e-6)
    np.testing.assert_allclose(result.total, expected.total, atol=1e-6)
    np.testing.assert_array_equal(result.target, expected.target)
    assert given == "list" or list(result.heatmap) == list(result.x) == ["zebra", "apple"]
    zebra, apple = (result.heatmap[key] for key in (("zebra", "apple") if given == "dict" else (0, 1)))
    assert zebra.shape == (3, 2, 3) and apple.shape == (3, 2, 2, 2)
    joined = np.concatenate([zebra, apple.reshape(3, 2, 4)], axis=2)
    np.testing.assert_allclose(joined.sum(axis=2) + result.residual, result.total, atol=1e-5)
    plain = explain(one, of_one, [[2, 0]], baseline=0.5, **({"n_samples": 0} if name == "moments" else {}))
    if name == "moments":
        result = explain(model, x, [[2, 0]], baseline=0.5, n_samples=0)
        joined = [result.heatmap[key].reshape(3, 2, -1) for key in (("zebra", "apple") if given == "dict" else (0, 1))]
        joined = np.concatenate(joined, axis=2)
    np.testing.assert_allclose(joined, plain.heatmap, atol=1e-5)
    np.testing.assert_array_equal(result.x["zebra"] if given == "dict" else result.x[0], parts[0])


@pytest.mark.parametrize("name", EXPLAIN)
def test_groups_may_have_elements_in_both_inputs(name, parts):
    first, second, y, one = two_and_one()
    model = keras.Model([first, second], y)
    groups = [np.array([0, 1, 1]), np.array([[2, 0], [3, 3]])]
    joined = np.concatenate([part.ravel() for part in groups])
    x = np.concatenate([part.reshape(3, -1) for part in parts], axis=1)
    result = EXPLAIN[name](model, list(parts), 1, players=groups)
    expected = EXPLAIN[name](one, x, 1, players=joined)
    np.testing.assert_allclose(result.values, expected.values, atol=1e-5)
    assert result.values.shape == (3, 4) and result.n_evaluations == expected.n_evaluations


def test_whole_inputs_as_players_by_hand(parts):
    first, second, y, _ = two_and_one()
    model = keras.Model([first, second], y)
    result = ks.exact_shapley_values(model, list(parts), 1, players="inputs")

    def output(a, b):
        return ops.convert_to_numpy(model([a * parts[0], b * parts[1]]))[:, 1]

    of_first = (output(1, 0) - output(0, 0) + output(1, 1) - output(0, 1)) / 2
    np.testing.assert_allclose(result.values[:, 0], of_first, atol=1e-6)
    for name in ("sampled", "moments", "masks"):
        assert EXPLAIN[name](model, list(parts), 1, players="inputs").values.shape == (3, 2)


def test_a_function_gets_batches_in_the_structure_of_the_inputs(parts, rng):
    """Nested, with an input without axes, a baseline of its own for each, and a background."""
    x = {"a": [parts[0].astype("float64"), parts[1][:, 0].astype("float64")], "b": rng.normal(size=3)}
    background = {"a": [rng.normal(size=(2, 3)), 0.0], "b": rng.normal(size=2)}
    seen = []

    def fn(batch):
        seen.append(batch)
        first, second = batch["a"]
        return np.tanh(first.sum(axis=1) * second[:, 0] + batch["b"] * second[:, 1])

    result = ks.exact_shapley_values(fn, x, 0, baseline=background)
    assert all(set(batch) == {"a", "b"} and isinstance(batch["a"], list) for batch in seen)
    assert result.heatmap["a"][0].shape == (3, 3) and result.heatmap["b"].shape == (3,)

    def worth(present):
        means = []
        for i in range(2):
            first = np.where(present[:3], x["a"][0][1], background["a"][0][i])
            second = np.where(present[3:5], x["a"][1][1], 0.0)
            last = x["b"][1] if present[5] else background["b"][i]
            means.append(fn({"a": [first[None], second[None]], "b": np.array([last])})[0])
        return np.mean(means)

    np.testing.assert_allclose(result.values[1], by_permutations(worth, 6), atol=1e-12)
    sampled = ks.sampled_shapley_values(fn, x, 0, baseline=background, n_paths=720, control=result)
    assert (np.abs(sampled.values - result.values) <= 5 * sampled.stderr + 1e-9).all()


@pytest.mark.parametrize("explain", [EXPLAIN["exact"], EXPLAIN["sampled"]])
def test_tokens_beside_floats(explain, rng):
    """Absent tokens are padding; by loops over all orders."""
    tokens = keras.Input((4,), dtype="int32", name="tokens")
    weight = keras.Input((1,), name="weight")
    embedded = layers.Flatten()(layers.Embedding(9, 3, embeddings_initializer="normal")(tokens))
    hidden = layers.Dense(5, "tanh")(layers.Concatenate()([embedded, weight]))
    model = keras.Model({"tokens": tokens, "weight": weight}, layers.Dense(2)(hidden))
    x = {"tokens": rng.integers(1, 9, size=(2, 4)), "weight": rng.normal(size=(2, 1))}
    result = explain(model, x, 0, players={"tokens": "tokens", "weight": None})
    assert result.values.shape == (2, 5) and result.x["tokens"].dtype == x["tokens"].dtype

    def worth(present):
        ids, number = x["tokens"][1] * present[:4], x["weight"][1] * present[4:]
        return float(ops.convert_to_numpy(model({"tokens": ids[None], "weight": number[None]}))[0, 0])

    if explain is EXPLAIN["exact"]:
        np.testing.assert_allclose(result.values[1], by_permutations(worth, 5), atol=1e-5)
    np.testing.assert_allclose(result.residual, 0, atol=1e-6)
    with pytest.raises(ValueError, match="`baseline` must be whole numbers"):
        explain(model, x, 0, baseline={"tokens": 0.5, "weight": 0.5})
    with pytest.raises(ValueError, match=r"`model` must have inputs of floats.*shapley_values\(model, x\)"):
        ks.fast_shapley_values(model, x, 0)


def test_all_outputs_of_fast_values(parts):
    first, second, y, _ = two_and_one()
    model = keras.Model([first, second], y)
    for name in ("moments", "masks"):
        result = EXPLAIN[name](model, list(parts), "all")
        each = EXPLAIN[name](model, list(parts), [[0, 1, 2]])
        np.testing.assert_allclose(result.values, each.values, atol=1e-6)
        assert result.target is None and result.baseline_value.shape == (3,) and result.total.shape == (3, 3)


@pytest.mark.parametrize("name", ["moments", "masks"])
def test_fast_values_from_a_background_are_means(name, parts, rng):
    first, second, y, _ = two_and_one()
    model = keras.Model([first, second], y)
    background = [rng.normal(size=(3, 3)).astype("float32"), rng.normal(size=(3, 2, 2)).astype("float32")]
    result = EXPLAIN[name](model, list(parts), 1, baseline=background)
    each = [EXPLAIN[name](model, list(parts), 1, baseline=[part[i] for part in background]) for i in range(3)]
    for field in ("values", "total", "residual", "baseline_value"):
        np.testing.assert_allclose(
            getattr(result, field), np.mean([getattr(part, field) for part in each], axis=0), atol=1e-6
        )


@pytest.mark.parametrize(
    "options, message",
    [
        ({"x": [np.ones((2, 3)), np.ones((3, 2, 2))]}, r"`x` must be a batch of inputs.*\(2, 3\), \(3, 2, 2\)"),
        ({"x": [np.ones((2, 3))]}, "`x` must have 2 arrays, one for each input. Received: 1"),
        ({"x": {"zebra": np.ones((2, 3)), "mouse": np.ones((2, 2, 2))}}, "names of the model's inputs"),
        ({"baseline": [0.0]}, "`baseline` must be a list of 2, one for each input. Received: 1"),
        (
            {"baseline": [np.ones((2, 3)), np.ones((3, 2, 2))]},
            r"same number of rows.*\[2, 3\]",
        ),
        ({"players": [None]}, "`players` must be a list of 2"),
    ],
)
@pytest.mark.parametrize("name", EXPLAIN)
def test_several_inputs_that_do_not_fit_are_named(name, options, message, parts):
    first, second, y, _ = two_and_one()
    model = keras.Model([first, second], y)
    arguments = {"x": list(parts), **options}
    with pytest.raises(ValueError, match=message):
        EXPLAIN[name](model, arguments.pop("x"), 0, **arguments)


def test_the_columns_of_a_data_frame_name_the_players():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"age": [1.0, 2.0], "income": [3.0, 5.0]})
    result = ks.exact_shapley_values(lambda x: x[:, 0] * x[:, 1], frame, 0)
    assert result.feature_names == ["age", "income"]
    assert ks.exact_shapley_values(lambda x: x[:, 0], frame, 0, players=[0, 0]).feature_names is None
