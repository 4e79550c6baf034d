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
INTRODUCTION = f"""\
# Accuracy of the Shapley values of one ReLU neuron

Made by `python reproduce/studies/neuron_accuracy.py`. Relative error over {NEURONS} random neurons, with its 95 %
interval from resampled neurons, by the number of inputs. Up to {ENUMERATED} inputs, the truth is enumeration. Beyond,
it is {LONG:,} antithetic random orders, whose own relative error is in the last row. The closed form is the rule of
Shapley propagation, `ks.neuron_shapley_values(method="efficient")`, which sums to the exact total.
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
        lines += [f"## Inputs {law}", "", *tables.head("", *map(str, by_width))]
        for method in next(iter(by_width.values())):
            cells = ["{:.3f} ({:.3f} to {:.3f})".format(*errors[method]) for errors in by_width.values()]
            lines.append(tables.line([method, *cells]))
        lines.append("")
    lines.append(f"- Seed {record['seed']}; {tables.versions(record)}; commit {record['commit']}.")
    return "\n".join(lines) + "\n"


def draw(path: pathlib.Path, laws: dict[str, Any]) -> None:
    """Draws the errors with their intervals, with a panel for each law of the inputs.

    Args:
        laws: `laws[law][n][method]` is `(error, low, high)`.
    """
    with pictures.picture(path, 3.6 * len(laws), 4) as figure:
        panels = figure.subplots(1, len(laws), sharey=True, squeeze=False)[0]
        for axes, (law, by_width) in zip(panels, laws.items()):
            widths, methods = [int(n) for n in by_width], next(iter(by_width.values()))
            for method in methods:
                if method != TRUTH:
                    error, low, high = np.array([errors[method] for errors in by_width.values()]).T
                    axes.errorbar(widths, error, (error - low, high - error), marker="o", capsize=2, label=method)
            noise = [(n, errors[TRUTH][0]) for n, errors in zip(widths, by_width.values()) if n > ENUMERATED]
            if noise:
                axes.plot(*zip(*noise), ":k", label="the truth's own")
            axes.set(xscale="log", yscale="log", xlabel="inputs of the neuron", title=f"inputs {law}")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=7, fontsize="small")
        figure.supylabel("relative error")
