"""Fig. 3 of the paper: MNIST by an MLP, 1,000 images."""

import pathlib

import numpy as np

from lab import files, pictures, rows, statistics, tables
from lab.rows import Row

# The paper names Adam with 0.001, and large and small rates of SGD; the rates of SGD are ours.
SETTINGS = (("Adam", 0.001), ("SGD", 0.5), ("SGD", 0.2), ("SGD", 0.1), ("SGD", 0.05), ("SGD", 0.01))
ACTIVATIONS = ("relu", "shaplu", "sa")
PAPER_FINAL = 0.86  # validation accuracy
STEPS = 10  # batches over which accuracy in training is averaged
INTRODUCTION = f"""\
# Fig. 3: MNIST by an MLP, 1,000 images

Made by `python reproduce/figure3_mnist_mlp.py`. Mean and standard deviation (number of runs). *First epoch*: accuracy
in training, averaged over the first epoch; it measures the speed of learning. *Validation*: accuracy after the last
epoch, where the paper has about {PAPER_FINAL} for all three. *Over ReLU*: mean difference between runs of the same
seed, with its 95 % interval. Networks with dropout have it on while their accuracy in training is measured.
"""


def first_epoch(row: Row) -> float:
    """Mean accuracy in training over the first epoch."""
    accuracy = row["result"]["accuracy"]
    return float(np.mean(accuracy[: len(accuracy) // row["run"]["epochs"]]))


def write(results: list[Row], out: pathlib.Path) -> str:
    """Writes figure3.md and figure3.png; returns the table."""
    text = "\n".join([INTRODUCTION, *(section(*group) for group in rows.comparable(results).items())])
    files.write(out / "figure3.md", text)
    draw(rows.fullest(results), out / "figure3.png")
    return text


def section(title: str, group: list[Row]) -> str:
    """Markdown of comparable rows."""
    lines = [f"## {title}", ""]
    for setting in SETTINGS:
        members = rows.with_setting(group, setting)
        if not members:
            continue
        lines += [f"### {setting[0]} {setting[1]:g}", ""]
        lines += tables.head("activation", "first epoch", "over ReLU", "validation", "over ReLU")
        for activation in rows.activations(members):
            cells = [activation]
            for value in (first_epoch, rows.validation):
                cells.append(tables.spread([value(row) for row in rows.with_activation(members, activation)]))
                gain = statistics.paired(members, activation, "relu", value) if activation != "relu" else None
                cells.append(tables.difference(gain))
            lines.append(tables.line(cells))
        lines.append("")
    return "\n".join([*lines, *tables.origins(group)]) + "\n"


def draw(group: list[Row], path: pathlib.Path) -> None:
    """Draws accuracy in training against the step, with a panel for each setting that was run."""
    group = [row for row in group if row["run"]["activation"] in ACTIVATIONS]
    settings = [setting for setting in SETTINGS if rows.with_setting(group, setting)]
    if not settings:
        return
    columns = min(3, len(settings))
    lines = -(-len(settings) // columns)
    with pictures.picture(path, 2.8 * columns, 2.6 * lines + 0.4) as figure:
        panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flat
        for axes, setting in zip(panels, settings):
            axes.set_title(f"{setting[0]}, rate {setting[1]:g}", fontsize="medium")
            axes.set_ylim(0, 1)
            for activation, curves in rows.curves(rows.with_setting(group, setting), "accuracy").items():
                pictures.shaded_mean(axes, STEPS * (np.arange(curves.shape[1]) + 0.5), curves, activation)
            pictures.label_ends(axes, 7)
        seeds = len({row["run"]["seed"] for row in group})
        figure.suptitle(f"Who learns faster from 1,000 digits? Mean and standard deviation of {seeds} seeds")
        figure.supxlabel("step")
        figure.supylabel("accuracy in training")
