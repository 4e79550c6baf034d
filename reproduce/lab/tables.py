"""Markdown tables: their lines, and how numbers and origins are written."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from lab.data import described, known_copy
from lab.rows import Row
from lab.statistics import Interval, better


def head(*titles: str) -> list[str]:
    """The first two lines of a table."""
    return [line(titles), "|" + " --- |" * len(titles)]


def line(cells: Iterable[str]) -> str:
    """A line of a table."""
    return f"| {' | '.join(cells)} |"


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation, as the paper gives them, and the number of values."""
    if len(values) < 2:
        return "".join(f"{value:.4f}" for value in values)
    return f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f} ({len(values)})"


def with_interval(interval: Interval, sign: str = "", scale: Callable[[float], float] = float, digits: int = 3) -> str:
    """A mean and its interval in brackets, if it has one.

    The correlation with a constant map is no number, and reads "constant".

    Args:
        interval: on the scale on which it is symmetric.
        sign: "+" writes the sign of positive numbers as well.
        scale: function from that scale to the one to write.
        digits: behind the point.
    """
    mean, half, _ = interval
    if np.isnan(mean):
        return "constant"
    middle, low, high = (f"{scale(value):{sign}.{digits}f}" for value in (mean, mean - half, mean + half))
    return middle if np.isnan(half) else f"{middle} ({low} to {high})"


def difference(paired: Interval | None) -> str:
    """A mean difference and its interval; empty if there is none."""
    if paired is None:
        return ""
    return with_interval(paired, "+", digits=4) + (" (1 seed)" if paired.n == 1 else "")


def comparison(paired: Interval) -> str:
    """What a difference shows, in words."""
    return {True: "better", False: "worse", None: "no difference shown"}[better(paired)]


def ratio(measured: dict[str, Any]) -> str:
    """A ratio as `statistics.ratio_of_medians` gives it, with its interval."""
    low, high = measured["interval"]
    return f"{measured['ratio']:.2f} ({low:.2f} to {high:.2f})"


def versions(record: dict[str, Any]) -> str:
    """The versions in a record."""
    return ", ".join(f"{package} {version}" for package, version in record["versions"].items())


def copies(rows: Iterable[Row]) -> str:
    """In brackets, that the images are not the original ones; empty if they are."""
    words = dict.fromkeys(filter(None, (known_copy(row["data"]) for row in rows)))
    return "".join(f" ({copy})" for copy in words)


def provenance(lines: Iterable[str]) -> list[str]:
    """Lines of a list on where results come from, below a line that introduces it."""
    lines = [f"- {line}." for line in lines]
    changed = any(re.search(r"commit .*\+", line) for line in lines)
    return [f"Runs{', where + marks a commit with further changes' if changed else ''}:", "", *lines]


def origin(record: dict[str, Any]) -> str:
    """Seed, versions and commit of a record."""
    return f"Seed {record['seed']}; {versions(record)}; commit {record['commit']}"


def origins(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Lines on the data, device, versions and commit of rows."""
    counts: dict[str, int] = {}
    for row in rows:
        words = f"{described(row['data'])}; {row['device']}; {versions(row)}; commit {row['commit']}"
        counts[words] = counts.get(words, 0) + 1
    return provenance(f"{n} {'run' if n == 1 else 'runs'}: {words}" for words, n in counts.items())
