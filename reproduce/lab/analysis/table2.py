"""Table 2 and Fig. 4 of the paper: CIFAR-10 by an MLP, with 12 settings of the optimizer."""

import pathlib

import numpy as np

from lab import files, pictures, rows, statistics, tables
from lab.rows import Row, Setting

# (optimizer, learning rate): validation accuracy of the paper, mean and standard deviation of 8 runs, with SA and ReLU
PAPER = {
    ("SGD", 0.1): ((0.5736, 0.0053), (0.5586, 0.0087)),
    ("SGD", 0.05): ((0.5703, 0.0047), (0.5619, 0.0045)),
    ("SGD", 0.01): ((0.5662, 0.0055), (0.5572, 0.0084)),
    ("SGD", 0.005): ((0.5451, 0.0067), (0.5460, 0.0109)),
    ("Adam", 0.002): ((0.5327, 0.0042), (0.4559, 0.0082)),
    ("Adam", 0.001): ((0.5578, 0.0055), (0.5102, 0.0040)),
    ("Adam", 0.0005): ((0.5761, 0.0026), (0.5389, 0.0069)),
    ("Adam", 0.0001): ((0.5857, 0.0046), (0.5692, 0.0030)),
    ("RMSprop", 0.001): ((0.5369, 0.0200), (0.4891, 0.0129)),
    ("RMSprop", 0.0005): ((0.5579, 0.0081), (0.5209, 0.0161)),
    ("RMSprop", 0.0001): ((0.5743, 0.0074), (0.5589, 0.0235)),
    ("RMSprop", 0.00005): ((0.5773, 0.0035), (0.5718, 0.0059)),
}
ACTIVATIONS = ("relu", "sa", "sa_pooled")
FIGURE4 = ("Adam", 0.001)
INTRODUCTION = """\
# Table 2: CIFAR-10 by an MLP

Made by `python reproduce/table2_cifar10_mlp.py`. Validation accuracy after the last epoch, mean and standard deviation
(number of runs). The paper's numbers are of 8 runs; it does not say how many epochs these had.
"""
DIFFERENCES = """\
Differences between runs of the same setting and seed, with 95 % intervals over seeds. In the row *mean*, the value of a
seed is its mean over the settings, because a seed gives all of them the same first weights and order of images.
"""
REACHED = """\
Number of epochs until validation accuracy first is as high as ReLU's is in the end, by run. ReLU itself may have been
there before its end.
"""


def write(results: list[Row], out: pathlib.Path) -> str:
    """Writes table2.md and figure4.png; returns the table."""
    text = table(results)
    files.write(out / "table2.md", text)
    draw(results, out / "figure4.png")
    return text


def table(results: list[Row]) -> str:
    """Markdown of the finished runs, with a section for each group of comparable runs."""
    return "\n".join([INTRODUCTION, *(section(*group) for group in rows.comparable(results).items())])


def section(title: str, group: list[Row]) -> str:
    """Markdown of comparable rows."""
    activations = rows.activations(group)
    lines = [f"## {title}", "", *tables.head("optimizer", "paper: SA", "paper: ReLU", *activations)]
    for setting, paper in PAPER.items():
        members = rows.with_setting(group, setting)
        cells = [words(setting), *(f"{mean:.4f} ± {deviation:.4f}" for mean, deviation in paper)]
        for activation in activations:
            cells.append(tables.spread([rows.validation(row) for row in rows.with_activation(members, activation)]))
        lines.append(tables.line(cells))
    lines += differences(group, activations)
    lines += epochs_to_relu(group, activations)
    return "\n".join([*lines, "", *tables.origins(group)]) + "\n"


def differences(group: list[Row], activations: list[str]) -> list[str]:
    """Lines that compare activations by setting, and in the mean of the settings; none if nothing can be compared."""
    compared = [(a, b) for a, b in (("sa", "relu"), ("sa_pooled", "relu"), ("sa_pooled", "sa")) if a in activations]
    compared += [(a, "sa") for a in activations if a not in ACTIVATIONS]
    compared = [(a, b) for a, b in compared if rows.pairs(group, a, b)]
    if not compared:
        return []
    lines = ["", DIFFERENCES, *tables.head("optimizer", *(f"{a} − {b}" for a, b in compared))]
    by_setting = {setting: rows.with_setting(group, setting) for setting in PAPER}
    for setting, members in by_setting.items():
        cells = [tables.difference(statistics.paired(members, a, b, rows.validation)) for a, b in compared]
        if any(cells):
            lines.append(tables.line([words(setting), *cells]))
    means = [statistics.paired(group, a, b, rows.validation) for a, b in compared]
    lines.append(tables.line(["mean", *map(tables.difference, means)]))
    shown = [f"{tables.comparison(mean)}, {mean.n} seeds" if mean and mean.n > 1 else "" for mean in means]
    lines.append(tables.line(["verdict", *shown]))
    settings = [sum(bool(rows.pairs(members, a, b)) for members in by_setting.values()) for a, b in compared]
    lines.append(tables.line(["settings", *map(str, settings)]))
    return lines


def epochs_to_relu(group: list[Row], activations: list[str]) -> list[str]:
    """Lines on the number of epochs that each activation takes to ReLU's final validation; none without ReLU."""
    reached = {name: epochs_to_reach(group, name) for name in activations if name != "relu"}
    if not any(reached.values()):
        return []
    lines = ["", REACHED, *tables.head("activation", "median", "ReLU's median", "runs", "of these, never")]
    for name, counts in reached.items():
        if counts:
            own, relu = np.transpose(counts)
            cells = [f"{np.median(own):g}", f"{np.median(relu):g}", str(len(own)), str(np.isinf(own).sum())]
            lines.append(tables.line([name, *cells]))
    return lines


def epochs_to_reach(group: list[Row], activation: str) -> list[tuple[float, float]]:
    """For each run that has a counterpart with ReLU: epochs until ReLU's final validation, its own and ReLU's."""
    both = rows.pairs(group, activation, "relu")
    return [
        (rows.first_epoch_at(row, relu, "val_accuracy"), rows.first_epoch_at(relu, relu, "val_accuracy"))
        for row, relu in both
    ]


def words(setting: Setting) -> str:
    """A setting as the table names it."""
    return "{} {:g}".format(*setting)


def draw(results: list[Row], path: pathlib.Path) -> None:
    """Draws Fig. 4, accuracy in training by epoch with Adam at 0.001; nothing if that was not run."""
    group = rows.with_setting(rows.fullest(results), FIGURE4)
    if not group:
        return
    with pictures.picture(path, 7, 4.2) as figure:
        axes = figure.subplots()
        for activation, curves in rows.curves(group, "accuracy").items():
            pictures.shaded_mean(axes, np.arange(1, curves.shape[1] + 1), curves, activation)
        title = f"Does an MLP learn CIFAR-10 faster with SA?\nAdam at 0.001{tables.copies(group)}"
        axes.set(xlabel="epoch", ylabel="accuracy in training", title=title)
        pictures.label_ends(axes, 9)
