"""Time and memory: calls in turns, epochs, fixed threads, peak memory. Nothing else here reads the clock."""

import ctypes
import gc
import os
import pathlib
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from keras import ops

from lab import environment
from lab.environment import BACKEND


def fix_threads(n: int) -> None:
    """Limits this process to `n` threads. To be called before the first tensor is made."""
    cores = environment.cores()
    if n > len(cores):
        raise ValueError(f"--threads {n} is more than the {len(cores)} cores that this process may use")
    if hasattr(os, "sched_setaffinity"):
        # the affinity decides the size of XLA's thread pools on JAX, as NPROC does
        os.sched_setaffinity(0, cores[:n])
    os.environ["NPROC"] = str(n)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(n)
        tf.config.threading.set_inter_op_parallelism_threads(n)
    elif BACKEND == "torch":
        import torch

        torch.set_num_threads(n)
        torch.set_num_interop_threads(n)


def wait(result: Any) -> None:
    """Returns once the device has computed the result. (An `Explanation` is complete when it is returned.)"""
    if not ops.is_tensor(result):
        return
    if BACKEND == "jax":
        result.block_until_ready()
    elif BACKEND == "tensorflow":
        result.numpy()
    elif sys.modules["torch"].cuda.is_available():
        sys.modules["torch"].cuda.synchronize()


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self.start = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.start


def in_turns(calls: Mapping[str, Callable], repeats: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Seconds of each call, an array of `repeats`: in each round every call has its turn, in random order."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        gc.collect()
        for name in rng.permutation(list(calls)):
            watch = Stopwatch()
            wait(calls[name]())
            seconds[name].append(round(watch.seconds, 7))
    return {name: np.array(values) for name, values in seconds.items()}


def peak_memory(call: Callable) -> int | None:
    """Bytes that a call takes at its peak above what the process holds before; None where Linux does not tell."""
    peak = pathlib.Path("/proc/self/clear_refs")
    if not peak.exists():
        return None
    gc.collect()
    # freed memory that the allocator keeps would hide what the call takes
    ctypes.CDLL(None).malloc_trim(0)
    before = _resident("VmRSS")
    peak.write_text("5")
    wait(call())
    return _resident("VmHWM") - before


def _resident(name: str) -> int:
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))
