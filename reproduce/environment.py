"""What a script runs on: for the record of its results, and to be the same in every run."""

import os
import pathlib
import platform
import subprocess
import sys

import keras
import numpy as np

import keras_shapley as ks

BACKEND = keras.backend.backend()


def versions():
    """Versions of Python and of the packages that every result hangs on, by name."""
    packages = {"keras": keras, "keras_shapley": ks, BACKEND: sys.modules[BACKEND], "numpy": np}
    return {"python": platform.python_version()} | {name: package.__version__ for name, package in packages.items()}


def machine():
    """What the record of a result says of the machine that made it."""
    return {"device": device(), "versions": versions()}


def device():
    """Name of the device that computes; "cpu" where it is a processor."""
    if BACKEND == "jax":
        return sys.modules["jax"].devices()[0].device_kind
    if BACKEND == "torch":
        cuda = sys.modules["torch"].cuda
        return cuda.get_device_name() if cuda.is_available() else "cpu"
    config = sys.modules["tensorflow"].config
    gpus = config.list_physical_devices("GPU")
    return config.experimental.get_device_details(gpus[0]).get("device_name", "gpu") if gpus else "cpu"


def cpu():
    """Name of the processor."""
    file = pathlib.Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def commit():
    """Commit that this directory is at, with a plus sign if more than results changed since; None outside of one."""
    here = pathlib.Path(__file__).resolve().parent
    try:
        git = [
            subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True).stdout.strip()
            for words in (
                ["rev-parse", "--short=12", "HEAD"],
                ["status", "--porcelain", "--untracked-files=no", "--", ":/", ":(exclude)results"],
            )
        ]
    except (OSError, subprocess.CalledProcessError):
        return None
    return git[0] + "+" * bool(git[1])


def jit_compile():
    """What to compile models with: XLA where it is the faster way, and PyTorch eagerly."""
    # on a CPU, TensorFlow is more than twice as fast without XLA
    return BACKEND == "jax" or BACKEND == "tensorflow" and device() != "cpu"


def make_deterministic():
    """The same sums in the same order in every run. (JAX on a GPU takes XLA_FLAGS=--xla_gpu_deterministic_ops=true.)"""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    elif BACKEND == "torch":
        import torch

        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
