"""`benchmarks/training_cost.py`: a quick run, and that its numbers mean what they say. Never how fast anything is."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers, ops
from reference.paths import REPRODUCE

import keras_shapley as ks
from benchmarks import training_cost as script
from lab import step_costs


def test_naive_layers_compute_eq_5(rng, numpy):
    """Else their row is the price of something else."""
    for naive, own, shape in (
        (script.NaiveSADense, ks.SADense, (3, 8)),
        (script.NaiveSAConv2D, ks.SAConv2D, (2, 6, 6, 3)),
    ):
        arguments = (4,) if own is ks.SADense else (4, 3)
        x = rng.standard_normal(shape).astype("float32")
        naive, own = naive(*arguments), own(*arguments)
        own(x), naive(x)
        naive.set_weights(own.get_weights())
        np.testing.assert_allclose(numpy(naive(x)), numpy(own(x)), atol=1e-4)


def cost(layer):
    """Products and convolutions, and multiply-adds, of a small model with the layer."""
    model = keras.Sequential([keras.Input((6, 6, 3)), layer, layers.Flatten(), layers.Dense(3, "softmax")])
    return step_costs.count(model, ops.ones((2, 6, 6, 3)), ops.convert_to_tensor(np.array([0, 2], "int32")))


def test_floor_computes_gelu_and_all_of_the_moment(rng, numpy):
    """As many products and convolutions as SA pooled, and a gradient into the moment that XLA cannot leave out."""
    x = rng.standard_normal((2, 6, 6, 3)).astype("float32")
    floor, gelu = (row.hidden_layer("Conv2D")(4, 3) for row in (script.FLOOR[-1], script.FLOOR[1]))
    gelu(x), floor(x)
    gelu.set_weights(floor.get_weights())
    np.testing.assert_allclose(numpy(floor(x)), numpy(gelu(x)), atol=1e-5)
    pooled = cost(ks.SAConv2D(4, 3, second_moment="pooled"))
    assert cost(script.FLOOR[-1].hidden_layer("Conv2D")(4, 3)) == pooled
    assert pooled[1] > cost(layers.Conv2D(4, 3, activation="gelu"))[1]


@pytest.mark.parametrize("row", script.ROWS, ids=lambda row: row.name)
def test_rows_are_the_layers_that_they_name(row):
    layer = row.hidden_layer("Dense")(4)
    assert type(layer).__name__ == {"SA": "SADense", "ShapLU": "ShapLUDense", "naive SA": "NaiveSADense"}.get(
        row.layer, "Dense"
    )
    if row.layer in ("SA", "ShapLU"):
        assert layer.second_moment == row.second_moment
        assert getattr(layer, "moment_gradient", None) is row.moment_gradient
        assert getattr(layer, "gradient", None) == row.gradient


def test_options_of_the_rows_change_no_parameter_and_no_initial_value(rng, numpy):
    models = [script.network("mlp", row, jit_compile=False) for row in script.ROWS[:4]]
    for model in models[1:]:
        for a, b in zip(models[0].weights, model.weights, strict=True):
            np.testing.assert_array_equal(numpy(a), numpy(b))


@pytest.mark.once
def test_quick_run_writes_a_table_and_prints_its_rows_as_json(tmp_path):
    command = [
        sys.executable,
        str(REPRODUCE / "benchmarks" / "training_cost.py"),
        "--quick",
        "--batch-size",
        "2",
        "--json",
    ]
    variables = {**os.environ, "PYTHONPATH": str(REPRODUCE.parent)}
    done = subprocess.run([*command, "--out", str(tmp_path)], capture_output=True, text=True, env=variables)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.splitlines()[-1])["rows"]
    assert [row["name"] for row in rows] == [row.name for row in script.ROWS]
    for row in rows:
        assert row["ratio"] == pytest.approx(row["median_seconds"] / rows[0]["median_seconds"])
        assert row["ratio_gelu"] == pytest.approx(row["median_seconds"] / rows[1]["median_seconds"])
    by_name = {row["name"]: row for row in rows}
    assert by_name["SA, exact"]["count_ratio"] == pytest.approx(19 / 11)
    assert by_name["SA, pooled"]["count_ratio"] == by_name["GELU"]["count_ratio"] == 1
    recorded = json.loads((tmp_path / "training_cost_torch.json").read_text())
    assert [row["ratio"] for row in recorded["mlp 2"]["rows"]] == [row["ratio"] for row in rows]
    assert (tmp_path / "training_cost.md").read_text().count("| SA, pooled |") == 1


@pytest.mark.once
def test_another_backend_is_another_process(tmp_path):
    """Keras has one a process; what the other one says comes back, here its refusal."""
    path = tmp_path / "training_cost_tensorflow.json"
    path.write_text("no JSON")
    assert script.main(["--quick", "--backend", "tensorflow", "--out", str(tmp_path)]) == 2
    assert path.read_text() == "no JSON"
