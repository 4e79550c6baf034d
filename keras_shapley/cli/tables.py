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
        first_line: number of the line of the first row.
    """

    path: pathlib.Path
    names: list[str]
    cells: list[list[str]]
    first_line: int

    def numbers(self, places: Sequence[int]) -> np.ndarray:
        """The numbers in the columns at some places, float32, `(rows, columns)`.

        Raises:
            CommandLineError: if a cell of them has something else.
        """
        for number, row in enumerate(self.cells, start=self.first_line):
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
            lines = [line for line in csv.reader(file) if line]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CommandLineError(f"{path} cannot be read as a table: {one_line(error)}") from error
    has_names = bool(lines) and any(_number(cell) is None for cell in lines[0])
    names = lines.pop(0) if has_names else [f"column {i}" for i in range(len(lines[0]) if lines else 0)]
    if not lines:
        raise CommandLineError(f"{path} has no rows")
    for number, line in enumerate(lines, start=1 + has_names):
        if len(line) != len(names):
            raise CommandLineError(f"{path}: line {number} must have {len(names)} columns, and has {len(line)}")
    return Rows(path, [name.strip() for name in names], lines, 1 + has_names)


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
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _places(rows: Rows, option: str, texts: Sequence[str]) -> list[int]:
    """Places of the columns in an option that may be given several times. A name in quotes may have commas."""
    names = [name.strip() for line in csv.reader(texts, skipinitialspace=True) for name in line]
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
