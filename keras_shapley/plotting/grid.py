"""The figure of a grid of images and heatmaps: its lengths, computed by `grid_layout`, and how it is drawn."""

import dataclasses
import math
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# ColorBrewer's RdBu with a pure white in the middle, which an odd number of colours has
_COLOURS = "#053061 #2166ac #4393c3 #92c5de #d1e5f0 #ffffff #fddbc7 #f4a582 #d6604d #b2182b #67001f".split()
_N_COLOURS = 255
_DPI = 150

# inches
_MARGIN = 0.12
_GAP = 0.06
_BAR_WIDTH = 0.07
_BAR_LABELS = 0.5
_SHARED_BAR_BOTTOM = 0.28
_SHARED_BAR_SPACE = 0.55
# points
_SMALLEST_FONT = 5


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


class Grid:
    """Draws a figure, piece by piece, where its `Layout` says."""

    def __init__(self, layout: Layout) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import LinearSegmentedColormap, Normalize
        from matplotlib.figure import Figure

        self.layout = layout
        self.figure = Figure(figsize=(layout.width, layout.height), dpi=_DPI)
        self._renderer = FigureCanvasAgg(self.figure).get_renderer()
        # heatmaps are drawn in units of their limit, so that all have the scale from -1 to 1 and Matplotlib does not
        # see the subnormal numbers that a saturated softmax leaves
        colours = LinearSegmentedColormap.from_list("relevance", _COLOURS, _N_COLOURS)
        self._scale = ScalarMappable(Normalize(-1, 1), colours)

    def write_headline(self, text: str) -> None:
        layout = self.layout
        y = layout.height - layout.headline_height / 2
        self._write(text, layout.width / 2, y, layout.width - 2 * _MARGIN, layout.font_size + 2, va="center")

    def write_title(self, i: int, text: str) -> None:
        """Writes the title of cell `i`, centred above its panels."""
        layout = self.layout
        left, top = layout.corner(i)
        width = layout.cell_width - layout.bar_space
        y = top - layout.title_height + _GAP / 2
        self._write(text, left + width / 2, y, width + 2 * _MARGIN, layout.font_size)

    def show_image(self, i: int, pixels: np.ndarray) -> None:
        """Draws the image of cell `i`, numbers in [0, 1]."""
        left, _ = self.layout.corner(i)
        axes = self._panel(i, left)
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="antialiased", aspect=self._aspect)

    def show_map(self, i: int, k: int, label: str, values: np.ndarray, limit: float) -> None:
        """Draws heatmap `k` of cell `i` with its label and, if the scale is not shared, its colour bar."""
        layout = self.layout
        left = layout.map_left(i, k)
        axes = self._panel(i, left)
        low, high = self._scale.get_clim()
        axes.imshow(
            values / (limit or 1),
            cmap=self._scale.cmap,
            vmin=low,
            vmax=high,
            # enlarges to hard pixels and shrinks without moire
            interpolation="antialiased",
            aspect=self._aspect,
        )
        _, top = layout.corner(i)
        y = top - layout.title_height - layout.label_height + _GAP / 2
        self._write(str(label), left + layout.panel_width / 2, y, layout.map_width, layout.font_size - 1)
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
        self._write(str(label), centre, y, space, layout.font_size - 1)

    @property
    def _aspect(self) -> Literal["auto", "equal"]:
        return "auto" if self.layout.stretched else "equal"

    def _panel(self, i: int, left: float) -> "Axes":
        """Framed axes of cell `i` for an image or a heatmap."""
        layout = self.layout
        _, top = layout.corner(i)
        axes = self._add_axes(left, top - layout.cell_height, layout.panel_width, layout.panel_height)
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(linewidth=0.5, color="0.6")
        return axes

    def _add_axes(self, left: float, bottom: float, width: float, height: float) -> "Axes":
        across, up = self.figure.get_size_inches()
        return self.figure.add_axes((left / across, bottom / up, width / across, height / up))

    def _add_bar(
        self, box: tuple[float, float, float, float], values: np.ndarray, limit: float, orientation: str
    ) -> None:
        """Draws a colour bar, with pointed ends if any value lies beyond the limit."""
        extend = "both" if np.any(np.abs(values) > limit) else "neither"
        bar = self.figure.colorbar(self._scale, cax=self._add_axes(*box), orientation=orientation, extend=extend)
        bar.set_ticks([-1, 0, 1], labels=[f"\N{MINUS SIGN}{limit:.2g}", "0", f"{limit:.2g}"])
        bar.ax.tick_params(labelsize=self.layout.font_size - 2, length=2, width=0.5, pad=2)
        bar.outline.set(linewidth=0.5, edgecolor="0.6")

    def _write(self, text: str, x: float, y: float, width: float, size: float, va: str = "bottom") -> None:
        """Writes centred text, which is made smaller and then cut where it is wider than `width`."""
        if not text:
            return
        across, up = self.figure.get_size_inches()
        # a dollar sign in the name of a class starts no formula
        artist = self.figure.text(x / across, y / up, text, size=size, ha="center", va=va, parse_math=False)

        def excess() -> float:
            return artist.get_window_extent(self._renderer).width / (width * self.figure.dpi)

        if excess() > 1:
            artist.set_fontsize(max(_SMALLEST_FONT, size / excess()))
        while excess() > 1:
            lines = artist.get_text().split("\n")
            longest = max(range(len(lines)), key=lambda line: len(lines[line]))
            lines[longest] = lines[longest].rstrip("…")[:-1] + "…"
            artist.set_text("\n".join(lines))
