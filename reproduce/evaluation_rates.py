"""How many coalitions a second random orders evaluate, in steps of one player and by naive masking.

Along an order each coalition has one player more than the one before. Where a network begins with a Dense layer, a row
of its kernel is added to the sums of that layer; naive masking puts the whole input through the network each time. Both
are `sampled_shapley_values` of the MLP of Fig. 3 with as many orders, once as it is and once behind a Permute that
permutes nothing, where the first layer is not seen to be Dense. They run in turns in one process, on one thread, each
time with what it compiles, and the ratio is theirs.
"""

import functools
import sys

import benchmark
import figure3_mnist_mlp
import keras
import numpy as np
import timing
from neurons import neurons

import keras_shapley as ks

PATHS, REPEATS, BATCH = 100, 7, 2048
TITLE = f"""\
# Evaluations a second along random orders

Made by `python reproduce/evaluation_rates.py`: MLP of Fig. 3, an image of 784 players, {PATHS} orders, batches of
{BATCH:,}, one thread. *Ratio*: of the median times, with its 95 % interval over {REPEATS} rounds in which both had
their turn. Rates are of a shared machine.
"""


def measure(activation, seed):
    """Evaluations a second in both ways and the ratio, a list of one dict."""
    keras.utils.set_random_seed(seed)
    model = figure3_mnist_mlp.mlp(neurons(activation, "Dense"))
    rng = np.random.default_rng(seed)
    x = rng.uniform(0.1, 1, size=(1, 28, 28)).astype("float32")
    behind = keras.Sequential([keras.Input((28, 28)), keras.layers.Permute((1, 2)), model])
    calls = {
        name: functools.partial(ks.sampled_shapley_values, each, x, n_paths=PATHS, seed=seed, batch_size=BATCH)
        for name, each in (("rows", model), ("naive", behind))
    }
    # they must agree
    found = {name: call() for name, call in calls.items()}
    np.testing.assert_allclose(found["rows"].values, found["naive"].values, atol=1e-5)
    seconds = timing.in_turns(calls, REPEATS, rng)
    evaluations = found["rows"].n_evaluations
    rates = {name: round(evaluations / float(np.median(times))) for name, times in seconds.items()}
    return [{"activation": activation, "rates": rates, **timing.ratio(seconds["naive"], seconds["rows"], rng)}]


def cells(row):
    """Of a line of the table."""
    rates = (f"{row['rates'][name]:,}" for name in ("rows", "naive"))
    return [row["activation"], *rates, benchmark.in_words(row)]


RATES = benchmark.Benchmark(
    name="evaluation_rates",
    title=TITLE,
    columns=("", "one row a step", "naive masking", "ratio"),
    measure=measure,
    cells=cells,
)


def main(argv=None):
    """Runs the script; gives its exit code."""
    return benchmark.main(RATES, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
