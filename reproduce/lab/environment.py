"""What a script runs on: for the record of its results, and so that every run computes the same."""

import os
import pathlib
import platform
import subprocess
import sys
from typing import Any

import keras
import numpy as np

import keras_shapley as ks

BACKEND: str = keras.backend.backend()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that every result depends on, by name."""
    packages = {"keras": keras, "keras_shapley": ks, BACKEND: sys.modules[BACKEND], "numpy": np}
    return {"python": platform.python_version()} | {name: package.__version__ for name, package in packages.items()}


def machine() -> dict[str, Any]:
    """The part of a result's record that describes the machine: device and versions."""
    return {"device": device(), "versions": versions()}


def device() -> str:
    """Name of the device that computes; "cpu" if it is a processor."""
    if BACKEND == "jax":
        return sys.modules["jax"].devices()[0].device_kind
    if BACKEND == "torch":
        cuda = sys.modules["torch"].cuda
        return cuda.get_device_name() if cuda.is_available() else "cpu"
    config = sys.modules["tensorflow"].config
    gpus = config.list_physical_devices("GPU")
    return config.experimental.get_device_details(gpus[0]).get("device_name", "gpu") if gpus else "cpu"


def cpu() -> str:
    """Name of the processor."""
    file = pathlib.Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def cores() -> list[int]:
    """Numbers of the cores that this process may use, if the system tells, else of all cores."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def commit() -> str | None:
    """Commit of this directory, with a plus sign if more than results changed since; None outside a repository."""
    reproduce = pathlib.Path(__file__).resolve().parents[1]
    try:
        head, changes = (
            subprocess.run(["git", *words], cwd=reproduce, capture_output=True, text=True, check=True).stdout.strip()
            for words in (
                ["rev-parse", "--short=12", "HEAD"],
                ["status", "--porcelain", "--untracked-files=no", "--", ":/", ":(exclude)results"],
            )
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + "+" * bool(changes)


def jit_compile() -> bool:
    """The fastest `jit_compile` for `Model.compile`: XLA on JAX and on TensorFlow's GPUs, PyTorch eagerly."""
    # on a CPU, TensorFlow is more than twice as fast without XLA
    return BACKEND == "jax" or (BACKEND == "tensorflow" and device() != "cpu")


def make_deterministic() -> None:
    """Makes every run compute the same sums in the same order.

    JAX needs XLA_FLAGS=--xla_gpu_deterministic_ops=true for that on a GPU.
    """
    if BACKEND == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    elif BACKEND == "torch":
        import torch

        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
