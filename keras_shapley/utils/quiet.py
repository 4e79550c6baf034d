"""Warnings that a caller of our own does not want."""

import contextlib
import contextvars
import warnings
from collections.abc import Iterator

import numpy as np

# the filters of the module warnings are one list for all threads; this is of one thread and of what it calls
_IS_QUIET = contextvars.ContextVar("is_quiet", default=False)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Within it, nothing warns that values cannot be relied on, neither `warn` nor NumPy's operations."""
    token = _IS_QUIET.set(True)
    try:
        with np.errstate(all="ignore"):
            yield
    finally:
        _IS_QUIET.reset(token)


def warn(message: str, stacklevel: int) -> None:
    """Warns that values cannot be relied on, unless it is quiet; `stacklevel` as if it were `warnings.warn`."""
    if not _IS_QUIET.get():
        warnings.warn(message, RuntimeWarning, stacklevel + 1)
