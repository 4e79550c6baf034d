"""Fig. 5 of the paper: CIFAR-10 by ResNet-20."""

import pathlib

import numpy as np

from lab import files, pictures, rows, statistics, tables
from lab.rows import Row

PAPER_EPOCHS, PAPER_FINAL = 200, 0.925
NETWORK = "resnet20"  # of the layouts, the paper's
QUANTITIES = {"accuracy": "training", "val_accuracy": "validation"}
INTRODUCTION = f"""\
# Fig. 5: CIFAR-10 by ResNet-20

Made by `python reproduce/cifar10_resnet20.py`. Accuracy after the last epoch; mean and standard deviation (number of
runs). The paper has 8 runs of 200 epochs with SA and with ReLU: validation about {PAPER_FINAL} with both, and a better
accuracy in training with SA. *Over ReLU*: mean difference between runs of the same network and seed, with its 95 %
interval in brackets.

In `resnet20` the six ReLUs that follow an addition stay ReLUs, because they have no single linear layer before them.
`resnet20_units` has no activation after an addition: each block is three units of convolution, activation and batch
normalization. In `resnet20_joint`, an addition and the convolution before it form one neuron, in which the skip
connection is one more input with weight 1. `sa_pooled` is SA with `second_moment="pooled"`.

The short schedule (`--schedule short`) is ours, and not the paper's. Its learning rate depends on the number of epochs,
and the paper's does not. Runs of the paper's schedule are therefore compared after as many epochs as they share, and
runs of the short one only with others of the same length.

Where ReLU and SA have two seeds or more, a second table compares their speed. *First epoch*: its accuracy in training,
over ReLU's. *Epochs to ReLU's end*: for each seed, the first epoch after which the accuracy is at least that of ReLU
after the last. With the short schedule accuracy still rises in the last epoch, so that a lead of less than an epoch
does not show there. *Time*: the fastest epoch over ReLU's fastest. It is a rough ratio, because the machine did other
work meanwhile. For the time of a step see [The cost of a training step](training_cost.md).
"""


def is_short(row: Row) -> bool:
    """Whether a run had our schedule and not the paper's."""
    return "schedule" in row["run"]


def until(results: list[Row], epochs: int) -> list[Row]:
    """The first `epochs` epochs of all runs that can be cut there: of the paper's schedule, those with so many or more.

    The rates of the short schedule depend on the length of a run, which therefore cannot be cut.
    """
    cut = {}
    for row in sorted(results, key=lambda row: row["run"]["epochs"]):
        length = row["run"]["epochs"]
        if length == epochs or (length > epochs and not is_short(row)):
            run = row["run"] | {"epochs": epochs}
            result = {name: values[:epochs] for name, values in row["result"].items()}
            cut.setdefault(rows.key(run, row), row | {"run": run, "result": result})
    return list(cut.values())


def by_epochs(results: list[Row]) -> dict[str, list[Row]]:
    """Groups of comparable rows, by words for them: for each number of epochs after which a run ended."""
    groups: dict[str, list[Row]] = {}
    for epochs in sorted({row["run"]["epochs"] for row in results}):
        groups |= rows.comparable(until(results, epochs))
    return groups


def longest(results: list[Row]) -> list[Row]:
    """Rows of the paper's network and schedule, cut to the number of epochs of the longest pair of ReLU and SA."""
    results = [row for row in results if row["run"]["model"] == NETWORK and not is_short(row)]
    for epochs in sorted({row["run"]["epochs"] for row in results}, reverse=True):
        group = rows.fullest(until(results, epochs))
        if rows.pairs(group, "sa", "relu"):
            return group
    return rows.fullest(results)


def short(results: list[Row]) -> list[Row]:
    """Comparable rows of the paper's network with the short schedule."""
    return rows.fullest(row for row in results if row["run"]["model"] == NETWORK and is_short(row))


def described(group: list[Row]) -> str:
    """Words for the short schedule of comparable rows."""
    run = group[0]["run"]
    words = f"{run['epochs']} epochs in batches of {run['batch_size']} with one cycle of {run['optimizer']}'s learning "
    return words + f"rate, up to {run['learning_rate']:g} and down to 0"


def write(results: list[Row], out: pathlib.Path) -> str:
    """Writes figure5.md and figure5.png; returns the table."""
    text = table(results)
    files.write(out / "figure5.md", text)
    draw(results, out / "figure5.png")
    return text


def table(results: list[Row]) -> str:
    """Markdown of the runs, with sections for each number of epochs after which a run ended."""
    lines = [INTRODUCTION]
    for title, group in by_epochs(results).items():
        lines += [f"## {title}", ""]
        lines += [f"Our schedule: {described(group)}.", ""] if is_short(group[0]) else []
        lines += [*numbers(group), ""]
    return "\n".join([*lines, *tables.origins(results)]) + "\n"


def numbers(group: list[Row]) -> list[str]:
    """Lines of the tables of comparable rows: accuracies, and of several seeds speed."""
    lines = tables.head(
        "network", "activation", *(title for name in QUANTITIES.values() for title in (name, "over ReLU"))
    )
    for model, activation in _arms(group):
        members = [row for row in group if row["run"]["model"] == model]
        cells = [model, activation]
        for last in map(rows.final, QUANTITIES):
            gain = statistics.paired(members, activation, "relu", last) if activation != "relu" else None
            values = [last(row) for row in rows.with_activation(members, activation)]
            cells += [tables.spread(values), tables.difference(gain)]
        lines.append(tables.line(cells))
    if seeds(group) > 1:
        lines += ["", *_speed(group)]
    return lines


def seeds(group: list[Row]) -> int:
    """Number of seeds that comparable rows have for ReLU and SA."""
    return len({row["run"]["seed"] for row, _ in rows.pairs(group, "sa", "relu")})


def _speed(group: list[Row]) -> list[str]:
    """Lines of the table of epochs to ReLU's end, and of time."""
    ends = (f"epochs to ReLU's end, {name}" for name in QUANTITIES.values())
    lines = tables.head("network", "activation", "first epoch", *ends, "time")
    for model, activation in _arms(group):
        members = [row for row in group if row["run"]["model"] == model]
        couples = rows.pairs(members, activation, "relu")
        if couples:
            gain = statistics.paired(members, activation, "relu", _in_first_epoch) if activation != "relu" else None
            ends = [[rows.first_epoch_at(row, relu, quantity) for row, relu in couples] for quantity in QUANTITIES]
            own, relus = (min(min(row["result"]["seconds"]) for row in side) for side in zip(*couples))
            cells = [", ".join("never" if np.isinf(end) else f"{end}" for end in values) for values in ends]
            lines.append(tables.line([model, activation, tables.difference(gain), *cells, f"{own / relus:.2f}"]))
    return lines


def _in_first_epoch(row: Row) -> float:
    return row["result"]["accuracy"][0]


def _arms(group: list[Row]) -> list[tuple[str, str]]:
    """Pairs of a network and an activation, each once."""
    return list(dict.fromkeys((row["run"]["model"], row["run"]["activation"]) for row in group))


def draw(results: list[Row], path: pathlib.Path) -> None:
    """Draws accuracy by epoch, in training and in validation; nothing if the paper's network was not run."""
    schedules = {"the paper's schedule": longest(results), "our short schedule": short(results)}
    schedules = {words: group for words, group in schedules.items() if group}
    if not schedules:
        return
    with pictures.picture(path, 8, 2.8 * len(schedules) + 0.4) as figure:
        for (words, group), line in zip(schedules.items(), figure.subplots(len(schedules), 2, squeeze=False)):
            for axes, (quantity, title) in zip(line, QUANTITIES.items()):
                for activation, curves in rows.curves(group, quantity).items():
                    pictures.shaded_mean(axes, np.arange(1, curves.shape[1] + 1), curves, activation)
                epochs = group[0]["run"]["epochs"]
                axes.set(xlabel="epoch", xticks=range(1, epochs + 1, -(-epochs // 8)), xlim=(1, max(epochs, 2)))
                runs = f"{_count(seeds(group))} of ReLU and SA"
                axes.set_title(f"{title}, {epochs} epochs, {runs}", fontsize="medium", loc="left")
                pictures.label_ends(axes)
            line[0].set_ylabel(f"accuracy, {words}")
        copies = tables.copies([row for group in schedules.values() for row in group])
        figure.suptitle(f"Does ResNet-20 learn CIFAR-10 faster with SA?{copies}", fontsize="medium")


def _count(n: int) -> str:
    return f"{n} seed" if n == 1 else f"{n} seeds"
