"""The benchmark of fast Shapley values: their time in gradients of the same network."""

from typing import Any

from lab import tables
from lab.benchmark import Benchmark

# images of the plain gradient, about as many as take the least time each
GRADIENT_IMAGES = {"mlp": 2048, "conv": 256}
REPEATS = 10
TITLE = f"""\
# How long fast Shapley values take

Made by `python reproduce/benchmarks/explanation_times.py`: the networks of the study on MNIST, one thread. *Counted*:
gradients for an image, as the study counts them. *Measured*: the time of one more image over the time of its plain
gradient, with its 95 % interval over {REPEATS} rounds in which all had their turn. The gradient takes
{GRADIENT_IMAGES["mlp"]:,} (MLP) or {GRADIENT_IMAGES["conv"]} (conv) images at once, and was compiled before. *Fixed*:
the part of a call's time that does not depend on the number of images, mostly compilation, over the time of one more
image, with its interval.
"""
HIDDEN = "hidden by noise"


def cells(row: dict[str, Any]) -> list[str]:
    """The texts of a row."""
    words = [row["network"], row["activation"], row["method"], f"{row['counted']:.3g}"]
    if row["of_call"] is None:
        return [*words, HIDDEN, ""]
    low, high = row["of_call"]["interval"]
    of_call = f"{row['of_call']['ratio']:,.0f} ({low:,.0f} to {high:,.0f})" if low > 0 else HIDDEN
    return [*words, tables.ratio(row), of_call]


EXPLANATION_TIMES = Benchmark(
    name="explanation_times",
    title=TITLE,
    columns=("network", "activation", "method", "counted", "measured", "fixed"),
    cells=cells,
)
