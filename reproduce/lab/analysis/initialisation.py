"""The study of initial kernels: deep MLPs with SA, from several initializers."""

import pathlib

from lab import files, rows, statistics, tables
from lab.rows import Row

DEPTHS = {"depth10": 10, "depth30": 30, "depth50": 50}  # hidden layers
WIDTH = 64
SETTINGS = (("SGD", 0.01), ("SGD", 0.1), ("Adam", 0.001))
BASE = "sa_he"  # the others are compared with it
INTRODUCTION = f"""\
# Initial kernels of deep MLPs with SA

Made by `python reproduce/studies/initialisation.py`. Hidden layers of {WIDTH} neurons, 1,000 images of MNIST.
*Validation*: accuracy after the last epoch, mean and standard deviation (number of runs). *Over {BASE}*: mean
difference to `{BASE}` between runs of the same seed, with its 95 % interval in brackets. Kernels start from Keras's
default in `sa`, from `he_normal` in `sa_he` and `relu_he`, and from `ks.SANormal` in `sa_normal`.
"""


def write(results: list[Row], out: pathlib.Path) -> str:
    """Writes initialisation.md; returns the table."""
    text = "\n".join([INTRODUCTION, *(section(*group) for group in rows.comparable(results).items())])
    files.write(out / "initialisation.md", text)
    return text


def section(title: str, group: list[Row]) -> str:
    """Markdown of comparable rows."""
    lines = [f"## {title}", ""]
    lines += tables.head("hidden layers", "optimizer", "activation", "validation", f"over {BASE}")
    for model, depth in DEPTHS.items():
        for setting in SETTINGS:
            members = [row for row in rows.with_setting(group, setting) if row["run"]["model"] == model]
            for activation in rows.activations(members):
                values = [rows.validation(row) for row in rows.with_activation(members, activation)]
                gain = statistics.paired(members, activation, BASE, rows.validation) if activation != BASE else None
                cells = [str(depth), "{} {:g}".format(*setting), activation]
                lines.append(tables.line([*cells, tables.spread(values), tables.difference(gain)]))
    return "\n".join([*lines, "", *tables.origins(group)]) + "\n"
