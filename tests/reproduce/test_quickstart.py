"""The README's first command, cut short."""

import json
import os
import subprocess
import sys

import keras
import pytest
import quickstart as script
from reference.paths import REPRODUCE

from lab.data import digits

SCRIPT = REPRODUCE / "quickstart.py"

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="once is enough")


def run(*arguments, cwd):
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(SCRIPT.parent.parent)}
    )


def test_it_trains_all_six_and_draws_them_and_the_same_seed_gives_the_same_table(tmp_path):
    done = run("--out", "out", "--epochs", "1", "--seed", "3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "out" / "table.json").read_text())
    rows = {(row["network"], row["activation"]): row for row in record["rows"]}
    assert list(rows) == [
        (network, activation) for network in ("mlp", "convnet") for activation in ("relu", "sa", "shaplu")
    ]
    assert record["seed"] == 3 and record["versions"]["keras"] == keras.__version__
    assert all(0.1 < row["accuracy"] < 1 and f"{row['accuracy']:.3f}" in done.stdout for row in rows.values())
    pictures = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.png"))
    assert [name for name in pictures if name != "photographs.png"] == ["forming/epoch_0001.png", "relevance.png"]
    # one line for each network, and what to do next
    assert sum("of the test digits are right" in line for line in done.stdout.splitlines()) == 6
    assert "keras-shapley explain" in done.stdout

    # two rows again, in another process and another order
    *data, _ = digits(seed=3)
    for network, activation in (("convnet", "sa"), ("mlp", "shaplu")):
        row, _ = script.train(network, activation, data, [], epochs=1, seed=3)
        assert row["accuracy"] == rows[network, activation]["accuracy"]


@pytest.mark.parametrize("arguments", [("--epochs", "0"), ("--seed", "-1")])
def test_a_bad_option_is_one_clear_line(arguments, capsys):
    with pytest.raises(SystemExit):
        script.main(arguments)
    assert f"{arguments[0]}: must be at least" in capsys.readouterr().err


def test_a_directory_that_cannot_be_made_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    done = run("--out", "file/out", cwd=tmp_path)
    assert done.returncode == 2
    assert "--out file/out cannot be made" in done.stderr and "Traceback" not in done.stderr
