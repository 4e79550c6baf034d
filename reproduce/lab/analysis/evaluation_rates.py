"""The benchmark of random orders: evaluations a second in steps of one player and by naive masking."""

from typing import Any

from lab import tables
from lab.benchmark import Benchmark

PATHS, REPEATS, BATCH = 100, 7, 2048
TITLE = f"""\
# Evaluations a second along random orders

Made by `python reproduce/benchmarks/evaluation_rates.py`: MLP of Fig. 3, an image of 784 players, {PATHS} orders,
batches of {BATCH:,}, one thread. *Ratio*: of the median times, with its 95 % interval over {REPEATS} rounds in which
both had their turn. The rates are of a shared machine.
"""


def cells(row: dict[str, Any]) -> list[str]:
    """The texts of a row."""
    rates = (f"{row['rates'][name]:,}" for name in ("rows", "naive"))
    return [row["activation"], *rates, tables.ratio(row)]


EVALUATION_RATES = Benchmark(
    name="evaluation_rates",
    title=TITLE,
    columns=("activation", "one row a step", "naive masking", "ratio"),
    cells=cells,
)
