"""Verdicts: how a statement of the paper and our result are compared in words."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from lab.rows import Row

ABSENT, FIRST_LOOK = "Not run.", "Open: a first look."


class Figure(NamedTuple):
    """A figure or table of the paper in the report.

    Attributes:
        name: as the paper has it.
        command: that makes it.
        seconds: time of its runs; None if it takes a moment.
        paper: what the paper shows.
        ours: what the results show; empty if it was not run.
        verdict: in sentences.
        numbers: lines of a table that belongs to `ours`.
    """

    name: str
    command: str
    seconds: float | None
    paper: str
    ours: str
    verdict: str
    numbers: Sequence[str] = ()


class Claim(NamedTuple):
    """A statement of the paper beside its figures.

    Attributes:
        paper: the statement.
        ours: what the results show; empty if it was not run.
        verdict: in sentences.
        numbers: lines of a table that belongs to `ours`.
    """

    paper: str
    ours: str
    verdict: str
    numbers: Sequence[str] = ()


def verdict(statements: Mapping[str, Any]) -> str:
    """The verdict on statements of the paper.

    Args:
        statements: by their words, whether each came out; None if the results do not show it.
    """
    came_out, failed, not_shown = (
        [words for words, value in statements.items() if (None if value is None else bool(value)) is wanted]
        for wanted in (True, False, None)
    )
    if not failed and not not_shown:
        return "Reproduced."
    if not came_out and not not_shown:
        return "Not reproduced."
    sentences = ["Partly reproduced."] * bool(came_out)
    if failed:
        sentences.append(f"Not reproduced: {', '.join(failed)}.")
    if not_shown:
        sentences.append(f"Not shown: {', '.join(not_shown)}.")
    return " ".join(sentences)


def details(result: Figure | Claim) -> list[str]:
    """Lines on a result: the paper, ours with its numbers, and the verdict."""
    lines = [f"- The paper: {result.paper}"]
    lines += [f"- Here: {result.ours}"] if result.ours else []
    lines.append(f"- Verdict: {result.verdict}")
    return [*lines, "", *result.numbers] if result.numbers else lines


def absent(name: str, script: str, paper: str) -> Figure:
    """A figure that was not run."""
    return Figure(name, f"python reproduce/{script}", None, paper, "", ABSENT)


def python(command: str, backend: str) -> str:
    """A script and its arguments as a newcomer can type them, on a backend."""
    return f"KERAS_BACKEND={backend} python reproduce/{command}"


def seconds(results: Iterable[Row]) -> float:
    """Time of all runs together."""
    return sum(row["seconds"] for row in results)
