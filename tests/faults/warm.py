"""A process that has imported Keras and forks: a call in a child of its own costs milliseconds, not seconds.

The process answers lines of JSON. It runs PyTorch on one thread, as children of a process with more of them can hang.
"""

import dataclasses
import importlib
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
import time

from reference.paths import REPRODUCE, ROOT

MEBIBYTE = 2**20
# of address space that a child gets, beside what its parent has
SPACE = 6 * 1024 * MEBIBYTE


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a call ended.

    Attributes:
        status: its exit status, or less the number of the signal that ended it.
        out: what it printed.
        err: what it printed as errors.
        seconds: that it took.
        memory: bytes that it held at most, beside what its parent holds.
    """

    status: int
    out: str
    err: str
    seconds: float
    memory: int


class Warm:
    """Such a process, with modules that it has imported.

    Args:
        modules: whose functions it calls.
        directory: of what children print, and of their temporary files.
    """

    def __init__(self, modules: list[str], directory: pathlib.Path) -> None:
        paths = [str(ROOT), str(ROOT / "tests"), str(REPRODUCE)]
        variables = {
            "KERAS_BACKEND": "torch",
            "OMP_NUM_THREADS": "1",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "PYTHONPATH": os.pathsep.join(paths),
            "TMPDIR": str(directory),
        }
        self._directory = directory
        self._process = subprocess.Popen(
            [sys.executable, "-m", "faults.warm", *modules],
            env={**os.environ, **variables},
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def call(
        self, function: str, *arguments: object, cwd: pathlib.Path, limit: float = 60, kill_after: float | None = None
    ) -> Outcome:
        """Calls a function of the modules in a child.

        Args:
            function: `"module:name"`; what it returns is the exit status.
            arguments: what JSON knows.
            cwd: working directory of the child.
            limit: seconds after which it is killed.
            kill_after: seconds after which it is killed on purpose.
        """
        request = {"function": function, "arguments": arguments, "cwd": str(cwd), "printed": str(self._directory)}
        request["seconds"] = limit if kill_after is None else kill_after
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        outcome = Outcome(**json.loads(self._process.stdout.readline()))
        if kill_after is None and outcome.status == -signal.SIGKILL:
            raise AssertionError(f"{function} {arguments} took longer than {limit} s, or more memory than there is")
        return outcome

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def _serve(modules: list[str]) -> None:
    answers = os.fdopen(os.dup(1), "w")
    for name in modules:
        importlib.import_module(name)
    for line in sys.stdin:
        answers.write(json.dumps(_answer(**json.loads(line))) + "\n")
        answers.flush()


def _answer(function: str, arguments: list, cwd: str, printed: str, seconds: float) -> dict[str, object]:
    out, err = (pathlib.Path(printed) / name for name in ("out", "err"))
    start = time.monotonic()
    before = _resident()
    child = os.fork()
    if not child:
        _run(function, arguments, cwd, out, err)
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() - start > seconds:
            os.kill(child, signal.SIGKILL)
            _, status, usage = os.wait4(child, 0)
            break
        time.sleep(0.002)
    words = [path.read_text(errors="replace") if path.exists() else "" for path in (out, err)]
    return {
        "status": os.waitstatus_to_exitcode(status),
        "out": words[0],
        "err": words[1],
        "seconds": time.monotonic() - start,
        "memory": max(0, usage.ru_maxrss * 1024 - before),
    }


def _resident() -> int:
    """Bytes of memory that this process holds."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _run(function: str, arguments: list, cwd: str, out: pathlib.Path, err: pathlib.Path) -> None:
    """The life of a child."""
    status = 70
    try:
        os.chdir(cwd)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, path in ((1, out), (2, err)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + SPACE, used + SPACE))
        module, _, name = function.partition(":")
        status = getattr(sys.modules[module], name)(*arguments) or 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _serve(sys.argv[1:])
