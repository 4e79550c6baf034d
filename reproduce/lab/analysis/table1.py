"""Table 1 of the paper: Shapley values of a ReLU neuron with three inputs."""

import itertools
import pathlib
from fractions import Fraction

import numpy as np
from keras import ops

import keras_shapley as ks
from lab import files, tables

W, X, B = (1, 2, 3), (-1, 2, -1), -1
PAPER = (Fraction(-1, 6), Fraction(4, 3), Fraction(-7, 6))
METHODS = {"exact": "enumeration of coalitions", "gaussian": "eq. (1)", "quadrature": "quadrature"}


def contributions(order: tuple[int, ...]) -> tuple[list[int], list[int], list[int]]:
    """The gain of each input when the inputs enter in an order.

    Args:
        order: permutation of 0, 1, 2.

    Returns:
        `(sums, outputs, gains)`: `s` and `max(s, 0)` after each step, and the gain of each input in the order of X.
    """
    sums = list(itertools.accumulate((W[k] * X[k] for k in order), initial=B))
    outputs = [max(s, 0) for s in sums]
    gains = {k: after - before for k, before, after in zip(order, outputs, outputs[1:])}
    return sums[1:], outputs[1:], [gains[k] for k in range(len(X))]


def approximations() -> dict[str, np.ndarray]:
    """Shapley values by the package, an array `(3,)` for each method."""
    x, kernel = np.array([X], "float32"), np.array(W, "float32")[:, None]
    values = {name: ks.neuron_shapley_values(x, kernel, np.array([B], "float32"), method=name) for name in METHODS}
    return {name: ops.convert_to_numpy(tensor)[0, :, 0] for name, tensor in values.items()}


def table() -> str:
    """Markdown of the table."""
    orders = list(itertools.permutations(range(len(X))))
    steps = [contributions(order) for order in orders]
    average = [Fraction(sum(gains), len(orders)) for gains in zip(*(gains for *_, gains in steps))]

    lines = ["# Table 1: Shapley values of a neuron with three inputs", ""]
    lines += [f"Made by `python reproduce/table1_example.py`. w = {W}, x = {X}, b = {B}.", ""]
    lines += tables.head("Permutation", "s", "max(s, 0)", "x1", "x2", "x3")
    for order, (sums, outputs, gains) in zip(orders, steps):
        names = ", ".join(f"x{k + 1}" for k in order)
        cells = [", ".join(map(str, sums)), ", ".join(map(str, outputs)), *map(str, gains)]
        lines.append(tables.line([names, *cells]))
    lines.append(tables.line(["average", "", "", *map(str, average)]))
    lines.append(tables.line(["paper", "", "", *map(str, PAPER)]))
    for name, values in approximations().items():
        lines.append(tables.line([METHODS[name], "", "", *(f"{value:.4f}" for value in values)]))
    return "\n".join(lines) + "\n"


def write(out: pathlib.Path) -> str:
    """Writes table1.md; returns the table."""
    text = table()
    files.write(out / "table1.md", text)
    return text
