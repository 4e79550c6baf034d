"""The study of single neurons: errors of eq. (1), of its closed form, of a quadrature and of random orders."""

import pathlib
from typing import Any

import numpy as np

from lab import files, pictures, tables

NEURONS = 60
ENUMERATED = 16  # inputs; the truth of wider neurons is sampled
LONG = 10000  # random orders of that truth
RESULTS = "neuron_accuracy.json"
TRUTH = "truth"
# of the laws of the inputs
TITLES = {
    "normal": "Normal inputs",
    "normal, without biases": "Normal inputs, no biases",
    "uniform in [0, 1]": "Uniform inputs in [0, 1]",
    "half of them 0": "Normal inputs, half of them 0",
    "Student's t, 3 degrees": "Student's t inputs, 3 degrees of freedom",
}
INTRODUCTION = f"""\
# Accuracy of the Shapley values of one ReLU neuron

Made by `python reproduce/studies/neuron_accuracy.py`. Relative error over {NEURONS} random neurons, with its 95 %
interval in brackets, from resampled neurons, by the number of inputs. Up to {ENUMERATED} inputs, the truth is
enumeration. Beyond, it is {LONG:,} antithetic random orders, whose own relative error is in the last row. The closed
form is the rule of Shapley propagation, `ks.neuron_shapley_values(method="efficient")`, which sums to the exact total.
"""


def write(out: pathlib.Path) -> str:
    """Writes table and picture from the results in a directory; returns the table."""
    record = files.read_json(out / RESULTS)
    text = table(record)
    files.write(out / "neuron_accuracy.md", text)
    draw(out / "neuron_accuracy.png", record["errors"])
    return text


def table(record: dict[str, Any]) -> str:
    """Markdown of the errors."""
    lines = [INTRODUCTION]
    for law, by_width in record["errors"].items():
        lines += [f"## {TITLES[law]}", "", *tables.head("method", *(f"{n} inputs" for n in by_width))]
        for method in next(iter(by_width.values())):
            cells = ["{:.3f} ({:.3f} to {:.3f})".format(*errors[method]) for errors in by_width.values()]
            lines.append(tables.line([method, *cells]))
        lines.append("")
    return "\n".join([*lines, *tables.provenance([tables.origin(record)])]) + "\n"


def draw(path: pathlib.Path, laws: dict[str, Any]) -> None:
    """Draws the errors with their intervals, with a panel for each law of the inputs.

    Args:
        laws: `laws[law][n][method]` is `(error, low, high)`.
    """
    columns = min(2, len(laws))
    n_rows = -(-len(laws) // columns)
    with pictures.picture(path, 4 * columns, 2.6 * n_rows + 0.4) as figure:
        panels = figure.subplots(n_rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for axes in panels[len(laws) :]:
            axes.set_visible(False)
        for axes, (law, by_width) in zip(panels, laws.items()):
            widths, methods = [int(n) for n in by_width], next(iter(by_width.values()))
            for method, marker in zip([method for method in methods if method != TRUTH], "osDv^P"):
                error, low, high = np.array([errors[method] for errors in by_width.values()]).T
                style = {"marker": marker, "ms": 4, "lw": 1, "elinewidth": 0.7, "capsize": 2}
                axes.errorbar(widths, error, (error - low, high - error), label=method, **style)
            noise = [(n, errors[TRUTH][0]) for n, errors in zip(widths, by_width.values()) if n > ENUMERATED]
            if noise:
                axes.plot(*zip(*noise), ":k", label="error of the truth")
            axes.set(xscale="log", yscale="log", ylim=(2e-3, 1))
            axes.set_title(TITLES[law], fontsize="small")
        for axes in panels[: len(laws)]:
            pictures.label_ends(axes, 7)
        for axes in panels[: len(laws)][-columns:]:
            axes.set_xlabel("inputs of the neuron")
            axes.tick_params("x", labelbottom=True)
        figure.suptitle("How far off are formulas for the Shapley values of one neuron?")
        figure.supylabel("relative error, with 95 % intervals", fontsize="medium")
