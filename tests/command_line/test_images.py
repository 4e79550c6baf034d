"""Images: what is explained, and which files are written."""

import csv
import json
import pathlib

import keras
import matplotlib.image
import numpy as np
import pytest
from keras import layers
from PIL import Image

import keras_shapley as ks
from command_line.saved import save
from keras_shapley.cli import main


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


def test_images_before_and_behind_the_options(grey, pictures, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["explain", grey, pictures[0], "--out", str(out), pictures[1]]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["cat.png", "cat_2.png"]
    with pytest.raises(SystemExit) as error:
        main(["explain", grey, pictures[0], "--outt", str(out)])
    assert error.value.code == 2 and "unrecognized arguments: --outt" in capsys.readouterr().err


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


@pytest.mark.once
def test_contributions_that_cancel_are_said_to(tmp_path, capsys):
    """A share of a sum near zero would say nothing."""
    model = keras.Sequential([keras.Input((8, 8)), layers.Flatten(), layers.Dense(1)])
    model.layers[-1].set_weights([np.array([[1.0], [-0.999]] * 32), np.zeros(1)])
    path = save(model, tmp_path / "cancels.keras")
    Image.fromarray(np.full((8, 8), 200, "uint8")).save(tmp_path / "grey.png")
    assert main(["explain", path, str(tmp_path / "grey.png"), "--out", str(tmp_path / "out")]) == 0
    assert "what speaks for the output and against it nearly cancels" in capsys.readouterr().out


@pytest.mark.once
def test_shapley_values_warn_of_nothing_by_themselves(grey, pictures, tmp_path, capsys):
    options = ["--method", "shapley", "--players", "2", "--out", str(tmp_path / "out")]
    assert main(["explain", grey, pictures[0], *options]) == 0
    printed = capsys.readouterr()
    assert "no warning" in printed.out and "warning" not in printed.err


def test_a_preprocessing_that_is_the_same_for_all_channels_takes_grey_images(grey, pictures, tmp_path):
    relevance = []
    for number, options in enumerate((["--preprocess", "resnet_v2"], ["--range", "-1", "1"])):
        out = tmp_path / str(number)
        assert main(["explain", grey, pictures[0], "--out", str(out), "--results", "npz", *options]) == 0
        with np.load(out / "cat.npz") as file:
            relevance.append(file["relevance"])
    np.testing.assert_allclose(*relevance, atol=1e-5)
