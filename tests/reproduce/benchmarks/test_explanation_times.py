"""`benchmarks/explanation_times.py`: that what is measured is what the table says. Never how fast."""

import json
import types

import pytest

from benchmarks import explanation_times as script
from lab import measuring
from lab.analysis import explanation_times
from lab.explanations import Method

pytestmark = pytest.mark.once


class Clock:
    """Time that passes only where it is said to: in explanations, and for each image; gradients take 1 ms each."""

    def __init__(self, monkeypatch, methods, of_call, of_image):
        self.now = 0.0
        monkeypatch.setattr(measuring, "time", types.SimpleNamespace(perf_counter=lambda: self.now))
        timed = {
            name: Method(cost, self.timed(explain, of_call, of_image)) for name, (cost, explain) in methods.items()
        }
        monkeypatch.setattr(script, "METHODS", timed)
        gradients = script.input_gradients if methods is script.METHODS else lambda model: nothing
        monkeypatch.setattr(script, "input_gradients", lambda model: self.timed(gradients(model), 0, 0.001))

    def timed(self, function, of_call, of_image):
        def passing(*args):
            self.now += of_call + of_image * len(args[-1])
            return function(*args)

        return passing


def nothing(*args):
    """What takes no time but the clock's."""


NONE = dict.fromkeys(script.NAMES, Method(30, nothing))


def test_every_method_is_measured_and_the_table_is_made_again(tmp_path, monkeypatch, capsys):
    small = {"FEW": 1, "MORE": {"mlp": 2, "conv": 1}, "GRADIENT_IMAGES": {"mlp": 2, "conv": 2}, "REPEATS": 2}
    for name, value in small.items():
        monkeypatch.setattr(script, name, value)
    Clock(monkeypatch, script.METHODS, of_call=3, of_image=1)
    # threads are fixed once in a process
    monkeypatch.setattr(measuring, "fix_threads", lambda n: None)
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
    Clock(monkeypatch, NONE, of_call=3, of_image=0.02)
    rows = [row for network in script.MORE for row in script.measure_network(network, "relu", 0)]
    assert len(rows) == 2 * len(script.NAMES)
    for row in rows:
        assert row["ratio"] == pytest.approx(20) and row["interval"] == pytest.approx([20, 20])
        assert row["of_call"]["ratio"] == pytest.approx(150)
        assert row["of_call"]["interval"] == pytest.approx([150, 150])


def test_what_the_noise_hides_is_no_result(monkeypatch):
    Clock(monkeypatch, NONE, of_call=3, of_image=0)
    row, *_ = script.measure_network("mlp", "relu", 0)
    assert explanation_times.cells(row) == ["mlp", "relu", "integrated gradients", "30", "hidden by noise", ""]
    Clock(monkeypatch, NONE, of_call=-0.001, of_image=0.02)
    row, *_ = script.measure_network("mlp", "relu", 0)
    assert explanation_times.cells(row)[-2:] == ["20.00 (20.00 to 20.00)", "hidden by noise"]
