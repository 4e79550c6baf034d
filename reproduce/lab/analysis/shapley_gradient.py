"""The study of gradients: how near those of ShapLU and SA come to the Shapley gradient."""

import pathlib
from typing import Any

import numpy as np

from lab import files, pictures, tables
from lab.statistics import Interval, interval

RULES = ("relu", "shaplu", "shaplu_full", "sa")
STEPS = (0, 10, 30, 100, 200, 400)  # of the training
LAYERS = (1, 2)
IMAGES = 16
RESULTS = "shapley_gradient.json"
INTRODUCTION = """\
# Gradients beside the Shapley gradient

Made by `python reproduce/studies/shapley_gradient.py`. Gradients of the loss with respect to the kernels of the two
hidden layers of Fig. 3's network, at steps of its training with ReLU: cosine with the Shapley gradient by random
orders, and the ratio of its norm to that gradient's. Means over seeds, with 95 % intervals in brackets. *Orders*: the
cosine between the gradients by two halves of the orders, which shows the noise of sampling.
"""


def over_seeds(rows: list[dict[str, Any]], layer: int, step: int, quantity: str, rule: str | None = None) -> Interval:
    """Mean over the seeds of a quantity of a layer at a step.

    Args:
        quantity: "orders"; or "cosine" or "norm_ratio" of a rule.
        rule: a name in `RULES`.
    """
    members = [row for row in rows if (row["layer"], row["step"]) == (layer, step)]
    return interval([row[quantity] if rule is None else row[rule][quantity] for row in members])


def write(out: pathlib.Path) -> str:
    """Writes table and picture from the results in a directory; returns the table."""
    record = files.read_json(out / RESULTS)
    text = table(record)
    files.write(out / "shapley_gradient.md", text)
    draw(out / "shapley_gradient.png", record["rows"])
    return text


def table(record: dict[str, Any]) -> str:
    """Markdown of the results."""
    rows, lines = record["rows"], [INTRODUCTION]
    for layer in LAYERS:
        titles = [f"{rule}, {title}" for rule in RULES for title in ("cosine", "norm")]
        lines += [f"## Hidden layer {layer}", "", *tables.head("step", "orders", *titles)]
        for step in STEPS:
            cells = [str(step), f"{over_seeds(rows, layer, step, 'orders').mean:.4f}"]
            for rule in RULES:
                for quantity in ("cosine", "norm_ratio"):
                    cells.append(tables.with_interval(over_seeds(rows, layer, step, quantity, rule)))
            lines.append(tables.line(cells))
        lines.append("")
    seeds, pairs = record["seeds"] - 1, record["pairs"]
    lines += [f"Seeds 0 to {seeds}; {pairs} random orders and their reverses, {IMAGES} images.", ""]
    return "\n".join([*lines, *tables.origins([record])]) + "\n"


def draw(path: pathlib.Path, rows: list[dict[str, Any]]) -> None:
    """Draws cosine and norm ratio against the step, with a column for each hidden layer."""
    titles = {"cosine": "cosine: 1 is its direction", "norm_ratio": "norm: 1 is its norm"}
    with pictures.picture(path, 8, 5.6) as figure:
        figure.suptitle("How near do gradients come to the Shapley gradient, by step of the training?")
        for line, (quantity, title) in zip(figure.subplots(2, 2, sharex=True, sharey="row"), titles.items()):
            line[0].set_ylabel(title)
            for layer, axes in zip(LAYERS, line):
                for shift, rule in enumerate(RULES):
                    means, halves, _ = zip(*(over_seeds(rows, layer, step, quantity, rule) for step in STEPS))
                    # beside each other, so that no interval hides another
                    places = np.arange(len(STEPS)) + 0.06 * shift
                    axes.errorbar(places, means, halves, capsize=2, **pictures.styled(rule))
                axes.set_xticks(range(len(STEPS)), STEPS)
                if quantity == "cosine":
                    axes.set_title(f"hidden layer {layer}", fontsize="medium")
                else:
                    axes.set_xlabel("step")
                    axes.axhline(1, color="0.8", zorder=0)
        for axes in figure.axes:
            pictures.label_ends(axes, 7)
