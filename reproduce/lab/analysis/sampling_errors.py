"""The study of estimators: errors of Shapley values against their cost, beside shap and captum."""

import pathlib
from typing import Any

from lab import files, pictures, tables
from lab.peers.shapley_values import GRADIENT
from lab.statistics import interval

RESULTS = "sampling_errors.json"
TRUTH = "truth"
PEERS = ("shap", "captum")
TITLES = {"mlp": "MLP", "convnet": "Convolutional network"}
INTRODUCTION = """\
# Errors of Shapley values by cost

Made by `python reproduce/studies/sampling_errors.py`. Each cell has the cost and the error. *Cost*: evaluations of the
network for an image; a gradient counts as {gradient}. *Error*: relative RMSE,
mean over {seeds} seeds of the orders and {images} digits, with its 95 % interval over digits in brackets (Student's t).
Black pixels are no players; for captum they are one player. The truth is {truth:,} antithetic orders; its own error is
in the last row.
"""


def write(out: pathlib.Path) -> str:
    """Writes table and picture from the results in a directory; returns the table."""
    record = files.read_json(out / RESULTS)
    text = table(record)
    files.write(out / "sampling_errors.md", text)
    draw(out / "sampling_errors.png", record["errors"])
    return text


def table(record: dict[str, Any]) -> str:
    """Markdown of the errors."""
    settings = {name: record[name] for name in ("seeds", "images", "truth")}
    lines = [INTRODUCTION.format(gradient=GRADIENT, **settings)]
    for network, by_method in record["errors"].items():
        columns = max(map(len, by_method.values()))
        lines += [f"## {TITLES[network]}", "", *tables.head("method", *["cost: error"] * columns)]
        for method, points in by_method.items():
            cells = [f"{point['cost']:,.0f}: {tables.with_interval(interval(point['error']))}" for point in points]
            lines.append(tables.line([method, *cells, *[""] * (columns - len(cells))]))
        lines.append("")
    return "\n".join([*lines, *tables.provenance([tables.origin(record)])]) + "\n"


def draw(path: pathlib.Path, networks: dict[str, Any]) -> None:
    """Draws error against cost, with a panel for each network.

    Args:
        networks: `networks[network][method]` is a list of points, dicts of cost and error.
    """
    with pictures.picture(path, 8, 4 * len(networks)) as figure:
        panels = figure.subplots(len(networks), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        for axes, (network, by_method) in zip(panels, networks.items()):
            estimates = {method: points for method, points in by_method.items() if method != TRUTH}
            for marker, (method, points) in zip("ov^<>sDPX*", estimates.items()):
                costs = [point["cost"] for point in points]
                errors = [interval(point["error"])[:2] for point in points]
                style = "--" if method.startswith(PEERS) else "-"
                axes.errorbar(costs, *zip(*errors), marker=marker, ms=5, ls=style, capsize=2, label=method)
            axes.set(xscale="log", yscale="log")
            axes.set_title(TITLES[network], fontsize="medium")
        for axes in panels:
            pictures.label_ends(axes)
        figure.suptitle("How fast do estimates of Shapley values converge? Dashed: other packages")
        figure.supxlabel("evaluations of the network an image", fontsize="medium")
        figure.supylabel("relative RMSE against Shapley values", fontsize="medium")
