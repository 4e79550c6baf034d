"""`reproduce/report.py`: the report in the repository is that of its results, and verdicts follow from numbers."""

import json
import pathlib
import shutil
import sys

import keras
import numpy as np
import pytest

REPRODUCE = pathlib.Path(__file__).resolve().parents[1] / "reproduce"
sys.path.insert(0, str(REPRODUCE))

import claims
import files
import report as script
import table2_cifar10_mlp

torch_only = pytest.mark.skipif(keras.backend.backend() != "torch", reason="the same on every backend")


@torch_only
def test_report_and_tables_in_the_repository_are_made_from_their_results(tmp_path, capsys):
    results = tmp_path / "results"
    results.mkdir()
    for path in REPRODUCE.glob("results/*"):
        if path.suffix in (".jsonl", ".npz") or path.stem in ("shapley_gradient", "neuron_accuracy", "sampling_errors"):
            shutil.copy(path, results)
    assert script.main(["--results", str(results), "--out", str(tmp_path / "README.md")]) == 0
    made = {path.name: path.read_text() for path in results.glob("*.md")}
    assert (tmp_path / "README.md").read_text() == (REPRODUCE / "README.md").read_text()
    assert set(made) <= {f"{name}.md" for name in script.TABLES} and "table1.md" in made
    for name, text in made.items():
        assert text == (REPRODUCE / "results" / name).read_text(), name
    for picture in results.glob("*.png"):
        assert (REPRODUCE / "results" / picture.name).exists()
    assert str(REPRODUCE) not in (REPRODUCE / "README.md").read_text()


def test_verdicts():
    assert script.verdict({"a": True, "b": True}) == "reproduced"
    assert script.verdict({"a": True, "b": False, "c": False}) == "partly; not: b, c"
    assert script.verdict({"a": False, "b": False}) == "not reproduced"


def rows(gain, epochs=8, deviation=0.01):
    """Table 2 with an SA that is better by `gain` in each setting, but for the last, where it is worse."""
    where = {"data": "somewhere", "backend": "torch", "device": "cpu", "versions": {"keras": "3"}, "commit": "c0ffee"}
    for index, (optimizer, rate) in enumerate(table2_cifar10_mlp.PAPER):
        for activation in ("relu", "sa"):
            for seed in range(3):
                accuracy = 0.5 + deviation * seed
                if activation == "sa":
                    accuracy = 0.5 + deviation / 2 * seed + (gain if index < 11 else -0.01)
                run = {"model": "mlp", "activation": activation, "optimizer": optimizer, "learning_rate": rate}
                result = {"accuracy": [accuracy] * epochs, "val_accuracy": [accuracy] * epochs}
                yield {"run": run | {"seed": seed, "epochs": epochs}, "result": result, "seconds": 30.0, **where}


def written(tmp_path, found):
    text = "".join(f"{script.json.dumps(row)}\n" for row in found)
    files.write(tmp_path / "table2.jsonl", text)
    return tmp_path


def test_table_2_and_figure_4_by_their_numbers(tmp_path):
    found = [*rows(0.05), *rows(-0.2, epochs=3)]
    row = script.table2(written(tmp_path, found))
    assert row.verdict == "reproduced" and "8 epochs, number of seeds 3: SA above ReLU in 11 of 12 settings" in row.ours
    assert row.seconds == 72 * 30
    assert script.figure4(tmp_path).verdict == "reproduced"
    assert script.figure4(tmp_path).ours.endswith("standard deviations 0.0050 and 0.0100")

    row = script.table2(written(tmp_path, rows(-0.05)))
    assert row.verdict == "not reproduced" and "in 0 of 12" in row.ours
    assert script.figure4(tmp_path).verdict == "partly; not: better"


def test_what_was_not_run_has_no_verdict(tmp_path):
    for figure in (script.figure3, script.figure4, script.table2, script.figure5, script.figures6and7):
        assert figure(tmp_path)[-2:] == ("", "not run")


def test_layouts_are_compared_after_as_many_epochs(tmp_path):
    def of(model, accuracies, seed=0):
        settings = {"model": model, "activation": "sa", "optimizer": "Adam", "learning_rate": 0.001, "seed": seed}
        result = {"accuracy": accuracies, "val_accuracy": [value / 2 for value in accuracies]}
        return {
            "run": settings | {"epochs": len(accuracies)},
            "data": "somewhere",
            "backend": "torch",
            "result": result,
        }

    def write(found):
        files.write(tmp_path / "figure5.jsonl", "".join(f"{json.dumps(row)}\n" for row in found))

    found = [of("resnet20", [0.1, 0.2, 0.9]), of("resnet20", [0.1, 0.4, 0.9], seed=1)]
    write(found)
    assert claims.six_relus(tmp_path)[1:] == ("", "not run")
    found.append(of("resnet20_units", [0.1, 0.5]))
    write(found)
    _, ours, verdict = claims.six_relus(tmp_path)
    assert ours.startswith("SA, 2 epochs") and verdict == "open: a first look"
    assert ours.endswith("resnet20 (2) 0.3000, 0.1500; resnet20_units (1) 0.5000, 0.2500")


def test_controls_are_compared_where_they_ran(tmp_path):
    found = list(rows(0.05))
    for row in found[:6]:
        if row["run"]["activation"] == "relu":
            accuracy = [value + 0.06 for value in row["result"]["val_accuracy"]]
            found.append({**row, "run": {**row["run"], "activation": "gelu"}, "result": {"val_accuracy": accuracy}})
    files.write(tmp_path / "figure3.jsonl", "")
    written(tmp_path, found)
    lines = script.controls(tmp_path)
    (line,) = [line for line in lines if line.startswith("| gelu")]
    assert "+0.0600" in line.split(" | ")[3]


def test_gates_of_figures_1_and_2_hold():
    assert script.figure1(None).verdict == script.figure2(None).verdict == "reproduced"
    assert np.isfinite(float(script.figure1(None).ours.split("gate ")[1].split()[0]))
