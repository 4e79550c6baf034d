"""`lab/cluster.py`: runs on a Ray cluster of this machine."""

import os
import sys

import figure3_mnist_mlp
import numpy as np
import pytest
import table2_cifar10_mlp

from lab import experiment, rows, runs

pytestmark = pytest.mark.once
RUNS = [
    {"model": "mlp", "activation": activation, "optimizer": "SGD", "learning_rate": 0.1, "seed": seed}
    for seed in range(2)
    for activation in ("relu", "sa")
]
RECORD = {"data": "none", "backend": "torch"}


def test_runs_go_to_other_processes_and_one_writes(tmp_path):
    pytest.importorskip("ray")
    path, here = tmp_path / "rows.jsonl", os.getpid()

    def perform(group):
        import os

        # found there, as the modules that train are
        from lab import training

        return [{"process": os.getpid(), "seed": run["seed"], "batch": training.VALIDATION_BATCH} for run in group]

    found = runs.carry_out(RUNS, perform, path, RECORD, together=2, address="local")
    assert [row["run"] for row in found] == RUNS
    assert [row["result"]["seed"] for row in found] == [run["seed"] for run in RUNS]
    assert here not in {row["result"]["process"] for row in found}
    assert len(rows.read(path)) == len(RUNS)
    # nothing is left to do
    assert runs.carry_out(RUNS, None, path, RECORD) == found


@pytest.mark.filterwarnings("ignore")
def test_a_script_trains_there_on_the_same_data(tmp_path, rng, monkeypatch):
    pytest.importorskip("ray")
    arrays = {f"x_{split}": rng.integers(0, 256, (128, 32, 32, 3), dtype=np.uint8) for split in ("train", "test")}
    np.savez(tmp_path / "data.npz", **arrays, **{f"y_{split}": rng.integers(0, 10, 128) for split in ("train", "test")})
    # the other process is elsewhere
    monkeypatch.chdir(tmp_path)
    command = ["--data", "data.npz", "--out", "out", "--epochs", "1", "--activations", "relu"]
    command += ["--only", "*/SGD_0.1/seed0"]
    script = table2_cifar10_mlp
    assert experiment.main(script.TABLE2, script.__doc__, script.EXAMPLES, [*command, "--ray", "local"]) == 0
    (there,) = rows.read(tmp_path / "out" / "table2.jsonl")
    assert experiment.main(script.TABLE2, script.__doc__, script.EXAMPLES, [*command, "--out", "here"]) == 0
    (here,) = rows.read(tmp_path / "here" / "table2.jsonl")
    # all but the time, and the commit, which may be another by then
    for row in (there, here):
        del row["seconds"], row["commit"]
    assert there == here and there["device"] == "cpu"


def test_a_machine_with_other_data_is_refused(tmp_path, rng):
    arrays = {f"x_{split}": rng.integers(0, 256, (2, 28, 28), dtype=np.uint8) for split in ("train", "test")}
    np.savez(tmp_path / "data.npz", **arrays, y_train=[0, 1], y_test=[0, 1])
    with pytest.raises(ValueError, match="has other data: data.npz, sha256 of x_train .*, not those of here"):
        experiment.on_the_same_data(
            figure3_mnist_mlp.FIGURE3, "those of here", str(tmp_path / "data.npz"), tmp_path, RUNS
        )


def test_without_ray_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"--ray needs Ray: pip install 'keras_shapley\[ray\]'"):
        runs.carry_out(RUNS, None, tmp_path / "rows.jsonl", RECORD, address="local")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nowhere"])
def test_where_no_cluster_answers_the_error_says_where(address, tmp_path):
    pytest.importorskip("ray")
    with pytest.raises(ValueError, match=f"--ray {address}: no Ray cluster answers there"):
        runs.carry_out(RUNS, None, tmp_path / "rows.jsonl", RECORD, address=address)
