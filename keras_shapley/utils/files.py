"""Files that are never half written or larger than they look, and directories that can be written."""

import contextlib
import glob
import os
import pathlib
import re
import tempfile
import threading
import time
from collections.abc import Iterable

# a file may hold this many bytes, or this many times its own size, once it is read
_ALWAYS = 2**26
MOST_EXPANSION = 100
# names of files that are being written, and seconds after which nobody writes them any more
_NEW = re.compile(r"\.keras_shapley-\d+-\d+\.new$")
_ABANDONED = 3600


def check_declared(path: pathlib.Path, n_bytes: int) -> None:
    """Raises a `ValueError` if a file declares so much more than it stores that it is not what a program wrote.

    Args:
        path: of the file.
        n_bytes: that it declares to hold.
    """
    most = max(_ALWAYS, MOST_EXPANSION * path.stat().st_size)
    if n_bytes > most:
        raise ValueError(f"it declares {n_bytes:,} bytes of data, and a file of its size may hold {most:,}")


def check_writable(name: str, directory: pathlib.Path) -> None:
    """Makes a directory if there is none, and writes to it. What killed processes left half written there is removed.

    Args:
        name: of the argument that holds it, for the error message.
        directory: to make.

    Raises:
        OSError: if it cannot be made or written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b"\0")
        _remove_abandoned(directory.glob("*.new"))
    except OSError as error:
        raise OSError(
            f"`{name}` must be a directory that can be made and written. Received: {directory} ({error.strerror})"
        ) from error


def write(path: pathlib.Path, content: bytes) -> None:
    """Writes a file in one step, so that no reader sees half of it."""
    new = name_while_written(path)
    try:
        remove_abandoned(path)
        new.write_bytes(content)
        os.replace(new, path)
    except OSError:
        new.unlink(missing_ok=True)
        raise


def name_while_written(path: pathlib.Path) -> pathlib.Path:
    """A name beside `path` that no other process or thread gives a file, so that two writers do not meet."""
    return path.with_name(f"{path.name}.keras_shapley-{os.getpid()}-{threading.get_ident()}.new")


def remove_abandoned(path: pathlib.Path) -> None:
    """Removes what processes that were killed while they wrote this file left of it."""
    _remove_abandoned(path.parent.glob(f"{glob.escape(path.name)}.*.new"))


def _remove_abandoned(paths: Iterable[pathlib.Path]) -> None:
    # by their age, as the process may be one of another machine
    for path in paths:
        with contextlib.suppress(OSError):
            if _NEW.search(path.name) and path.is_file() and time.time() - path.stat().st_mtime > _ABANDONED:
                path.unlink()
