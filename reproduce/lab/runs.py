"""Runs of an experiment: a JSON line for each finished run. An experiment that was killed goes on where it was.

The file of results is replaced as a whole by every new row, so that it never holds half a row.
"""

import fnmatch
import functools
import itertools
import json
import pathlib
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from lab import cluster, environment, files
from lab.measuring import Stopwatch
from lab.rows import Row, Run, key, name, read

Perform = Callable[[list[Run]], list[dict[str, Any]]]


def carry_out(
    runs: Sequence[Run],
    perform: Perform,
    path: pathlib.Path,
    record: dict[str, Any],
    *,
    together: int = 1,
    differ: Collection[str] = ("seed",),
    address: str | None = None,
) -> list[Row]:
    """Performs the runs that the file of results does not hold yet, one after the other.

    Args:
        runs: dicts of settings.
        perform: function of a list of runs, which are alike but for `differ`; returns a result, a dict, for each.
        path: of the file of results.
        record: as `record` returns it, for every new row. The machine that performs a run adds its own description. A
            run on other data, or on another backend, is another run.
        together: how many runs `perform` gets at most.
        differ: the settings in which runs that it gets may differ.
        address: of the Ray cluster that performs the runs, `"local"` for one of this machine; None for this process.

    Returns:
        The rows of all `runs`, in their order.
    """
    done = {key(row["run"], row): row for row in read(path)}
    waiting = _groups([run for run in runs if key(run, record) not in done], together, differ)
    watch, left = Stopwatch(), len(waiting)
    for group, results, seconds, machine in _performed(waiting, perform, address):
        new = {}
        for run, result in zip(group, results):
            # runs that train together share their time
            share = round(seconds / len(group), 1)
            new[key(run, record)] = {"run": run, "result": result, "seconds": share, **record, **machine}
        with files.locked(path):
            # with the rows that another process may have finished meanwhile
            done = {key(row["run"], row): row for row in read(path)} | new
            files.write(path, "".join(json.dumps(row) + "\n" for row in done.values()))
        left -= 1
        parts = zip(name(group[0]).split("/"), name(group[-1]).split("/"))
        others = f" to {'/'.join(last for first, last in parts if first != last)}" if len(group) > 1 else ""
        rest = watch.seconds / (len(waiting) - left) * left
        print(
            f"{len(waiting) - left}/{len(waiting)} {name(group[0])}{others}: {seconds:.0f} s, {rest / 60:.0f} min left",
            file=sys.stderr,
            flush=True,
        )
    return [done[key(run, record)] for run in runs]


def _groups(runs: Iterable[Run], together: int, differ: Collection[str]) -> list[list[Run]]:
    """Lists of up to `together` runs that are alike but for `differ`; the first list of every setting comes first."""
    settings: dict[str, list[Run]] = {}
    for run in runs:
        settings.setdefault(json.dumps({**run, **dict.fromkeys(differ)}, sort_keys=True), []).append(run)
    groups = [[seeds[i : i + together] for i in range(0, len(seeds), together)] for seeds in settings.values()]
    return [group for turn in itertools.zip_longest(*groups) for group in turn if group]


def _performed(groups: list[list[Run]], perform: Perform, address: str | None) -> Iterable[tuple[Any, ...]]:
    """`(group, results, seconds, machine)` as they are finished."""
    if address is None:
        return ((group, *_timed(perform, group)) for group in groups)
    return cluster.performed(groups, functools.partial(_timed, perform), address)


def _timed(perform: Perform, group: list[Run]) -> tuple[list[dict[str, Any]], float, dict[str, Any]]:
    watch = Stopwatch()
    results = perform(group)
    return results, watch.seconds, environment.machine()


def matching(runs: Sequence[Run], pattern: str) -> list[Run]:
    """The runs whose name matches a shell pattern.

    Raises:
        ValueError: if none does.
    """
    chosen = [run for run in runs if fnmatch.fnmatch(name(run), pattern)]
    if not chosen:
        raise ValueError(f"--only {pattern} fits none of {len(runs)} runs, {name(runs[0])} to {name(runs[-1])}")
    return chosen


def record(source: str) -> dict[str, Any]:
    """The part of a row that says where its result came from.

    Args:
        source: the data, as `lab.data.source` names them.
    """
    return {
        "backend": environment.BACKEND,
        **environment.machine(),
        "commit": environment.commit(),
        "data": source,
    }
