"""`reproduce/grid.py`: a grid that is killed and goes on, and what its statistics say."""

import json
import os
import signal
import subprocess
import sys
import time

import grid
import keras
import numpy as np
import pytest
from reference.paths import REPRODUCE, ROOT

RUNS = [
    {"model": "mlp", "activation": activation, "optimizer": "SGD", "learning_rate": 0.1, "seed": seed}
    for seed in range(3)
    for activation in ("relu", "sa")
]
RECORD = {"data": "none", "backend": "torch"}

SLOW = """
import json, pathlib, sys, time
import grid
def perform(runs):
    with open({log!r}, "a") as file:
        file.write("".join(grid.name(run) + "\\n" for run in runs))
    time.sleep(0.3)
    return [{{"accuracy": [0.1 * run["seed"]]}} for run in runs]
grid.carry_out(json.loads({runs!r}), perform, pathlib.Path({path!r}), {{"data": "none", "backend": "torch"}})
"""


def perform(runs):
    return [{"accuracy": [0.1 * run["seed"]]} for run in runs]


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="the same on every backend")
def test_a_grid_that_is_killed_repeats_nothing_and_loses_nothing(tmp_path):
    path, log = tmp_path / "rows.jsonl", tmp_path / "log"
    code = SLOW.format(log=str(log), runs=json.dumps(RUNS), path=str(path))
    variables = {**os.environ, "PYTHONPATH": f"{REPRODUCE}{os.pathsep}{ROOT}"}
    process = subprocess.Popen([sys.executable, "-c", code], env=variables, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(grid.rows(path)) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = grid.rows(path)
    assert 2 <= len(before) < len(RUNS)

    subprocess.run([sys.executable, "-c", code], env=variables, check=True, capture_output=True)
    after = grid.rows(path)
    assert after[: len(before)] == before
    whole = grid.carry_out(RUNS, perform, tmp_path / "whole.jsonl", RECORD)
    assert [{**row, "seconds": 0} for row in after] == [{**row, "seconds": 0} for row in whole]
    # none was begun twice but the one that was killed
    begun = log.read_text().split()
    assert sorted(set(begun)) == sorted(map(grid.name, RUNS))
    assert len(begun) <= len(RUNS) + 1


def test_rows_come_in_the_order_of_the_runs_and_only_missing_ones_are_performed(tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    grid.carry_out(RUNS[::2], perform, path, RECORD)
    performed = []
    found = grid.carry_out(RUNS, lambda runs: performed.extend(runs) or perform(runs), path, RECORD)
    assert [row["run"] for row in found] == RUNS
    assert performed == RUNS[1::2]
    assert "3/3 mlp/sa/SGD_0.1/seed2" in capsys.readouterr().err


@pytest.mark.parametrize(("together", "sizes"), [(1, [1] * 6), (2, [2, 2, 1, 1]), (3, [3, 3]), (9, [3, 3])])
def test_runs_that_go_together_differ_in_their_seed_alone(together, sizes, tmp_path):
    groups = []
    path = tmp_path / "rows.jsonl"
    found = grid.carry_out(RUNS, lambda runs: groups.append(runs) or perform(runs), path, RECORD, together=together)
    assert [row["run"] for row in found] == RUNS
    assert [row["result"]["accuracy"] for row in found] == [[0.1 * run["seed"]] for run in RUNS]
    assert sorted(map(len, groups)) == sorted(sizes)
    for group in groups:
        assert len({run["activation"] for run in group}) == 1
    # a grid that is stopped early has all settings
    assert {group[0]["activation"] for group in groups[:2]} == {"relu", "sa"}


@pytest.mark.parametrize("other", [{"data": "other"}, {"backend": "jax"}])
def test_a_run_on_other_data_or_another_backend_is_another_run(other, tmp_path):
    path = tmp_path / "rows.jsonl"
    grid.carry_out(RUNS[:1], perform, path, RECORD)
    (row,) = grid.carry_out(RUNS[:1], lambda runs: [{"accuracy": [1.0]}], path, {**RECORD, **other})
    assert row["result"] == {"accuracy": [1.0]} and len(grid.rows(path)) == 2


def test_two_processes_in_one_file_keep_each_others_rows(tmp_path):
    path = tmp_path / "rows.jsonl"

    def meanwhile(runs):
        grid.carry_out(RUNS[1:2], perform, path, RECORD)
        return perform(runs)

    grid.carry_out(RUNS[:1], meanwhile, path, RECORD)
    assert [row["run"] for row in grid.rows(path)] == [RUNS[1], RUNS[0]]


def test_a_run_that_fails_leaves_the_finished_ones(tmp_path):
    path = tmp_path / "rows.jsonl"

    def fail(runs):
        if runs == RUNS[1:2]:
            raise MemoryError
        return perform(runs)

    with pytest.raises(MemoryError):
        grid.carry_out(RUNS, fail, path, RECORD)
    assert [row["run"] for row in grid.rows(path)] == RUNS[:1]


def test_a_file_of_something_else_is_refused_by_name_and_line_and_kept(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"run": {}, "data": "", "backend": "", "result": {}}\n{"other": 1}\n')
    content = path.read_text()
    with pytest.raises(ValueError, match=r"rows.jsonl, line 2, is not the row of a run"):
        grid.carry_out(RUNS, perform, path, RECORD)
    assert path.read_text() == content


def test_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        mean, half, n = grid.interval(rng.normal(3.0, 2.0, 4))
        covered += abs(mean - 3.0) <= half
    assert n == 4
    assert covered / 2000 == pytest.approx(0.95, abs=0.015)


def gains(table):
    """Rows in which SA is better than ReLU by `table[setting][seed]`, where that is not None."""
    found = []
    for rate, seeds in enumerate(table, 1):
        for seed, gain in enumerate(seeds):
            for activation, accuracy in (("relu", 0.5), ("sa", 0.5 + (gain or 0))):
                run = {"activation": activation, "optimizer": "SGD", "learning_rate": rate, "seed": seed}
                if gain is not None:
                    found.append({"run": run, "result": accuracy, **RECORD})
    return found


def over_relu(found):
    return grid.paired(found, "sa", "relu", lambda row: row["result"])


def test_settings_that_share_their_seeds_are_not_counted_as_repetitions():
    """Fifty settings with the same gain for a seed say no more of other seeds than one of them."""
    one, many = over_relu(gains([[0.01, 0.03]])), over_relu(gains([[0.01, 0.03]] * 50))
    assert one == pytest.approx((0.02, 12.7062 * 0.01, 2), rel=1e-4) and many == pytest.approx(one)
    assert grid.verdict(*many[:2]) == "no difference shown"
    # what differs between settings, and not between seeds, is no doubt about the mean over these settings
    mean, half, n = over_relu(gains([[0.01] * 3, [0.03] * 3]))
    assert (mean, n) == (pytest.approx(0.02), 3) and half == pytest.approx(0, abs=1e-12)


def test_a_seed_that_a_setting_lacks_does_not_count():
    assert over_relu(gains([[0.01, 0.09], [0.03, None]])) == pytest.approx((0.02, np.nan, 1), nan_ok=True)
    assert over_relu(gains([[0.01, None], [None, 0.03]])) is None
    assert grid.paired(gains([[0.01]]), "sa", "gelu", lambda row: row["result"]) is None


def test_the_interval_over_seeds_covers_the_mean_where_settings_share_luck(rng):
    covered = 0
    for _ in range(300):
        luck, noise = rng.normal(size=4), rng.normal(size=(12, 4))
        mean, half, _ = over_relu(gains((0.7 + luck + noise).tolist()))
        covered += abs(mean - 0.7) <= half
    assert covered / 300 == pytest.approx(0.95, abs=0.03)


def test_one_value_has_no_interval():
    mean, half, n = grid.interval([2.0])
    assert (mean, n) == (2.0, 1) and np.isnan(half)
