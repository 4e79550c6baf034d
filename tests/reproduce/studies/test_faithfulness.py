"""`studies/faithfulness.py` and its like on CIFAR-10: quick runs, players, and what the table says of rows."""

import dataclasses

import keras
import matplotlib.image
import numpy as np
import pytest

from lab import experiment, faithfulness, rows, statistics
from lab.analysis import faithfulness as analysis
from lab.explanations import METHODS, methods_of_patches
from lab.faithfulness import Amounts
from lab.networks import mnist_conv_net
from studies import faithfulness as script
from studies import faithfulness_cifar10

SIDE = faithfulness_cifar10.FAITHFULNESS_CIFAR10.patch


def row(activation, seed, correlations, others, epochs=5):
    """A finished run with the same numbers for every method but eq. (2) without b/n, which has `others`."""
    measures = {"correlation": correlations, "rank": correlations, "error": correlations}
    perturbation = dict.fromkeys(faithfulness.PERTURBATION, 0.25)
    methods = {name: {"gradients": gradients, **measures, **perturbation} for name, (gradients, _) in METHODS.items()}
    methods["a peer"] = {"gradients": 12.3, **measures}
    methods["eq. (2) without b/n"] = {**methods["eq. (2)"], "correlation": others}
    methods["epsilon plus flat"] = {**methods["eq. (2)"], "correlation": [None] * len(others)}
    run = {"model": "mlp", "activation": activation, "seed": seed, "epochs": epochs}
    where = {"data": "somewhere", "backend": "torch", "device": "cpu", "versions": {"keras": "3"}, "commit": "c0ffee"}
    result = {"accuracy": 0.97, "noise": [0.05] * len(others), "methods": methods}
    return {"run": run, "result": result, **where}


def test_table_has_means_over_seeds_and_images_and_answers(tmp_path, monkeypatch):
    monkeypatch.setattr(statistics, "DRAWS", 20)
    found = [row("relu", seed, [0.6, 0.6, 0.6], [0.7, 0.7, 0.7]) for seed in range(2)]
    found += [row("sa", seed, [0.9, 0.9, 0.9], [0.9, 0.9, 0.9]) for seed in range(2)]
    text = script.FAITHFULNESS.write(found, tmp_path)
    assert "relative error is 0.050 (a perfect map has a correlation of 0.999 with it at most)" in text
    assert "| MLP with ReLU | +0.100 (+0.100 to +0.100) |" in text
    # eq. (2), without b/n, a constant map, and three others
    gains = " | ".join(
        ["+0.300 (+0.300 to +0.300)", "+0.200 (+0.200 to +0.200)", "constant"] + 3 * ["+0.300 (+0.300 to +0.300)"]
    )
    assert f"| MLP with SA | {gains} |" in text
    line = next(line for line in text.splitlines() if line.startswith("| eq. (2) |"))
    assert line.startswith("| eq. (2) | 1.4 | 0.600 (0.600 to 0.600) |") and line.endswith("| 0.25 | 0.25 | 0.25 |")
    assert "| epsilon plus flat | 1.4 | constant |" in text
    assert "| a peer | 12.3 | 0.600 (0.600 to 0.600) |" in text and "(0.600 to 0.600) |  |  |  |" in text
    assert (tmp_path / "faithfulness.md").read_text() == text


def test_runs_are_compared_by_seed_and_with_their_like(monkeypatch):
    """Whatever the order in which they came; a seed that the other activation lacks does not count."""
    monkeypatch.setattr(statistics, "DRAWS", 20)
    found = [row("sa", seed, [0.5 + 0.1 * seed] * 3, [0.6] * 3) for seed in (2, 0, 3, 1)]
    found += [row("relu", seed, [0.4 + 0.1 * seed] * 3, [0.6] * 3) for seed in range(3)]
    found += [row("relu", 0, [0.0] * 3, [0.0] * 3, epochs=1), row("relu", 1, [0.0], [0.0])]
    lines = analysis.questions(found, np.random.default_rng(0))
    gains = "| MLP with SA | +0.100 (+0.100 to +0.100) | +0.000 (+0.000 to +0.000) |"
    assert any(line.startswith(gains) for line in lines)
    assert [len(rows) for *_, rows in analysis.longest(found)] == [3, 4]
    gains = np.array([0.2, 0.1, 0.0])
    mean = np.mean([gains, gains - 0.1])
    assert any(line.startswith(f"| MLP, mean over activations | {mean:+.3f}") for line in lines)
    others = [row("sa", 7, [0.5] * 3, [0.6] * 3), row("gelu", 0, [0.5] * 2, [0.6] * 2)]
    lines = analysis.questions([*found[4:], *others], np.random.default_rng(0))
    assert lines[-1] == "" and not any("explained better" in line or "mean over" in line for line in lines)


def test_networks_trained_for_less_have_a_table_of_their_own(tmp_path, monkeypatch):
    """Beside the same ones trained for longer, and they change nothing in the other tables."""
    monkeypatch.setattr(statistics, "DRAWS", 20)
    found = [row(activation, seed, [0.6] * 3, [0.7] * 3) for activation in ("relu", "sa") for seed in range(2)]
    before = script.FAITHFULNESS.write(found, tmp_path)
    assert "epochs" not in before
    short = [row("relu", seed, [0.8] * 3, [0.9] * 3, epochs=1) for seed in range(2)]
    # neither of fewer images nor of other backends
    others = [row("sa", 0, [0.1], [0.1], epochs=1), {**row("sa", 0, [0.1] * 3, [0.1] * 3), "backend": "jax"}]
    text = script.FAITHFULNESS.write([*short, *others[:1], *found], tmp_path)
    start, end = text.index("## What does training do?"), text.index("Runs:\n\n- 7 runs")
    assert text[:start] == before[: before.index("Runs:\n\n- 4 runs")]
    one, five = text[start:end].strip().splitlines()[-2:]
    assert one.startswith("| MLP with ReLU | 1 | 0.9700 ± 0.0000 (2) | 0.800 (0.800 to 0.800) |")
    assert five.startswith("| MLP with ReLU | 5 | 0.9700 ± 0.0000 (2) | 0.600 (0.600 to 0.600) |")
    assert "| 0.900 (" in one and "| 0.700 (" in five
    assert analysis.less_trained([*found, others[1]], np.random.default_rng(0)) == []


def test_the_convolutional_network_is_described():
    model = mnist_conv_net("sa")
    assert model.output_shape == (None, 10)
    assert [layer.filters for layer in model.layers if hasattr(layer, "filters")] == [8, 16, 16]


def test_rates_fall_in_equal_steps():
    rates = [faithfulness.decayed({"learning_rate": 1e-3, "epochs": 4}, epoch) for epoch in range(4)]
    np.testing.assert_allclose(rates, [1e-3, 7.5e-4, 5e-4, 2.5e-4])


def test_players_are_squares_of_pixels_with_their_channels():
    values = np.arange(2 * 8 * 8 * 3).reshape(2, 8, 8, 3)
    found = faithfulness.by_player(faithfulness.patches(SIDE, values.shape[1:]), values)
    np.testing.assert_array_equal(found[1], [values[1, i : i + 4, j : j + 4].sum() for i in (0, 4) for j in (0, 4)])


def test_truth_of_a_linear_model_is_its_terms(rng):
    """Each patch has the sum of its pixels' terms, and absent means that the input is zero."""
    kernel = rng.normal(size=(8, 8, 3, 2)).astype("float32")
    x = rng.normal(size=(2, 8, 8, 3)).astype("float32")
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
    model.layers[-1].kernel.assign(kernel.reshape(-1, 2))
    players = faithfulness.patches(SIDE, x.shape[1:])
    values, stderr = faithfulness.shapley_values(model, x, [0, 1], players, 16)
    terms = np.stack([image * kernel[..., k] for k, image in enumerate(x)])
    np.testing.assert_allclose(values, faithfulness.by_player(players, terms), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(stderr, 0, atol=1e-4)


@pytest.mark.once
@pytest.mark.filterwarnings("ignore")
def test_quick_run(tmp_path, rng, capsys, monkeypatch):
    path = tmp_path / "data.npz"
    arrays = {f"x_{split}": rng.integers(0, 256, (50, 28, 28), dtype=np.uint8) for split in ("train", "test")}
    for images in arrays.values():
        # most of a digit's image is black
        images[:, :, 4:] = 0
    np.savez(path, **arrays, **{f"y_{split}": rng.integers(0, 10, 50) for split in ("train", "test")})
    monkeypatch.setattr(statistics, "DRAWS", 20)
    command = ["--quick", "--data", str(path), "--out", str(tmp_path), "--limit", "40", "--activations", "sa"]
    short = dataclasses.replace(script.FAITHFULNESS, few=Amounts(images=4, truth=2, orders=16))
    assert experiment.main(short, script.__doc__, script.EXAMPLES, command) == 0
    (row,) = rows.read(tmp_path / "faithfulness.jsonl")
    methods = row["result"]["methods"]
    assert set(methods) >= set(METHODS)
    assert all(len(of_method["correlation"]) == 2 for of_method in methods.values())
    for name in ("masks 256", *(name for name in methods if name.startswith("shap"))):
        assert np.mean(methods[name]["correlation"]) > np.mean(methods["noise"]["correlation"]) + 0.5
    for name in ("faithfulness", "faithfulness_maps"):
        assert matplotlib.image.imread(tmp_path / f"{name}.png")[..., :3].std() > 0.05
    assert "## MLP with SA" in capsys.readouterr().out


@pytest.mark.once
@pytest.mark.filterwarnings("ignore")
def test_quick_run_on_cifar10(tmp_path, rng, monkeypatch):
    path = tmp_path / "data.npz"
    arrays = {f"x_{split}": rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8) for split in ("train", "test")}
    np.savez(path, **arrays, **{f"y_{split}": rng.integers(0, 10, 20) for split in ("train", "test")})
    monkeypatch.setattr(statistics, "DRAWS", 20)
    command = ["--quick", "--data", str(path), "--out", str(tmp_path), "--limit", "20", "--activations", "relu"]
    cifar10 = faithfulness_cifar10
    assert experiment.main(cifar10.FAITHFULNESS_CIFAR10, cifar10.__doc__, cifar10.EXAMPLES, command) == 0
    (row,) = rows.read(tmp_path / "faithfulness_cifar10.jsonl")
    methods = row["result"]["methods"]
    of_patches = methods_of_patches(np.arange(64))
    assert set(methods) == {*METHODS, *of_patches} and len(methods["moments"]["correlation"]) == 2
    for name in ("faithfulness_cifar10", "faithfulness_cifar10_maps"):
        assert matplotlib.image.imread(tmp_path / f"{name}.png")[..., :3].std() > 0.05
