"""`keras-shapley explain`: pictures of relevance, and one line for an error."""

import csv
import json
import os
import pathlib
import re
import subprocess
import sys

import keras
import matplotlib.image
import numpy as np
import pytest
from keras import layers, ops
from PIL import Image

import keras_shapley as ks
from keras_shapley.cli import main
from keras_shapley.cli.flags import in_flags
from keras_shapley.cli.options import RULES
from keras_shapley.lrp.presets import PRESETS


def save(model, path):
    model.save(path)
    return str(path)


@pytest.fixture
def grey(tmp_path):
    """A model of grey images without an axis of channels."""
    keras.utils.set_random_seed(0)
    end = [layers.Flatten(), ks.SADense(8), layers.Dense(3, "softmax")]
    return save(keras.Sequential([keras.Input((8, 8)), *end]), tmp_path / "grey.keras")


@pytest.fixture
def colour(tmp_path):
    """A model of coloured images of any size that rescales their pixels itself."""
    keras.utils.set_random_seed(0)
    body = [layers.Rescaling(1 / 255), layers.Conv2D(4, 3, activation="relu"), layers.GlobalAveragePooling2D()]
    return save(keras.Sequential([keras.Input((None, None, 3)), *body, layers.Dense(1)]), tmp_path / "colour.keras")


@pytest.fixture
def pictures(tmp_path, rng):
    """Two image files of the same name and of the grey model's size."""
    paths = [tmp_path / "cat.png", tmp_path / "more" / "cat.png"]
    paths[1].parent.mkdir()
    for path in paths:
        matplotlib.image.imsave(path, rng.uniform(size=(8, 8, 3)))
    return [str(path) for path in paths]


@pytest.mark.once
def test_nothing_of_the_user_is_overwritten(grey, pictures, tmp_path):
    """Neither an image, nor an earlier picture unless it is asked for."""
    before = [pathlib.Path(path).read_bytes() for path in pictures]
    assert main(["explain", grey, pictures[0], "--out", str(tmp_path)]) == 0
    assert main(["explain", grey, *pictures, "--out", str(tmp_path), "--overwrite"]) == 0
    assert [pathlib.Path(path).read_bytes() for path in pictures] == before
    first = (tmp_path / "cat_2.png").read_bytes()
    assert main(["explain", grey, pictures[1], "--out", str(tmp_path)]) == 0
    assert (tmp_path / "cat_2.png").read_bytes() == first and (tmp_path / "cat_4.png").exists()

    out = tmp_path / "out"
    for options, names in [
        ([], ["cat.npz", "cat.png"]),
        (["--overwrite"], ["cat.npz", "cat.png"]),
        ([], ["cat.npz", "cat.png", "cat_2.npz", "cat_2.png"]),
    ]:
        assert main(["explain", grey, pictures[0], "--out", str(out), "--results", "npz", *options]) == 0
        assert sorted(path.name for path in out.iterdir()) == names


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target", "²"], "--target must be a number below 3, and is ²"),
        (["--range", "1", "1"], "--range must be two numbers, the lower first, and is 1 1"),
        (["--range", "2", "1"], "--range must be two numbers"),
        (["--range", "0", "1e39"], "--range must be two numbers"),
        (["--output", "²"], "--output must be "),
    ],
)
def test_odd_numbers_are_named(options, message, grey, pictures, capsys):
    assert main(["explain", grey, pictures[0], *options]) == 2
    assert message in capsys.readouterr().err


def test_a_long_error_is_cut(tmp_path, pictures, capsys, monkeypatch):
    def load_model(*arguments, **options):
        raise ValueError("a" * 10_000)

    monkeypatch.setattr(keras.models, "load_model", load_model)
    assert main(["explain", pictures[0], pictures[0]]) == 2
    assert len(capsys.readouterr().err) < 600


def test_what_was_done_to_an_image_is_said(grey, tmp_path, capsys):
    path = tmp_path / "clear.png"
    Image.fromarray(np.zeros((8, 8, 4), "uint8")).save(path)
    assert main(["explain", grey, str(path), "--out", str(tmp_path / "out")]) == 0
    assert "clear.png: transparent pixels are white" in capsys.readouterr().out


def test_the_relevance_is_that_of_the_resized_grey_image(grey, pictures, tmp_path, capsys):
    out = tmp_path / "out"
    names = tmp_path / "names.txt"
    names.write_text("cat\ndog\nowl\n")
    options = ["--out", str(out), "--results", "npz", "--classes", str(names), "--target", "dog"]
    assert main(["explain", grey, *pictures, *options]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["cat.npz", "cat.png", "cat_2.npz", "cat_2.png"]
    assert matplotlib.image.imread(out / "cat_2.png").shape[2] == 4
    printed = capsys.readouterr().out
    assert "pixels are scaled to the range 0 to 1\n" in printed and "cat_2.png" in printed and "dog (" in printed

    red, green, blue = np.moveaxis(np.round(255 * matplotlib.image.imread(pictures[1])[..., :3]), -1, 0)
    x = (np.floor(0.299 * red + 0.587 * green + 0.114 * blue + 0.5) / 255).astype("float32")
    expected = ks.LRP(keras.models.load_model(grey)).explain(x[None], 1)
    with np.load(out / "cat_2.npz") as arrays:
        np.testing.assert_allclose(arrays["relevance"], expected.input[0], atol=1e-4)
        np.testing.assert_allclose(arrays["probability"], expected.probability[0], atol=1e-3)
        np.testing.assert_allclose(arrays["output"], expected.output[0], atol=1e-3)
        assert arrays["target"] == 1


@pytest.mark.once
def test_options_of_range_size_rules_and_target(colour, pictures, tmp_path, capsys):
    out = tmp_path / "out"
    sized = ["explain", colour, pictures[0], "--out", str(out), "--results", "npz", "--overwrite", "--size", "6", "9"]
    relevance = {}
    for name, options in {
        "own": [],
        "same": ["--range", "0", "255"],
        "small": ["--range", "0", "1"],
        "unit": ["--target", "0"],
        "rules": ["--rules", "epsilon_plus"],
        "paper": ["--rules", "paper"],
        "merged": ["--rules", "paper", "--merge-batch-norm"],
        "bright": ["--baseline", "255"],
        "preprocess": ["--preprocess", "efficientnet"],
    }.items():
        assert main([*sized, *options]) == 0
        with np.load(out / "cat.npz") as file:
            relevance[name] = file["relevance"]
    assert relevance["own"].shape == (6, 9, 3)
    for name in ("same", "unit", "preprocess"):
        np.testing.assert_allclose(relevance[name], relevance["own"], atol=1e-6)
    np.testing.assert_allclose(relevance["merged"], relevance["paper"], atol=1e-6)
    assert np.abs(relevance["bright"] - relevance["own"]).max() > 1e-6
    assert np.abs(relevance["small"] - relevance["own"]).max() > 1e-6
    assert np.abs(relevance["rules"] - relevance["own"]).max() > 1e-6
    assert "0 to 255" in capsys.readouterr().out


def constant(path, activation, *outputs):
    """A saved model of grey images whose logits are these numbers for every image."""
    model = keras.Sequential([keras.Input((8, 8)), layers.Flatten(), layers.Dense(len(outputs), activation)])
    model.layers[-1].set_weights([np.zeros((64, len(outputs))), np.array(outputs)])
    return save(model, path)


def run(capsys, *options):
    """The line of the picture that the command prints."""
    assert main(["explain", *map(str, options)]) == 0
    return capsys.readouterr().out.splitlines()[-2]


@pytest.mark.once
def test_a_single_sigmoid_is_explained_by_its_unit(pictures, tmp_path, capsys):
    """By the unit's number, by the label 1 and by the name of class 1; titles name class 1 and what is predicted."""
    path = constant(tmp_path / "sigmoid.keras", "sigmoid", np.log(0.46 / 0.54))
    names = tmp_path / "names.txt"
    names.write_text("well\nill\n")
    out = tmp_path / "out"
    options = [path, pictures[0], "--out", out, "--results", "npz", "--overwrite"]
    for target in ([], ["--target", "0"], ["--target", "1"]):
        assert run(capsys, *options, *target) == f"{out / 'cat.png'}  class 1 (46 %), predicted: class 0 (54 %)"
        with np.load(out / "cat.npz") as arrays:
            assert sorted(arrays) == ["output", "probability", "relevance", "target"]
            assert arrays["target"] == 0
    line = run(capsys, *options, "--classes", names, "--target", "ill")
    assert line.endswith("  ill (46 %), predicted: well (54 %)")
    assert main(["explain", *map(str, options), "--classes", str(names), "--target", "well"]) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert "the probability of ill, and the blue pixels of its map speak for well" in printed


@pytest.mark.once
@pytest.mark.parametrize("target", [[], ["--target", "0"], ["--target", "1"]])
def test_a_single_sigmoid_is_never_negated(target, pictures, tmp_path, capsys):
    """Bright pixels lower the probability, and all targets say so."""
    unit = layers.Dense(1, "sigmoid", kernel_initializer=keras.initializers.Constant(-0.02))
    path = save(keras.Sequential([keras.Input((8, 8)), layers.Flatten(), unit]), tmp_path / "sigmoid.keras")
    run(capsys, path, pictures[0], "--out", tmp_path / "out", "--results", "npz", *target)
    with np.load(tmp_path / "out" / "cat.npz") as arrays:
        assert (arrays["relevance"] < 0).all()


@pytest.mark.once
def test_a_regression_has_no_class_and_no_percentage(pictures, tmp_path, capsys):
    path = constant(tmp_path / "price.keras", None, 3.2)
    out = tmp_path / "out"
    for target in ([], ["--target", "0"]):
        line = run(capsys, path, pictures[0], "--out", out, "--results", "npz", "--overwrite", *target)
        assert line == f"{out / 'cat.png'}  output 0: 3.2"
        with np.load(out / "cat.npz") as arrays:
            assert sorted(arrays) == ["output", "relevance", "target"]
            # what is the same for every image comes from no pixel
            np.testing.assert_array_equal(arrays["relevance"], 0)
    (tmp_path / "names.txt").write_text("price\n")
    line = run(capsys, path, pictures[0], "--out", out, "--classes", tmp_path / "names.txt", "--target", "price")
    assert line.endswith("  price: 3.2")


@pytest.mark.once
def test_logits_have_classes_if_these_have_names(pictures, tmp_path, capsys):
    path = constant(tmp_path / "logits.keras", None, 1.0, 6.1, 4.2)
    options = [path, pictures[0], "--out", tmp_path / "out", "--target", "2"]
    assert run(capsys, *options).endswith("  output 2: 4.2")
    (tmp_path / "names.txt").write_text("ant\ncat\ndog\n")
    assert run(capsys, *options, "--classes", tmp_path / "names.txt").endswith("  dog: 4.2, predicted: cat (6.1)")


@pytest.mark.once
def test_one_of_several_outputs_is_explained_by_its_name_or_number(pictures, tmp_path, capsys):
    image = keras.Input((8, 8))
    flat = layers.Flatten()(image)
    price = layers.Dense(1, bias_initializer="ones", kernel_initializer="zeros", name="price")(flat)
    kind = layers.Dense(4, "softmax", kernel_initializer="zeros", name="kind")(flat)
    path = save(keras.Model(image, [price, kind]), tmp_path / "two.keras")
    options = [path, pictures[0], "--out", tmp_path / "out"]
    for output in ("price", "0"):
        assert run(capsys, *options, "--output", output).endswith("  output 0: 1")
    for output in ("kind", "1"):
        line = run(capsys, *options, "--output", output, "--target", "3")
        assert line.endswith("  class 3 (25 %), predicted: class 0 (25 %)")
    for refused in ([], ["--output", "size"], ["--output", "2"]):
        assert main(["explain", *map(str, options), *refused]) == 2
        printed = capsys.readouterr().err
        assert printed.startswith("keras_shapley: error: --output must ") and printed.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["{grey}", "{tmp}/no.png"], "no such file: .*no.png"),
        (["{tmp}/no.keras", "{cat}"], "no such file: .*no.keras"),
        (["{tmp}/text.txt", "{cat}"], "text.txt cannot be loaded as a Keras model: "),
        (["{grey}", "{cat}", "{tmp}/text.txt"], "text.txt cannot be read as an image"),
        (["{grey}", "{cat}", "--target", "3"], "--target must be a number below 3, and is 3"),
        (["{grey}", "{cat}", "--target", "owl"], "--target must be a number below 3, and is owl"),
        (["{grey}", "{cat}", "--classes", "{tmp}/text.txt"], "text.txt has 1 name, and the model has 3 classes"),
        (["{sigmoid}", "{cat}", "--classes", "{tmp}/text.txt"], "text.txt has 1 name, and the model has 2 classes"),
        (["{sigmoid}", "{cat}", "--target", "2"], "--target must be a number below 2, and is 2"),
        (["{price}", "{cat}", "--target", "1"], "--target must be 0, and is 1"),
        (["{maps}", "{cat}", "--classes", "{tmp}/text.txt"], r"--classes is for outputs of one axis.*\(8, 2\)"),
        (["{maps}", "{cat}", "--target", "16"], "--target must be a number below 16, and is 16"),
        (["{grey}", "{cat}", "--classes", "{cat}"], "cat.png cannot be read as names of classes"),
        (["{grey}", "{cat}", "--size", "9", "9"], r"--size must fit the model's input of shape \(8, 8\)"),
        (["{colour}", "{cat}"], "images of any size: choose one by --size HEIGHT WIDTH"),
        (["{grey}", "{cat}", "--preprocess", "resnet99"], "--preprocess must be one of .*vgg16.*, and is resnet99"),
        (["{grey}", "{cat}", "--batch-size", "0"], "--batch-size must be 1 or more"),
        (["{vector}", "{cat}"], r"must take one batch of images, and takes inputs of shape \[\(8,\)\]"),
        (["{five}", "{cat}"], "must take images of 1 or 3 channels, and takes 5"),
        (["{grey}", "{cat}", "--out", "{tmp}/text.txt"], "--out.* must be a directory that can be made"),
    ],
)
def test_an_error_is_one_line_and_nothing_is_written(options, message, grey, colour, pictures, tmp_path, capsys):
    (tmp_path / "text.txt").write_text("just one line\n")
    places = {"grey": grey, "colour": colour, "cat": pictures[0], "tmp": tmp_path}
    for name, shape, end in (
        ("vector", (8,), [layers.Dense(2)]),
        ("five", (8, 8, 5), [layers.Flatten(), layers.Dense(2)]),
        ("sigmoid", (8, 8), [layers.Flatten(), layers.Dense(1, "sigmoid")]),
        ("price", (8, 8), [layers.Flatten(), layers.Dense(1)]),
        ("maps", (8, 8), [layers.Dense(2, "softmax")]),
    ):
        if f"{{{name}}}" in options:
            places[name] = save(keras.Sequential([keras.Input(shape), *end]), tmp_path / f"{name}.keras")
    before = sorted(tmp_path.rglob("*"))
    out = [] if "--out" in options else ["--out", str(tmp_path / "out")]
    assert main(["explain", *(word.format(**places) for word in options), *out]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("keras_shapley: error: ") and printed.err.count("\n") == 1
    assert re.search(message, printed.err), printed.err
    assert sorted(tmp_path.rglob("*")) == before


def test_weights_that_are_not_finite_are_named(pictures, tmp_path, capsys):
    model = keras.Sequential([keras.Input((8, 8)), layers.Flatten(), layers.Dense(3, name="broken")])
    model.get_layer("broken").bias.assign([0.0, np.nan, 1.0])
    path = save(model, tmp_path / "broken.keras")
    assert main(["explain", path, pictures[0], "--out", str(tmp_path / "out")]) == 2
    assert "NaN or infinite, as are weights of it: broken/bias" in capsys.readouterr().err


def test_relevance_that_overflows_is_an_error_and_is_not_drawn(pictures, tmp_path, capsys, monkeypatch):
    model = keras.Sequential([keras.Input((8, 8)), layers.Flatten(), layers.Dense(3, name="out")])
    model.get_layer("out").set_weights([np.full((64, 3), 1e38, "float32"), np.zeros(3, "float32")])
    path = save(model, tmp_path / "huge.keras")
    assert not np.isfinite(ops.convert_to_numpy(model(np.ones((1, 8, 8), "float32")))).all()
    assert main(["explain", path, pictures[0], "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert pictures[0] in error and re.search("output of model .* is NaN or infinite", error)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.once
def test_relevance_that_is_lost_is_a_warning_with_the_option_that_helps(pictures, tmp_path, capsys):
    model = keras.Sequential([keras.Input((8, 8)), layers.Flatten(), layers.Dense(3, name="out")])
    model.get_layer("out").bias.assign(np.full(3, 50.0))
    path = save(model, tmp_path / "biased.keras")
    options = ["--out", str(tmp_path / "out"), "--rules", "epsilon", "--batch-size", "1"]
    assert main(["explain", path, *pictures, *options]) == 0
    printed = capsys.readouterr().err
    assert printed.count("keras_shapley: warning:") == 1
    assert re.search("Of the relevance .* % arrives .* at 'out'.*--rules auto", printed)
    assert len(list((tmp_path / "out").iterdir())) == 2
    assert main(["explain", path, *pictures, *options[:2]]) == 0
    assert "warning" not in capsys.readouterr().err


@pytest.mark.once
def test_the_headline_of_a_picture_names_rules_and_baseline(grey, pictures, tmp_path, monkeypatch):
    headlines = []
    monkeypatch.setattr(
        "keras_shapley.cli.results.plot_heatmaps",
        lambda *arguments, title, **options: headlines.append(title) or ks.plot_heatmaps(*arguments, **options),
    )
    shapley = ["--method", "shapley", "--players", "2"]
    for options in ([], ["--baseline", "0.5"], ["--rules", "paper"], [pictures[1], "--baseline", "mean"], shapley):
        assert main(["explain", grey, pictures[0], *options, "--out", str(tmp_path / "out")]) == 0
    assert sorted(set(headlines), key=headlines.index) == [
        "Relevance, rules auto, from a baseline of 0",
        "Relevance, rules auto, from a baseline of 0.5",
        "Relevance, rules paper",
        "Relevance, rules auto, from the mean of the inputs",
        "Shapley values (exact), baseline 0",
    ]


def test_shapley_values_of_patches_are_those_of_the_package(grey, pictures, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--method", "shapley", "--players", "2", "--results", "csv", "json", "npz", "--overlay"]
    assert main(["explain", grey, pictures[0], "--out", str(out), *options]) == 0
    assert "1 image: Shapley values (exact), baseline 0; largest standard error 0; " in capsys.readouterr().out
    model = keras.models.load_model(grey)
    image = Image.open(pictures[0]).convert("RGB").convert("L")
    expected = ks.exact_shapley_values(model, np.asarray(image, "float32")[None] / 255, players=2)
    target = int(expected.target[0]) if expected.target is not None else None
    record = json.loads((out / "cat.json").read_text())
    chosen = expected.values[0] if target is not None else expected.values[0, :, record["target"]]
    values = [part["value"] for part in record["values"]]
    np.testing.assert_allclose(values, chosen, atol=1e-5)
    lines = list(csv.reader((out / "cat.csv").read_text().splitlines()))
    assert lines[0] == ["player", "value", "stderr"] and len(lines) == 5
    np.testing.assert_allclose(sum(values), record["total"], atol=1e-5)
    with np.load(out / "cat.npz") as arrays:
        # each pixel has the value of its patch
        np.testing.assert_allclose(arrays["values"][::4, ::4].ravel(), chosen, atol=1e-5)


def test_patches_of_relevance_sum_to_what_arrived(colour, tmp_path, rng):
    matplotlib.image.imsave(tmp_path / "large.png", rng.uniform(size=(70, 66, 3)))
    options = ["--size", "70", "66", "--results", "json", "csv", "--out", str(tmp_path / "out")]
    assert main(["explain", colour, str(tmp_path / "large.png"), *options]) == 0
    record = json.loads((tmp_path / "out" / "large.json").read_text())
    np.testing.assert_allclose(sum(part["value"] for part in record["values"]), record["total"], rtol=1e-4)
    assert {part["size"] for part in record["values"]} == {4} and len(record["values"]) == 18 * 17


@pytest.mark.once
def test_a_folder_is_its_images(grey, pictures, tmp_path, capsys):
    folder = pathlib.Path(pictures[1]).parent
    (folder / "notes.txt").write_text("no image")
    assert main(["explain", grey, str(folder), "--out", str(folder)]) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["cat.png", "cat_2.png", "notes.txt"]
    (tmp_path / "empty").mkdir()
    assert main(["explain", grey, str(tmp_path / "empty")]) == 2
    assert "empty holds no image, a file with a name in .bmp" in capsys.readouterr().err


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--players", "7"], "--players is for --method shapley"),
        (["--budget", "7"], "--budget is for --method shapley"),
        (["--budget", "0", "--method", "shapley"], "--budget must be 1 or more"),
        (["--budget", "9", "--method", "masks"], "--budget is for --method shapley, and not for masks"),
        (["--rules", "paper", "--method", "shapley"], "--rules and --merge-batch-norm are for --method relevance"),
        (["--baseline", "mean"], "--baseline mean needs two inputs or more"),
        (["--seed", "-1"], "--seed must be 0 or more, and is -1"),
    ],
)
def test_options_that_do_not_go_together_are_named(options, message, grey, pictures, capsys):
    assert main(["explain", grey, pictures[0], *options]) == 2
    assert message in capsys.readouterr().err


def test_the_parser_knows_the_presets():
    assert sorted(RULES) == sorted(["auto", *PRESETS])


@pytest.mark.once
def test_help_and_mistakes_come_before_the_backend():
    """The argument list is read without Keras, whatever the backend."""
    code = (
        "import sys; sys.argv = ['keras-shapley', 'explain', *sys.argv[1:]]\n"
        "from keras_shapley.cli import main\n"
        "try: status = main()\n"
        "except SystemExit as end: status = end.code\n"
        "sys.exit(9 if {'keras', 'numpy', 'tensorflow', 'jax', 'torch'} & set(sys.modules) else status)"
    )
    for words, status, text in (
        (["--help"], 0, "--baseline"),
        ([], 2, "keras-shapley explain --help"),
        (["no.keras", "no.png"], 2, "no such file: no.keras"),
        (["--range", "1"], 2, "keras_shapley: error"),
    ):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
        assert done.returncode == status, done.stderr
        assert text in done.stdout + done.stderr


def test_a_backend_that_is_missing_is_one_line(grey, pictures):
    done = subprocess.run(
        [sys.executable, "-m", "keras_shapley", "explain", grey, pictures[0]],
        env={**os.environ, "KERAS_BACKEND": "nowhere"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "Unable to import backend : nowhere" in done.stderr


@pytest.mark.once
def test_contributions_that_cancel_are_said_to(tmp_path, capsys):
    """A share of a sum near zero would say nothing."""
    model = keras.Sequential([keras.Input((8, 8)), layers.Flatten(), layers.Dense(1)])
    model.layers[-1].set_weights([np.array([[1.0], [-0.999]] * 32), np.zeros(1)])
    path = save(model, tmp_path / "cancels.keras")
    Image.fromarray(np.full((8, 8), 200, "uint8")).save(tmp_path / "grey.png")
    assert main(["explain", path, str(tmp_path / "grey.png"), "--out", str(tmp_path / "out")]) == 0
    assert "what speaks for the output and against it nearly cancels" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--overlay", "--method shapley --players 2", "--size 8 8", "--skip-broken"])
def test_options_of_images_are_not_for_tables(option, table, capsys):
    assert main(["explain", table[0], table[1], *option.split()]) == 2
    assert "is for images, and not for the rows of" in capsys.readouterr().err


@pytest.mark.once
def test_shapley_values_warn_of_nothing_by_themselves(grey, pictures, tmp_path, capsys):
    options = ["--method", "shapley", "--players", "2", "--out", str(tmp_path / "out")]
    assert main(["explain", grey, pictures[0], *options]) == 0
    printed = capsys.readouterr()
    assert "no warning" in printed.out and "warning" not in printed.err


@pytest.mark.once
def test_a_script_of_the_same_name_has_the_whole_package(tmp_path):
    """It is taken for the command line, which imports the package later."""
    (tmp_path / "keras-shapley.py").write_text("import keras_shapley as ks; print(ks.LRP.__name__, ks.rules.Epsilon)")
    done = subprocess.run([sys.executable, str(tmp_path / "keras-shapley.py")], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("LRP"), done.stderr


@pytest.mark.once
def test_it_works_without_a_standard_error_stream(grey, pictures, tmp_path):
    words = ["explain", grey, pictures[0], "--out", str(tmp_path / "out")]
    command = f"exec {sys.executable} -m keras_shapley {' '.join(words)} 2>&-"
    assert subprocess.run(["sh", "-c", command], capture_output=True, cwd=tmp_path).returncode == 0


def test_the_version_is_shown_before_the_backend():
    """By the command and by the module; an unknown backend is not asked for."""
    for command in ([pathlib.Path(sys.executable).with_name("keras-shapley")], [sys.executable, "-m", "keras_shapley"]):
        environment = {**os.environ, "KERAS_BACKEND": "nowhere"}
        done = subprocess.run([*command, "--version"], env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, f"keras-shapley {ks.__version__}\n"), done.stderr


@pytest.mark.parametrize("words", [[], ["explain"]])
def test_without_arguments_it_says_how_to_begin(words, capsys):
    assert main(words) == 2
    printed = capsys.readouterr()
    assert not printed.out and "keras-shapley explain MODEL" in printed.err and len(printed.err.splitlines()) < 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "shapley", "--players", "100"], "--players must be a grid of 1 to 8 .*Received: --players 100"),
        (["--method", "shapley", "--players", "foo"], "--players must be a number or 'patches', and is foo"),
        (["--method", "shapley", "--players", "tokens"], "--players must be a number or 'patches', and is tokens"),
        (["--method", "shapley", "--budget", "1"], "--budget must be [0-9]+ or more for --method shapley. Received: 1"),
        (["--merge-batch-norm"], "--merge-batch-norm is for rules .*, such as --rules paper"),
        (["--output", "2"], "--output must be below 1, the number of outputs"),
        (["--output", "none"], "--output must be "),
        (["--preprocess", "resnet"], "--preprocess resnet is for images of 3 channels.* takes images without an axis"),
        (["--columns", "a"], "--columns is for the rows of a .csv file"),
        (["--ignore", "a"], "--ignore is for the rows of a .csv file"),
    ],
)
def test_errors_name_options_as_they_are_typed(options, message, grey, pictures, tmp_path, capsys):
    """And nothing is said before an error of what will not be done."""
    assert main(["explain", grey, pictures[0], "--out", str(tmp_path / "out"), *options]) == 2
    printed = capsys.readouterr()
    assert re.search(message, printed.err), printed.err
    assert not printed.out and not re.search(r"`|ks\.|\w=|_input", printed.err), printed


def test_remedies_are_options(pictures, tmp_path, capsys):
    """The library's remedies are calls in Python, and those of the command are its options."""
    image = keras.Input((8, 8, 1))
    sort = keras.Model(image, layers.Dense(2)(layers.Flatten()(ops.sort(image, axis=1))))
    path = save(sort, tmp_path / "sort.keras")
    for options in ([], ["--rules", "paper"], ["--method", "moments"]):
        assert main(["explain", path, pictures[0], "--out", str(tmp_path / "out"), *options]) == 2
        error = capsys.readouterr().err
        assert "Use --method shapley, which takes any model." in error
        assert "LRP(" not in error and "shapley_values" not in error
    assert main(["explain", path, pictures[0], "--out", str(tmp_path / "out"), "--method", "shapley"]) == 0
    normal = [layers.Flatten(), layers.LayerNormalization(), layers.Dense(2)]
    path = save(keras.Sequential([keras.Input((8, 8)), *normal]), tmp_path / "normal.keras")
    assert main(["explain", path, pictures[0], "--out", str(tmp_path / "out"), "--method", "masks"]) == 0
    assert "warning: --method masks is biased behind the LayerNormalization" in capsys.readouterr().err


def test_a_preprocessing_that_is_the_same_for_all_channels_takes_grey_images(grey, pictures, tmp_path):
    relevance = []
    for number, options in enumerate((["--preprocess", "resnet_v2"], ["--range", "-1", "1"])):
        out = tmp_path / str(number)
        assert main(["explain", grey, pictures[0], "--out", str(out), "--results", "npz", *options]) == 0
        with np.load(out / "cat.npz") as file:
            relevance.append(file["relevance"])
    np.testing.assert_allclose(*relevance, atol=1e-5)


def test_broken_files_are_skipped_named_and_counted(grey, pictures, tmp_path, capsys):
    """Status 1 says that some were skipped; without the option nothing is written."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.png").write_bytes(pathlib.Path(pictures[0]).read_bytes())
    (folder / "b.jpg").write_text("no image")
    words = ["explain", grey, str(folder), "--out", str(tmp_path / "out")]
    assert main(words) == 2
    printed = capsys.readouterr()
    assert "b.jpg cannot be read as an image" in printed.err and not printed.out
    assert printed.err.endswith(". Go on without such files by --skip-broken\n")
    assert not (tmp_path / "out").exists()

    assert main([*words[:3], str(tmp_path / "none.png"), *words[3:], "--skip-broken"]) == 1
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert len(lines) == 2 and all(line.startswith("keras_shapley: warning: skipped: ") for line in lines)
    assert "b.jpg cannot be read" in lines[0] and "no such file" in lines[1]
    assert printed.out.splitlines()[-1].startswith("1 image, 2 skipped: ")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]

    assert main([*words[:2], pictures[0], "--out", str(tmp_path / "whole"), "--skip-broken"]) == 0
    assert main([*words[:2], str(folder / "b.jpg"), "--skip-broken", "--out", str(tmp_path / "no")]) == 2
    assert "none of 1 file can be read as an image" in capsys.readouterr().err


def test_an_empty_folder_and_links_in_a_circle_are_skipped_too(grey, pictures, tmp_path, capsys):
    folder, empty = tmp_path / "folder", tmp_path / "empty"
    folder.mkdir()
    empty.mkdir()
    (folder / "circle.png").symlink_to("circle.png")
    (folder / "a.png").write_bytes(pathlib.Path(pictures[0]).read_bytes())
    words = ["explain", grey, str(empty), str(folder), "--skip-broken", "--out", str(tmp_path / "out")]
    assert main(words) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("1 image, 2 skipped: ")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    "message",
    ["/data/seed=3/batch_size=4/a.png", "overhead=3.png", "my--model_a_b.keras", "/data/target=2/names.txt"],
)
def test_paths_in_messages_stay_as_they_are(message):
    assert in_flags(message) == message


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
