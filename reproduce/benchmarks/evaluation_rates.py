"""How many coalitions a second random orders evaluate, in steps of one player and by naive masking.

Along an order, each coalition has one player more than the one before. If a network begins with a Dense layer, it is
enough to add a row of its kernel to the sums of that layer. Naive masking puts the whole input through the network each
time. Both are `sampled_shapley_values` of the MLP of Fig. 3 with as many orders: once of the model itself, and once
behind a Permute layer that permutes nothing, where the first Dense layer is not recognized. The two take turns in one
process, on one thread, and each time includes compilation. Their ratio is measured.

Takes minutes. The directory --out gets evaluation_rates.json, where a backend that is measured again replaces its old
numbers, and evaluation_rates.md, a table of all backends.
"""

import functools
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # where lab is

import keras
import numpy as np

import keras_shapley as ks
from lab import benchmark, measuring, statistics
from lab.analysis.evaluation_rates import BATCH, EVALUATION_RATES, PATHS, REPEATS
from lab.networks import mnist_mlp


def measure(activation: str, seed: int) -> list[dict[str, Any]]:
    """Evaluations a second in both ways, and the ratio: one row."""
    keras.utils.set_random_seed(seed)
    model = mnist_mlp(activation)
    rng = np.random.default_rng(seed)
    x = rng.uniform(0.1, 1, size=(1, 28, 28)).astype("float32")
    behind = keras.Sequential([keras.Input((28, 28)), keras.layers.Permute((1, 2)), model])
    calls = {
        name: functools.partial(ks.sampled_shapley_values, network, x, n_paths=PATHS, seed=seed, batch_size=BATCH)
        for name, network in (("rows", model), ("naive", behind))
    }
    # the two must agree
    results = {name: call() for name, call in calls.items()}
    np.testing.assert_allclose(results["rows"].values, results["naive"].values, atol=1e-5)
    seconds = measuring.in_turns(calls, REPEATS, rng)
    evaluations = results["rows"].n_evaluations
    rates = {name: round(evaluations / float(np.median(times))) for name, times in seconds.items()}
    ratio = statistics.ratio_of_medians(seconds["naive"], seconds["rows"], rng)
    return [{"activation": activation, "rates": rates, **ratio}]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns its exit code."""
    return benchmark.main(EVALUATION_RATES, measure, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
