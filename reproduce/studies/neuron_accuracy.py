"""How accurate eq. (1), the paper's "accurate analytical approximation", is for a single ReLU neuron.

The neurons are random, with 4 to 1,024 inputs; weights and biases are standard normal, and inputs follow four laws, the
first also without biases. The methods are eq. (1), the closed form of Shapley propagation, the quadrature that keeps
the time t, and 100 antithetic random orders; eq. (1) and the quadrature also in a normalized form, which spreads the
difference to the exact sum over the inputs. The truth is enumeration of all coalitions up to 16 inputs, and long
sampling beyond. The error is the root of the sum of squared errors over that of squared values, over all neurons and
inputs.

Takes minutes; --widths 4 8 is a first look. The directory --out gets neuron_accuracy.json, .md (the table) and .png.
"""

import argparse
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # where lab is

import numpy as np
from keras import ops

import keras_shapley as ks
from lab import environment, files, statistics
from lab.analysis import neuron_accuracy
from lab.analysis.neuron_accuracy import ENUMERATED, LONG, NEURONS, TRUTH
from lab.arguments import add_results, add_seed, add_table, at_least, command_line, measure_and_write

WIDTHS = (4, 6, 8, 10, 12, 14, 16, 64, 256, 1024)
SHORT = 100  # orders of the method beside the others


class Law(NamedTuple):
    """How neurons are drawn.

    Attributes:
        inputs: function of a generator and a shape.
        bias: standard deviation of the biases.
    """

    inputs: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
    bias: float = 1.0


def normal(rng: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
    return rng.standard_normal(size)


LAWS = {
    "normal": Law(normal),
    "normal, without biases": Law(normal, bias=0.0),
    "uniform in [0, 1]": Law(lambda rng, size: rng.uniform(size=size)),
    "half of them 0": Law(lambda rng, size: rng.standard_normal(size) * (rng.uniform(size=size) < 0.5)),
    "Student's t, 3 degrees": Law(lambda rng, size: rng.standard_t(3, size=size)),
}
METHODS = {
    "eq. (1)": {"method": "gaussian"},
    "eq. (1), normalized": {"method": "gaussian", "normalize": True},
    "closed form": {"method": "efficient"},
    "quadrature": {"method": "quadrature"},
    "quadrature, normalized": {"method": "quadrature", "normalize": True},
}


def products(law: str, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The products `w_k x_k` of random neurons, shape `(NEURONS, n)`, and their biases, `(NEURONS,)`."""
    rng = np.random.default_rng([seed, n])
    a = LAWS[law].inputs(rng, (NEURONS, n)) * rng.standard_normal((NEURONS, n))
    b = LAWS[law].bias * rng.standard_normal(NEURONS)
    return a.astype("float32"), b.astype("float32")


def approximated(a: np.ndarray, b: np.ndarray, **options: Any) -> np.ndarray:
    """Shapley values by the package, with the products as weights of inputs 1: shape `(neurons, inputs)`."""
    values = ks.neuron_shapley_values(np.ones((1, a.shape[1]), "float32"), a.T, b, **options)
    return ops.convert_to_numpy(values)[0].T.astype("float64")


def sampled(a: np.ndarray, b: np.ndarray, n_paths: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Shapley values by random orders, each with its reverse, the same for all neurons; and their standard errors."""
    a, b = a.astype("float64"), b.astype("float64")
    total = squares = np.zeros_like(a)
    for _ in range(n_paths // 2):
        order, gains = rng.permutation(a.shape[1]), 0
        for walked in (order, order[::-1]):
            sums = b[:, None] + np.cumsum(a[:, walked], axis=1)
            added = np.diff(np.maximum(sums, 0), axis=1, prepend=np.maximum(b, 0)[:, None])
            gains = gains + added[:, np.argsort(walked)] / 2
        total, squares = total + gains, squares + np.square(gains)
    n = n_paths // 2
    return total / n, np.sqrt(np.maximum(squares / n - np.square(total / n), 0) / (n - 1))


def errors(law: str, n: int, seed: int) -> dict[str, list[float]]:
    """`(error, low, high)` by method, and the truth's own error."""
    a, b = products(law, n, seed)
    rng = np.random.default_rng([seed, n, 1])
    if n <= ENUMERATED:
        truth, noise = approximated(a, b, method="exact"), np.zeros_like(a)
    else:
        truth, noise = sampled(a, b, LONG, rng)
    differences = {name: approximated(a, b, **options) - truth for name, options in METHODS.items()}
    differences[f"{SHORT} random orders"] = sampled(a, b, SHORT, rng)[0] - truth
    differences[TRUTH] = noise
    sizes = np.square(truth).sum(axis=1)
    draws = rng.integers(NEURONS, size=(statistics.DRAWS, NEURONS))
    return {
        name: statistics.relative_error(np.square(difference).sum(axis=1), sizes, draws)
        for name, difference in differences.items()
    }


def measure(args: argparse.Namespace) -> None:
    """Computes all errors, and writes them."""
    laws = {law: {n: errors(law, n, args.seed) for n in args.widths} for law in LAWS}
    where = {"versions": environment.versions(), "commit": environment.commit()}
    files.write_json(args.out / neuron_accuracy.RESULTS, {"seed": args.seed, **where, "errors": laws})


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns its exit code."""
    parser = command_line(__doc__)
    add_results(parser)
    add_seed(parser, "of neurons and orders")
    widths = f"numbers of inputs (default: {' '.join(map(str, WIDTHS))})"
    parser.add_argument("--widths", type=at_least(2), nargs="+", default=WIDTHS, metavar="N", help=widths)
    add_table(parser)
    return measure_and_write(parser, parser.parse_args(argv), measure, neuron_accuracy.write)


if __name__ == "__main__":
    sys.exit(main())
