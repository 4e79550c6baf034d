"""Rows of finished runs: how they are read, told apart, selected and paired.

A run is a dict of settings: model, activation, optimizer, learning_rate, seed, epochs, batch_size, limit, and schedule
if that is not the paper's. Its row holds the run, its result, and where it came from: data, backend, device, versions,
commit.
"""

import json
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from lab.data import described

Run = dict[str, Any]
Row = dict[str, Any]
Setting = tuple[str, float]


def read(path: pathlib.Path) -> list[Row]:
    """The rows in a file of results; none if there is no file.

    Raises:
        ValueError: if a line is no row; the message names the file and the line.
    """
    rows = []
    if path.exists():
        for number, line in enumerate(path.read_text().splitlines(), 1):
            try:
                row = json.loads(line)
                row["run"], row["data"], row["backend"], row["result"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path}, line {number}, is not the row of a run ({error}).") from error
            rows.append(row)
    return rows


def name(run: Run) -> str:
    """The name of a run, as `--only` takes it."""
    # a schedule that is not the paper's depends on the number of epochs
    schedule = f"/{run['schedule']}_{run['epochs']}" if "schedule" in run else ""
    return f"{run['model']}/{run['activation']}/{run['optimizer']}_{run['learning_rate']:g}{schedule}/seed{run['seed']}"


def key(run: Run, where: dict[str, Any]) -> str:
    """What tells runs apart: their settings, the data and the backend, but neither the commit nor the versions."""
    return json.dumps([run, where["data"], where["backend"]], sort_keys=True)


def with_activation(rows: Iterable[Row], activation: str) -> list[Row]:
    """The rows of an activation."""
    return [row for row in rows if row["run"]["activation"] == activation]


def with_setting(rows: Iterable[Row], setting: Setting) -> list[Row]:
    """The rows of an optimizer and its learning rate."""
    return [row for row in rows if (row["run"]["optimizer"], row["run"]["learning_rate"]) == setting]


def activations(rows: Iterable[Row]) -> list[str]:
    """The activations of the rows, each once, in their order."""
    return list(dict.fromkeys(row["run"]["activation"] for row in rows))


def comparable(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Groups of rows that share epochs, schedule, images, data and backend, by words for these."""
    rows = list(rows)
    several = len({row["data"] for row in rows}) > 1
    groups: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["run"]["epochs"]):
        limit = row["run"].get("limit")
        words = [f"{row['run']['epochs']} epochs"]
        words += [f"{row['run']['schedule']} schedule"] if "schedule" in row["run"] else []
        words += [f"the first {limit:,} images" if limit else "all images", row["backend"]]
        words += [described(row["data"])] if several else []
        groups.setdefault(", ".join(words), []).append(row)
    return groups


def fullest(rows: Iterable[Row]) -> list[Row]:
    """The group of comparable rows with the most pairs of SA and ReLU, and of several such that with most epochs."""

    def size(group: list[Row]) -> tuple[int, int]:
        return len(pairs(group, "sa", "relu")), group[0]["run"]["epochs"]

    return max(comparable(rows).values(), key=size, default=[])


def counterpart(rows: Iterable[Row], row: Row, **settings: Any) -> Row | None:
    """The row that has these settings, as `activation="relu"`, and all others of `row`."""
    wanted = key(row["run"] | settings, row)
    return next((other for other in rows if key(other["run"], other) == wanted), None)


def pairs(rows: Iterable[Row], a: str, b: str) -> list[tuple[Row, Row]]:
    """Rows of activation `a`, each with the row of activation `b` that shares all other settings."""
    rows = list(rows)
    others = with_activation(rows, b)
    both = ((row, counterpart(others, row, activation=b)) for row in with_activation(rows, a))
    return [(row, other) for row, other in both if other]


def final(quantity: str) -> Callable[[Row], float]:
    """Function of a row that returns the last value of a quantity, as "accuracy"."""
    return lambda row: row["result"][quantity][-1]


validation = final("val_accuracy")


def first_epoch_at(row: Row, relu: Row, quantity: str) -> float:
    """The epoch after which a curve first is as high as ReLU's is in the end; infinity if it never is."""
    reached = np.flatnonzero(np.array(row["result"][quantity]) >= final(quantity)(relu))
    return int(reached[0]) + 1 if len(reached) else np.inf


def curves(rows: Iterable[Row], quantity: str) -> dict[str, np.ndarray]:
    """A quantity over time, an array `(seeds, points)` for each activation.

    Args:
        rows: comparable rows of one setting.
        quantity: of the result, as "accuracy". A run that has left float32 has NaN.
    """
    values: dict[str, list] = {}
    for row in rows:
        values.setdefault(row["run"]["activation"], []).append(row["result"][quantity])
    return {activation: np.array(lists, "float64") for activation, lists in values.items()}
