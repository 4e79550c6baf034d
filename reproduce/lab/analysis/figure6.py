"""Figs. 6 and 7 of the paper: which pixels speak for and against each digit, by relevance and by sensitivity."""

import json
import pathlib
from typing import Any

import numpy as np

from lab import files, pictures, tables

# Ours, where the paper has "fully trained"
EPOCHS, BATCH_SIZE, RATE = 20, 128, 0.001
# the paper's
IMAGES, PATHS = 1000, 1000
DIGITS = range(10)
MAPS = "figure6.npz"
READINGS = {
    "features": "Fig. 6, relevance, shared by the 50 inputs of the last layer",
    "logits": "Fig. 6, relevance, shared by the ten logits",
    "sensitivity": "Fig. 7, sensitivity (the gradient)",
    "ink": "sensitivity where the image is not black",
}
INTRODUCTION = """\
# Figs. 6 and 7: which pixels speak for and against each digit

Made by `python reproduce/figure6_interpretation.py`. Correlation over pixels between the map of a digit (approve minus
reject) and the mean image of the digit minus the mean image of the others.
"""


def read(out: pathlib.Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The record of the maps in a directory, and the maps by reading, `(2, 10, 28, 28)`: approve and reject.

    Raises:
        OSError, ValueError: if there are none.
    """
    with np.load(out / MAPS) as file:
        return json.loads(str(file["record"])), {name: file[name] for name in READINGS}


def write(out: pathlib.Path) -> str:
    """Writes figure6.png, figure7.png and figure6.md from the maps in a directory; returns the table."""
    record, maps = read(out)
    draw(out / "figure6.png", {name: maps[name] for name in ("features", "logits")})
    draw(out / "figure7.png", {"sensitivity": maps["sensitivity"]})
    text = table(record)
    files.write(out / "figure6.md", text)
    return text


def table(record: dict[str, Any]) -> str:
    """Markdown of the correlations."""
    lines = [INTRODUCTION, *tables.head("map", *map(str, DIGITS), "mean")]
    for name, values in record["nearness"].items():
        lines.append(tables.line([READINGS[name], *(f"{value:.2f}" for value in (*values, np.mean(values)))]))
    run = record["run"]
    images = run["limit"] or "all"
    lines += [
        "",
        f"Adam at {RATE:g}, batches of {BATCH_SIZE}, {run['epochs']} epochs, {images} training images, seed "
        f"{run['seed']}: test accuracy {record['accuracy']:.4f}; {run['images']} images, {PATHS} paths.",
        "",
        *tables.origins([record]),
    ]
    return "\n".join(lines) + "\n"


def draw(path: pathlib.Path, maps: dict[str, np.ndarray]) -> None:
    """Draws the maps of some readings, two lines each, which share a scale."""
    with pictures.picture(path, 8, 1.75 * len(maps) + 0.3) as figure:
        figure.suptitle("Which pixels speak for a digit (approve), which against it (reject)?", fontsize="medium")
        for part, (name, pair) in zip(np.atleast_1d(figure.subfigures(len(maps), 1)), maps.items()):
            part.suptitle(READINGS[name], fontsize="small")
            # a few pixels that are grey in one image only would darken all the others
            scale = np.quantile(pair, 0.999)
            panels = part.subplots(2, 10)
            for line, label, images in zip(panels, ("approve", "reject"), pair):
                line[0].set_ylabel(label, fontsize="small")
                for axes, image in zip(line, images):
                    shown = axes.imshow(image, cmap="gray", vmin=0, vmax=scale)
                    axes.set(xticks=[], yticks=[])
            for axes, digit in zip(panels[0], DIGITS):
                axes.set_title(str(digit), fontsize="small")
            bar = part.colorbar(shown, ax=panels, ticks=(0, scale), aspect=12)
            bar.ax.set_yticklabels(("0", f"{scale:.2g}"), fontsize="x-small")
