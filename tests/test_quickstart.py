"""The README's first command, cut short."""

import json
import os
import pathlib
import subprocess
import sys

import keras
import pytest

SCRIPT = pathlib.Path(__file__).resolve().parent.parent / "reproduce" / "quickstart.py"

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="once is enough")


def quickstart(*arguments, cwd):
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(SCRIPT.parent.parent)}
    )


def test_it_trains_all_six_and_draws_them_and_the_same_seed_gives_the_same_table(tmp_path):
    rows = []
    for out in ("one", "two"):
        done = quickstart("--out", out, "--epochs", "1", "--seed", "3", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        rows.append(
            [{**row, "seconds_per_epoch": 0} for row in json.loads((tmp_path / out / "table.json").read_text())["rows"]]
        )
    assert rows[0] == rows[1]
    assert [(row["network"], row["activation"]) for row in rows[0]] == [
        (network, activation) for network in ("mlp", "convnet") for activation in ("relu", "sa", "shaplu")
    ]
    assert all(0.1 < row["accuracy"] < 1 for row in rows[0])
    pictures = sorted(str(path.relative_to(tmp_path / "one")) for path in (tmp_path / "one").rglob("*.png"))
    assert pictures == sorted(
        [f"{row['network']}_{row['activation']}/epoch_0001.png" for row in rows[0]] + ["relevance.png"]
    )


def test_a_directory_that_cannot_be_made_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    done = quickstart("--out", "file/out", cwd=tmp_path)
    assert done.returncode == 2
    assert "--out file/out cannot be made" in done.stderr and "Traceback" not in done.stderr
