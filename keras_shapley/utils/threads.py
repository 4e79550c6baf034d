"""How many threads NumPy's linear algebra takes."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

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
        with _controller().limit(limits=1, user_api="blas"):
            return fn(*args, **kwargs)

    return limited


@functools.cache
def _controller() -> ThreadpoolController:
    # it finds the libraries that are loaded when it is made
    return ThreadpoolController()
