"""`plot_heatmaps`: the figure of heatmaps beside their images."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from keras_shapley.plotting.arrays import display_images, relevance_maps, with_patches
from keras_shapley.plotting.attributions import given_array, titles_of
from keras_shapley.plotting.colours import check_percentile, limits
from keras_shapley.plotting.grid import Grid, grid_layout
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
    overlay: bool = False,
) -> "Figure":
    """Draws heatmaps of relevance beside their images: red is positive, blue is negative and white is zero.

    The colour scale is symmetric about zero and ends at a high percentile of `|relevance|`. A colour bar with pointed
    ends means that some pixels lie beyond it. Channels are summed. They come last, or first if
    `keras.config.image_data_format()` says so. Series are drawn by `plot_series` and texts by `plot_tokens`.

    Args:
        relevance: array of shape `(n, h, w)` or `(n, h, w, channels)`, or `(n, features)` if `images` gives the layout;
            or an explanation object, such as `Explanation` and `ShapleyValues`. An explanation of several targets is
            drawn as a heatmap for each of them, side by side. Where players are groups of pixels, such as patches, a
            pixel has the value of its group. A dict puts several of all these beside each image, with its keys as
            labels. Of an explanation of several inputs, pass the array of one: `explanation.heatmap["scan"]`.
        images: array of shape `(n, h, w)`, `(n, h, w, 1)` or `(n, h, w, 3)`, drawn beside the heatmaps. An array of
            uint8 is shown on the scale 0 to 255, and numbers in [0, 1] are shown as they are. Other numbers are scaled
            from the minimum to the maximum over all images.
        titles: `n` strings of one or more lines, one above each image. By default `explanation.titles()`, such as
            `class 3 (98 %)`, if an `Explanation` of one target is given.
        title: headline of the figure.
        columns: number of images in a row. By default the figure becomes somewhat wider than high.
        shared_scale: whether all images share one colour scale and one colour bar, so that they can be compared. By
            default each heatmap has its own, so that faint ones are visible. The arrays of a dict and the targets of
            an explanation never share a scale.
        percentile: percentile of `|relevance|` at which the colour scale ends. 100 is the maximum.
        patch_size: height and width in pixels of patches. The sum of the relevance in each patch is then drawn beside
            that of the pixels, unless the players are groups of pixels. Relevance of single pixels is grainy; sums over
            patches are nearer to Shapley values.
        overlay: whether heatmaps are drawn over the image in light grey, the more transparent the weaker the relevance.

    Returns:
        `matplotlib.figure.Figure`, which is saved by `figure.savefig(path)`. It has an Agg canvas and opens no window.

    Raises:
        ValueError: if an array has another shape or holds NaN or infinity, if the numbers of images, heatmaps and
            titles differ, if an explanation has several inputs, if `columns` or `percentile` is out of range, or if
            `overlay` is asked for without images.

    Examples:
        >>> model = keras.Sequential([keras.Input((8, 8)), keras.layers.Flatten(), keras.layers.Dense(3, "softmax")])
        >>> images = np.random.default_rng(0).random((2, 8, 8)).astype("float32")
        >>> explanation = ks.LRP(model).explain(images)
        >>> figure = ks.plot_heatmaps(explanation, images, titles=["first", "second"])
        >>> figure.savefig("heatmaps.png")

        Shapley values of patches for two classes, over the images:

        >>> values = ks.exact_shapley_values(model, images, [[0, 2]], players=np.arange(64).reshape(8, 8) // 16)
        >>> figure = ks.plot_heatmaps(values, images, overlay=True)
        >>> sorted({text.get_text() for text in figure.texts})
        ['output 0', 'output 2']
    """
    images = None if images is None else given_array("images", images)
    pixels = None if images is None else display_images(images)
    if overlay and pixels is None:
        raise ValueError("`overlay=True` draws over photographs: pass `images=`. Received: images=None")
    maps = relevance_maps(relevance, images)
    n, height, width = maps[0].values.shape
    titles = titles_of(relevance, titles, n)
    if columns is not None:
        columns = integer("columns", columns, 1)
    check_percentile(percentile)

    if patch_size is not None:
        maps = with_patches(maps, integer("patch_size", patch_size, 1))
    layout = grid_layout(
        n,
        height,
        width,
        n_maps=len(maps),
        has_images=pixels is not None,
        has_labels=any(label for part in maps for label in part.labels),
        has_headline=bool(title),
        title_lines=max(text.count("\n") + 1 if text else 0 for text in titles),
        shared_scale=shared_scale,
        columns=columns,
    )
    grid = Grid(layout)
    ends = [limits(part.values, percentile, shared_scale) for part in maps]
    if title:
        grid.write_headline(title)
    for i in range(n):
        grid.write_title(i, titles[i])
        if pixels is not None:
            grid.show_image(i, pixels[i])
        for k, part in enumerate(maps):
            under = pixels[i] if pixels is not None and overlay else None
            grid.show_map(i, k, part.labels[i], part.values[i], ends[k][i], under)
    if shared_scale:
        for k, part in enumerate(maps):
            grid.add_shared_bar(k, part.label, part.values, ends[k][0])
    return grid.figure
