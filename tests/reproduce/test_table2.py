"""`reproduce/table2_cifar10_mlp.py`: the paper's MLP, runs on made-up images, and what the table says of rows."""

import functools
import json

import keras
import numpy as np
import pytest
import table2_cifar10_mlp as script

from lab import experiment, rows
from lab.analysis import table2
from lab.networks import cifar10_mlp

main = functools.partial(experiment.main, script.TABLE2, script.__doc__, script.EXAMPLES)


@pytest.fixture
def data(tmp_path, rng):
    """CIFAR-10 in shape, noise in content."""
    path = tmp_path / "data.npz"
    arrays = {}
    for split, n in (("train", 256), ("test", 100)):
        arrays[f"x_{split}"] = rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
        arrays[f"y_{split}"] = rng.integers(0, 10, n)
    np.savez(path, **arrays)
    return path


def row(activation, optimizer, rate, seed, accuracy, epochs=8, data="somewhere"):
    run = {"model": "mlp", "activation": activation, "optimizer": optimizer, "learning_rate": rate, "seed": seed}
    where = {"data": data, "backend": "torch", "device": "cpu", "versions": {"keras": "3"}, "commit": "c0ffee"}
    return {"run": run | {"epochs": epochs}, "result": {"val_accuracy": [0.1, accuracy]}, **where}


def test_network_is_the_papers():
    model = cifar10_mlp("sa")
    assert [layer.units for layer in model.layers if hasattr(layer, "units")] == [1024, 512, 512, 10]
    assert [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)] == [0.2] * 3
    assert model.count_params() == 3072 * 1024 + 1024 + 1024 * 512 + 512 + 512 * 512 + 512 + 512 * 10 + 10
    # kernel and bias
    initializers = [layer.bias_initializer for layer in model.layers if hasattr(layer, "units")]
    assert {type(each).__name__ for each in initializers} == {"GlorotUniform"}


@pytest.mark.once
def test_a_run_is_recorded_repeated_by_nothing_and_the_same_again(data, tmp_path, capsys):
    command = ["--data", str(data), "--epochs", "2", "--activations", "relu", "sa", "--only", "*/SGD_0.1/seed0"]
    assert main([*command, "--out", str(tmp_path / "a")]) == 0
    found = rows.read(tmp_path / "a" / "table2.jsonl")
    assert [row["run"]["activation"] for row in found] == ["relu", "sa"]
    assert all(len(row["result"]["val_accuracy"]) == 2 for row in found)
    assert "data.npz, sha256 of x_train" in found[0]["data"]
    assert found[0]["versions"]["keras"] == keras.__version__

    content = (tmp_path / "a" / "table2.jsonl").read_text()
    table = (tmp_path / "a" / "table2.md").read_text()
    capsys.readouterr()
    assert main([*command, "--out", str(tmp_path / "a")]) == 0
    assert "min left" not in capsys.readouterr().err
    assert (tmp_path / "a" / "table2.jsonl").read_text() == content
    assert main(["--table", "--out", str(tmp_path / "a")]) == 0
    assert (tmp_path / "a" / "table2.md").read_text() == table

    main([*command, "--out", str(tmp_path / "b")])
    again = rows.read(tmp_path / "b" / "table2.jsonl")
    assert [row["result"] for row in again] == [row["result"] for row in found]


def test_table_compares_runs_of_the_same_setting_and_seed_alone():
    found = [row("relu", "SGD", 0.1, seed, 0.4 + 0.1 * seed) for seed in range(3)]
    found += [row("sa", "SGD", 0.1, seed, 0.45 + 0.1 * seed + 0.001 * seed) for seed in range(3)]
    found += [row("sa", "Adam", 0.001, 0, 0.9), row("sa", "SGD", 0.1, 0, 0.99, epochs=3)]
    text = table2.table(found)
    eight = text.partition("## 8 epochs, all images, torch")[2]
    assert "| SGD 0.1 | 0.5736 ± 0.0053 | 0.5586 ± 0.0087 | 0.5000 ± 0.1000 (3) | 0.5510 ± 0.1010 (3) |" in eight
    half = 4.302653 * 0.001 / np.sqrt(3)
    interval = f"({0.051 - half:+.4f} to {0.051 + half:+.4f})"
    lines = eight.splitlines()
    differences = lines[lines.index("| optimizer | sa − relu |") :]
    assert differences[2:4] == [f"| SGD 0.1 | +0.0510 {interval} |", f"| mean | +0.0510 {interval} |"]
    assert differences[4:6] == ["| verdict | better, 3 seeds |", "| settings | 1 |"]
    assert "| Adam 0.001 | 0.5578 ± 0.0055 | 0.5102 ± 0.0040 |  | 0.9000 |" in eight
    assert "0.9900" in text.partition("## 8 epochs")[0]


def test_epochs_are_counted_until_relus_final_accuracy():
    found = [row("relu", "SGD", 0.1, seed, 0.5) for seed in range(4)]
    for seed, curve in enumerate([[0.5, 0.4, 0.6], [0.4, 0.49, 0.5], [0.4, 0.45, 0.49]]):
        found.append({**row("sa", "SGD", 0.1, seed, 0), "result": {"val_accuracy": curve}})
    assert table2.epochs_to_reach(found, "sa") == [(1, 2), (3, 2), (np.inf, 2)]
    assert table2.epochs_to_reach(found, "gelu") == []
    assert "| sa | 3 | 2 | 3 | 1 |" in table2.table(found)


@pytest.mark.once
def test_quick_run(data, tmp_path, capsys):
    assert main(["--quick", "--data", str(data), "--out", str(tmp_path), "--activations", "relu", "sa"]) == 0
    found = rows.read(tmp_path / "table2.jsonl")
    assert {(row["run"]["limit"], row["run"]["epochs"], row["run"]["seed"]) for row in found} == {(1280, 1, 0)}
    assert [row["run"]["learning_rate"] for row in found] == [0.002, 0.002, 0.001, 0.001]
    assert (tmp_path / "figure4.png").exists()
    assert "## 1 epochs, the first 1,280 images, torch" in capsys.readouterr().out


def test_a_directory_without_runs_has_no_table(tmp_path, capsys):
    with pytest.raises(SystemExit) as error:
        main(["--table", "--out", str(tmp_path / "typo")])
    assert error.value.code == 2 and "table2.jsonl holds no finished run" in capsys.readouterr().err
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "relu/SGD_7/*"], "--only relu/SGD_7/* fits none of 108 runs"),
        (["--data", "absent.npz"], "absent.npz: no such file"),
        (["--epochs", "0"], "must be at least 1, and is 0"),
        (["--activations", "tanh"], "invalid choice: 'tanh'"),
    ],
)
def test_bad_arguments_are_refused(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as error:
        main([*arguments, "--out", str(tmp_path)])
    assert error.value.code == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("table2*"))


def test_a_results_file_that_is_none_is_kept(tmp_path, capsys):
    path = tmp_path / "table2.jsonl"
    path.write_text(json.dumps({"something": "else"}) + "\n")
    with pytest.raises(SystemExit):
        main(["--table", "--out", str(tmp_path)])
    assert "table2.jsonl, line 1, is not the row of a run" in capsys.readouterr().err
    assert json.loads(path.read_text()) == {"something": "else"}
