"""The benchmark of relevance propagation: its time over that of the plain input gradient."""

import pathlib
from typing import Any

from lab import files, tables

NETWORKS = {"resnet20": "ResNet-20", "resnet50": "ResNet50", "lite0": "EfficientNet-Lite0"}
NOT_OF_RESNET20 = ("image_size", "classes")  # settings
COLUMNS = (
    "method",
    "median, ms",
    "quartiles, ms",
    "over input gradient",
    "over ours",
    "largest relevance",
    "agreement",
)
NOT_FINITE = "not finite"
INTRODUCTION = """\
# The cost of relevance propagation

Made by `python reproduce/benchmarks/lrp_cost.py`, once for each backend.

Medians over rounds in which everything has its turn. *Over input gradient*: of the same model in the same run (for
zennit and captum, of the `torch.nn` twin), with a 95 % interval in brackets, from resampled rounds. *Over ours*: over
the row whose attribution should be the same: preset `epsilon`, the input gradient of the Keras model, or Shapley
propagation of one target. All rows start from a given relevance; eq. (2) of a probability needs the Shapley values of
the softmax in addition.

*Largest relevance*: over the largest explained logit. The weights are random, and eq. (2) with its small stabilizer can
grow beyond float32. *Agreement*: for each image the largest difference over the largest value, and the
correlation; the table has the median image, and the worst in brackets. Rounding can change the sign of a denominator,
or open a ReLU, on one side alone, and then an image differs by more than rounding.
"""


def file(backend: str) -> str:
    """Name of the file of results of a backend."""
    return f"lrp_cost_{backend}.json"


def write(out: pathlib.Path) -> str:
    """Writes lrp_cost.md from the results in a directory; returns it."""
    text = table([files.read_json(path) for path in sorted(out.glob(file("*")))])
    files.write(out / "lrp_cost.md", text)
    return text


def table(records: list[dict[str, Any]]) -> str:
    """Markdown of all measurements, network by network."""
    return "\n".join(
        [INTRODUCTION, *(section(name, record[name]) for name in NETWORKS for record in records if name in record)]
    )


def section(name: str, measurement: dict[str, Any]) -> str:
    """Markdown of one network on one backend."""
    run, rows, head = measurement["run"], measurement["rows"], measurement["head"]
    settings, images = run["settings"], " x ".join(map(str, run["images"]))
    lines = [f"## {NETWORKS[name]}, {run['backend']}", "", f"    {command(run['backend'], name, settings)}", ""]
    lines += [*tables.head(*COLUMNS), *(tables.line(cells(key, row)) for key, row in rows.items())]
    lines += [
        "",
        f"- Batches of {settings['batch_size']}, images {images}, {run['classes']} classes, {run['parameters']:,} "
        f"parameters, seed {settings['seed']}, {settings['repeats']} rounds.",
        f"- The softmax by {head['paths']} paths: {1e3 * head['median_seconds']:.1f} ms.",
        f"- {tables.versions(run)}; {run['device']}, threads: {settings['threads']}, cores: {run['cores']} of "
        f"{run['cpu']}.",
        *(f"- {key}: {row['note']}." for key, row in rows.items() if row["note"]),
    ]
    return "\n".join(lines) + "\n"


def command(backend: str, name: str, settings: dict[str, Any]) -> str:
    """The command that measures a network with these settings."""
    options = {key: value for key, value in settings.items() if name != "resnet20" or key not in NOT_OF_RESNET20}
    words = " ".join(f"--{key.replace('_', '-')} {value}" for key, value in options.items())
    return f"KERAS_BACKEND={backend} python reproduce/benchmarks/lrp_cost.py --model {name} {words}"


def cells(name: str, row: dict[str, Any]) -> list[str]:
    """The texts of a row, in the order of COLUMNS."""
    agreement, largest = row.get("agreement", ""), row.get("largest_relevance", "")
    if agreement:
        difference, correlation = agreement["difference"], agreement["correlation"]
        agreement = (
            f"{difference['median']:.0e} ({difference['worst']:.0e}), "
            f"r = {correlation['median']:.6f} ({correlation['worst']:.6f})"
        )
    return [
        name,
        f"{1e3 * row['median_seconds']:.1f}",
        " to ".join(f"{1e3 * value:.1f}" for value in row["quartiles_seconds"]),
        tables.ratio(row["over_base"]),
        f"{row['over_like']['ratio']:.2f}" if "over_like" in row else "",
        f"{largest:.1e}" if largest else NOT_FINITE if largest is None else "",
        NOT_FINITE if agreement is None else agreement,
    ]
