"""Benchmarks of time: their rows are kept for each backend in one file, and a table shows all of them."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from lab import environment, files, measuring, tables
from lab.activations import ACTIVATIONS
from lab.arguments import add_results, add_seed, add_table, command_line, measure_and_write


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """The table of a benchmark.

    Attributes:
        name: of the files.
        title: title and introduction of the table.
        columns: titles of the columns behind that of the backend.
        cells: function of a row that returns the texts of these columns.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    cells: Callable[[dict[str, Any]], list[str]]

    def write(self, out: pathlib.Path) -> str:
        """Writes the table of all backends from the results in a directory; returns it.

        Raises:
            ValueError: if there are none.
        """
        records = self.read(out)
        if not records:
            raise ValueError(f"{out / self.name}.json holds no measurement")
        text = self.table(records)
        files.write(out / f"{self.name}.md", text)
        return text

    def read(self, out: pathlib.Path) -> dict[str, Any]:
        """The records of all backends, by backend."""
        path = out / f"{self.name}.json"
        return files.read_json(path) if path.exists() else {}

    def table(self, records: dict[str, Any]) -> str:
        """Markdown of the records of all backends."""
        lines = [self.title, *tables.head("backend", *self.columns)]
        for backend, record in sorted(records.items()):
            lines += [tables.line([backend, *self.cells(row)]) for row in record["rows"]]
        origins = [
            f"{backend}: seed {record['seed']}; {record['cpu']}; {tables.versions(record)}; commit {record['commit']}"
            for backend, record in sorted(records.items())
        ]
        return "\n".join([*lines, "", *tables.provenance(origins)]) + "\n"


def main(
    benchmark: Benchmark,
    measure: Callable[[str, int], list[dict[str, Any]]],
    doc: str | None,
    argv: Sequence[str] | None = None,
) -> int:
    """Runs the script of a benchmark, on one thread; returns its exit code.

    Args:
        measure: function of an activation and a seed that returns rows.
    """
    parser = command_line(doc)
    add_seed(parser, "of weights, inputs and orders")
    activations = "of the hidden layers (default: relu sa)"
    default = ["relu", "sa"]
    parser.add_argument(
        "--activations", nargs="+", choices=ACTIVATIONS, default=default, metavar="NAME", help=activations
    )
    add_results(parser)
    add_table(parser)

    def measure_all(args: Any) -> None:
        records = benchmark.read(args.out)
        measuring.fix_threads(1)
        rows = [row for activation in args.activations for row in measure(activation, args.seed)]
        where = {"versions": environment.versions(), "commit": environment.commit(), "cpu": environment.cpu()}
        records[environment.BACKEND] = {"seed": args.seed, "rows": rows, **where}
        files.write_json(args.out / f"{benchmark.name}.json", records)

    return measure_and_write(parser, parser.parse_args(argv), measure_all, benchmark.write)
