"""`studies/initialisation.py`: the networks, a quick run, and what the table says of rows."""

import keras
import numpy as np
import pytest

import keras_shapley as ks
from lab import experiment, rows
from studies import initialisation as script


def test_every_layer_has_a_kernel_of_its_own_from_its_initializer(numpy):
    keras.utils.set_random_seed(0)
    kinds = {"sa": "GlorotUniform", "sa_he": "HeNormal", "sa_normal": "SANormal", "relu_he": "HeNormal"}
    for kind, initializer in kinds.items():
        model = script.INITIALISATION.build({"model": "depth10", "activation": kind})
        hidden = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)][:-1]
        assert len(hidden) == 10
        assert {type(layer.kernel_initializer).__name__ for layer in hidden} == {initializer}
        assert all(isinstance(layer, ks.SADense) == kind.startswith("sa") for layer in hidden)
        assert len({numpy(layer.kernel).tobytes() for layer in hidden}) == 10


def row(activation, seed, last, model="depth30"):
    run = {"model": model, "activation": activation, "optimizer": "SGD", "learning_rate": 0.1, "seed": seed}
    run["epochs"] = 4
    where = {"data": "somewhere", "backend": "torch", "device": "cpu", "versions": {"keras": "3"}, "commit": "c0ffee"}
    return {"run": run, "result": {"val_accuracy": [0.0, last]}, **where}


def test_table_compares_with_the_kernels_of_he(tmp_path):
    found = [row("sa_he", seed, 0.5) for seed in range(2)]
    found += [row("sa_normal", seed, 0.6 + 0.02 * seed) for seed in range(2)] + [row("sa_normal", 0, 0.9, "depth50")]
    text = script.INITIALISATION.write(found, tmp_path)
    half = 12.7062 * 0.01
    interval = f"({0.11 - half:+.4f} to {0.11 + half:+.4f})"
    assert "| 30 | SGD 0.1 | sa_he | 0.5000 ± 0.0000 (2) |  |" in text
    assert f"| 30 | SGD 0.1 | sa_normal | 0.6100 ± 0.0141 (2) | +0.1100 {interval} |" in text
    assert "| 50 | SGD 0.1 | sa_normal | 0.9000 |  |" in text
    assert (tmp_path / "initialisation.md").read_text() == text


@pytest.mark.once
def test_quick_run(tmp_path, rng):
    path = tmp_path / "data.npz"
    arrays = {f"x_{split}": rng.integers(0, 256, (20, 28, 28), dtype=np.uint8) for split in ("train", "test")}
    np.savez(path, **arrays, **{f"y_{split}": rng.integers(0, 10, 20) for split in ("train", "test")})
    command = ["--quick", "--data", str(path), "--out", str(tmp_path)]
    assert experiment.main(script.INITIALISATION, script.__doc__, script.EXAMPLES, command) == 0
    assert len(rows.read(tmp_path / "initialisation.jsonl")) == 8
