"""Table 1 of the paper: Shapley values of a ReLU neuron with three inputs, by all orders in which they enter.

Behind the table: the same values by the package's enumeration, and how near its approximations come, eq. (1) and
quadrature. Eq. (1) deals the bias out to the inputs, so that its sum is near max(s, 0) and not max(s, 0) - max(b, 0),
which is the same here.
"""

import itertools
import pathlib
import sys
from fractions import Fraction

import files
import numpy as np
from arguments import add_results, command_line, errors_in_one_line
from keras import ops

import keras_shapley as ks

W, X, B = (1, 2, 3), (-1, 2, -1), -1
PAPER = (Fraction(-1, 6), Fraction(4, 3), Fraction(-7, 6))
METHODS = {"exact": "enumeration of coalitions", "gaussian": "eq. (1)", "quadrature": "quadrature"}


def contributions(order):
    """What each of the inputs adds when they enter in an order.

    Args:
        order: permutation of 0, 1, 2.

    Returns:
        `(sums, outputs, gains)`: `s` and `max(s, 0)` behind each step, and the gain of each input in the order of X.
    """
    sums = list(itertools.accumulate((W[k] * X[k] for k in order), initial=B))
    outputs = [max(s, 0) for s in sums]
    gains = {k: after - before for k, before, after in zip(order, outputs, outputs[1:])}
    return sums[1:], outputs[1:], [gains[k] for k in range(len(X))]


def approximations():
    """Shapley values by the package, an array `(3,)` by method."""
    x, kernel = np.array([X], "float32"), np.array(W, "float32")[:, None]
    values = {name: ks.neuron_shapley_values(x, kernel, np.array([B], "float32"), method=name) for name in METHODS}
    return {name: ops.convert_to_numpy(found)[0, :, 0] for name, found in values.items()}


def table():
    """Markdown of the table."""
    orders = list(itertools.permutations(range(len(X))))
    found = [contributions(order) for order in orders]
    average = [Fraction(sum(gains), len(orders)) for gains in zip(*(gains for *_, gains in found))]

    lines = ["# Table 1: Shapley values of a neuron with three inputs", ""]
    lines += [f"Made by `python reproduce/{pathlib.Path(__file__).name}`. w = {W}, x = {X}, b = {B}.", ""]
    lines += row("Permutation", "s", "max(s, 0)", "x1", "x2", "x3") + ["|" + " --- |" * 6]
    for order, (sums, outputs, gains) in zip(orders, found):
        names = ", ".join(f"x{k + 1}" for k in order)
        lines += row(names, ", ".join(map(str, sums)), ", ".join(map(str, outputs)), *gains)
    lines += row("average", "", "", *average) + row("paper", "", "", *PAPER)
    for name, values in approximations().items():
        lines += row(f"{METHODS[name]}", "", "", *(f"{value:.4f}" for value in values))
    return "\n".join(lines) + "\n"


def row(*cells):
    """A row of a Markdown table."""
    return [f"| {' | '.join(map(str, cells))} |"]


def main(argv=None):
    """Runs the script; gives its exit code."""
    parser = command_line(__doc__)
    add_results(parser)
    args = parser.parse_args(argv)
    text = table()
    with errors_in_one_line(parser):
        args.out.mkdir(parents=True, exist_ok=True)
        files.write(args.out / "table1.md", text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
