"""How long the fast ways to Shapley values of every pixel take, in gradients of the same network.

The networks are those of studies/faithfulness.py for MNIST, with random weights. The time of a call has two parts: one
that does not depend on the number of images, mostly compilation, and one for each image. Both follow from calls with
few and with many images. These calls and the plain gradient take turns in one process, on one thread.

Takes minutes. The directory --out gets explanation_times.json, where a backend that is measured again replaces its old
numbers, and explanation_times.md, a table of all backends.
"""

import functools
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # where lab is

import keras
import numpy as np

from lab import benchmark, measuring, statistics
from lab.analysis.explanation_times import EXPLANATION_TIMES, GRADIENT_IMAGES, REPEATS
from lab.explanations import METHODS
from lab.gradients import input_gradients
from lab.networks import mnist_conv_net, mnist_mlp

NETWORKS = {"mlp": mnist_mlp, "conv": mnist_conv_net}
NAMES = ("integrated gradients", "moments", "masks 64")
# images of the smaller call, and how many more the larger one has; filling up the last batch adds 1 % to these
FEW, MORE = 120, {"mlp": 1080, "conv": 120}


def measure(activation: str, seed: int) -> list[dict[str, Any]]:
    """The measured and the counted cost of each method, a row for each network and method."""
    return [row for name in MORE for row in measure_network(name, activation, seed)]


def measure_network(name: str, activation: str, seed: int) -> list[dict[str, Any]]:
    """The rows of a network."""
    keras.utils.set_random_seed(seed)
    model = NETWORKS[name](activation)
    rng = np.random.default_rng(seed)
    few, many, gradient_images = FEW, FEW + MORE[name], GRADIENT_IMAGES[name]
    x = rng.uniform(0.1, 1, size=(max(few, many, gradient_images), 28, 28)).astype("float32")
    target = rng.integers(10, size=len(x))
    calls = {"gradient": functools.partial(input_gradients(model), x[:gradient_images], target[:gradient_images])}
    calls["gradient"]()
    for method in NAMES:
        for size in (few, many):
            explain = METHODS[method].explain
            calls[f"{method}, {size} images"] = functools.partial(explain, model, x[:size], target[:size])
    seconds = measuring.in_turns(calls, REPEATS, rng)
    rows = []
    for method in NAMES:
        few_seconds, many_seconds = (seconds[f"{method}, {size} images"] for size in (few, many))
        image_seconds = (many_seconds - few_seconds) / MORE[name]
        measured = statistics.ratio_of_medians(image_seconds, seconds["gradient"] / gradient_images, rng)
        # the part of a call that does not depend on its images, in images; None where noise hides the time of an image
        visible = measured["interval"][0] > 0
        of_call = (
            statistics.ratio_of_medians(few_seconds - few * image_seconds, image_seconds, rng) if visible else None
        )
        row = {"network": name, "activation": activation, "method": method, "counted": METHODS[method].gradients}
        rows.append(row | measured | {"of_call": of_call})
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns its exit code."""
    return benchmark.main(EXPLANATION_TIMES, measure, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
