"""Command lines of the scripts: their arguments, their errors, and how they end."""

import argparse
import contextlib
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from lab import environment
from lab.files import RESULTS

Parser = argparse.ArgumentParser


def command_line(doc: str | None, examples: str | None = None) -> Parser:
    """The parser of a script.

    Args:
        doc: what the script does; `--help` begins with it.
        examples: commands to try, and what they write; `--help` ends with them.
    """
    return argparse.ArgumentParser(
        # the path, as it was typed
        prog=f"python {sys.argv[0]}",
        description=doc,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_results(parser: Parser, name: str = "--out") -> None:
    """Adds the argument for the directory of results."""
    parser.add_argument(
        name,
        type=pathlib.Path,
        default=RESULTS,
        metavar="DIR",
        help="directory of results (default: reproduce/results)",
    )


def add_data(parser: Parser) -> None:
    """Adds the argument for images that do not come from tensorflow-datasets."""
    arrays = "read images from this .npz file (x_train, y_train, x_test, y_test as in keras.datasets), not from tfds"
    parser.add_argument("--data", metavar="FILE", help=arrays)


def add_seed(parser: Parser, purpose: str) -> None:
    """Adds the argument for the seed.

    Args:
        purpose: what the seed decides, as in "of weights and images".
    """
    parser.add_argument("--seed", type=at_least(0), default=0, metavar="N", help=f"{purpose} (default: 0)")


def add_table(parser: Parser) -> None:
    """Adds the argument that leaves out all the work except the table and the picture."""
    shown = "only write table and picture again, from the results in --out"
    parser.add_argument("--table", action="store_true", help=shown)


def add_threads(parser: Parser) -> None:
    """Adds the argument for the number of threads."""
    default = min(2, len(environment.cores()))
    shown = "(default: 2, or 1 where there is one core)"
    parser.add_argument("--threads", type=at_least(1), default=default, metavar="N", help=shown)


def parsed(parser: Parser, quick: dict[str, Any], argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments of a script that has `--quick`.

    Args:
        quick: the defaults that `--quick` puts in place of the usual ones, by name of the argument.
        argv: the command line; None for that of this process.
    """
    defaults = " ".join(f"--{name.replace('_', '-')} {_words(value)}" for name, value in quick.items())
    parser.add_argument("--quick", action="store_true", help=f"a first look, by other defaults: {defaults}")
    if "--quick" in (sys.argv[1:] if argv is None else argv):
        parser.set_defaults(**quick)
    return parser.parse_args(argv)


def _words(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


@contextlib.contextmanager
def errors_in_one_line(parser: Parser) -> Iterator[None]:
    """Ends the script with one line and exit code 2 where a file, the data or a value is wrong."""
    try:
        yield
    except (OSError, ValueError) as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")


def measure_and_write(
    parser: Parser,
    args: argparse.Namespace,
    measure: Callable[[argparse.Namespace], None],
    write: Callable[[pathlib.Path], str],
) -> int:
    """Does the work of a script that keeps results; returns its exit code.

    Args:
        args: has `out` and `table`.
        measure: function of `args` that writes results to `args.out`; left out with `--table`.
        write: function of a directory that writes table and picture from its results, and returns the table to print.
    """
    with errors_in_one_line(parser):
        if not args.table:
            args.out.mkdir(parents=True, exist_ok=True)
            measure(args)
        text = write(args.out)
    print(text)
    return 0


def write_only(parser: Parser, args: argparse.Namespace, write: Callable[[pathlib.Path], str]) -> int:
    """Does the work of a script that keeps no results; returns its exit code.

    Args:
        args: has `out`.
        write: function of a directory that computes and writes table and picture, and returns the text to print.
    """
    with errors_in_one_line(parser):
        args.out.mkdir(parents=True, exist_ok=True)
        text = write(args.out)
    print(text)
    return 0


def at_least(smallest: int) -> Callable[[str], int]:
    """The type of an argument that is an integer and not below `smallest`."""

    def integer(text: str) -> int:
        if int(text) < smallest:
            raise argparse.ArgumentTypeError(f"must be at least {smallest}, and is {text}")
        return int(text)

    return integer
