"""`reproduce/figure3_mnist_mlp.py`: the network, a quick run, and what the table says of rows."""

import figure3_mnist_mlp as script
import matplotlib.image
import numpy as np
import pytest

from lab import experiment, rows
from lab.networks import mnist_mlp


def test_network_is_the_papers():
    model = mnist_mlp("shaplu")
    assert [layer.units for layer in model.layers if hasattr(layer, "units")] == [100, 50, 10]
    assert model.count_params() == 784 * 100 + 100 + 100 * 50 + 50 + 50 * 10 + 10


def row(activation, seed, accuracy, last):
    run = {"activation": activation, "optimizer": "Adam", "learning_rate": 0.001, "seed": seed, "epochs": 2}
    where = {"data": "somewhere", "backend": "torch", "device": "cpu", "versions": {"keras": "3"}, "commit": "c0ffee"}
    return {"run": run, "result": {"accuracy": accuracy, "val_accuracy": [0.0, last]}, **where}


def test_table_takes_the_first_epoch_and_the_last_validation(tmp_path):
    found = [row("relu", seed, [0.1, 0.3, 0.9, 0.9], 0.8) for seed in range(2)]
    found += [row("sa", seed, [0.3, 0.5 + 0.02 * seed, 0.9, 0.9], 0.8) for seed in range(2)]
    text = script.FIGURE3.write(found, tmp_path)
    assert "| relu | 0.2000 ± 0.0000 (2) |  | 0.8000 ± 0.0000 (2) |  |" in text
    half = 12.7062 * 0.005
    interval = f"({0.205 - half:+.4f} to {0.205 + half:+.4f})"
    assert f"| sa | 0.4050 ± 0.0071 (2) | +0.2050 {interval} | 0.8000 ± 0.0000 (2) |" in text
    assert (tmp_path / "figure3.md").read_text() == text


@pytest.mark.once
def test_quick_run(tmp_path, rng, capsys):
    path = tmp_path / "data.npz"
    arrays = {f"x_{split}": rng.integers(0, 256, (50, 28, 28), dtype=np.uint8) for split in ("train", "test")}
    np.savez(path, **arrays, **{f"y_{split}": rng.integers(0, 10, 50) for split in ("train", "test")})
    command = ["--quick", "--data", str(path), "--out", str(tmp_path), "--limit", "40"]
    assert experiment.main(script.FIGURE3, script.__doc__, script.EXAMPLES, command) == 0
    found = rows.read(tmp_path / "figure3.jsonl")
    assert {row["run"]["learning_rate"] for row in found} == {0.1}
    assert len(found) == 6 and all(len(row["result"]["accuracy"]) == 8 for row in found)
    assert matplotlib.image.imread(tmp_path / "figure3.png")[..., :3].std() > 0.05
    assert "## SGD 0.1" in capsys.readouterr().out
