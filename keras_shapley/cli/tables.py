"""The rows of a `.csv` file, and the columns of it that a model takes."""

import csv
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from keras_shapley.utils.command_lines import CommandLineError, one_line

_LARGEST = float(np.finfo("float32").max)
# names of columns in a message
_SHOWN = 12


class Rows(NamedTuple):
    """The cells of a table.

    Attributes:
        path: of the file.
        names: of all columns.
        cells: by row.
        lines: number of the line of each row.
    """

    path: pathlib.Path
    names: list[str]
    cells: list[list[str]]
    lines: list[int]

    def numbers(self, places: Sequence[int]) -> np.ndarray:
        """The numbers in the columns at some places, float32, `(rows, columns)`.

        Raises:
            CommandLineError: if a cell of them has something else.
        """
        for number, row in zip(self.lines, self.cells):
            for place in places:
                value = _number(row[place])
                if value is None or not abs(value) <= _LARGEST:
                    raise CommandLineError(
                        f"{self.path}: line {number} must have a number in column {self.names[place]!r}, and has "
                        f"{row[place]!r}"
                    )
        return np.array([[row[place] for place in places] for row in self.cells], "float64").astype("float32")


def read_rows(path: pathlib.Path) -> Rows:
    """The rows of a file. A first line with a cell that is no number has the names of the columns.

    Raises:
        CommandLineError: if it cannot be read, has no rows, or rows of several lengths.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            numbered = [(line, reader.line_num) for line in reader if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CommandLineError(f"{path} cannot be read as a table: {one_line(error)}") from error
    first = numbered[0][0] if numbered else []
    has_names = any(_number(cell) is None for cell in first)
    names = first if has_names else [f"column {i}" for i in range(len(first))]
    numbered = numbered[has_names:]
    if not numbered:
        raise CommandLineError(f"{path} has no rows")
    for line, number in numbered:
        if len(line) != len(names):
            raise CommandLineError(f"{path}: line {number} must have {len(names)} columns, and has {len(line)}")
    cells, lines = map(list, zip(*numbered))
    return Rows(path, [name.strip() for name in names], cells, lines)


def chosen(rows: Rows, columns: Sequence[str], ignored: Sequence[str]) -> list[int]:
    """Places of the columns that `--columns` and `--ignore` leave; all of them without these options.

    Raises:
        CommandLineError: if there is no column of a name, or several.
    """
    left_out = _places(rows, "--ignore", ignored)
    kept = _places(rows, "--columns", columns) if columns else range(len(rows.names))
    return [place for place in kept if place not in left_out]


def shown_names(names: Sequence[str]) -> str:
    """Names in a message, of which there may be many."""
    return ", ".join(name or repr(name) for name in names[:_SHOWN]) + (
        f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    )


def _places(rows: Rows, option: str, texts: Sequence[str]) -> list[int]:
    """Places of the columns in an option that may be given several times. A name in quotes may have commas."""
    # an empty text is the name of a column without one
    named = [line or [""] for line in csv.reader(texts, skipinitialspace=True)]
    names = [name.strip() for line in named for name in line]
    for name in names:
        if name not in rows.names:
            raise CommandLineError(
                f"{option}: {rows.path} has no column {name!r}. Its columns: {shown_names(rows.names)}"
            )
        if rows.names.count(name) > 1:
            raise CommandLineError(f"{option}: {rows.path} has {rows.names.count(name)} columns of the name {name!r}")
        if names.count(name) > 1:
            raise CommandLineError(f"{option} must have each column once, and has {name!r} twice")
    return [rows.names.index(name) for name in names]


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
