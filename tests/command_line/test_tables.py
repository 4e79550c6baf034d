"""The rows of a .csv file."""

import csv
import json
import pathlib
import re

import keras
import numpy as np
import pytest
from keras import layers
from matplotlib.container import ErrorbarContainer

import keras_shapley as ks
from command_line.saved import save
from keras_shapley.cli import main


@pytest.fixture
def table(tmp_path, rng):
    """A model of rows of three columns, and a file of four rows."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), layers.Dense(8, "relu"), layers.Dense(2, "softmax")])
    rows = rng.normal(size=(4, 3)).astype("float32")
    text = "\n".join(["age,income,debt", *(",".join(map(str, row)) for row in rows.tolist())])
    (tmp_path / "rows.csv").write_text(text)
    return save(model, tmp_path / "table.keras"), str(tmp_path / "rows.csv"), rows


@pytest.mark.parametrize("method", ["relevance", "shapley"])
def test_a_table_gets_a_table_of_values_and_a_chart(method, table, tmp_path, capsys):
    path, file, rows = table
    out = tmp_path / "out"
    options = ["--method", method, "--baseline", "mean", "--target", "1", "--results", "npz", "json"]
    assert main(["explain", path, file, "--out", str(out), *options]) == 0
    assert "4 rows: " in capsys.readouterr().out.splitlines()[-1]
    model, mean = keras.models.load_model(path), rows.mean(axis=0)
    expected = (
        ks.LRP(model, baseline=mean).explain(rows, 1).input
        if method == "relevance"
        else ks.exact_shapley_values(model, rows, 1, baseline=mean).values
    )
    lines = list(csv.DictReader((out / "rows.csv").read_text().splitlines()))
    found = [[float(line[name]) for name in ("age", "income", "debt")] for line in lines]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert ("age, standard error" in lines[0]) == (method == "shapley")
    assert lines[0]["explained"].startswith("class 1 (")
    assert sorted(path.name for path in out.iterdir()) == ["rows.csv", "rows.json", "rows.npz", "rows.png"]
    with np.load(out / "rows.npz") as arrays:
        np.testing.assert_allclose(arrays["values"], expected, atol=1e-5)


def test_bars_of_a_row_have_its_standard_errors(tmp_path, rng, monkeypatch):
    figures = []

    def kept(*args, **options):
        figures.append(ks.plot_bars(*args, **options))
        return figures[-1]

    monkeypatch.setattr("keras_shapley.cli.results.plot_bars", kept)
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((24,)), layers.Dense(8, "relu"), layers.Dense(2, "softmax")])
    path, out = save(model, tmp_path / "wide.keras"), tmp_path / "out"
    (tmp_path / "row.csv").write_text(",".join(map(str, rng.normal(size=24))))
    options = ["--method", "shapley", "--budget", "64", "--results", "npz", "--out", str(out)]
    assert main(["explain", path, str(tmp_path / "row.csv"), *options]) == 0
    with np.load(out / "row.npz") as arrays:
        values, errors = arrays["values"][0], arrays["stderr"][0]
    assert (errors > 0).any()
    (bars,) = [each for each in figures[0].axes[0].containers if isinstance(each, ErrorbarContainer)]
    (lines,) = bars.lines[2]
    lengths = [abs(right - left) / 2 for (left, _), (right, _) in lines.get_segments()]
    np.testing.assert_allclose(lengths, errors[np.argsort(-np.abs(values), kind="stable")[:20]], rtol=1e-5)


def test_columns_go_to_the_inputs_of_their_names(tmp_path, capsys):
    inputs = [keras.Input((1,), name=name) for name in ("b", "a")]
    out = layers.Dense(1, kernel_initializer="ones", name="out")(layers.Concatenate()(inputs))
    path = save(keras.Model(inputs, out), tmp_path / "named.keras")
    (tmp_path / "rows.csv").write_text("a,other,b\n1,5,20\n3,5,40\n")
    assert main(["explain", path, str(tmp_path / "rows.csv"), "--out", str(tmp_path / "out")]) == 0
    (line, _) = csv.DictReader((tmp_path / "out" / "rows.csv").read_text().splitlines())
    assert float(line["a"]) == pytest.approx(1) and float(line["b"]) == pytest.approx(20)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no rows"),
        ("a,b,c\n", "has no rows"),
        ("1,2\n", "the model takes 3 columns, and .*broken.csv gives 2: column 0, column 1. Choose them by --columns"),
        ("a,b,c,d\n1,2,3,4\n", "gives 4: a, b, c, d. Choose them by --columns NAME,NAME or leave some out by --ignore"),
        ("1,2,3\n1,2\n", "line 2 must have 3 columns, and has 2"),
        ("a,b,c\n1,x,3\n", "line 2 must have a number in column 'b', and has 'x'"),
        ("a,b,c\n1,,3\n", "line 2 must have a number in column 'b', and has ''"),
        ("a,b,c\n\n\n1,x,3\n", "line 4 must have a number in column 'b', and has 'x'"),
        (",b,c,d\n1,2,3,4\n", "gives 4: '', b, c, d. Choose them by"),
        ("1,nan,3\n1,2,3", "line 1 must have a number in column 'column 1', and has 'nan'"),
        ("1,2,1e39\n1,2,1e39", "line 1 must have a number in column 'column 2', and has '1e39'"),
    ],
)
def test_a_broken_table_is_one_line(text, message, table, tmp_path, capsys):
    (tmp_path / "broken.csv").write_text(text)
    assert main(["explain", table[0], str(tmp_path / "broken.csv"), "--out", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and re.search(message, printed), printed
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"\xff\xfe1,2,3\n", b"1,2," + 200_000 * b"3"])
def test_what_is_no_table_is_one_line(content, table, tmp_path, capsys):
    (tmp_path / "broken.csv").write_bytes(content)
    assert main(["explain", table[0], str(tmp_path / "broken.csv"), "--out", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and "broken.csv cannot be read as a table: " in printed
    assert not (tmp_path / "out").exists()


def test_a_table_is_the_only_input(table, tmp_path, capsys):
    assert main(["explain", table[0], table[1], table[1], "--out", str(tmp_path / "out")]) == 2
    assert "a .csv file must be the only input, and there are 2" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["--overlay", "--method shapley --players 2", "--size 8 8", "--skip-broken"])
def test_options_of_images_are_not_for_tables(option, table, capsys):
    assert main(["explain", table[0], table[1], *option.split()]) == 2
    assert "is for images, and not for the rows of" in capsys.readouterr().err


def test_a_column_without_a_name_is_left_out_by_an_empty_one(table, tmp_path):
    (tmp_path / "index.csv").write_text(",a,b,c\n0,1,2,3\n")
    words = ["explain", table[0], str(tmp_path / "index.csv"), "--out", str(tmp_path / "out")]
    assert main([*words, "--ignore", ""]) == 0


@pytest.fixture
def wide(table, tmp_path):
    """The rows of `table` between an id and a label, with the columns in another order."""
    path, file, rows = table
    lines = [f"c{i},{debt},{age},{income},yes" for i, (age, income, debt) in enumerate(rows.tolist())]
    (tmp_path / "wide.csv").write_text("\n".join(["id,debt,age,income,label", *lines]))
    return path, str(tmp_path / "wide.csv"), file


def table_values(model, file, out, *options):
    assert main(["explain", model, file, "--out", str(out), "--overwrite", "--target", "1", *options]) == 0
    lines = list(csv.DictReader((out / f"{pathlib.Path(file).stem}.csv").read_text().splitlines()))
    return [name for name in lines[0] if name not in ("row", "explained")], [
        [float(line[name]) for name in ("age", "income", "debt")] for line in lines
    ]


def test_columns_are_chosen_by_name(wide, tmp_path):
    model, file, plain = wide
    names, expected = table_values(model, plain, tmp_path / "out")
    for options in (["--columns", "age,income,debt"], ["--columns", "age", "--columns", " income , debt"]):
        found = table_values(model, file, tmp_path / "out", *options)
        assert found[0] == names
        np.testing.assert_allclose(found[1], expected, atol=1e-6)
    names, _ = table_values(model, file, tmp_path / "out", "--ignore", "label,id")
    assert names == ["debt", "age", "income"]
    assert table_values(model, file, tmp_path / "out", "--columns", "id,age,income,debt", "--ignore", "id")[0] == [
        "age",
        "income",
        "debt",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "the model takes 3 columns, and .*wide.csv gives 5: id, debt, age, income, label. Choose them by"),
        (["--columns", "age,incom"], "--columns: .* has no column 'incom'. Its columns: id, debt, age, income, label"),
        (["--ignore", "labels"], "--ignore: .* has no column 'labels'. Its columns: id, debt"),
        (["--columns", "age,age,debt"], "--columns must have each column once, and has 'age' twice"),
        (["--columns", "id,age,debt"], "line 2 must have a number in column 'id', and has 'c0'"),
        (["--columns", "age,debt"], "the model takes 3 columns, and .* gives 2: age, debt"),
        (["--ignore", "id,debt,age,income,label"], "the model takes 3 columns, and .* gives 0"),
    ],
)
def test_columns_that_do_not_fit_are_named(options, message, wide, tmp_path, capsys):
    assert main(["explain", *wide[:2], "--out", str(tmp_path / "out"), *options]) == 2
    printed = capsys.readouterr()
    assert re.search(message, printed.err), printed.err
    assert printed.err.count("\n") == 1 and not printed.out


def test_columns_that_a_model_of_named_inputs_leaves_out_may_be_words(tmp_path):
    inputs = [keras.Input((1,), name=name) for name in ("b", "a")]
    path = save(keras.Model(inputs, layers.Dense(1)(layers.Concatenate()(inputs))), tmp_path / "named.keras")
    (tmp_path / "rows.csv").write_text("a,word,b\n1,yes,20\n3,no,40\n")
    assert main(["explain", path, str(tmp_path / "rows.csv"), "--out", str(tmp_path / "out")]) == 0


def test_two_columns_of_one_name_are_both_taken(table, tmp_path, capsys):
    (tmp_path / "twice.csv").write_text("a,a,b\n1,2,3\n4,5,6\n")
    options = ["--results", "npz", "json", "--out", str(tmp_path / "out"), "--target", "1"]
    assert main(["explain", table[0], str(tmp_path / "twice.csv"), *options]) == 0
    expected = ks.LRP(keras.models.load_model(table[0])).explain(np.array([[1, 2, 3], [4, 5, 6]], "float32"), 1).input
    with np.load(tmp_path / "out" / "twice.npz") as file:
        np.testing.assert_allclose(file["values"], expected, atol=1e-5)
    record = json.loads((tmp_path / "out" / "twice.json").read_text())
    assert record["columns"] == ["a", "a", "b"]
    np.testing.assert_allclose([row["values"] for row in record["rows"]], expected, atol=1e-5)
    assert main(["explain", table[0], str(tmp_path / "twice.csv"), "--ignore", "a"]) == 2
    assert "--ignore: " in (error := capsys.readouterr().err) and "has 2 columns of the name 'a'" in error
