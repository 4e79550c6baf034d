"""The figure of a grid of images and heatmaps: its lengths, computed by `grid_layout`, and how it is drawn."""

import dataclasses
import math
from typing import TYPE_CHECKING, Literal

import numpy as np

from keras_shapley.plotting.canvas import Canvas
from keras_shapley.plotting.overlay import faded, opacity

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# inches
_MARGIN = 0.12
_GAP = 0.06
_BAR_WIDTH = 0.07
_BAR_LABELS = 0.5
_SHARED_BAR_BOTTOM = 0.28
_SHARED_BAR_SPACE = 0.55


@dataclasses.dataclass(frozen=True)
class Layout:
    """Lengths of a figure, in inches.

    The figure is a headline above a grid of cells, one for each image. A cell is a title above panels side by side: the
    image and its heatmaps. A heatmap has a label above it and a colour bar to its right. With a shared scale the colour
    bars lie below the grid instead.

    Attributes:
        columns: number of cells in a row.
        n_maps: number of heatmaps in a cell.
        width, height: of the figure.
        headline_height: space above the cells.
        panel_width, panel_height: of an image and of a heatmap.
        stretched: whether pixels are not square, to keep a long strip visible.
        image_space: width of the image and the gap behind it, 0 without images.
        bar_space: width of the colour bar, its labels and the gap before it, 0 with a shared scale.
        title_height, label_height: of the lines above the panels, 0 without them.
        cell_width, cell_height: of a cell without the margin around it.
        font_size: of titles, in points.
    """

    columns: int
    n_maps: int
    width: float
    height: float
    headline_height: float
    panel_width: float
    panel_height: float
    stretched: bool
    image_space: float
    bar_space: float
    title_height: float
    label_height: float
    cell_width: float
    cell_height: float
    font_size: float

    @property
    def map_width(self) -> float:
        """Width of a heatmap with its colour bar."""
        return self.panel_width + self.bar_space

    def corner(self, i: int) -> tuple[float, float]:
        """Left and top of cell `i`."""
        row, column = divmod(i, self.columns)
        left = _MARGIN + column * (self.cell_width + 2 * _MARGIN)
        top = self.height - self.headline_height - row * (self.cell_height + 2 * _MARGIN)
        return left, top

    def map_left(self, i: int, k: int) -> float:
        """Left of heatmap `k` in cell `i`."""
        left, _ = self.corner(i)
        return left + self.image_space + k * (self.map_width + _GAP)


def grid_layout(
    n: int,
    height: int,
    width: int,
    *,
    n_maps: int,
    has_images: bool,
    has_labels: bool,
    has_headline: bool,
    title_lines: int,
    shared_scale: bool,
    columns: int | None,
) -> Layout:
    """The `Layout` of `n` images of `height` times `width` pixels.

    It is computed, not solved for, so that the same arrays always give the same picture and large figures are fast.
    """
    # all panels have the same area; strips longer than 4:1 are stretched to 4:1
    side = 1.6 if n <= 4 else 1.3 if n <= 16 else 1.0
    ratio = min(max(width / height, 1 / 4), 4)
    panel_width = side * math.sqrt(ratio)
    panel_height = side / math.sqrt(ratio)
    font_size = 6.5 + 1.5 * side
    line = 1.3 * font_size / 72

    image_space = panel_width + _GAP if has_images else 0
    bar_space = 0 if shared_scale else _GAP + _BAR_WIDTH + _BAR_LABELS
    cell_width = image_space + n_maps * (panel_width + bar_space + _GAP) - _GAP
    label_height = line if has_labels else 0
    title_height = line * title_lines
    cell_height = title_height + label_height + panel_height

    columns = min(columns or _best_columns(n, cell_width, cell_height), n)
    rows = math.ceil(n / columns)
    headline_height = 2.2 * line if has_headline else _MARGIN
    foot = _SHARED_BAR_SPACE if shared_scale else _MARGIN
    return Layout(
        columns=columns,
        n_maps=n_maps,
        width=columns * (cell_width + 2 * _MARGIN),
        height=rows * (cell_height + 2 * _MARGIN) + headline_height + foot - 2 * _MARGIN,
        headline_height=headline_height,
        panel_width=panel_width,
        panel_height=panel_height,
        stretched=ratio != width / height,
        image_space=image_space,
        bar_space=bar_space,
        title_height=title_height,
        label_height=label_height,
        cell_width=cell_width,
        cell_height=cell_height,
        font_size=font_size,
    )


def _best_columns(n: int, cell_width: float, cell_height: float) -> int:
    """Number of columns that makes the figure about 3:2 and leaves few cells of the last row empty."""

    def misfit(columns: int) -> float:
        rows = math.ceil(n / columns)
        aspect = columns * cell_width / (rows * (cell_height + 2 * _MARGIN))
        return abs(math.log(aspect / 1.5)) + 0.5 * (rows * columns - n) / n

    return min(range(1, n + 1), key=misfit)


class Grid(Canvas):
    """Draws a figure, piece by piece, where its `Layout` says."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout.width, layout.height)
        self.layout = layout

    def write_headline(self, text: str) -> None:
        layout = self.layout
        y = layout.height - layout.headline_height / 2
        self.write(text, layout.width / 2, y, layout.width - 2 * _MARGIN, layout.font_size + 2, va="center")

    def write_title(self, i: int, text: str) -> None:
        """Writes the title of cell `i`, centred above its panels."""
        layout = self.layout
        left, top = layout.corner(i)
        width = layout.cell_width - layout.bar_space
        y = top - layout.title_height + _GAP / 2
        self.write(text, left + width / 2, y, width + 2 * _MARGIN, layout.font_size)

    def show_image(self, i: int, pixels: np.ndarray) -> None:
        """Draws the image of cell `i`, numbers in [0, 1]."""
        left, _ = self.layout.corner(i)
        self._show_pixels(self._panel(i, left), pixels)

    def show_map(
        self, i: int, k: int, label: str, values: np.ndarray, limit: float, under: np.ndarray | None = None
    ) -> None:
        """Draws heatmap `k` of cell `i` with its label and, if the scale is not shared, its colour bar.

        Args:
            i: number of the cell.
            k: number of the heatmap.
            label: written above it.
            values: relevance `(h, w)`.
            limit: where the colour scale ends.
            under: pixels over which the heatmap is drawn, the more transparent the weaker its relevance.
        """
        layout = self.layout
        left = layout.map_left(i, k)
        axes = self._panel(i, left)
        scaled = values / (limit or 1)
        if under is not None:
            self._show_pixels(axes, faded(under))
        low, high = self.colours.get_clim()
        axes.imshow(
            scaled,
            cmap=self.colours.cmap,
            vmin=low,
            vmax=high,
            alpha=None if under is None else opacity(scaled),
            # enlarges to hard pixels and shrinks without moire
            interpolation="antialiased",
            aspect=self._aspect,
        )
        _, top = layout.corner(i)
        y = top - layout.title_height - layout.label_height + _GAP / 2
        self.write(label, left + layout.panel_width / 2, y, layout.map_width, layout.font_size - 1)
        if layout.bar_space:
            bar_left = left + layout.panel_width + _GAP
            box = bar_left, top - layout.cell_height, _BAR_WIDTH, layout.panel_height
            self._add_bar(box, values, limit, "vertical")

    def add_shared_bar(self, k: int, label: str, values: np.ndarray, limit: float) -> None:
        """Draws the colour bar that heatmap `k` of all cells shares, below the grid, beside those of the others."""
        layout = self.layout
        space = layout.width / layout.n_maps
        centre = layout.width * (k + 0.5) / layout.n_maps
        length = min(3.0, 0.6 * space)
        self._add_bar((centre - length / 2, _SHARED_BAR_BOTTOM, length, _BAR_WIDTH), values, limit, "horizontal")
        y = _SHARED_BAR_BOTTOM + _BAR_WIDTH + _GAP / 2
        self.write(label, centre, y, space, layout.font_size - 1)

    @property
    def _aspect(self) -> Literal["auto", "equal"]:
        return "auto" if self.layout.stretched else "equal"

    def _panel(self, i: int, left: float) -> "Axes":
        """Framed axes of cell `i` for an image or a heatmap."""
        layout = self.layout
        _, top = layout.corner(i)
        return self.add_axes(left, top - layout.cell_height, layout.panel_width, layout.panel_height)

    def _show_pixels(self, axes: "Axes", pixels: np.ndarray) -> None:
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="antialiased", aspect=self._aspect)

    def _add_bar(
        self,
        box: tuple[float, float, float, float],
        values: np.ndarray,
        limit: float,
        orientation: Literal["vertical", "horizontal"],
    ) -> None:
        exceeded = bool(np.any(np.abs(values) > limit))
        self.add_bar(box, limit, exceeded=exceeded, orientation=orientation, font_size=self.layout.font_size - 2)
