"""Relevance arrays to pictures. Matplotlib is imported when something is drawn, and no window is ever opened."""

import numpy as np
from keras import ops

from keras_shapley.plotting.arrays import display_images, relevance_maps
from keras_shapley.plotting.grid import Grid


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
    grid = Grid(n, h, w, pictures is not None, labels, titles, title, columns, shared_scale)
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


def _limit(maps, percentile):
    """Where the colour scale ends; a value that occurs, and not zero unless all of `maps` is."""
    sizes = np.abs(maps)
    return np.percentile(sizes, percentile, method="higher") or sizes.max()
