"""A grid of training runs: a JSON line for each one that is finished; what is killed goes on where it was.

A run is a dict of settings (model, activation, optimizer, learning_rate, epochs, seed); its row holds these, what it
ran on, and what came out. The file is replaced as a whole by every new row, so it never holds half of one.
"""

import fnmatch
import functools
import itertools
import json
import sys
import time

import cluster
import environment
import files
import numpy as np
from scipy import stats

CONFIDENCE = 0.95


def rows(path):
    """The finished runs in a results file, a list of dicts; none where there is no file.

    Raises:
        ValueError: if a line is no row; the message names the file and the line.
    """
    found = []
    if path.exists():
        for number, line in enumerate(path.read_text().splitlines(), 1):
            try:
                row = json.loads(line)
                row["run"], row["data"], row["backend"], row["result"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path}, line {number}, is not the row of a run ({error}).") from error
            found.append(row)
    return found


def carry_out(runs, perform, path, record, *, together=1, address=None):
    """Performs the runs that the results file does not hold yet, one after the other.

    Args:
        runs: dicts of settings.
        perform: function of a list of such dicts, which differ in their seed alone, that returns what came out of each,
            a list of dicts.
        path: of the results file.
        record: what `record` gives, for every new row; with it goes what the machine was that performed the run. A run
            on other data, or on another backend, is another run.
        together: how many runs of the same settings `perform` gets at most.
        address: of the Ray cluster that performs them, `"local"` for one of this machine; None for this process.

    Returns:
        The rows of all `runs`, in their order.
    """
    done = {key(row["run"], row): row for row in rows(path)}
    waiting = _groups([run for run in runs if key(run, record) not in done], together)
    start, left = time.perf_counter(), len(waiting)
    for group, results, seconds, machine in _performed(waiting, perform, address):
        new = {}
        for run, result in zip(group, results):
            # the time of all that ran together, shared out
            share = round(seconds / len(group), 1)
            new[key(run, record)] = {"run": run, "result": result, "seconds": share, **record, **machine}
        with files.locked(path):
            # with what another process may have finished meanwhile
            done = {key(row["run"], row): row for row in rows(path)} | new
            files.write(path, "".join(json.dumps(row) + "\n" for row in done.values()))
        left -= 1
        others = f" to seed{group[-1]['seed']}" if len(group) > 1 else ""
        rest = (time.perf_counter() - start) / (len(waiting) - left) * left
        print(
            f"{len(waiting) - left}/{len(waiting)} {name(group[0])}{others}: {seconds:.0f} s, {rest / 60:.0f} min left",
            file=sys.stderr,
            flush=True,
        )
    return [done[key(run, record)] for run in runs]


def _groups(runs, together):
    """Lists of runs that differ in their seed alone, up to `together` in each; of all settings the first, then on."""
    settings = {}
    for run in runs:
        settings.setdefault(json.dumps({**run, "seed": None}, sort_keys=True), []).append(run)
    groups = [[seeds[i : i + together] for i in range(0, len(seeds), together)] for seeds in settings.values()]
    return [group for turn in itertools.zip_longest(*groups) for group in turn if group]


def _performed(groups, perform, address):
    """`(group, results, seconds, machine)` as they are finished."""
    if address is None:
        return ((group, *_timed(perform, group)) for group in groups)
    return cluster.performed(groups, functools.partial(_timed, perform), address)


def _timed(perform, group):
    start = time.perf_counter()
    results = perform(group)
    return results, time.perf_counter() - start, environment.machine()


def only(runs, pattern):
    """The runs whose name fits the pattern of a shell.

    Raises:
        ValueError: if none does.
    """
    chosen = [run for run in runs if fnmatch.fnmatch(name(run), pattern)]
    if not chosen:
        raise ValueError(f"--only {pattern} fits none of {len(runs)} runs, {name(runs[0])} to {name(runs[-1])}")
    return chosen


def name(run):
    """A run in words, as `--only` takes them."""
    return f"{run['model']}/{run['activation']}/{run['optimizer']}_{run['learning_rate']:g}/seed{run['seed']}"


def key(run, where):
    """What tells runs apart: their settings, the data and the backend; not the commit, nor the versions."""
    return json.dumps([run, where["data"], where["backend"]], sort_keys=True)


def record(source):
    """What a row says of where it came from.

    Args:
        source: the data, as `datasets.source` names them.
    """
    return {
        "backend": environment.BACKEND,
        **environment.machine(),
        "commit": environment.commit(),
        "data": source,
    }


def interval(values):
    """Mean, half the width of its 95 % interval (Student's t) and the number of values."""
    values = np.asarray(values, "float64")
    n = len(values)
    if n < 2:
        return float(values.mean()), float("nan"), n
    half = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * values.std(ddof=1) / np.sqrt(n)
    return float(values.mean()), float(half), n


def counterpart(found, row, activation):
    """The row among `found` that differs from `row` in its activation alone, or None."""
    wanted = key({**row["run"], "activation": activation}, row)
    return next((other for other in found if key(other["run"], other) == wanted), None)


def pairs(found, a, b):
    """Rows of activation `a`, each with that of `b` in which all other settings are the same."""
    of_b = [row for row in found if row["run"]["activation"] == b]
    both = ((row, counterpart(of_b, row, b)) for row in found if row["run"]["activation"] == a)
    return [(row, other) for row, other in both if other]


def paired(found, a, b, value):
    """Mean difference between two activations over the runs that share all other settings, as `over_seeds`.

    Args:
        found: rows, with one of each run at most.
        a, b: activations; the difference is a's value less b's.
        value: function of a row.
    """
    return over_seeds(pairs(found, a, b), lambda row, other: value(row) - value(other))


def over_seeds(couples, compare):
    """Mean of a comparison of two runs, and its interval over seeds: see `interval`.

    A seed gives all settings the same first weights, order of images and dropout. So what repeats are seeds, not
    settings: a value of the interval is the mean over the settings of one seed, and a seed that some setting lacks does
    not count.

    Args:
        couples: pairs of rows that share a seed, as `pairs` gives them.
        compare: function of the two rows that gives a number.

    Returns:
        As `interval`, or None where no seed has all settings.
    """
    by_seed, settings = {}, set()
    for row, other in couples:
        setting = key({**row["run"], "seed": None}, row)
        settings.add(setting)
        by_seed.setdefault(row["run"]["seed"], {})[setting] = compare(row, other)
    means = [np.mean(list(values.values())) for values in by_seed.values() if len(values) == len(settings)]
    return interval(means) if means else None


def verdict(mean, half):
    """What a difference allows to say: nothing, where the interval holds zero."""
    return "no difference shown" if not abs(mean) > half else "better" if mean > 0 else "worse"
