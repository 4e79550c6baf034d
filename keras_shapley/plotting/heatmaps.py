"""`plot_heatmaps`: the figure of heatmaps beside their images."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from keras import ops

from keras_shapley.plotting.arrays import display_images, relevance_maps, with_patches
from keras_shapley.plotting.grid import Grid, grid_layout
from keras_shapley.utils.attributions import as_array
from keras_shapley.utils.typing import Tensor
from keras_shapley.utils.validation import integer

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_heatmaps(
    relevance: Any,
    images: Tensor | None = None,
    *,
    titles: Sequence[str] | None = None,
    title: str | None = None,
    columns: int | None = None,
    shared_scale: bool = False,
    percentile: float = 99.5,
    patch_size: int | None = None,
) -> "Figure":
    """Draws heatmaps of relevance beside their images: red is positive, blue is negative and white is zero.

    The colour scale is symmetric about zero and ends at a high percentile of `|relevance|`. A colour bar with pointed
    ends means that some pixels lie beyond it. Channels are summed. They come last, or first if
    `keras.config.image_data_format()` says so.

    Args:
        relevance: array of shape `(n, h, w)` or `(n, h, w, channels)`, or `(n, features)` if `images` gives the layout;
            or an explanation object, such as `Explanation` and `ShapleyValues`. A dict of them puts several heatmaps
            beside each image, with its keys as labels.
        images: array of shape `(n, h, w)`, `(n, h, w, 1)` or `(n, h, w, 3)`, drawn beside the heatmaps. An array of
            uint8 is shown on the scale 0 to 255, and numbers in [0, 1] are shown as they are. Other numbers are scaled
            from the minimum to the maximum over all images.
        titles: `n` strings of one or more lines, one above each image.
        title: headline of the figure.
        columns: number of images in a row. By default the figure becomes somewhat wider than high.
        shared_scale: whether all images share one colour scale and one colour bar, so that they can be compared. By
            default each heatmap has its own, so that faint ones are visible. The arrays of a dict never share a scale.
        percentile: percentile of `|relevance|` at which the colour scale ends. 100 is the maximum.
        patch_size: height and width in pixels of the patches, whose mean relevance is drawn beside that of the pixels.
            Relevance of single pixels is grainy; sums over patches are nearer to Shapley values.

    Returns:
        `matplotlib.figure.Figure`, which is saved by `figure.savefig(path)`. It has an Agg canvas and opens no window.

    Raises:
        ValueError: if an array has another shape or holds NaN or infinity, if the numbers of images, heatmaps and
            titles differ, or if `columns` or `percentile` is out of range.

    Example:
        >>> model = keras.Sequential([keras.Input((8, 8)), keras.layers.Flatten(), keras.layers.Dense(3, "softmax")])
        >>> images = np.random.default_rng(0).random((2, 8, 8)).astype("float32")
        >>> explanation = ks.LRP(model).explain(images)
        >>> figure = ks.plot_heatmaps(explanation, images, titles=["first", "second"])
        >>> figure.savefig("heatmaps.png")
    """
    images = None if images is None else ops.convert_to_numpy(images)
    pixels = None if images is None else display_images(images)
    relevance = as_array(relevance)
    maps = relevance_maps(relevance, images)
    n, height, width = next(iter(maps.values())).shape
    titles = _checked_titles(titles, n)
    if columns is not None and (not isinstance(columns, (int, np.integer)) or columns < 1):
        raise ValueError(f"`columns` must be an int of 1 or more. Received: columns={columns!r}")
    if not 0 < percentile <= 100:
        raise ValueError(f"`percentile` must be above 0 and at most 100. Received: percentile={percentile!r}")

    if patch_size is not None:
        maps = with_patches(maps, integer("patch_size", patch_size, 1))
    layout = grid_layout(
        n,
        height,
        width,
        n_maps=len(maps),
        has_images=pixels is not None,
        has_labels=isinstance(relevance, dict) or patch_size is not None,
        has_headline=bool(title),
        title_lines=max(text.count("\n") + 1 if text else 0 for text in titles),
        shared_scale=shared_scale,
        columns=columns,
    )
    grid = Grid(layout)
    limits = {label: _limits(values, percentile, shared_scale) for label, values in maps.items()}
    if title:
        grid.write_headline(title)
    for i in range(n):
        grid.write_title(i, titles[i])
        if pixels is not None:
            grid.show_image(i, pixels[i])
        for k, (label, values) in enumerate(maps.items()):
            grid.show_map(i, k, label, values[i], limits[label][i])
    if shared_scale:
        for k, (label, values) in enumerate(maps.items()):
            grid.add_shared_bar(k, label, values, limits[label][0])
    return grid.figure


def _checked_titles(titles: Sequence[str] | None, n: int) -> Sequence[str]:
    if titles is None:
        return [""] * n
    if isinstance(titles, str) or len(titles) != n:
        raise ValueError(f"`titles` must be a list of {n} strings, one for each image. Received: titles={titles!r}")
    return titles


def _limits(values: np.ndarray, percentile: float, shared: bool) -> list[float]:
    """Where the colour scale of each heatmap ends."""
    if shared:
        return [_limit(values, percentile)] * len(values)
    return [_limit(heatmap, percentile) for heatmap in values]


def _limit(values: np.ndarray, percentile: float) -> float:
    """End of the colour scale: one of `|values|`, and zero only if all of them are."""
    sizes = np.abs(values)
    return np.percentile(sizes, percentile, method="higher") or sizes.max()
