"""How many threads NumPy's linear algebra takes."""

import functools
import threading
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from threadpoolctl import ThreadpoolController

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def on_one_thread(fn: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """`fn` with one thread for linear algebra.

    Threads that wait for each other make the solution of many small systems slower: several times on an idle machine,
    a hundred times where other programs run.
    """

    @functools.wraps(fn)
    def limited(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with _ONE_THREAD:
            return fn(*args, **kwargs)

    return limited


class _OneThread:
    """The limit is one for the whole process: the first who enters sets it, and the last who leaves lifts it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._limit: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._limit = _controller().limit(limits=1, user_api="blas")
            self._inside += 1

    def __exit__(self, *error: Any) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._limit.restore_original_limits()


_ONE_THREAD = _OneThread()


@functools.cache
def _controller() -> ThreadpoolController:
    # it finds the libraries that are loaded when it is made
    return ThreadpoolController()
