"""`studies/shapley_gradient.py`: shares by enumeration, the way back by differences, ShapLU's by the package."""

import itertools
import json

import keras
import matplotlib.image
import numpy as np
import pytest
from reference import paper

from keras_shapley.backend import vjp
from lab.activations import hidden_layer
from lab.analysis import shapley_gradient
from studies import shapley_gradient as script


def test_shares_are_those_of_all_orders(rng):
    """And `w_k` times the share is the derivative of the Shapley value by `x_k`."""
    a, b = rng.normal(size=(5, 3)), 0.3 * rng.normal(size=3)
    exact, orders = np.zeros(a.shape), list(itertools.permutations(range(5)))
    for order in orders:
        so_far = b.copy()
        for k in order:
            so_far += a[k]
            exact[k] += (so_far > 0) / len(orders)
    y, shares = script.by_orders(20_000, np.random.default_rng(0))(a, b)
    np.testing.assert_allclose(shares, exact, atol=0.01)
    np.testing.assert_allclose(y, np.maximum(a.sum(axis=0) + b, 0))

    def value(a, k, unit):
        """Shapley value by orders."""
        gains = []
        for order in orders:
            before = b[unit] + sum(a[i, unit] for i in order[: order.index(k)])
            gains.append(max(before + a[k, unit], 0) - max(before, 0))
        return np.mean(gains)

    for k, unit in ((0, 0), (3, 2)):
        step = np.zeros(a.shape)
        step[k, unit] = 1e-6
        slope = (value(a + step, k, unit) - value(a - step, k, unit)) / 2e-6
        assert slope == pytest.approx(exact[k, unit], abs=1e-6)


@pytest.mark.parametrize(("rule", "formula"), [("shaplu", "simplified"), ("shaplu_full", "full"), ("sa", "sa")])
def test_rules_are_the_paper_s_equations_one_neuron_at_a_time(rule, formula, rng):
    x, w, b = rng.normal(size=6), rng.normal(size=(6, 2)), rng.normal(size=2)
    y, factors = getattr(script, rule)(x[:, None] * w, b)
    for unit in range(2):
        own = x, w[:, unit], b[unit]
        if formula == "sa":
            (dx, *_), value = paper.sa_gradient(*own), paper.shapley_activation(*own)
        else:
            (dx, *_), value = paper.shapley_gradient(*own, full=formula == "full"), paper.relu(*own)
        np.testing.assert_allclose(w[:, unit] * factors[:, unit], dx, rtol=1e-10)
        assert y[unit] == pytest.approx(value)


@pytest.mark.parametrize("kind", ["relu", "shaplu", "shaplu_full", "sa"])
def test_gradients_are_those_of_the_layers(kind, rng, numpy):
    """Of the mean cross-entropy by both kernels, as the package and the backend have them."""
    x, y = rng.normal(size=(3, 5)).astype("float32"), np.array([2, 0, 1])
    hidden = [hidden_layer(kind, "Dense")(units, bias_initializer="normal") for units in (6, 4)]
    model = keras.Sequential([keras.Input((5,)), *hidden, keras.layers.Dense(3, "softmax", bias_initializer="normal")])
    found = script.gradients([w.astype("float64") for w in model.get_weights()], x, y, getattr(script, kind))

    one_hot = keras.ops.one_hot(y, 3)
    for layer, ours in zip(hidden, found):
        inputs = x if layer is hidden[0] else hidden[0](x)

        def loss(kernel, layer=layer, inputs=inputs):
            with keras.StatelessScope([(layer.kernel, kernel)]):
                outputs = layer(inputs)
                for above in model.layers[model.layers.index(layer) + 1 :]:
                    outputs = above(outputs)
            return -keras.ops.sum(keras.ops.log(outputs) * one_hot) / 3

        value, pullback = vjp(loss, keras.ops.convert_to_tensor(layer.kernel))
        np.testing.assert_allclose(ours, numpy(pullback(keras.ops.ones_like(value))[0]), rtol=2e-3, atol=1e-6)


def row(seed, step, layer, value):
    numbers = {"cosine": value, "norm_ratio": 2 * value}
    return {"seed": seed, "step": step, "layer": layer, "orders": 0.9} | dict.fromkeys(script.RULES, numbers)


def test_statistics_are_over_seeds():
    rows = [row(seed, 10, 1, 0.5 + 0.1 * seed) for seed in range(2)] + [row(0, 10, 2, 9.0), row(0, 30, 1, 9.0)]
    mean, half, n = shapley_gradient.over_seeds(rows, 1, 10, "norm_ratio", "sa")
    assert (mean, n) == (pytest.approx(1.1), 2)
    assert half == pytest.approx(12.7062 * 0.1, rel=1e-4)
    assert shapley_gradient.over_seeds(rows, 1, 10, "orders").mean == pytest.approx(0.9)


@pytest.mark.once
def test_quick_run_and_table_again(tmp_path, rng, monkeypatch, capsys):
    for module in (script, shapley_gradient):
        monkeypatch.setattr(module, "STEPS", (0, 3))
    path = tmp_path / "data.npz"
    arrays = {f"x_{split}": rng.integers(0, 256, (40, 28, 28), dtype=np.uint8) for split in ("train", "test")}
    np.savez(path, **arrays, **{f"y_{split}": np.arange(40) % 10 for split in ("train", "test")})
    assert script.main(["--quick", "--pairs", "4", "--data", str(path), "--out", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "shapley_gradient.json").read_text())["rows"]
    assert [(row["step"], row["layer"]) for row in rows] == [(0, 1), (0, 2), (3, 1), (3, 2)]
    assert all(0.3 < row["shaplu"]["cosine"] <= 1 for row in rows)
    text = (tmp_path / "shapley_gradient.md").read_text()
    assert matplotlib.image.imread(tmp_path / "shapley_gradient.png")[..., :3].std() > 0.05
    assert script.main(["--table", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "shapley_gradient.md").read_text() == text


def test_no_results_are_an_error(tmp_path, capsys):
    with pytest.raises(SystemExit):
        script.main(["--table", "--out", str(tmp_path)])
    assert "shapley_gradient.json" in capsys.readouterr().err
