"""What the command says before it loads a backend."""

import os
import pathlib
import subprocess
import sys

import pytest

import keras_shapley as ks
from keras_shapley.cli import main
from keras_shapley.cli.options import RULES
from keras_shapley.lrp.presets import PRESETS


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
