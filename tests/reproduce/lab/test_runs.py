"""`lab/runs.py`: runs that are killed and go on, and rows that are kept."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from reference.paths import REPRODUCE, ROOT

from lab import rows, runs

RUNS = [
    {"model": "mlp", "activation": activation, "optimizer": "SGD", "learning_rate": 0.1, "seed": seed}
    for seed in range(3)
    for activation in ("relu", "sa")
]
RECORD = {"data": "none", "backend": "torch"}

SLOW = """
import json, pathlib, sys, time
from lab import rows, runs
def perform(group):
    with open({log!r}, "a") as file:
        file.write("".join(rows.name(run) + "\\n" for run in group))
    time.sleep(0.3)
    return [{{"accuracy": [0.1 * run["seed"]]}} for run in group]
runs.carry_out(json.loads({runs!r}), perform, pathlib.Path({path!r}), {{"data": "none", "backend": "torch"}})
"""


def perform(group):
    return [{"accuracy": [0.1 * run["seed"]]} for run in group]


@pytest.mark.once
def test_a_grid_that_is_killed_repeats_nothing_and_loses_nothing(tmp_path):
    path, log = tmp_path / "rows.jsonl", tmp_path / "log"
    code = SLOW.format(log=str(log), runs=json.dumps(RUNS), path=str(path))
    variables = {**os.environ, "PYTHONPATH": f"{REPRODUCE}{os.pathsep}{ROOT}"}
    process = subprocess.Popen([sys.executable, "-c", code], env=variables, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(rows.read(path)) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = rows.read(path)
    assert 2 <= len(before) < len(RUNS)

    subprocess.run([sys.executable, "-c", code], env=variables, check=True, capture_output=True)
    after = rows.read(path)
    assert after[: len(before)] == before
    whole = runs.carry_out(RUNS, perform, tmp_path / "whole.jsonl", RECORD)
    assert [{**row, "seconds": 0} for row in after] == [{**row, "seconds": 0} for row in whole]
    # none was begun twice but the one that was killed
    begun = log.read_text().split()
    assert sorted(set(begun)) == sorted(map(rows.name, RUNS))
    assert len(begun) <= len(RUNS) + 1


def test_rows_come_in_the_order_of_the_runs_and_only_missing_ones_are_performed(tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    runs.carry_out(RUNS[::2], perform, path, RECORD)
    performed = []
    found = runs.carry_out(RUNS, lambda group: performed.extend(group) or perform(group), path, RECORD)
    assert [row["run"] for row in found] == RUNS
    assert performed == RUNS[1::2]
    assert "3/3 mlp/sa/SGD_0.1/seed2" in capsys.readouterr().err


@pytest.mark.parametrize(("together", "sizes"), [(1, [1] * 6), (2, [2, 2, 1, 1]), (3, [3, 3]), (9, [3, 3])])
def test_runs_that_go_together_differ_in_their_seed_alone(together, sizes, tmp_path):
    groups = []
    path = tmp_path / "rows.jsonl"
    found = runs.carry_out(RUNS, lambda group: groups.append(group) or perform(group), path, RECORD, together=together)
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
    runs.carry_out(RUNS[:1], perform, path, RECORD)
    (row,) = runs.carry_out(RUNS[:1], lambda group: [{"accuracy": [1.0]}], path, {**RECORD, **other})
    assert row["result"] == {"accuracy": [1.0]} and len(rows.read(path)) == 2


def test_two_processes_in_one_file_keep_each_others_rows(tmp_path):
    path = tmp_path / "rows.jsonl"

    def meanwhile(group):
        runs.carry_out(RUNS[1:2], perform, path, RECORD)
        return perform(group)

    runs.carry_out(RUNS[:1], meanwhile, path, RECORD)
    assert [row["run"] for row in rows.read(path)] == [RUNS[1], RUNS[0]]


def test_a_run_that_fails_leaves_the_finished_ones(tmp_path):
    path = tmp_path / "rows.jsonl"

    def fail(group):
        if group == RUNS[1:2]:
            raise MemoryError
        return perform(group)

    with pytest.raises(MemoryError):
        runs.carry_out(RUNS, fail, path, RECORD)
    assert [row["run"] for row in rows.read(path)] == RUNS[:1]


def test_a_file_of_something_else_is_refused_by_name_and_line_and_kept(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"run": {}, "data": "", "backend": "", "result": {}}\n{"other": 1}\n')
    content = path.read_text()
    with pytest.raises(ValueError, match=r"rows.jsonl, line 2, is not the row of a run"):
        runs.carry_out(RUNS, perform, path, RECORD)
    assert path.read_text() == content


def test_runs_that_go_together_may_differ_in_more(tmp_path, capsys):
    groups = []
    every = [{**run, "learning_rate": rate} for rate in (0.1, 0.2) for run in RUNS]
    path = tmp_path / "rows.jsonl"
    options = {"together": 9, "differ": ("seed", "learning_rate")}
    found = runs.carry_out(every, lambda group: groups.append(group) or perform(group), path, RECORD, **options)
    assert groups == [[run for run in every if run["activation"] == name] for name in ("relu", "sa")]
    assert [row["run"] for row in found] == every
    assert "1/2 mlp/relu/SGD_0.1/seed0 to SGD_0.2/seed2: " in capsys.readouterr().err
