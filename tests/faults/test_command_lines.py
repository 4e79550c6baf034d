"""Hostile command lines: an error is one short line, and nothing is written."""

import itertools
import os
import pathlib

import numpy as np
import pytest
from PIL import Image

from faults.corpus import plain_model
from faults.jobs import names
from keras_shapley import cli
from keras_shapley.cli import explain

pytestmark = pytest.mark.once

LONG = "x" * 5000
DIGITS = "9" * 5000
NO_NUMBERS = ["", " ", "a", "²", "1,5", "0x1", "--", "1e", "e5", "nine", LONG]
NO_INTEGERS = [*NO_NUMBERS, "1.5", "1e3", "nan", "inf", DIGITS]
NOT_FINITE = ["nan", "inf", "-inf", "NaN", "1e999", "-1e999", "infinity"]

REFUSED: list[list[str]] = [
    # no command
    [""],
    ["explain", "MODEL"],
    ["explode", "MODEL", "IMAGE"],
    ["EXPLAIN", "MODEL", "IMAGE"],
    ["--target", "0", "explain"],
    [LONG],
    ["explain", "--target", "0"],
    # no files
    *(
        ["explain", word, "IMAGE"]
        for word in ("", ".", "/", "/dev/null", "/dev/zero", "none", LONG, "IMAGE", "hf://a/b")
    ),
    *(["explain", word, "IMAGE"] for word in ("https://127.0.0.1:9/m.keras", "gs://a/b.keras", "\0", "~", "*", "-")),
    *(["explain", "MODEL", word] for word in ("", ".", "/", "/dev/null", "/dev/zero", "none", LONG, "MODEL", "*.png")),
    *(["explain", "MODEL", word] for word in ("https://127.0.0.1:9/i.png", "\0", "~", "-")),
    ["explain", "MODEL", "IMAGE", "none"],
    ["explain", "MODEL", *[f"none{number}" for number in range(1000)]],
    # unknown options, shortened ones, and those that lack a value or have too many
    *(["explain", "MODEL", "IMAGE", f"--{word}"] for word in ("none", "out", "rules", "targ", "over", LONG, "range")),
    *(
        ["explain", "MODEL", "IMAGE", f"--{word}"]
        for word in ("overwrite=yes", "arrays=1", "size", "merge", "baseline")
    ),
    *(["explain", "MODEL", "IMAGE", word] for word in ("-x", "-3", "---target", "-target", "--target 0", "-h=1")),
    ["explain", "MODEL", "IMAGE", "--overwrite", "no"],
    ["explain", "MODEL", "IMAGE", "--results", "npz", "none.npz"],
    ["explain", "MODEL", "IMAGE", "--target", "0", "1"],
    ["explain", "MODEL", "IMAGE", "--range", "0", "1", "--preprocess", "resnet_v2"],
]
for option, values in {
    "--target": [*NO_NUMBERS, "-1", "+1", "3", "1.0", "1e0", "٣", "0 ", DIGITS, "nan"],
    "--baseline": [*NO_NUMBERS, *NOT_FINITE],
    "--batch-size": [*NO_INTEGERS, "0", "-1", "-" + DIGITS],
    "--output": ["", " ", "²", "-1", "5", LONG, DIGITS, "1.0"],
    "--columns": ["", ",", "a", '"', LONG, "\0"],
    "--ignore": ["a", LONG],
    "--rules": ["", "AUTO", "auto ", LONG, "../paper", "None"],
    "--preprocess": ["", "os", "../resnet", "resnet99", "__init__", "resnet_v2.os", LONG, "keras"],
    "--classes": ["", ".", "none", "/dev/zero", "IMAGE", "MODEL", LONG, "\0"],
    "--out": ["MODEL", "IMAGE", "IMAGE/out", "/dev/null", "/dev/null/out", "/proc/out", LONG, "\0", "FOLDER/link"],
}.items():
    REFUSED += [["explain", "MODEL", "IMAGE", option, value] for value in values]
BOUNDS = ["1 1", "2 1", "-1 -1", "1e38 -1e38", "-3e38 3e38", "-1e39 1e39", "0 1e39", "1 -1", "0 0", "-0 0", "1e-50 0"]
BOUNDS += ["a b", "0 a", "0", "0 1 2", "0,1", "[0 1]", "1_0 2", f"0 {DIGITS}", "0 1e-320"]
BOUNDS += [" ".join(pair) for pair in itertools.product(["0", "nan", "-inf"], ["nan", "inf", "1e999", "-nan"])]
SIZES = ["0 0", "-1 -1", "9 9", "8", "8 8 8", "8x8", "1e1 1e1", "8.0 8.0", "² ²", "8 0", f"8 {DIGITS}", f"{2**70} 8"]
REFUSED += [["explain", "MODEL", "IMAGE", "--range", *bounds.split()] for bounds in BOUNDS]
REFUSED += [["explain", "MODEL", "IMAGE", "--size", *size.split()] for size in SIZES]
REFUSED += [["explain", "MODEL", "IMAGE", "--range", "", ""], ["explain", "MODEL", "IMAGE", "--size", "", ""]]

WORKS = [
    ["--range", "-1e-3", "1e-3"],
    ["--range", "-1.", "+1E0"],
    ["--baseline", "-1e-3"],
    ["--baseline", "-.5"],
    ["--target", "0", "--target", "1"],
    ["--target", "٢"],
    ["--batch-size", str(10**30)],
    ["--out", "a/b/c"],
    ["--out="],
    ["--output", "0"],
    ["--", "IMAGE"],
]


@pytest.fixture(scope="module")
def model():
    return plain_model()


@pytest.fixture
def folder(model, tmp_path, monkeypatch):
    """A folder with a model and an image, which is where the command runs. The model is loaded without being read."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "MODEL").write_bytes(b"model")
    Image.fromarray(np.eye(8, dtype="uint8") * 255).save(tmp_path / "IMAGE", "PNG")
    (tmp_path / "FOLDER").mkdir()
    (tmp_path / "FOLDER" / "link").symlink_to("link")
    load = explain.saved_models.load
    monkeypatch.setattr(explain.saved_models, "load", lambda path: model if path.name == "MODEL" else load(path))
    return tmp_path


def status_of(words):
    try:
        return cli.main(words)
    except SystemExit as error:
        return error.code


@pytest.mark.parametrize("words", REFUSED, ids=lambda words: " ".join(words[2:])[:40].replace("\0", "NUL") or "none")
def test_what_cannot_work_is_one_line(words, folder, capsys):
    before = names(str(folder))
    assert status_of(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("keras_shapley: error: ") and error.count("\n") == 1 and len(error) < 1000
    assert error.strip().isprintable()
    # the default folder of pictures may have been made
    assert [name for name in names(str(folder)) if name != "explanations"] == before
    assert not (folder / "explanations").exists() or not os.listdir(folder / "explanations")


@pytest.mark.parametrize("words", WORKS, ids=" ".join)
def test_what_looks_odd_and_is_right_works(words, folder, capsys):
    assert status_of(["explain", "MODEL", "IMAGE", *words]) == 0
    assert not capsys.readouterr().err


def test_there_are_as_many_as_are_reported():
    assert len(REFUSED) >= 200


@pytest.mark.skipif(not os.geteuid(), reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(folder, capsys):
    (folder / "FOLDER").chmod(0o500)
    for out in ("FOLDER", "FOLDER/out"):
        assert status_of(["explain", "MODEL", "IMAGE", "--out", out]) == 2
        assert "--out" in capsys.readouterr().err


def test_a_folder_that_is_the_models_or_the_images_keeps_both(folder: pathlib.Path):
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert status_of(["explain", "MODEL", "IMAGE", "--out", ".", "--overwrite", "--results", "npz"]) == 0
    assert all(path.read_bytes() == content for path, content in before.items())
