"""How long Shapley values of every pixel take by the fast ways, in gradients of the same network.

The networks for MNIST of faithfulness.py, with random weights. A call has a part that does not grow with its images,
what it compiles, and one that does: both are told from calls with few and with many images, which run in turns with
the plain gradient in one process, on one thread.
"""

import functools
import sys

import benchmark
import faithfulness
import keras
import numpy as np
import timing
from explanations import METHODS
from neurons import neurons
from sensitivity import sensitivities

NAMES = "integrated gradients", "moments", "masks 64"
# images of the smaller call, and what the larger one has more; that batches are filled up adds 1 % to these
FEW, MORE = 120, {"mlp": 1080, "conv": 120}
# images of the plain gradient, about as many as take the least time each
AT_ONCE = {"mlp": 2048, "conv": 256}
REPEATS = 10
TITLE = f"""\
# How long fast Shapley values take

Made by `python reproduce/explanation_times.py`: the networks of the study on MNIST, one thread. *Counted*: gradients of
an image as the study counts them. *Measured*: time of a further image over that of its plain gradient, of which
{AT_ONCE["mlp"]:,} (MLP) or {AT_ONCE["conv"]} (conv) are taken at once by what was compiled before, with a 95 % interval
over {REPEATS} rounds in which all had their turn. *Of a call*: what a call takes besides, mostly to compile, in further
images, with its interval.
"""


def measure(activation, seed):
    """The measured and the counted cost of each method, a list of dicts."""
    return [row for name in MORE for row in of_network(name, activation, seed)]


def of_network(name, activation, seed):
    """Rows of a network."""
    keras.utils.set_random_seed(seed)
    model = faithfulness.STUDY.networks[name](*(neurons(activation, parent) for parent in ("Dense", "Conv2D")))
    rng = np.random.default_rng(seed)
    sizes, at_once = (FEW, FEW + MORE[name]), AT_ONCE[name]
    x = rng.uniform(0.1, 1, size=(max(*sizes, at_once), 28, 28)).astype("float32")
    target = rng.integers(10, size=len(x))
    calls = {"gradient": functools.partial(sensitivities(model), x[:at_once], target[:at_once])}
    calls["gradient"]()
    for method in NAMES:
        for size in sizes:
            calls[f"{method}, {size} images"] = functools.partial(METHODS[method][1], model, x[:size], target[:size])
    seconds = timing.in_turns(calls, REPEATS, rng)
    rows = []
    for method in NAMES:
        few, many = (seconds[f"{method}, {size} images"] for size in sizes)
        of_image = (many - few) / MORE[name]
        measured = timing.ratio(of_image, seconds["gradient"] / at_once, rng)
        seen = measured["interval"][0] > 0
        of_call = timing.ratio(few - FEW * of_image, of_image, rng) if seen else None
        row = {"network": name, "activation": activation, "method": method, "counted": METHODS[method][0]}
        rows.append(row | measured | {"of_call": of_call})
    return rows


def cells(row):
    """Of a line of the table."""
    words = [row["network"], row["activation"], row["method"], f"{row['counted']:.3g}"]
    if row["of_call"] is None:
        return [*words, "hidden by noise", ""]
    low, high = row["of_call"]["interval"]
    of_call = f"{row['of_call']['ratio']:.3g} ({low:.3g} to {high:.3g})" if low > 0 else "hidden by noise"
    return [*words, benchmark.in_words(row), of_call]


TIMES = benchmark.Benchmark(
    name="explanation_times",
    title=TITLE,
    columns=("network", "", "method", "counted", "measured", "of a call"),
    measure=measure,
    cells=cells,
)


def main(argv=None):
    """Runs the script; gives its exit code."""
    return benchmark.main(TIMES, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
