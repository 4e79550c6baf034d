"""Command lines of the scripts."""

import argparse
import contextlib
import pathlib
import sys

from files import RESULTS


def command_line(doc, examples=None):
    """Parser of a script's arguments.

    Args:
        doc: what the script does: all of it is shown, or its first line where there are examples.
        examples: shown below the options.
    """
    return argparse.ArgumentParser(
        description=doc.partition("\n")[0] if examples else doc,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_results(parser, name="--out"):
    """Adds the argument for the directory of results."""
    shown = "(default: results, beside this script)"
    parser.add_argument(name, type=pathlib.Path, default=RESULTS, metavar="DIR", help=shown)


def add_data(parser):
    """Adds the argument for data that do not come through tensorflow-datasets."""
    arrays = ".npz with x_train, y_train, x_test, y_test as in keras.datasets; no tfds then"
    parser.add_argument("--data", metavar="FILE", help=arrays)


def parsed(parser, quick, argv=None):
    """The arguments of a script whose `--quick` stands for others: a dict of their names and values."""
    others = " ".join(f"--{name.replace('_', '-')} {_words(value)}" for name, value in quick.items())
    parser.add_argument("--quick", action="store_true", help=f"other defaults: {others}")
    if "--quick" in (sys.argv[1:] if argv is None else argv):
        parser.set_defaults(**quick)
    return parser.parse_args(argv)


def _words(value):
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


@contextlib.contextmanager
def errors_in_one_line(parser):
    """Where a file, the data or a value is wrong in here, the script ends: one line, and exit code 2."""
    try:
        yield
    except (OSError, ValueError) as error:
        parser.exit(2, f"{parser.prog}: error: {error}\n")


def at_least(smallest):
    """Type of an argument: an integer that is not below `smallest`."""

    def integer(text):
        if int(text) < smallest:
            raise argparse.ArgumentTypeError(f"must be at least {smallest}, and is {text}")
        return int(text)

    return integer
