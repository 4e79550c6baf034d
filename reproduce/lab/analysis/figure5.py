"""Fig. 5 of the paper: CIFAR-10 by ResNet-20."""

import pathlib

import numpy as np

from lab import files, pictures, rows, statistics, tables
from lab.rows import Row

PAPER_EPOCHS, PAPER_FINAL = 200, 0.925
NETWORK = "resnet20"  # of the layouts, the paper's
INTRODUCTION = f"""\
# Fig. 5: CIFAR-10 by ResNet-20

Made by `python reproduce/cifar10_resnet20.py`. Accuracy after the last epoch; mean and standard deviation (number of
runs). The paper has 8 runs of 200 epochs with SA and with ReLU: validation about {PAPER_FINAL} with both, and a better
accuracy in training with SA. *Over ReLU*: mean difference between runs of the same network and seed, with its 95 %
interval.
"""


def until(results: list[Row], epochs: int) -> list[Row]:
    """The first `epochs` epochs of all runs that had so many: the rates of a run do not depend on its length."""
    cut = {}
    for row in sorted(results, key=lambda row: row["run"]["epochs"]):
        if row["run"]["epochs"] >= epochs:
            run = row["run"] | {"epochs": epochs}
            result = {name: values[:epochs] for name, values in row["result"].items()}
            cut.setdefault(rows.key(run, row), row | {"run": run, "result": result})
    return list(cut.values())


def longest(results: list[Row]) -> list[Row]:
    """Comparable rows of the paper's network, cut to the number of epochs of the longest pair of ReLU and SA."""
    results = [row for row in results if row["run"]["model"] == NETWORK]
    for epochs in sorted({row["run"]["epochs"] for row in results}, reverse=True):
        group = rows.fullest(until(results, epochs))
        if rows.pairs(group, "sa", "relu"):
            return group
    return rows.fullest(results)


def write(results: list[Row], out: pathlib.Path) -> str:
    """Writes figure5.md and figure5.png; returns the table."""
    text = table(results)
    files.write(out / "figure5.md", text)
    draw(results, out / "figure5.png")
    return text


def table(results: list[Row]) -> str:
    """Markdown of the runs, with sections for each number of epochs after which a run ended."""
    lines = [INTRODUCTION]
    groups: dict[str, list[Row]] = {}
    for epochs in sorted({row["run"]["epochs"] for row in results}):
        groups |= rows.comparable(until(results, epochs))
    for title, group in groups.items():
        lines += [f"## {title}", ""]
        lines += tables.head("network", "", "training", "over ReLU", "validation", "over ReLU")
        for model, activation in dict.fromkeys((row["run"]["model"], row["run"]["activation"]) for row in group):
            members = [row for row in group if row["run"]["model"] == model]
            cells = [model, activation]
            for last in (rows.final("accuracy"), rows.validation):
                gain = statistics.paired(members, activation, "relu", last) if activation != "relu" else None
                values = [last(row) for row in rows.with_activation(members, activation)]
                cells += [tables.spread(values), tables.difference(gain)]
            lines.append(tables.line(cells))
        lines.append("")
    return "\n".join([*lines, *tables.origins(results)]) + "\n"


def draw(results: list[Row], path: pathlib.Path) -> None:
    """Draws accuracy by epoch, in training and in validation; nothing if the paper's network was not run."""
    group = longest(results)
    if not group:
        return
    with pictures.picture(path, 10, 4, dpi=120) as figure:
        panels = {"accuracy": "training", "val_accuracy": "validation"}
        for axes, (quantity, title) in zip(figure.subplots(1, 2), panels.items()):
            for activation, curves in rows.curves(group, quantity).items():
                pictures.shaded_mean(axes, np.arange(1, curves.shape[1] + 1), curves, activation)
            axes.set(xlabel="epoch", ylabel="accuracy", title=f"ResNet-20: {title}")
            axes.legend(fontsize="small")
        figure.suptitle(f"CIFAR-10{tables.copies(group)}")
