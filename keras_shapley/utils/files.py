"""Files that are never half written, and directories that can be written before the work begins."""

import os
import tempfile


def check_writable(name, directory):
    """Makes a directory if there is none.

    Raises:
        OSError: if it cannot be made or written; the message has `name`.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b"\0")
    except OSError as error:
        raise OSError(
            f"`{name}` must be a directory that can be made and written. Received: {directory} ({error.strerror})"
        ) from error


def write(path, content):
    """Writes a file in one step: whoever reads it never sees half of it."""
    new = path.with_name(f"{path.name}.new")
    try:
        new.write_bytes(content)
        os.replace(new, path)
    except OSError:
        new.unlink(missing_ok=True)
        raise
