"""Files that are never half written, and directories that are known to be writable before the work begins."""

import os
import pathlib
import tempfile
import threading


def check_writable(name: str, directory: pathlib.Path) -> None:
    """Makes a directory if there is none, and writes to it.

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
    except OSError as error:
        raise OSError(
            f"`{name}` must be a directory that can be made and written. Received: {directory} ({error.strerror})"
        ) from error


def write(path: pathlib.Path, content: bytes) -> None:
    """Writes a file in one step, so that no reader sees half of it."""
    # a name of its own, so that two writers do not meet
    new = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.new")
    try:
        new.write_bytes(content)
        os.replace(new, path)
    except OSError:
        new.unlink(missing_ok=True)
        raise
