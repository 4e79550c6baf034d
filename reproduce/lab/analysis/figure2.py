"""Fig. 2 of the paper: SA against s, the sum that ReLU sees, for random neurons."""

import pathlib

import numpy as np
from keras import ops

from keras_shapley.layers.activations import shapley_activation
from keras_shapley.layers.normal import normal_cdf
from lab import pictures

SAMPLES, N = 1000, 5
_, SA, _ = pictures.ACTIVATIONS["sa"]


def samples(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """`s` and SA of random neurons, arrays `(SAMPLES,)`: N signals, uniform on [-1, 1], no bias."""
    signals = np.random.default_rng(seed).uniform(-1, 1, (SAMPLES, N)).astype("float32")
    u, q = signals.sum(axis=1), np.square(signals).sum(axis=1)
    return u, ops.convert_to_numpy(shapley_activation(u, q, np.float32(0)))


def reach(s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two ends of SA for each sum of the signals: at the gate 1/2, and at the gate farthest from it."""
    farthest = ops.convert_to_numpy(normal_cdf(np.sign(s).astype("float32") * (3 / (1 + 2 / N)) ** 0.5))
    return s / 2, farthest * s


def write(out: pathlib.Path, seed: int = 0) -> str:
    """Writes figure2.png; returns a summary of its samples."""
    s, y = samples(seed)
    with pictures.picture(out / "figure2.png", 7, 4.5) as figure:
        axes = figure.subplots()
        line = np.linspace(s.min(), s.max(), 101)
        axes.fill_between(line, *reach(line), color="0.85")
        axes.plot(line, np.maximum(line, 0), "k", linewidth=1)
        axes.scatter(s, y, 4, color=SA)
        axes.set(xlabel=f"sum of {N} signals, uniform on [-1, 1], without bias", ylabel="output")
        axes.set_title(f"Is SA a function of the sum that ReLU sees?\n{SAMPLES:,} neurons: no, it scatters")
        axes.text(2.2, 2.6, "ReLU", ha="right")
        axes.text(-0.9, -0.75, "SA, eq. (5)", color=SA)
        axes.text(3.1, 2.25, "reach of SA", color="0.3")
        axes.text(-3.2, -1.0, "reach of SA", color="0.3")
    gates = y / s
    distance = np.sqrt(np.mean((y - np.maximum(s, 0)) ** 2))
    return (
        f"{SAMPLES} neurons, seed {seed}: gates from {gates.min():.3f} to {gates.max():.3f}\n"
        f"root mean square distance to ReLU {distance:.3f}"
    )
