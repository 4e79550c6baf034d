"""Runs on the machines of a Ray cluster."""

import socket
from collections.abc import Callable, Iterator
from typing import Any

from lab import environment
from lab.files import REPRODUCE
from lab.rows import Run


def performed(groups: list[list[Run]], perform: Callable, address: str) -> Iterator[tuple[Any, ...]]:
    """`(group, *perform(group))` for each group, as it is finished.

    Args:
        groups: lists of runs.
        perform: function of such a list, importable from reproduce/; returns a tuple.
        address: of the cluster, `HOST:PORT` or `ray://HOST:PORT`, or `"local"` for one that is started here and ends
            with the last run.

    Raises:
        ValueError: if Ray is not installed, or no cluster answers at the address.
    """
    try:
        import ray
    except ImportError as error:
        raise ValueError("--ray needs Ray: pip install 'keras_shapley[ray]'") from error
    if address != "local":
        _reach(address)
    # reproduce/ is sent along; the package is installed on every machine
    runtime = {
        "working_dir": str(REPRODUCE),
        "excludes": ["results", "runs"],
        "env_vars": {"KERAS_BACKEND": environment.BACKEND},
    }
    ray.init(address=address, runtime_env=runtime, log_to_driver=False)
    try:
        needs = {"num_gpus": 1} if ray.cluster_resources().get("GPU") else {"num_cpus": 1}
        task = ray.remote(**needs)(lambda group: perform(group))
        waiting = {task.remote(group): group for group in groups}
        while waiting:
            (ready,), _ = ray.wait(list(waiting))
            try:
                outcome = ray.get(ready)
            except ray.exceptions.RayTaskError as error:
                # the error itself, without Ray's account of it
                raise (getattr(error, "cause", None) or error) from None
            yield waiting.pop(ready), *outcome
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Raises a ValueError unless something listens at the address: Ray would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError) as error:
        raise ValueError(f"--ray {address}: no Ray cluster answers there, at HOST:PORT ({error})") from error
