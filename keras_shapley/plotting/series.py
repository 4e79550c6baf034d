"""`plot_series`: lines of series on the colours of their relevance."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_shapley.plotting.attributions import (
    Attributions,
    attributions_of,
    check_same_shapes,
    given_array,
    titles_of,
)
from keras_shapley.plotting.canvas import FRAME_COLOUR, LINE_WIDTH, Canvas, checked_titles
from keras_shapley.plotting.colours import check_percentile, limits
from keras_shapley.utils.typing import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# inches
_MARGIN = 0.12
_GAP = 0.06
_NAMES = 1.1
_NUMBERS = 0.55
_STEPS = 0.22
_BAR_WIDTH = 0.07
_BAR_LABELS = 0.5
_HEADLINE = 0.36
# points
_FONT_SIZE = 9
_LINE = 1.3 * _FONT_SIZE / 72
# series of so few steps have their points marked, and those of so many have a thin line
_FEW_STEPS, _MANY_STEPS = 40, 1000


def plot_series(
    relevance: Any,
    x: Tensor,
    *,
    titles: Sequence[str] | None = None,
    title: str | None = None,
    feature_names: Sequence[str] | None = None,
    shared_scale: bool = False,
    percentile: float = 99.5,
) -> "Figure":
    """Draws series as lines on the colours of their relevance: red is positive, blue is negative and white is zero.

    A sample is a row of the figure. Its features stand one below the other and share one colour scale, which is
    symmetric about zero. The axis of a feature is the same for all samples.

    Args:
        relevance: array of shape `(n, steps)` or `(n, steps, features)`; or an explanation object, such as
            `Explanation` and `ShapleyValues`. An explanation of several targets is drawn as a column for each of them.
            Where players are groups of steps, a step has the value of its group. A dict puts several of all these side
            by side, with its keys as labels. Relevance `(n, steps)` of several features is shown with each of them.
        x: the series, shape `(n, steps)` or `(n, steps, features)`.
        titles: `n` strings of one or more lines, one above each sample. By default `explanation.titles()`, if an
            `Explanation` of one target is given.
        title: headline of the figure.
        feature_names: a name for each feature, written beside its lines.
        shared_scale: whether all samples share one colour scale, so that they can be compared. The arrays of a dict and
            the targets of an explanation never share a scale.
        percentile: percentile of `|relevance|` at which the colour scale ends. 100 is the maximum.

    Returns:
        `matplotlib.figure.Figure`, which is saved by `figure.savefig(path)`. It has an Agg canvas and opens no window.

    Raises:
        ValueError: if an array has another shape or holds NaN or infinity, if the numbers of samples, titles and names
            differ, if an explanation has several inputs, or if `percentile` is out of range.

    Examples:
        >>> x = np.sin(np.linspace(0, 9, 50)).reshape(1, 50, 1)
        >>> model = keras.Sequential([keras.Input((50, 1)), keras.layers.Conv1D(4, 5, activation="relu")])
        >>> model.add(keras.layers.GlobalMaxPooling1D())
        >>> model.add(keras.layers.Dense(1))
        >>> figure = ks.plot_series(ks.LRP(model).explain(x), x, feature_names=["temperature"])
        >>> figure.savefig("series.png")
    """
    series = _features("x", given_array("x", x).astype("float64"))
    n, _, n_features = series.shape
    parts = [_relevance(part, series) for part in attributions_of(relevance)]
    check_same_shapes(parts, "(n, steps, features)")
    titles = titles_of(relevance, titles, n, "sample")
    names = checked_titles(feature_names, n_features, "feature_names", "feature")
    check_percentile(percentile)

    rows = _Rows(series, parts, titles, names, title or "")
    ends = [limits(part.values, percentile, shared_scale) for part in parts]
    for i in range(n):
        rows.write_title(i)
        for k in range(len(parts)):
            rows.show(i, k, ends[k][i])
    return rows.figure


class _Rows(Canvas):
    """The figure: a row of features by columns of attributions for each sample.

    Args:
        x: the series, shape `(n, steps, features)`.
        parts: what is drawn side by side, `values` of the same shape.
        titles: of the samples.
        names: of the features.
        title: headline.
    """

    def __init__(
        self, x: np.ndarray, parts: Sequence[Attributions], titles: Sequence[str], names: Sequence[str], title: str
    ) -> None:
        n, n_steps, n_features = x.shape
        self.x, self.parts, self.titles, self.names = x, parts, titles, names
        self._panel_width = float(np.clip(n_steps / 20, 2.5, 6.5)) / min(len(parts), 2)
        self._panel_height = 1.0 if n_features == 1 else 0.6
        self._left = _MARGIN + (_NAMES if any(names) else 0) + _NUMBERS
        self._column = self._panel_width + _GAP + _BAR_WIDTH + _BAR_LABELS
        lines = max(text.count("\n") + 1 if text else 0 for text in titles)
        has_labels = any(label for part in parts for label in part.labels)
        self._label_height = _LINE if has_labels else 0
        self._title_height = _LINE * lines
        self._stack = n_features * (self._panel_height + _GAP) - _GAP
        self._row = self._title_height + self._label_height + self._stack + _STEPS + _MARGIN
        top = _HEADLINE if title else _MARGIN
        super().__init__(self._left + len(parts) * self._column, top + n * self._row)
        width, height = self.figure.get_size_inches()
        self._top = height - top
        # a constant feature has an axis, too
        low, high = x.min(axis=(0, 1)), x.max(axis=(0, 1))
        space = np.where(high > low, 0.1 * (high - low), 0.5)
        self._low, self._high = low - space, high + space
        self.write(title, width / 2, height - _HEADLINE / 2, width - 2 * _MARGIN, _FONT_SIZE + 2, va="center")

    def write_title(self, i: int) -> None:
        """Writes the title of sample `i` above its columns."""
        width = len(self.parts) * self._column - _GAP - _BAR_WIDTH - _BAR_LABELS
        bottom = self._top - i * self._row - self._title_height + _GAP / 2
        self.write(self.titles[i], self._left + width / 2, bottom, width + _NUMBERS, _FONT_SIZE)

    def show(self, i: int, k: int, limit: float) -> None:
        """Draws the features of sample `i` on the colours of attribution `k`, with its label and its colour bar."""
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        part, left = self.parts[k], self._left + k * self._column
        top = self._top - i * self._row - self._title_height - self._label_height
        middle = left + self._panel_width / 2
        self.write(part.labels[i], middle, top + _GAP / 2, self._column, _FONT_SIZE - 1)
        n_features = len(self.names)
        for feature in range(n_features):
            bottom = top - feature * (self._panel_height + _GAP) - self._panel_height
            axes = self.add_axes(left, bottom, self._panel_width, self._panel_height)
            self._draw(axes, self.x[i, :, feature], part.values[i, :, feature] / (limit or 1), feature)
            if k == 0:
                axes.yaxis.set(major_locator=MaxNLocator(nbins=3), major_formatter=FuncFormatter(_number))
                right = self._left - _NUMBERS - _GAP
                y = bottom + self._panel_height / 2
                self.write(self.names[feature], right, y, _NAMES - _GAP, _FONT_SIZE - 1, ha="right", va="center")
            if feature == n_features - 1:
                axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        length = min(self._stack, 1.6)
        box = left + self._panel_width + _GAP, top - self._stack / 2 - length / 2, _BAR_WIDTH, length
        exceeded = bool(np.any(np.abs(part.values[i]) > limit))
        self.add_bar(box, limit, exceeded=exceeded, orientation="vertical", font_size=_FONT_SIZE - 2)

    def _draw(self, axes: "Axes", line: np.ndarray, scaled: np.ndarray, feature: int) -> None:
        """One line on a strip of colours, which change half-way between two steps."""
        from matplotlib.patheffects import withStroke

        ends, bounds = (-0.5, len(line) - 0.5), (self._low[feature], self._high[feature])
        low, high = self.colours.get_clim()
        axes.imshow(
            scaled[None],
            cmap=self.colours.cmap,
            vmin=low,
            vmax=high,
            extent=(*ends, *bounds),
            interpolation="antialiased",
            aspect="auto",
        )
        width = 1 if len(line) <= _MANY_STEPS else 0.4
        # a white seam keeps the line visible on dark colours
        seam = withStroke(linewidth=2.5 * width, foreground="white")
        marker = "o" if len(line) <= _FEW_STEPS else ""
        axes.plot(line, color="0.1", linewidth=width, marker=marker, markersize=2.5, path_effects=[seam])
        axes.set(xlim=ends, ylim=bounds)
        axes.tick_params(labelsize=_FONT_SIZE - 2, length=2, width=LINE_WIDTH, pad=2, color=FRAME_COLOUR)


def _number(value: float, _: int | None) -> str:
    """The label of a tick, short and without an offset."""
    return f"{value:.5g}".replace("-", "\N{MINUS SIGN}")


def _features(name: str, values: np.ndarray) -> np.ndarray:
    """Series of shape `(n, steps, features)`."""
    if values.ndim not in (2, 3) or 0 in values.shape:
        raise ValueError(
            f"`{name}` must have shape (n, steps) or (n, steps, features). Received shape: {values.shape}. Images are "
            "drawn by `ks.plot_heatmaps(relevance, images)`, texts by `ks.plot_tokens(relevance, tokens)`."
        )
    return values[..., None] if values.ndim == 2 else values


def _relevance(part: Attributions, x: np.ndarray) -> Attributions:
    """The attribution of each number of the series."""
    values = _features(part.name, part.of_elements())
    if values.shape not in (x.shape, (*x.shape[:2], 1)):
        raise ValueError(
            f"`{part.name}` must have the samples and steps of `x`, and its features or one value for each step. "
            f"Received shapes: {part.values.shape}, and `x` of {x.shape[2]} features, {x.shape}"
        )
    return dataclasses.replace(part, values=np.broadcast_to(values, x.shape), groups=None)
