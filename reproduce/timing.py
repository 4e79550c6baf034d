"""Timing in one process: candidates in turns, ratios with intervals, fixed threads, peak memory."""

import ctypes
import gc
import os
import pathlib
import sys
import time

import keras
import numpy as np
from arguments import at_least
from keras import ops

BACKEND = keras.backend.backend()
RESAMPLES = 2000


def add_threads(parser):
    """Adds the argument for the number of threads."""
    shown = "(default: 2, or 1 where there is one core)"
    parser.add_argument("--threads", type=at_least(1), default=min(2, len(_cores())), metavar="N", help=shown)


def fix_threads(n):
    """Lets this process have `n` threads for its work. To be called before the first tensor is made."""
    cores = _cores()
    if n > len(cores):
        raise ValueError(f"--threads {n} is more than the {len(cores)} cores that this process may use")
    if hasattr(os, "sched_setaffinity"):
        # what sizes XLA's pools on JAX, as NPROC does
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


def _cores():
    """Numbers of the cores that this process may use, where the system says so, else of all."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count()))


def wait(result):
    """Returns once the result is there; an `Explanation` is when it is returned."""
    if not ops.is_tensor(result):
        return
    if BACKEND == "jax":
        result.block_until_ready()
    elif BACKEND == "tensorflow":
        result.numpy()
    elif sys.modules["torch"].cuda.is_available():
        sys.modules["torch"].cuda.synchronize()


def in_turns(calls, repeats, rng):
    """Seconds of each call, an array of `repeats`: in each round every one has its turn, in random order."""
    seconds = {name: [] for name in calls}
    for _ in range(repeats):
        gc.collect()
        for name in rng.permutation(list(calls)):
            start = time.perf_counter()
            wait(calls[name]())
            seconds[name].append(round(time.perf_counter() - start, 7))
    return {name: np.array(values) for name, values in seconds.items()}


def peak_memory(call):
    """Bytes that a call takes at its peak above what the process holds before it; None where Linux does not tell."""
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


def _resident(name):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


def ratio(seconds, base, rng):
    """Ratio of the medians, and its 95 % interval from rounds drawn with replacement."""
    drawn = rng.integers(len(seconds), size=(RESAMPLES, len(seconds)))
    ratios = np.median(seconds[drawn], axis=1) / np.median(base[drawn], axis=1)
    return {
        "ratio": float(np.median(seconds) / np.median(base)),
        "interval": np.quantile(ratios, (0.025, 0.975)).tolist(),
    }
