"""`reproduce/explanation_times.py`: that what is measured is what the table says. Never how fast."""

import json
import pathlib
import sys

import keras
import numpy as np
import pytest

REPRODUCE = pathlib.Path(__file__).resolve().parents[1] / "reproduce"
sys.path.insert(0, str(REPRODUCE))

import explanation_times as script


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="once, where nothing is compiled")
def test_every_method_is_measured_and_the_table_is_made_again(tmp_path, monkeypatch, capsys):
    for name, value in {"FEW": 1, "MORE": {"mlp": 2, "conv": 1}, "AT_ONCE": 2, "REPEATS": 2}.items():
        monkeypatch.setattr(script, name, value)
    # threads are fixed once in a process
    monkeypatch.setattr(script.benchmark.timing, "fix_threads", lambda n: None)
    assert script.main(["--activations", "relu", "--out", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "explanation_times.json").read_text())["torch"]["rows"]
    assert [(row["network"], row["method"]) for row in rows] == [(n, m) for n in ("mlp", "conv") for m in script.NAMES]
    text = (tmp_path / "explanation_times.md").read_text()
    assert text in capsys.readouterr().out and "| torch | conv | relu | masks 64 | 64 |" in text
    (tmp_path / "explanation_times.md").unlink()
    assert script.main(["--table", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "explanation_times.md").read_text() == text


def test_what_a_call_takes_is_told_from_what_an_image_takes(monkeypatch):
    """Calls of 3 s and 0.02 s an image, beside a gradient of 0.001 s."""

    def in_turns(calls, repeats, rng):
        sizes = {name: int(name.split()[-2]) for name in calls if name.endswith("images")}
        return {name: np.full(repeats, 3 + 0.02 * sizes[name]) for name in sizes} | {
            "gradient": np.full(repeats, 0.001 * script.AT_ONCE)
        }

    monkeypatch.setattr(script.timing, "in_turns", in_turns)
    for row in script.of_network("mlp", "relu", 0):
        assert row["ratio"] == pytest.approx(20) and row["interval"] == pytest.approx([20, 20])
        assert row["of_call"] == pytest.approx(150)
