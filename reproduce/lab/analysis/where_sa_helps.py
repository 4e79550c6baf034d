"""The study of settings in which training is hard: where SA helps, and where it does not."""

import pathlib

from lab import files
from lab.rows import Row

# ladders of learning rates
SGD = tuple(("SGD", 0.02 * 2**power) for power in range(10))
ADAM = tuple(("Adam", 0.0005 * 4**power) for power in range(6))
USUAL = ADAM[:3]


def write(results: list[Row], out: pathlib.Path) -> str:
    """Writes where_sa_helps.md and where_sa_helps.png; returns the table."""
    text = f"{len(results)} runs\n"
    files.write(out / "where_sa_helps.md", text)
    return text
