"""`main`: reads the arguments, and imports the backend and the rest of the package once they are known to be good."""

import contextlib
import importlib
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence

from keras_shapley.cli.options import check, parser
from keras_shapley.utils.command_lines import CommandLineError, one_line, warn


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    args = parser().parse_args(argv)
    try:
        check(args)
        with _quiet():
            explain = importlib.import_module("keras_shapley.cli.explain").explain
        with warnings.catch_warnings():
            # one line each, too
            warnings.showwarning = lambda message, *where: warn(str(message))
            explain(args)
    except (CommandLineError, OSError, ValueError) as error:
        print(f"keras_shapley: error: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what a backend says of its own start from the terminal, unless it cannot start."""
    # without a file there is nothing to keep quiet
    if "keras" in sys.modules or sys.stderr is None:
        yield
        return
    # of TensorFlow, which writes to the file itself
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with tempfile.TemporaryFile() as silence:
            os.dup2(silence.fileno(), 2)
            yield
    except ImportError as error:
        name = os.environ.get("KERAS_BACKEND", "tensorflow")
        raise CommandLineError(f"KERAS_BACKEND={name} cannot be imported: {error}") from error
    finally:
        os.dup2(kept, 2)
        os.close(kept)
