"""Pictures: figures that need no display and are saved in one step."""

import contextlib
import pathlib
from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lab.files import replaced


@contextlib.contextmanager
def picture(path: pathlib.Path, width: float, height: float, dpi: int = 100) -> Iterator[Figure]:
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


def shaded_mean(axes: Axes, x: np.ndarray, values: np.ndarray, label: str) -> None:
    """Draws the mean over the first axis, and shades a standard deviation on each side."""
    mean, deviation = values.mean(axis=0), values.std(axis=0, ddof=min(1, len(values) - 1))
    (curve,) = axes.plot(x, mean, label=label)
    axes.fill_between(x, mean - deviation, mean + deviation, color=curve.get_color(), alpha=0.2, linewidth=0)
