"""`main`: reads the arguments, and imports the backend and the rest of the package once they are known to be good."""

import contextlib
import importlib
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence

from keras_shapley.cli.flags import in_flags
from keras_shapley.cli.options import SHORT_HELP, check, read
from keras_shapley.utils.command_lines import CommandLineError, one_line, warn


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Returns:
        The exit status: 0 if all was explained, 1 if files were skipped, and 2 if nothing was explained.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    if words in ([], ["explain"]):
        print(SHORT_HELP, end="", file=sys.stderr)
        return 2
    args = read(words)
    try:
        check(args)
        with _quiet():
            explain = importlib.import_module("keras_shapley.cli.explain").explain
        with warnings.catch_warnings():
            # one line each, too
            warnings.showwarning = lambda message, *where: warn(in_flags(str(message)))
            n_skipped = explain(args)
    except (CommandLineError, OSError, ValueError) as error:
        # of its own the command says what was typed
        text = str(error) if isinstance(error, CommandLineError) else in_flags(str(error))
        print(f"keras_shapley: error: {one_line(text or type(error).__name__)}", file=sys.stderr)
        return 2
    return 1 if n_skipped else 0


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
