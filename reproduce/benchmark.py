"""Measurements of time whose rows are kept for each backend in one file, and the table of all."""

import dataclasses
import json

import environment
import experiment
import files
import timing
from arguments import add_results, at_least, command_line, errors_in_one_line
from neurons import KINDS


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """What is measured.

    Attributes:
        name: of the files.
        title: of the table.
        columns: titles of the table's columns behind that of the backend.
        measure: function of `(activation, seed)` that gives rows, a list of dicts.
        cells: function of a row that gives the texts of its cells.
    """

    name: str
    title: str
    columns: tuple
    measure: object
    cells: object

    def table(self, records):
        """Markdown of the records of all backends."""
        lines = [self.title, *experiment.markdown("backend", *self.columns)]
        for backend, record in sorted(records.items()):
            lines += [f"| {' | '.join([backend, *self.cells(row)])} |" for row in record["rows"]]
        lines.append("")
        for backend, record in sorted(records.items()):
            versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
            lines.append(f"- {backend}: seed {record['seed']}; {record['cpu']}; {versions}; commit {record['commit']}.")
        return "\n".join(lines) + "\n"


def in_words(row):
    """A ratio of `timing.ratio` with its interval."""
    low, high = row["interval"]
    return f"{row['ratio']:.2f} ({low:.2f} to {high:.2f})"


def main(benchmark, doc, argv=None):
    """Runs the script of a benchmark, on one thread; gives its exit code."""
    parser = command_line(doc)
    add = parser.add_argument
    add("--seed", type=at_least(0), default=0, metavar="N", help="of weights, inputs and orders (default: 0)")
    add("--activations", nargs="+", choices=KINDS, default=["relu", "sa"], metavar="NAME", help="(default: relu sa)")
    add_results(parser)
    add("--table", action="store_true", help="write the table from the results, measure nothing")
    args = parser.parse_args(argv)
    path = args.out / f"{benchmark.name}.json"
    with errors_in_one_line(parser):
        records = files.read_json(path) if path.exists() else {}
        if not args.table:
            timing.fix_threads(1)
            rows = [row for activation in args.activations for row in benchmark.measure(activation, args.seed)]
            where = {"versions": environment.versions(), "commit": environment.commit(), "cpu": environment.cpu()}
            records[environment.BACKEND] = {"seed": args.seed, "rows": rows, **where}
            args.out.mkdir(parents=True, exist_ok=True)
            files.write(path, json.dumps(records, indent=1) + "\n")
        if not records:
            raise ValueError(f"{path} holds no measurement")
        text = benchmark.table(records)
        files.write(args.out / f"{benchmark.name}.md", text)
    print(text)
    return 0
