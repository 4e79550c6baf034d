"""The study of a network of ImageNet: how near explanations come to the Shapley values of patches."""

import json
import pathlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

import keras_shapley as ks
from lab import files, pictures, rows, tables
from lab.rows import Row
from lab.statistics import Interval, interval, ratio_of_medians, relative_noise

RESULTS, SECONDS = "imagenet.jsonl", "imagenet_seconds.json"
# names of rows that are no explanation
TRUTH, FORWARD = "Shapley values", "forward pass"
DEFAULT = "Shapley propagation"
OUTPUTS = ("logit", "probability")
# attributions without a unit: Grad-CAM has the unit of its feature maps
WITHOUT_UNIT = ("Grad-CAM",)
INTRODUCTION = """\
# A network of ImageNet on photographs

Made by `python reproduce/studies/imagenet.py`. Attributions of 49 patches beside their Shapley values: correlation,
relative RMSE, and the share of the difference from the output at the baseline that they sum to. The baseline is grey.
Means over the crops, with 95 % intervals over the photographs, of which each has two crops. *Against the default*: the
difference of the correlations, crop by crop. *Deletion* and *insertion*: area under the probability while patches are
removed from the photograph, and inserted into the grey image, those with the largest attributions first. *Cost*: time
over that of a forward pass of the same images.
"""


class Crop(NamedTuple):
    """The rows of a crop.

    Attributes:
        name: of the crop.
        truth: the result of the Shapley values.
        results: of the methods, by name.
    """

    name: str
    truth: dict[str, Any]
    results: dict[str, dict[str, Any]]


def write(out: pathlib.Path) -> str:
    """Writes the table from the results in a directory, and returns it.

    Raises:
        ValueError: if there are none.
    """
    finished = rows.read(out / RESULTS)
    if not finished:
        raise ValueError(f"{out / RESULTS} holds no finished row")
    text = table(finished, out / SECONDS)
    files.write(out / "imagenet.md", text)
    return text


def networks(finished: Iterable[Row]) -> dict[str, list[Crop]]:
    """The crops whose truth is known, by words for the network and its settings."""
    groups: dict[str, dict[str, dict[str, Any]]] = {}
    for row in finished:
        run = dict(row["run"])
        crop, method = run.pop("crop"), run.pop("method")
        groups.setdefault(json.dumps(run), {}).setdefault(crop, {})[method] = row["result"]
    return {
        words(json.loads(settings)): [
            Crop(name, results[TRUTH], {method: result for method, result in results.items() if method != TRUTH})
            for name, results in crops.items()
            if TRUTH in results
        ]
        for settings, crops in groups.items()
    }


def words(run: dict[str, Any]) -> str:
    """A run's network and settings."""
    weights = ", random weights" if run["random_weights"] else ""
    return f"{run['model']}{weights}, {run['side']} pixels a side, {run['coalitions']:,} coalitions, seed {run['seed']}"


def measures(crop: Crop, method: str, output: str) -> dict[str, float]:
    """Correlation with the Shapley values, relative RMSE, and the share that arrives; NaN beyond float32."""
    truth, values = (np.array(result[output], "float64")[None] for result in (crop.truth, crop.results[method]))
    if not np.isfinite(values).all():
        return dict.fromkeys(("correlation", "error", "arrives"), np.nan)
    return {
        "correlation": float(ks.metrics.correlation(values, truth)[0]),
        "error": float(ks.metrics.relative_rmse(values, truth)[0]),
        "arrives": float(values.sum() / crop.truth["total"][output]),
    }


def noise(crop: Crop, output: str) -> float:
    """The truth's own relative RMSE."""
    stderr, values = np.array(crop.truth["stderr"][output]), np.array(crop.truth[output])
    return float(relative_noise(stderr, values))


def over_photographs(crops: list[Crop], values: list[float]) -> Interval:
    """Mean over the crops, with an interval over photographs."""
    by_photograph: dict[str, list[float]] = {}
    for crop, value in zip(crops, values, strict=True):
        by_photograph.setdefault(crop.name.rpartition(",")[0], []).append(value)
    return interval([float(np.mean(values)) for values in by_photograph.values()])


def table(finished: list[Row], seconds: pathlib.Path) -> str:
    """Markdown of the results."""
    lines = [INTRODUCTION]
    costs = files.read_json(seconds) if seconds.exists() else None
    for title, crops in networks(finished).items():
        methods = list(dict.fromkeys(method for crop in crops for method in crop.results))
        for output in OUTPUTS:
            lines += [f"## {title}: the {output}", "", *_of_output(crops, methods, output, costs), ""]
            own = [noise(crop, output) for crop in crops]
            lines += [
                f"{len(crops)} crops; the relative RMSE of the Shapley values is {min(own):.2f} to {max(own):.2f}.",
                "",
            ]
    if costs is not None:
        lines += [
            f"The cost was measured on {costs['images']} images, {costs['threads']} threads, {costs['device']}.",
            "",
        ]
    return "\n".join([*lines, *tables.origins(finished)]) + "\n"


def _of_output(crops: list[Crop], methods: list[str], output: str, costs: dict[str, Any] | None) -> list[str]:
    """Lines of the table of an output."""
    titles = ["method", "correlation", "against the default", "relative RMSE", "arrives"]
    areas = ["deletion", "insertion"] if output == "probability" else []
    titles += [*areas, "cost"]
    lines = tables.head(*titles)
    if output == "probability":
        cells = [tables.with_interval(over_photographs(crops, [crop.truth[name] for crop in crops])) for name in areas]
        lines.append(tables.line([TRUTH, "", "", "", "", *cells, ""]))
    for method in methods:
        present = [crop for crop in crops if method in crop.results]
        measured = [measures(crop, method, output) for crop in present]
        if not all(np.isfinite(each["correlation"]) for each in measured):
            lines.append(tables.line([method, "beyond float32", *[""] * (len(titles) - 2)]))
            continue
        correlations = [each["correlation"] for each in measured]
        cells = [tables.with_interval(over_photographs(present, correlations))]
        if method == DEFAULT or not all(DEFAULT in crop.results for crop in present):
            cells.append("")
        else:
            reference = [measures(crop, DEFAULT, output)["correlation"] for crop in present]
            gains = [own - other for own, other in zip(correlations, reference)]
            cells.append(tables.with_interval(over_photographs(present, gains), "+"))
        if method in WITHOUT_UNIT:
            cells += ["", ""]
        else:
            cells.append(f"{np.mean([each['error'] for each in measured]):.3g}")
            arrives = [each["arrives"] for each in measured]
            cells.append(f"{min(arrives):.3g} to {max(arrives):.3g}")
        if output == "probability":
            cells += [f"{np.mean([crop.results[method][name] for crop in present]):.3f}" for name in areas]
        cells.append(_cost(costs, timed(method, output)))
        lines.append(tables.line([method, *cells]))
    return lines


def timed(method: str, output: str) -> str:
    """The name under which the seconds of a method are kept."""
    return f"{method}: {output}"


def _cost(costs: dict[str, Any] | None, name: str) -> str:
    if costs is None or name not in costs["seconds"]:
        return ""
    own, base = (np.array(costs["seconds"][each]) for each in (name, FORWARD))
    return f"{ratio_of_medians(own, base, np.random.default_rng(0))['ratio']:.1f}"


def draw(path: pathlib.Path, photographs: np.ndarray, labels: list[str], maps: dict[str, np.ndarray]) -> None:
    """Draws maps beside the photographs, a row for each.

    Args:
        path: of the picture.
        photographs: array `(n, side, side, 3)` of uint8.
        labels: of the photographs.
        maps: arrays `(n, side, side)`, by what stands above them.
    """
    with pictures.picture(path, 8, 0.8 * len(labels) + 0.7) as figure:
        figure.suptitle("What speaks for the class (red), what against it (blue)? Each map has its own scale")
        panels = figure.subplots(len(labels), 1 + len(maps), squeeze=False)
        for line, photograph, label, *values in zip(panels, photographs, labels, *maps.values()):
            line[0].imshow(photograph)
            line[0].set_ylabel(label, fontsize="x-small")
            for axes, value in zip(line[1:], values):
                scale = np.abs(value).max()
                axes.imshow(value, cmap="RdBu_r", vmin=-scale, vmax=scale)
        for axes in panels.flat:
            axes.set(xticks=[], yticks=[])
        for axes, title in zip(panels[0], ("photograph", *maps)):
            axes.set_title(title.replace(" ", "\n"), fontsize="x-small")
