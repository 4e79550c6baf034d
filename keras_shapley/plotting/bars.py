"""`plot_bars`: the values of a table's columns."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from keras_shapley.plotting.canvas import Canvas

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# columns that are drawn
_MOST = 20
# inches
_WIDTH, _BAR, _NAMES, _MARGIN, _HEAD = 7.0, 0.28, 2.2, 0.3, 0.8
_HEAD_SIZE, _FONT_SIZE = 11.0, 9.0
# of bars whose values have no sign
_NEUTRAL = "0.45"


def plot_bars(values: np.ndarray, columns: Sequence[str], *, title: str = "", subtitle: str = "") -> "Figure":
    """A bar for each of the largest columns: the values of one row, or the mean absolute value over several.

    Args:
        values: `(rows, columns)`.
        columns: their names.
        title: headline.
        subtitle: what the bars show.
    """
    from matplotlib.ticker import MaxNLocator

    is_single = len(values) == 1
    lengths = values[0] if is_single else np.abs(values).mean(axis=0)
    order = np.argsort(-np.abs(lengths), kind="stable")[:_MOST]
    height = _BAR * len(order)
    canvas = Canvas(_WIDTH, height + _HEAD + 2 * _MARGIN)
    width = _WIDTH - _NAMES - 2 * _MARGIN
    axes = canvas.add_axes(_NAMES, 2 * _MARGIN, width, height)
    limit = np.abs(lengths).max() or 1.0
    colours = canvas.colours.to_rgba(np.sign(lengths[order])) if is_single else _NEUTRAL
    places = np.arange(len(order))[::-1]
    axes.barh(places, lengths[order], color=colours, height=0.7)
    axes.axvline(0.0, color="0.3", linewidth=0.8)
    axes.set(xlim=(-1.08 * limit if is_single else 0.0, 1.08 * limit), ylim=(-0.6, len(order) - 0.4))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.tick_params(labelsize=_FONT_SIZE - 1, length=2)
    for place, column in zip(places, order):
        up = 2 * _MARGIN + height * (place + 0.6) / (len(order) + 0.2)
        canvas.write(str(columns[column]), _NAMES - 0.1, up, _NAMES - 0.2, _FONT_SIZE, ha="right", va="center")
    top = 2 * _MARGIN + height
    left = f" (the {_MOST} largest of {len(columns)} columns)" if len(columns) > _MOST else ""
    canvas.write(title, _WIDTH / 2, top + 0.45, _WIDTH - 2 * _MARGIN, _HEAD_SIZE)
    canvas.write(f"{subtitle}{left}", _WIDTH / 2, top + 0.12, _WIDTH - 2 * _MARGIN, _FONT_SIZE)
    return canvas.figure
