"""Whether it takes the Shapley gate, or any leak would do: other activations beside ReLU and SA."""

import pathlib

from lab import rows, tables
from lab.activations import ACTIVATIONS
from lab.analysis import figure3
from lab.statistics import paired
from report.verdicts import python

INTRODUCTION = """\
## Is it the Shapley gate, or would any leak do?

The same networks with other activations. The first columns are the accuracy in the first epoch of Fig. 3 with Adam, and
validation after its last epoch; the last are validation in Table 2, as a mean of the settings that all of these were
run in. `relu_he` has zero biases and He's kernels. The number in `leaky_relu_...` is the slope below zero. `sa_pooled`
and `sa_no_moment_gradient` are cheaper forms of SA; `shaplu_full` has all of eq. (4).
"""
CONTROL = "gelu"  # it was run in every setting in which the controls were run


def lines(results: pathlib.Path) -> list[str]:
    """Lines of the section."""
    mnist = rows.with_setting(rows.fullest(rows.read(results / "figure3.jsonl")), ("Adam", 0.001))
    cifar10 = rows.fullest(rows.read(results / "table2.jsonl"))
    cifar10 = [row for row in cifar10 if rows.counterpart(cifar10, row, activation=CONTROL)]
    columns = {
        "Fig. 3, first epoch": (mnist, figure3.first_epoch),
        "Fig. 3, validation": (mnist, rows.validation),
        "Table 2": (cifar10, rows.validation),
    }
    # with dropout, accuracy in training is of another task
    compared = [name for name in ACTIVATIONS if not name.endswith("dropout")]
    present = [name for name in rows.activations([*mnist, *cifar10]) if name in compared]
    table = tables.head("activation", *(f"{title}, over {base}" for title in columns for base in ("ReLU", "SA")))
    for activation in present:
        gains = [
            paired(group, activation, base, value) if activation != base else None
            for group, value in columns.values()
            for base in ("relu", "sa")
        ]
        table.append(tables.line([activation, *map(tables.difference, gains)]))

    commands = []
    if mnist:
        command = f"figure3_mnist_mlp.py --together 10 --activations {' '.join(present)}"
        commands.append(python(command, mnist[0]["backend"]))
    for optimizer, rate in dict.fromkeys((row["run"]["optimizer"], row["run"]["learning_rate"]) for row in cifar10):
        names = [name for name in present if rows.with_activation(cifar10, name)]
        seeds, epochs = len({row["run"]["seed"] for row in cifar10}), cifar10[0]["run"]["epochs"]
        command = f"table2_cifar10_mlp.py --seeds {seeds} --epochs {epochs} --only '*/{optimizer}_{rate:g}/*' "
        commands.append(python(command + f"--activations {' '.join(names)}", cifar10[0]["backend"]))
    return [INTRODUCTION, *table, "", "```bash", *commands, "```"]
