"""The benchmark of training steps: time and memory with SA and ShapLU over those with ReLU."""

import pathlib
from typing import Any

from lab import files, tables

MODELS = {"mlp": "MLP", "resnet20": "ResNet-20"}
COLUMNS = ("layers", "median, ms", "over ReLU", "over GELU", "products and convolutions", "multiply-adds")
COLUMNS += ("memory",)
# how a backend was compiled, by `jit_compile`
COMPILED = {"torch": ("eagerly", "by torch.compile")} | dict.fromkeys(
    ("jax", "tensorflow"), ("without XLA", "with XLA")
)
INTRODUCTION = """\
# The cost of a training step

Made by `python reproduce/benchmarks/training_cost.py --backend NAME`, once for each backend.

Medians over rounds in which every row has its turn, and ratios of medians to the rows ReLU and GELU of the same run,
with a 95 % interval in brackets, from resampled rounds. *Products and convolutions*, *multiply-adds*: of the gradient,
as the backend gets it, over ReLU's. *Memory*: the peak of a step above the memory held between steps, over ReLU's. On
JAX it is XLA's plan for the gradient; elsewhere it is the median of a few steps of the process's memory, a rough
figure.
"""


def file(backend: str) -> str:
    """Name of the file of results of a backend."""
    return f"training_cost_{backend}.json"


def read(out: pathlib.Path) -> list[dict[str, Any]]:
    """The measurements of all backends in a directory."""
    records = [files.read_json(path) for path in sorted(out.glob(file("*")))]
    return [measurement for record in records for measurement in record.values()]


def write(out: pathlib.Path) -> str:
    """Writes training_cost.md from the results in a directory; returns it."""
    text = table(read(out))
    files.write(out / "training_cost.md", text)
    return text


def table(measurements: list[dict[str, Any]]) -> str:
    """Markdown of all measurements, model by model."""
    order = sorted(measurements, key=lambda m: (list(MODELS).index(m["run"]["model"]), m["run"]["batch_size"]))
    return "\n".join([INTRODUCTION, *map(section, order)])


def section(measurement: dict[str, Any]) -> str:
    """Markdown of one model on one backend."""
    run = measurement["run"]
    settings = run["settings"]
    compiled = COMPILED[run["backend"]][settings["jit_compile"]]
    floor = ": how low the pooled moment can go" * settings.get("floor", False)
    lines = [f"## {MODELS[run['model']]}, batches of {run['batch_size']}, {run['backend']}{floor}", ""]
    lines += [*tables.head(*COLUMNS), *(tables.line(cells(row)) for row in measurement["rows"])]
    origins = (
        f"{settings['repeats']} rounds, {compiled}; {run['parameters']:,} parameters, seed {settings['seed']}",
        f"{tables.versions(run)}; {run['device']}, threads: {settings['threads']}, cores: {run['cores']} of "
        f"{run['cpu']}; commit {run['commit']}",
    )
    return "\n".join([*lines, "", *tables.provenance(origins)]) + "\n"


def cells(row: dict[str, Any]) -> list[str]:
    """The texts of a row, in the order of COLUMNS."""
    return [
        row["name"],
        f"{1e3 * row['median_seconds']:.1f}",
        tables.ratio(row),
        f"{row['ratio_gelu']:.2f}",
        f"{row['count_ratio']:.2f}",
        f"{row['multiply_add_ratio']:.2f}",
        f"{row['memory_ratio']:.2f}" if row["memory_ratio"] else "",
    ]
