"""Command lines whose errors are one short line, whatever they are given."""

import argparse
import pathlib
import re
import sys
from typing import Any, NoReturn

# characters of an error that are printed
_MOST = 400
# argparse knows no exponents, and takes such numbers for options
_NEGATIVE_NUMBER = re.compile(r"^-((\d+\.?\d*|\.\d+)(e[-+]?\d+)?|inf|infinity|nan)$", re.IGNORECASE)


class CommandLineError(Exception):
    """An option, a file or a model that the command cannot work with. The message is one line."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and that takes negative numbers with an exponent."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)
        self._negative_number_matcher = _NEGATIVE_NUMBER

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"keras_shapley: error: {one_line(message)} (see {self.prog} --help)\n")


def is_command_line() -> bool:
    """Whether this process was started as `keras-shapley` or as `python -m keras_shapley`."""
    if sys.argv[:1] == ["-m"]:
        # Python still looks for the module, and imports the package for that
        words = sys.orig_argv
        return "-m" in words and words[words.index("-m") + 1] == "keras_shapley"
    return pathlib.PurePath(sys.argv[0] if sys.argv else "").stem == "keras-shapley"


def check_file(path: pathlib.Path) -> None:
    """Raises a `CommandLineError` if there is no file, or something else, such as a pipe, which may never end."""
    if not path.exists():
        raise CommandLineError(f"no such file: {path}")
    if not path.is_file():
        raise CommandLineError(f"not a file: {path}")


def warn(text: str) -> None:
    """Prints a warning in one line."""
    print(f"keras_shapley: warning: {printable(' '.join(text.split()))}", file=sys.stderr)


def one_line(error: Exception | str) -> str:
    """The message of an error in one line; the middle of a long one is left out."""
    text = printable(" ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= _MOST else f"{text[: _MOST // 2]} ... {text[-_MOST // 2 :]}"


def printable(text: str) -> str:
    """A text without characters that a terminal would obey, such as those in the name of a file."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
