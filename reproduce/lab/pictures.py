"""Pictures: figures that need no display and are saved in one step.

Pages show them 700 pixels wide: a figure of 7 to 8 inches has letters there that can be read.
"""

import contextlib
import pathlib
from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lab.files import replaced

# of activations: how pictures name them, their colour and their marker
ACTIVATIONS = {
    "relu": ("ReLU", "#4d4d4d", "o"),
    "leaky_relu": ("leaky ReLU", "#762a83", "d"),
    "gelu": ("GELU", "#1b7837", "s"),
    "shaplu": ("ShapLU", "#2166ac", "^"),
    "shaplu_full": ("ShapLU, all of eq. (4)", "#67a9cf", "D"),
    "sa": ("SA", "#b2182b", "v"),
    "sa_pooled": ("SA, pooled", "#ef8a62", "P"),
}
EDGE = 0.1  # share of the width of axes


@contextlib.contextmanager
def picture(path: pathlib.Path, width: float, height: float, dpi: int = 160) -> Iterator[Figure]:
    """A figure to draw on, which is saved at the end.

    Args:
        path: of the file.
        width: in inches.
        height: in inches.
        dpi: pixels of an inch.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    yield figure
    save(figure, path, dpi)


def save(figure: Figure, path: pathlib.Path, dpi: float | str = "figure") -> None:
    """Saves a figure in the format of the file's suffix."""
    with replaced(path) as file:
        figure.savefig(file, dpi=dpi, format=path.suffix.removeprefix(".") or "png")


def styled(activation: str) -> dict[str, str | None]:
    """The label and the colour of an activation's line, as arguments of `plot`."""
    name, colour, _ = ACTIVATIONS.get(activation, (activation, None, ""))
    return {"label": name, "color": colour}


def shaded_mean(axes: Axes, x: np.ndarray, values: np.ndarray, activation: str) -> None:
    """Draws the mean over the first axis, and shades a standard deviation on each side."""
    mean, deviation = values.mean(axis=0), values.std(axis=0, ddof=min(1, len(values) - 1))
    (curve,) = axes.plot(x, mean, **styled(activation))
    axes.fill_between(x, mean - deviation, mean + deviation, color=curve.get_color(), alpha=0.2, linewidth=0)


def label_ends(axes: Axes, size: float = 8) -> None:
    """Writes the name of each line beside its right end, in its colour; names that would overlap are moved apart.

    Args:
        axes: with all lines and their limits.
        size: of the letters, in points.
    """
    axes.figure.draw_without_rendering()  # heights of the axes are known only when they are laid out
    named = zip(*axes.get_legend_handles_labels())
    lines = [(handle[0] if isinstance(handle, ErrorbarContainer) else handle, name) for handle, name in named]
    lines = [(line, name) for line, name in lines if len(_points(line))]
    if not lines:
        return
    ends = np.array([_points(line)[-1] for line, _ in lines])
    heights = axes.transData.transform(ends)[:, 1] * 72 / axes.figure.dpi
    right = axes.transAxes.inverted().transform(axes.transData.transform(ends))[:, 0]
    # lines that end near the edge have their names outside
    right = np.where(right > 1 - EDGE, 1, right.round(2))
    for place in np.unique(right):
        here = np.flatnonzero(right == place)
        shifts = apart(heights[here], 1.15 * size) - heights[here]
        for (line, name), (x, y), shift in zip([lines[k] for k in here], ends[here], shifts):
            axes.annotate(
                name,
                (1, y) if place == 1 else (x, y),
                xycoords=("axes fraction" if place == 1 else "data", "data"),
                xytext=(5, shift),
                textcoords="offset points",
                va="center",
                color=line.get_color(),
                fontsize=size,
                annotation_clip=False,
            )


def _points(line: Line2D) -> np.ndarray:
    points = np.asarray(line.get_xydata(), "float64")
    return points[np.isfinite(points).all(axis=1)]


def apart(heights: np.ndarray, gap: float) -> np.ndarray:
    """The heights nearest to those given, in least squares, that have their order and lie `gap` apart."""
    order = np.argsort(heights)
    steps = gap * np.arange(len(heights))
    # isotonic regression of the heights without the gaps: neighbours in the wrong order get their mean
    blocks: list[np.ndarray] = []
    for height in heights[order] - steps:
        blocks.append(np.array([height]))
        while len(blocks) > 1 and blocks[-2].mean() > blocks[-1].mean():
            blocks[-2:] = [np.concatenate(blocks[-2:])]
    moved = np.empty(len(heights))
    moved[order] = np.concatenate([np.full(len(block), block.mean()) for block in blocks]) + steps
    return moved
