"""`reproduce/faithfulness.py`: a quick run, and what the table says of rows."""

import pathlib
import sys

import keras
import matplotlib.image
import numpy as np
import pytest

REPRODUCE = pathlib.Path(__file__).resolve().parents[1] / "reproduce"
sys.path.insert(0, str(REPRODUCE))

import experiment
import faithfulness as script
import grid
from explanations import METHODS
from neurons import neurons

torch_only = pytest.mark.skipif(keras.backend.backend() != "torch", reason="once, where nothing is compiled")


def row(activation, seed, correlations, others):
    """A finished run with the same numbers for every method but eq. (2) without b/n, which has `others`."""
    measures = {"correlation": correlations, "rank": correlations, "error": correlations}
    cheap = dict.fromkeys(script.CHEAP, 0.25)
    methods = {name: {**measures, **cheap} for name in METHODS}
    methods["eq. (2) without b/n"] = {**methods["eq. (2)"], "correlation": others}
    methods["epsilon plus flat"] = {**methods["eq. (2)"], "correlation": [None] * len(others)}
    run = {"model": "mlp", "activation": activation, "seed": seed}
    where = {"data": "somewhere", "backend": "torch", "device": "cpu", "versions": {"keras": "3"}, "commit": "c0ffee"}
    result = {"accuracy": 0.97, "noise": [0.05] * len(others), "methods": methods}
    return {"run": run, "result": result, **where}


def test_table_has_means_over_seeds_and_images_and_answers(tmp_path, monkeypatch):
    monkeypatch.setattr(script, "DRAWS", 20)
    found = [row("relu", seed, [0.6, 0.6, 0.6], [0.7, 0.7, 0.7]) for seed in range(2)]
    found += [row("sa", seed, [0.9, 0.9, 0.9], [0.9, 0.9, 0.9]) for seed in range(2)]
    text = script.write(found, tmp_path)
    assert "- mlp, relu: +0.100 (+0.100 to +0.100)" in text
    assert "- mlp, sa: +0.300 (+0.300 to +0.300); +0.200 (+0.200 to +0.200)" in text
    line = next(line for line in text.splitlines() if line.startswith("| eq. (2) |"))
    assert line.startswith("| eq. (2) | 1.4 | 0.600 (0.600 to 0.600) |") and line.endswith("| 0.25 | 0.25 | 0.25 |")
    assert "| epsilon plus flat | 1.4 | constant |" in text
    assert (tmp_path / "faithfulness.md").read_text() == text


def test_the_interval_covers_seeds_and_images(rng, monkeypatch):
    """Variances of a mean over 4 seeds and 50 images: 1 between seeds, 1 between images."""
    monkeypatch.setattr(script, "DRAWS", 200)
    values = rng.normal(size=(200, 4, 1)) + rng.normal(size=(200, 4, 50))
    inside = 0
    for part in values:
        mean, low, high = script.bootstrap(part, np.random.default_rng(0))
        inside += low < 0 < high
        np.testing.assert_allclose(mean, part.mean())
    # four seeds are few for a bootstrap, which is narrow by sqrt(3/4) and more
    assert 0.7 < inside / 200 < 0.97


def test_the_convolutional_network_is_described():
    model = script.conv_net(neurons("sa", "Dense"), neurons("sa", "Conv2D"))
    assert model.output_shape == (None, 10)
    assert [layer.filters for layer in model.layers if hasattr(layer, "filters")] == [8, 16, 16]


@torch_only
def test_quick_run(tmp_path, rng, capsys, monkeypatch):
    path = tmp_path / "data.npz"
    arrays = {f"x_{split}": rng.integers(0, 256, (50, 28, 28), dtype=np.uint8) for split in ("train", "test")}
    for images in arrays.values():
        # most of a digit's image is black
        images[:, :, 4:] = 0
    np.savez(path, **arrays, **{f"y_{split}": rng.integers(0, 10, 50) for split in ("train", "test")})
    monkeypatch.setattr(script, "FEW", (4, 2, 8))
    monkeypatch.setattr(script, "DRAWS", 20)
    command = ["--quick", "--data", str(path), "--out", str(tmp_path), "--limit", "40", "--activations", "sa"]
    assert experiment.main(script.FAITHFULNESS, script.__doc__, script.EXAMPLES, command) == 0
    rows = grid.rows(tmp_path / "faithfulness.jsonl")
    assert len(rows) == 1 and all(set(row["result"]["methods"]) == set(METHODS) for row in rows)
    for found in rows:
        methods = found["result"]["methods"]
        assert all(len(of_method["correlation"]) == 2 for of_method in methods.values())
        assert np.mean(methods["masks 256"]["correlation"]) > np.mean(methods["noise"]["correlation"]) + 0.5
    for name in ("faithfulness", "faithfulness_maps"):
        assert matplotlib.image.imread(tmp_path / f"{name}.png")[..., :3].std() > 0.05
    assert "## mlp, sa" in capsys.readouterr().out
