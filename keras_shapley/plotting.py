"""Relevance arrays to pictures. Matplotlib is imported when something is drawn, and no window is ever opened."""

import io
import math

import numpy as np
from keras import config, ops

from keras_shapley._validation import finite

# ColorBrewer's RdBu with a pure white, which is the middle one of an odd number of entries
_COLOURS = "#053061 #2166ac #4393c3 #92c5de #d1e5f0 #ffffff #fddbc7 #f4a582 #d6604d #b2182b #67001f".split()
_ENTRIES = 255

# inches
_MARGIN, _GAP, _BAR, _BAR_LABELS = 0.12, 0.06, 0.07, 0.5
_DPI = 150


def plot_heatmaps(
    relevance, images=None, *, titles=None, title=None, columns=None, shared_scale=False, percentile=99.5
):
    """Grid of heatmaps, each beside its image: red is relevance above zero, blue below, white is zero.

    The colour scale is symmetric about zero and reaches to a high percentile of `|relevance|`; where that leaves pixels
    out, the bar has pointed ends. Channels are summed and come last, or first where
    `keras.config.image_data_format()` says so.

    Args:
        relevance: array of shape `(n, h, w)` or `(n, h, w, channels)`; `(n, features)` where `images` gives the layout.
            A dict of such arrays sets several heatmaps beside each image, its keys above them.
        images: what to show beside the heatmaps, of shape `(n, h, w)`, `(n, h, w, 1)` or `(n, h, w, 3)`. Integers of
            type uint8 are 0 to 255 and numbers in [0, 1] are shown as they are; anything else is scaled from its
            minimum to its maximum over all images.
        titles: `n` strings, one above each image, of one line or several.
        title: headline of the figure.
        columns: number of images in a row. By default, what gives a figure somewhat wider than high.
        shared_scale: False for a scale and a bar for each heatmap, so that faint ones are seen; True for one scale over
            all images, so that they can be compared. Under True each key of a dict still has its own.
        percentile: of `|relevance|`, where the colour scale ends; 100 is the maximum.

    Returns:
        A `matplotlib.figure.Figure` with an Agg canvas: `figure.savefig(path)`.

    Raises:
        ValueError: on NaN or infinity, a shape that is not one of the above, or counts that differ.
    """
    images = None if images is None else ops.convert_to_numpy(images)
    pictures = None if images is None else display_images(images)
    maps = relevance_maps(relevance, images)
    n, h, w = next(iter(maps.values())).shape
    if titles is None:
        titles = [""] * n
    elif isinstance(titles, str) or len(titles) != n:
        raise ValueError(f"`titles` must be a list of {n} strings, one for each image. Received: titles={titles!r}")
    if columns is not None and (not isinstance(columns, (int, np.integer)) or columns < 1):
        raise ValueError(f"`columns` must be an int of 1 or more. Received: columns={columns!r}")
    if not 0 < percentile <= 100:
        raise ValueError(f"`percentile` must be above 0 and at most 100. Received: percentile={percentile!r}")

    labels = list(maps) if isinstance(relevance, dict) else None
    grid = _Grid(n, h, w, pictures is not None, labels, titles, title, columns, shared_scale)
    limits = [
        [_limit(values, percentile)] * n if shared_scale else [_limit(r, percentile) for r in values]
        for values in maps.values()
    ]
    for i in range(n):
        grid.write_title(i, titles[i])
        if pictures is not None:
            grid.show_image(i, pictures[i])
        for k, values in enumerate(maps.values()):
            grid.show_map(i, k, values[i], limits[k][i])
    if shared_scale:
        for k, values in enumerate(maps.values()):
            grid.add_shared_bar(k, values, limits[k][0])
    return grid.figure


def animated(pictures, seconds=0.5):
    """Pictures one after the other, for ever; the last stands still for a while.

    Args:
        pictures: contents of PNG files, bytes.
        seconds: of each but the last.

    Returns:
        The content of a GIF file, bytes. All frames have the size of the largest, with white around the others.
    """
    # a part of Matplotlib
    from PIL import Image

    frames = [Image.open(io.BytesIO(picture)).convert("RGB") for picture in pictures]
    size = tuple(max(sizes) for sizes in zip(*(frame.size for frame in frames)))
    whole = [Image.new("RGB", size, "white") for _ in frames]
    for canvas, frame in zip(whole, frames):
        canvas.paste(frame)
    # one palette for all: colours that flicker would look like relevance
    colours = np.reshape(whole[-1].quantize(_ENTRIES).getpalette(), (-1, 3))
    # Pillow takes colours four by four: beside a nearly white entry, white would be lost
    colours[colours.min(axis=1) >= 248] = 255
    palette = Image.new("P", (1, 1))
    palette.putpalette(colours.ravel().tolist())
    whole = [canvas.quantize(palette=palette, dither=Image.Dither.NONE) for canvas in whole]
    times = [round(1000 * seconds)] * (len(whole) - 1) + [round(4000 * seconds)]
    file = io.BytesIO()
    whole[0].save(file, "GIF", save_all=True, append_images=whole[1:], duration=times, loop=0)
    return file.getvalue()


def display_images(images):
    """Images as they are shown: floats in [0, 1], channels last.

    Args:
        images: array of shape `(n, h, w)`, `(n, h, w, 1)` or `(n, h, w, 3)`, as in `plot_heatmaps`.

    Returns:
        Array of shape `(n, h, w)` or `(n, h, w, 3)`.

    Raises:
        ValueError: on another shape, on NaN or infinity.
    """
    images = _numbers("images", images)
    shown = _channels_last(images)
    if shown.ndim not in (3, 4) or (shown.ndim == 4 and shown.shape[-1] not in (1, 3)) or 0 in shown.shape:
        raise ValueError(
            f"`images` must have shape {_shape('n', 'h', 'w')}, {_shape('n', 'h', 'w', '1')} or "
            f"{_shape('n', 'h', 'w', '3')}, image_data_format being {config.image_data_format()!r}. "
            f"Received shape: {images.shape}"
        )
    if shown.ndim == 4 and shown.shape[-1] == 1:
        shown = shown[..., 0]
    if shown.dtype == np.uint8:
        return shown / 255
    shown = shown.astype("float64")
    low, high = shown.min(), shown.max()
    if low >= 0 and high <= 1:
        return shown
    return (shown - low) / (high - low) if high > low else np.full_like(shown, 0.5)


def relevance_maps(relevance, images=None):
    """Relevance as it is drawn: one number a pixel.

    Args:
        relevance, images: as in `plot_heatmaps`.

    Returns:
        Dict of float64 arrays of shape `(n, h, w)`; its only key is `""` where `relevance` is an array.

    Raises:
        ValueError: on another shape, on NaN or infinity, on sizes that differ from those of the images.
    """
    if not isinstance(relevance, dict):
        return {"": _relevance_map("relevance", relevance, images)}
    if not relevance:
        raise ValueError("`relevance` must hold at least one array. Received an empty dict.")
    maps = {label: _relevance_map(f"relevance[{label!r}]", r, images) for label, r in relevance.items()}
    shapes = {label: r.shape for label, r in maps.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"The arrays of `relevance` must have one shape (n, h, w). Received shapes: {shapes}")
    return maps


def _relevance_map(name, relevance, images):
    r = _numbers(name, relevance).astype("float64")
    received = r.shape
    if r.ndim == 2 and images is not None:
        layout = np.shape(images)
        if len(layout) == 4 and r[0].size != math.prod(layout[1:]):
            # one number for each pixel, whatever the image's channels
            layout = layout[:1] + height_and_width(layout)
        if r[0].size != math.prod(layout[1:]):
            raise ValueError(
                f"`{name}` of shape {received} does not fit `images` of shape {np.shape(images)}: it must have "
                f"{math.prod(layout[1:])} features."
            )
        r = r.reshape(r.shape[:1] + layout[1:])
    if r.ndim == 2:
        raise ValueError(
            f"`{name}` of shape {received} says nothing of rows and columns: pass `images=`, an array of shape "
            f"{_shape('n', 'h', 'w')} or {_shape('n', 'h', 'w', 'channels')}, to give the layout."
        )
    if r.ndim not in (3, 4) or 0 in r.shape:
        raise ValueError(
            f"`{name}` must have shape {_shape('n', 'h', 'w')}, {_shape('n', 'h', 'w', 'channels')}, or (n, features) "
            f"with `images`. Received shape: {received}"
        )
    if r.ndim == 4:
        r = _channels_last(r).sum(axis=-1)
    if images is not None and r.shape != np.shape(images)[:1] + height_and_width(np.shape(images)):
        raise ValueError(
            f"`{name}` and `images` must agree in their number and in height and width. Received shapes: "
            f"{received} and {np.shape(images)}"
        )
    return r


def _numbers(name, values):
    array = np.asarray(ops.convert_to_numpy(values))
    if array.dtype.kind in "OSUMmc":
        raise ValueError(f"`{name}` must be an array of real numbers. Received dtype: {array.dtype}")
    return finite(name, array)


def _channels_last(array):
    first = array.ndim == 4 and config.image_data_format() == "channels_first"
    return np.moveaxis(array, 1, -1) if first else array


def height_and_width(shape):
    """Height and width out of the shape of a batch of images, whichever their data format."""
    first = len(shape) == 4 and config.image_data_format() == "channels_first"
    return tuple(shape[2:]) if first else tuple(shape[1:3])


def _shape(n, h, w, channels=None):
    if channels is None:
        return f"({n}, {h}, {w})"
    first = config.image_data_format() == "channels_first"
    return f"({n}, {channels}, {h}, {w})" if first else f"({n}, {h}, {w}, {channels})"


def _limit(maps, percentile):
    """Where the colour scale ends; a value that occurs, and not zero unless all of `maps` is."""
    sizes = np.abs(maps)
    return np.percentile(sizes, percentile, method="higher") or sizes.max()


class _Grid:
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
        self.colours = LinearSegmentedColormap.from_list("relevance", _COLOURS, _ENTRIES)
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
