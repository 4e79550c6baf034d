"""Errors are one line that names what came; files that cannot be read can be skipped."""

import pathlib
import re

import keras
import numpy as np
import pytest
from keras import layers, ops

from command_line.saved import save
from keras_shapley.cli import main
from keras_shapley.cli.flags import in_flags


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
    (folder / "folder.png").mkdir()
    (folder / "circle.png").symlink_to("circle.png")
    (folder / "a.png").write_bytes(pathlib.Path(pictures[0]).read_bytes())
    words = ["explain", grey, str(empty), str(folder), "--skip-broken", "--out", str(tmp_path / "out")]
    assert main(words) == 1
    printed = capsys.readouterr()
    assert "skipped: " in printed.err and "empty holds no image, a file with a name in .bmp" in printed.err
    assert printed.out.splitlines()[-1].startswith("1 image, 2 skipped: ")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]
    assert main([*words[:3], "--out", str(tmp_path / "out")]) == 2
    assert "empty holds no image" in capsys.readouterr().err


@pytest.mark.parametrize(
    "message",
    ["/data/seed=3/batch_size=4/a.png", "overhead=3.png", "my--model_a_b.keras", "/data/target=2/names.txt"],
)
def test_paths_in_messages_stay_as_they_are(message):
    assert in_flags(message) == message
