"""`plot_bars`: what the columns of a table add to an output."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_shapley.plotting.attributions import attributions_of, titles_of
from keras_shapley.plotting.canvas import Canvas, checked_titles
from keras_shapley.utils.validation import integer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# inches
_WIDTH, _BAR, _NAMES, _MARGIN, _SUBTITLE, _TITLE = 7.0, 0.28, 2.2, 0.3, 0.33, 0.4
_HEAD_SIZE, _FONT_SIZE = 11.0, 9.0
# of bars whose values have no sign
_NEUTRAL = "0.45"


def plot_bars(
    relevance: Any,
    *,
    titles: Sequence[str] | None = None,
    title: str | None = None,
    feature_names: Sequence[str] | None = None,
    most: int = 20,
) -> "Figure":
    """Draws a bar for each column of a table, the largest first.

    Of one row the bars are its values: red raises the output, blue lowers it. Lines show one standard error, where it
    is known. Of several rows they are the mean absolute values, in grey: which columns matter, whatever their sign.

    Args:
        relevance: array of shape `(rows, columns)`, or an explanation object of rows, such as `Explanation` and
            `ShapleyValues`. Players that are groups of columns have a bar each.
        titles: `rows` strings; the first line of that of a single row is written above its bars. By default
            `explanation.titles()`, if an `Explanation` is given.
        title: headline of the figure.
        feature_names: a name for each column or group; by default those of the `ShapleyValues`, or `column 3`.
        most: number of bars at most.

    Returns:
        `matplotlib.figure.Figure`, which is saved by `figure.savefig(path)`. It has an Agg canvas and opens no window.

    Raises:
        ValueError: if the array has another shape, no columns, or holds NaN or infinity, if there are several targets,
            if the numbers of rows, columns, titles and names differ, or if `most` is no positive int.

    Examples:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "relu")])
        >>> model.add(keras.layers.Dense(1, "sigmoid"))
        >>> x = np.random.default_rng(0).random((5, 4)).astype("float32")
        >>> names = ["age", "height", "weight", "pulse"]
        >>> values = ks.shapley_values(model, x, baseline=x.mean(axis=0))
        >>> ks.plot_bars(values, feature_names=names).savefig("all_rows.png")

        The values of the first row, with their signs:

        >>> explanation = ks.LRP(model, baseline=x.mean(axis=0)).explain(x[:1])
        >>> ks.plot_bars(explanation, feature_names=names).savefig("first_row.png")
    """
    from matplotlib.ticker import MaxNLocator

    values, errors = _values(relevance)
    n, n_columns = values.shape
    titles = titles_of(relevance, titles, n, "row")
    if feature_names is None:
        feature_names = getattr(relevance, "feature_names", None) or [f"column {k}" for k in range(n_columns)]
    names = [str(name) for name in checked_titles(feature_names, n_columns, "feature_names", "column")]
    most = integer("most", most, 1)

    is_single = n == 1
    lengths = values[0] if is_single else np.abs(values).mean(axis=0)
    order = np.argsort(-np.abs(lengths), kind="stable")[:most]
    left = f"(the {most} largest of {n_columns} columns)" if n_columns > most else ""
    subtitle = " ".join(filter(None, [what_bars_show(titles), left]))
    height = _BAR * len(order)
    head = (_SUBTITLE if subtitle else 0.0) + (_TITLE if title else 0.0)
    canvas = Canvas(_WIDTH, 2 * _MARGIN + height + head + 0.1)
    width = _WIDTH - _NAMES - 2 * _MARGIN
    axes = canvas.add_axes(_NAMES, 2 * _MARGIN, width, height)
    drawn_errors = np.zeros(len(order)) if errors is None or not is_single else errors[0, order]
    limit = (np.abs(lengths[order]) + drawn_errors).max() or 1.0
    colours = canvas.colours.to_rgba(np.sign(lengths[order])) if is_single else _NEUTRAL
    places = np.arange(len(order))[::-1]
    axes.barh(places, lengths[order], color=colours, height=0.7)
    if drawn_errors.any():
        axes.errorbar(lengths[order], places, xerr=drawn_errors, fmt="none", ecolor="0.2", elinewidth=1.0, capsize=2.0)
    axes.axvline(0.0, color="0.3", linewidth=0.8)
    axes.set(xlim=(-1.08 * limit if is_single else 0.0, 1.08 * limit), ylim=(-0.6, len(order) - 0.4))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.tick_params(labelsize=_FONT_SIZE - 1, length=2)
    for place, column in zip(places, order):
        up = 2 * _MARGIN + height * (place + 0.6) / (len(order) + 0.2)
        canvas.write(names[column], _NAMES - 0.1, up, _NAMES - 0.2, _FONT_SIZE, ha="right", va="center")
    top = 2 * _MARGIN + height + 0.12
    canvas.write(title or "", _WIDTH / 2, top + (_SUBTITLE if subtitle else 0.0), _WIDTH - 2 * _MARGIN, _HEAD_SIZE)
    canvas.write(subtitle, _WIDTH / 2, top, _WIDTH - 2 * _MARGIN, _FONT_SIZE)
    return canvas.figure


def what_bars_show(titles: Sequence[str]) -> str:
    """The first line of the title of a single row, or words for several rows."""
    return titles[0].partition("\n")[0] if len(titles) == 1 else f"mean absolute value over {len(titles)} rows"


def _values(relevance: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Values `(rows, columns)`, or of players, and their standard errors if they are known."""
    if isinstance(relevance, dict):
        raise ValueError("`relevance` must be one array or explanation. Received: a dict. Draw its entries one by one.")
    if not hasattr(relevance, "stderr"):
        parts = attributions_of(relevance)
        if len(parts) > 1:
            raise ValueError(
                f"`relevance` must be of one target. Received: {len(parts)} targets. Explain one, or pass its array."
            )
        return _checked(parts[0].values), None
    # Shapley values are of players, which may be groups of columns
    values, errors = relevance.values, relevance.stderr
    if values.ndim > 2 and values[0, 0].size > 1:
        raise ValueError(
            f"`relevance` must be of one target. Received values of shape {values.shape}. Explain one target, or pass "
            "values.values[:, :, 0] for the first."
        )
    values = _checked(values.reshape(values.shape[:2]))
    return values, None if errors is None or not np.isfinite(errors).all() else errors.reshape(values.shape)


def _checked(values: np.ndarray) -> np.ndarray:
    if values.ndim != 2 or not values.size:
        raise ValueError(
            f"`relevance` must have the shape (rows, columns). Received: {values.shape}. Images are drawn by "
            "`ks.plot_heatmaps(relevance, images)`, series by `ks.plot_series(relevance, x)`."
        )
    return values
