"""Relevance arrays to pictures. Matplotlib is imported when something is drawn, and no window is ever opened."""

import math

import numpy as np

from keras_shapley.plotting.animation import COLOUR_ENTRIES

# ColorBrewer's RdBu with a pure white, which is the middle one of an odd number of entries
_COLOURS = "#053061 #2166ac #4393c3 #92c5de #d1e5f0 #ffffff #fddbc7 #f4a582 #d6604d #b2182b #67001f".split()
# inches
_MARGIN, _GAP, _BAR, _BAR_LABELS = 0.12, 0.06, 0.07, 0.5
_DPI = 150


class Grid:
    """A figure of cells, each a title over an image and its heatmaps; all lengths are in inches.

    The layout is computed, not solved for: the same arrays give the same picture, and 64 images take no longer than
    they must.
    """

    def __init__(self, n, h, w, has_image, labels, titles, title, columns, shared_scale):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.colors import LinearSegmentedColormap
        from matplotlib.figure import Figure

        side = 1.6 if n <= 4 else 1.3 if n <= 16 else 1.0
        # panels of one area, up to strips of 4:1, which are stretched beyond
        ratio = min(max(w / h, 1 / 4), 4)
        self.stretch = ratio != w / h
        self.panel_width, self.panel_height = side * math.sqrt(ratio), side / math.sqrt(ratio)
        self.font = 6.5 + 1.5 * side
        line = 1.3 * self.font / 72

        self.has_image, self.labels, self.shared_scale = has_image, labels, shared_scale
        self.bar_space = 0 if shared_scale else _GAP + _BAR + _BAR_LABELS
        self.map_width = self.panel_width + self.bar_space
        n_maps = len(labels) if labels else 1
        self.cell_width = has_image * (self.panel_width + _GAP) + n_maps * (self.map_width + _GAP) - _GAP
        self.label_height = line if labels else 0
        self.title_height = line * max(text.count("\n") + 1 if text else 0 for text in titles)
        self.cell_height = self.title_height + self.label_height + self.panel_height

        self.columns = min(columns or self._best_columns(n), n)
        rows = math.ceil(n / self.columns)
        self.spacing = 2 * _MARGIN
        width = self.columns * (self.cell_width + self.spacing)
        headline = 2.2 * line if title else _MARGIN
        self.foot = 0.55 if shared_scale else _MARGIN
        height = rows * (self.cell_height + self.spacing) + headline + self.foot - self.spacing

        self.figure = Figure(figsize=(width, height), dpi=_DPI)
        self.renderer = FigureCanvasAgg(self.figure).get_renderer()
        self.colours = LinearSegmentedColormap.from_list("relevance", _COLOURS, COLOUR_ENTRIES)
        self.top = height - headline
        if title:
            self._write(title, width / 2, height - headline / 2, width - 2 * _MARGIN, size=self.font + 2, va="center")

    def _best_columns(self, n):
        def misfit(columns):
            rows = math.ceil(n / columns)
            aspect = columns * self.cell_width / (rows * (self.cell_height + 2 * _MARGIN))
            return abs(math.log(aspect / 1.5)) + 0.5 * (rows * columns - n) / n

        return min(range(1, n + 1), key=misfit)

    def write_title(self, i, text):
        left, top = self._corner(i)
        centre = left + (self.cell_width - self.bar_space) / 2
        width = self.cell_width - self.bar_space + self.spacing
        self._write(text, centre, top - self.title_height + _GAP / 2, width)

    def show_image(self, i, picture):
        axes = self._panel(*self._corner(i))
        axes.imshow(picture, cmap="gray", vmin=0, vmax=1, **self._drawing())

    def show_map(self, i, k, values, limit):
        left, top = self._corner(i)
        left += self.has_image * (self.panel_width + _GAP) + k * (self.map_width + _GAP)
        axes = self._panel(left, top)
        image = self._draw_map(axes, values, limit)
        if self.labels:
            centre, bottom = left + self.panel_width / 2, top - self.title_height - self.label_height
            self._write(str(self.labels[k]), centre, bottom + _GAP / 2, self.map_width, size=self.font - 1)
        if not self.shared_scale:
            bottom = top - self.cell_height
            box = left + self.panel_width + _GAP, bottom, _BAR, self.panel_height
            self._bar(image, box, values, limit, "vertical")

    def add_shared_bar(self, k, values, limit):
        """A bar for all images, below the grid; one beside the other where there are several heatmaps."""
        width = self.figure.get_figwidth()
        count = len(self.labels) if self.labels else 1
        length = min(3.0, 0.6 * width / count)
        centre = width * (k + 0.5) / count
        image = self._draw_map(None, values, limit)
        self._bar(image, (centre - length / 2, 0.28, length, _BAR), values, limit, "horizontal")
        if self.labels:
            self._write(str(self.labels[k]), centre, 0.28 + _BAR + _GAP / 2, width / count, size=self.font - 1)

    def _corner(self, i):
        """Left and top of cell `i`."""
        row, column = divmod(i, self.columns)
        left = self.spacing / 2 + column * (self.cell_width + self.spacing)
        return left, self.top - row * (self.cell_height + self.spacing)

    def _panel(self, left, top):
        axes = self._axes(left, top - self.cell_height, self.panel_width, self.panel_height)
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(linewidth=0.5, color="0.6")
        return axes

    def _axes(self, left, bottom, width, height):
        across, up = self.figure.get_size_inches()
        return self.figure.add_axes((left / across, bottom / up, width / across, height / up))

    def _drawing(self):
        # "antialiased" enlarges to hard pixels and shrinks without moire
        return {"interpolation": "antialiased", "aspect": "auto" if self.stretch else "equal"}

    def _draw_map(self, axes, values, limit):
        # in units of the limit: Matplotlib never sees the subnormal numbers that a saturated softmax leaves
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        if axes is None:
            return ScalarMappable(Normalize(-1, 1), self.colours)
        return axes.imshow(values / (limit or 1), cmap=self.colours, vmin=-1, vmax=1, **self._drawing())

    def _bar(self, image, box, values, limit, orientation):
        clipped = bool(np.any(np.abs(values) > limit))
        bar = self.figure.colorbar(
            image, cax=self._axes(*box), orientation=orientation, extend="both" if clipped else "neither"
        )
        bar.set_ticks([-1, 0, 1], labels=[f"\N{MINUS SIGN}{limit:.3g}", "0", f"{limit:.3g}"])
        bar.ax.tick_params(labelsize=self.font - 2, length=2, width=0.5, pad=2)
        bar.outline.set(linewidth=0.5, edgecolor="0.6")

    def _write(self, text, x, y, width, *, size=None, va="bottom"):
        """Centred text, made smaller down to 5 points and then cut where it would leave its width."""
        across, up = self.figure.get_size_inches()
        # names of classes are no formulas, whatever dollars they hold
        written = self.figure.text(
            x / across, y / up, text, size=size or self.font, ha="center", va=va, parse_math=False
        )
        if not text:
            return
        excess = written.get_window_extent(self.renderer).width / (width * self.figure.dpi)
        if excess > 1:
            size = max(5, written.get_size() / excess)
            written.set_size(size)
        while written.get_window_extent(self.renderer).width > width * self.figure.dpi:
            lines = written.get_text().split("\n")
            longest = max(range(len(lines)), key=lambda i: len(lines[i]))
            lines[longest] = lines[longest].rstrip("…")[:-1] + "…"
            written.set_text("\n".join(lines))
