"""Whatever holds data gives the explanation that its arrays give, in every function."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from reference.marks import MAY_MISS_THE_TOTAL

import keras_shapley as ks
from keras_shapley.models.given_inputs import inputs_and_labels

if keras.backend.backend() == "jax":
    pytest.skip("what holds data is the same on every backend, and JAX compiles each case", allow_module_level=True)

NAMES = ("height", "age", "weight")


@pytest.fixture
def table(rng):
    return rng.normal(size=(7, 3)).astype("float32")


@pytest.fixture
def y():
    return np.arange(7) % 2


def of_table():
    return keras.Sequential([keras.Input((3,)), layers.Dense(4, "relu"), layers.Dense(2, "softmax")])


def of_columns(as_dict=True):
    """A model with an input for each column, by name."""
    inputs = {name: keras.Input((1,), name=name) for name in NAMES}
    hidden = layers.Dense(4, "relu")(layers.Concatenate()(list(inputs.values())))
    return keras.Model(inputs if as_dict else list(inputs.values()), layers.Dense(2, "softmax")(hidden))


def columns(table):
    return {name: table[:, i : i + 1] for i, name in enumerate(NAMES)}


class InBatches(keras.utils.PyDataset):
    def __init__(self, *arrays):
        super().__init__()
        self.arrays = arrays

    def __len__(self):
        return 3

    def __getitem__(self, i):
        return tuple(array[3 * i : 3 * i + 3] for array in self.arrays)


def frame(x, y):
    return pytest.importorskip("pandas").DataFrame(x, columns=NAMES)


def tf_data(x, y):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(3)


def data_loader(x, y):
    torch = pytest.importorskip("torch")
    data = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
    return torch.utils.data.DataLoader(data, batch_size=3)


HOLDERS = {
    "a data frame": frame,
    "a tuple": lambda x, y: (x, y),
    "a tuple with weights": lambda x, y: (x, y, np.ones(7)),
    "tf.data": tf_data,
    "a PyDataset": lambda x, y: InBatches(x, y),
    "a PyDataset without labels": lambda x, y: InBatches(x),
    "a DataLoader": data_loader,
    "a generator": lambda x, y: ((x[i : i + 2], y[i : i + 2]) for i in range(0, 7, 2)),
    "a list": lambda x, y: x.tolist(),
}
EXPLAIN = {
    "LRP": lambda model, x: ops.convert_to_numpy(ks.LRP(model)(x, 1)),
    "explain": lambda model, x: ks.LRP(model).explain(x, 1).input,
    "shapley_values": lambda model, x: ks.shapley_values(model, x, 1).values,
    "orders": lambda model, x: ks.shapley_values(model, x, 1, method="orders", budget=18).values,
    "exact": lambda model, x: ks.exact_shapley_values(model, x, 1).values,
    "sampled": lambda model, x: ks.sampled_shapley_values(model, x, 1, n_paths=6).values,
    "moments": lambda model, x: ks.fast_shapley_values(model, x, 1).values,
    "masks": lambda model, x: ks.fast_shapley_values(model, x, 1, method="masks").values,
    "interactions": lambda model, x: ks.shapley_interactions(model, x, 1).values,
    "deletion": lambda model, x: ks.metrics.deletion(model, x, np.arange(21.0).reshape(7, 3), 1),
    "infidelity": lambda model, x: ks.metrics.infidelity(model, x, np.arange(21.0).reshape(7, 3), 1),
}


@MAY_MISS_THE_TOTAL
@pytest.mark.filterwarnings("ignore:method='masks' is biased")
@pytest.mark.parametrize(
    ("name", "holder"),
    [("explain", holder) for holder in HOLDERS]
    + [(name, holder) for name in EXPLAIN for holder in ("a data frame", "a generator")],
)
def test_one_input(name, holder, table, y):
    model = of_table()
    found = EXPLAIN[name](model, HOLDERS[holder](table, y))
    np.testing.assert_allclose(found, EXPLAIN[name](model, table), atol=1e-5)


@pytest.mark.parametrize("holder", [name for name in HOLDERS if "without" not in name and name != "a list"])
def test_labels_of_batches(holder, table, y):
    explainer = ks.LRP(of_table())
    given = HOLDERS[holder](table, y)
    if holder == "a data frame":
        given = (given, y)
    found = list(explainer.explain_batches(given, "true", progress=False))
    np.testing.assert_array_equal(np.concatenate([part.target for part in found]), y)
    expected = explainer.explain(table, y)
    np.testing.assert_allclose(np.concatenate([part.input for part in found]), expected.input, atol=1e-5)


def test_rows_of_a_data_frame_are_explained_in_batches(table):
    explainer = ks.LRP(of_table())
    found = list(explainer.explain_batches(frame(table, None), batch_size=3, progress=False))
    assert [len(part.input) for part in found] == [3, 3, 1]
    np.testing.assert_allclose(
        np.concatenate([part.input for part in found]), explainer.explain(table).input, atol=1e-5
    )


COLUMNS = {
    "columns": columns,
    "columns without an axis": lambda x: {name: part[:, 0] for name, part in columns(x).items()},
    "columns in another order": lambda x: dict(reversed(columns(x).items())),
    "a data frame": lambda x: frame(x, None),
    "a larger data frame": lambda x: frame(x, None).assign(other="text")[["age", "other", "weight", "height"]],
    "a list": lambda x: list(columns(x).values()),
    "a list without an axis": lambda x: [part[:, 0] for part in columns(x).values()],
    "a data set": lambda x: ({name: part[i : i + 3] for name, part in columns(x).items()} for i in range(0, 7, 3)),
}


@pytest.fixture(params=[(given, as_dict) for given in COLUMNS for as_dict in (True, False)])
def columns_of_model(request, table):
    """A model with an input for each column, the columns as they are given, their names in order, and the arrays."""
    given, as_dict = request.param
    if as_dict and "list" in given:
        pytest.skip("Keras takes dicts there")
    x = COLUMNS[given](table)
    order = [key for key in x if key in NAMES] if hasattr(x, "keys") else list(NAMES)
    arrays = COLUMNS["a list" if "list" in given else "columns"](table)
    return of_columns(as_dict), x, order, arrays


@MAY_MISS_THE_TOTAL
@pytest.mark.filterwarnings("ignore:method='masks' is biased")
@pytest.mark.parametrize("name", ["shapley_values", "moments"])
def test_an_input_for_each_column(name, columns_of_model):
    """Players are in the order in which columns are given."""
    model, x, order, arrays = columns_of_model
    expected = EXPLAIN[name](model, arrays)[:, [NAMES.index(key) for key in order]]
    # other coalitions are drawn for other orders of columns
    is_random = name == "moments" and order != list(NAMES)
    np.testing.assert_allclose(EXPLAIN[name](model, x), expected, atol=0.1 if is_random else 1e-5)


def test_relevance_of_an_input_for_each_column(columns_of_model):
    model, x, order, arrays = columns_of_model
    found = EXPLAIN["explain"](model, x)
    expected = EXPLAIN["explain"](model, arrays)
    keys = order if isinstance(found, dict) else range(3)
    assert list(keys) == (list(found) if isinstance(found, dict) else [0, 1, 2])
    for key in keys:
        np.testing.assert_allclose(found[key], expected[key], atol=1e-5)


def test_infidelity_of_an_input_for_each_column(columns_of_model):
    model, x, order, arrays = columns_of_model
    values = ks.exact_shapley_values(model, arrays, 1).values

    def infidelity(x, values):
        attributions = columns(values)
        return ks.metrics.infidelity(
            model, x, attributions if isinstance(arrays, dict) else list(attributions.values()), 1
        )

    expected = infidelity(arrays, values)
    # other sets are drawn for other orders of columns
    rtol = 1e-5 if order == list(NAMES) else 0.3
    np.testing.assert_allclose(infidelity(x, values), expected, rtol=rtol)
    # those of other columns are far worse
    assert infidelity(arrays, values[:, [1, 2, 0]]).mean() > 2 * expected.mean()


def test_one_input_of_a_column_needs_no_axis(table):
    model = keras.Sequential([keras.Input((1,)), layers.Dense(3, "relu"), layers.Dense(1)])
    found = ks.LRP(model).explain(table[:, 0]).input
    np.testing.assert_allclose(found, ks.LRP(model).explain(table[:, :1]).input, atol=1e-6)
    values = ks.shapley_values(model, table[:, 0]).values
    np.testing.assert_allclose(values, ks.shapley_values(model, table[:, :1]).values, atol=1e-6)


def test_a_background_may_be_a_data_frame(table):
    x = frame(table, None)
    found = ks.shapley_values(of_table_model := of_table(), x[:2], 1, baseline=x)
    np.testing.assert_allclose(found.values, ks.shapley_values(of_table_model, table[:2], 1, baseline=table).values)
    assert found.feature_names == list(NAMES)
    by_column = ks.shapley_values(of_columns(), x[:2], 1, baseline=x)
    assert by_column.values.shape == (2, 3)
    orders = ks.shapley_values(of_table_model, x, 1, method="orders", budget=18)
    assert orders.feature_names == list(NAMES)


def test_what_holds_no_inputs_is_named(table, y):
    model = of_columns()
    x = frame(table, None)
    with pytest.raises(ValueError, match=r"`x` must have a column for each.*lacks \['age'\]; it has \['height'"):
        ks.LRP(model).explain(x.drop(columns="age"))
    with pytest.raises(ValueError, match="column 'age' of (object|str)"):
        ks.shapley_values(model, x.assign(age="old"), 0)
    with pytest.raises(ValueError, match="`data` has no batch"):
        ks.shapley_values(of_table(), iter([]))
    with pytest.raises(ValueError, match="`data` has no end"):
        ks.LRP(of_table()).explain(tf_data(table, y).repeat())


def test_tuples_of_several_inputs_are_no_pairs(table, y):
    model = of_columns(as_dict=False)
    parts = tuple(columns(table).values())
    assert inputs_and_labels(model, parts)[1] is None
    x, labels = inputs_and_labels(model, (parts, y))
    np.testing.assert_array_equal(labels, y)
    assert all(a is b for a, b in zip(x, parts))


def test_columns_of_a_baseline_are_in_the_order_of_the_inputs(table):
    model, x = of_table(), frame(table, None)
    other = x[["weight", "age", "height"]]
    for baseline in (other, other.mean()):
        with pytest.raises(ValueError, match=r"`baseline` must have the columns of `x` in their order.*x\.columns"):
            ks.shapley_values(model, x, 1, baseline=baseline)
        with pytest.raises(ValueError, match="columns of `baseline` in their order"):
            ks.LRP(model, baseline=baseline).explain(x)
    by_mean = ks.shapley_values(model, x, 1, baseline=x.mean())
    np.testing.assert_allclose(
        by_mean.values, ks.shapley_values(model, table, 1, baseline=table.mean(axis=0)).values, atol=1e-6
    )


def test_whole_numbers_may_have_a_baseline_between_them(rng):
    x = rng.integers(0, 5, size=(6, 3))
    model = of_table()
    found = ks.shapley_values(model, x, 1, baseline=x.mean(axis=0))
    expected = ks.shapley_values(model, x.astype("float32"), 1, baseline=x.mean(axis=0))
    np.testing.assert_allclose(found.values, expected.values, atol=1e-6)
    of_function = ks.shapley_values(lambda x: ops.convert_to_numpy(model(x)), x, 1, baseline=x.mean(axis=0))
    np.testing.assert_allclose(found.values, of_function.values, atol=1e-5)
    whole = ks.shapley_values(model, x, 1)
    assert whole.x.dtype == x.dtype


def test_a_tuple_of_lists_is_several_inputs(table):
    model = of_columns(as_dict=False)
    lists = tuple(part[:, 0].tolist() for part in columns(table).values())
    expected = ks.LRP(model).explain(list(columns(table).values()), 1).input
    for found, part in zip(ks.LRP(model).explain(lists, 1).input, expected):
        np.testing.assert_allclose(found, part, atol=1e-6)


def test_one_input_in_a_dict_needs_no_axis(table):
    age = keras.Input((1,), name="age")
    model = keras.Model({"age": age}, layers.Dense(2)(age))
    found = ks.LRP(model).explain({"age": table[:, 0]}, 0).input["age"]
    np.testing.assert_allclose(found, ks.LRP(model).explain({"age": table[:, :1]}, 0).input["age"])


def test_data_sets_that_cannot_be_joined_are_named(table):
    explainer = ks.LRP(of_table())
    with pytest.raises(ValueError, match=r"single samples\. Give data\.batch"):
        explainer.explain((row, 0) for row in table)
    with pytest.raises(ValueError, match="batches of one shape.*explain_batches"):
        explainer.explain(iter([table, table[:, :2]]))


def traced(backend, fn, x):
    """Calls of `fn` with a tensor without values, one for each transformation of the backend."""
    if backend == "jax":
        import jax

        return [lambda: jax.jit(fn)(x), lambda: jax.vmap(fn)(x[:, None]), lambda: jax.grad(fn)(x)]
    if backend == "tensorflow":
        import tensorflow as tf

        return [lambda: tf.function(fn)(tf.constant(x))]
    import torch

    x = torch.from_numpy(x)
    return [lambda: torch.func.vmap(fn)(x[:, None]), lambda: torch.func.grad(fn)(x)]


def test_a_tensor_without_values_is_refused_with_what_works(backend):
    """Inside of what compiles or transforms a function an explanation has no numbers to look at."""
    model = keras.Sequential([keras.Input((4,)), ks.SADense(3)])
    x = np.ones((2, 4), "float32")
    explainer = ks.LRP(model)
    for explain in (explainer, lambda x: ks.shapley_values(model, x, 0), lambda x: ks.fast_shapley_values(model, x, 0)):
        for run in traced(backend, explain, x):
            with pytest.raises(ValueError, match="`x` must have values.*Call this outside"):
                run()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(keras.backend.backend() != "torch", reason="of torch")
def test_explaining_inside_of_torch_compile_is_explaining_outside(numpy):
    import torch

    model = keras.Sequential([keras.Input((4,)), ks.ShapLUDense(3), keras.layers.Dense(2)])
    x = torch.ones((2, 4))
    explainer = ks.LRP(model)
    compiled = torch.compile(lambda x: explainer(x, 0) * 2, backend="eager")
    np.testing.assert_allclose(numpy(compiled(x)), 2 * numpy(explainer(x, 0)), rtol=1e-6)
