"""Files that are never half written."""

import contextlib
import os


@contextlib.contextmanager
def replaced(path):
    """A binary file to write, which takes the place of `path` in one step once it is complete."""
    new = path.with_name(f"{path.name}.new")
    with open(new, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, path)


def write(path, text):
    """Writes a text file in one step."""
    with replaced(path) as file:
        file.write(text.encode())
