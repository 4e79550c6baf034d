"""Figures of heatmaps: what is drawn where, and what is refused."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_shapley as ks


def drawn_images(figure):
    return [axes.images[0] for axes in figure.axes if axes.images]


@pytest.mark.parametrize("n", [1, 2, 5, 16])
@pytest.mark.parametrize("channels", [(), (1,), (3,)])
def test_every_image_stands_beside_its_relevance(n, channels, rng, tmp_path):
    images, relevance = rng.random((n, 6, 5, *channels)), rng.normal(size=(n, 6, 5, *channels))
    figure = ks.plot_heatmaps(relevance, images, titles=[f"image {i}" for i in range(n)], title="headline")
    drawn = drawn_images(figure)
    assert len(drawn) == 2 * n
    summed = relevance.sum(axis=-1) if channels else relevance
    for i in range(n):
        heat = drawn[2 * i + 1].get_array()
        np.testing.assert_allclose(np.sign(heat), np.sign(summed[i]))
        np.testing.assert_allclose(heat / np.abs(heat).max(), summed[i] / np.abs(summed[i]).max(), atol=1e-6)
    texts = {text.get_text() for text in figure.texts}
    assert {"headline", *(f"image {i}" for i in range(n))} <= texts
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_the_scale_is_symmetric_and_zero_is_white(rng):
    figure = ks.plot_heatmaps(rng.normal(size=(3, 8, 8)) + 2)
    for image in drawn_images(figure):
        low, high = image.get_clim()
        assert low == -high
        assert image.cmap(image.norm(0.0)) == (1, 1, 1, 1)


def test_a_heatmap_of_zeros_is_white():
    (image,) = drawn_images(ks.plot_heatmaps(np.zeros((1, 4, 4))))
    assert np.all(image.to_rgba(image.get_array()) == 1)


def test_titles_stay_inside_their_cells(rng):
    titles = ["true: an exceptionally long name of a class that nobody wants 100%\nshort"] * 4
    figure = ks.plot_heatmaps(rng.normal(size=(4, 8, 8)), titles=titles, title="x" * 300)
    width = figure.get_figwidth() * figure.dpi
    boxes = [text.get_window_extent() for text in figure.texts if text.get_text()]
    assert all(-1 <= box.x0 and box.x1 <= width + 1 for box in boxes)


def extents(figure):
    """Boxes in pixels of all texts, panels and colour bars."""
    figure.canvas.draw()
    ticks = [label for axes in figure.axes for label in (*axes.get_xticklabels(), *axes.get_yticklabels())]
    texts = [text for text in (*figure.texts, *ticks) if text.get_text()]
    return [artist.get_window_extent() for artist in (*texts, *(axes.patch for axes in figure.axes))]


@pytest.mark.parametrize("shared_scale", [False, True])
@pytest.mark.parametrize("n, size", [(1, (8, 8)), (5, (8, 8)), (2, (4, 30)), (3, (30, 4)), (17, (6, 8))])
def test_nothing_overlaps_and_nothing_leaves_the_figure(n, size, shared_scale, rng):
    relevance = {"one method": rng.normal(size=(n, *size)) * 1e-9, "another": rng.normal(size=(n, *size)) * 1e9}
    titles = [f"true: {i} (12%)\npredicted: an unusually long name (83%)" for i in range(n)]
    figure = ks.plot_heatmaps(
        relevance, rng.random((n, *size)), titles=titles, title="Epoch 12", shared_scale=shared_scale, percentile=90
    )
    boxes, edge = extents(figure), figure.bbox
    for i, box in enumerate(boxes):
        assert edge.x0 <= box.x0 and box.x1 <= edge.x1 and edge.y0 <= box.y0 and box.y1 <= edge.y1
        for other in boxes[:i]:
            overlap_x = min(box.x1, other.x1) - max(box.x0, other.x0)
            overlap_y = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert min(overlap_x, overlap_y) < 1, (box, other)


def test_sizes_suit_a_page(rng):
    for n in (1, 10, 64):
        width, height = ks.plot_heatmaps(rng.normal(size=(n, 4, 4)), rng.random((n, 4, 4))).get_size_inches()
        assert 1 < width < 25 and 1 < height < 25
        assert 0.5 < width / height < 3


def bar_labels(figure):
    bars = [axes for axes in figure.axes if not axes.images]
    return [[label.get_text() for label in (*bar.get_xticklabels(), *bar.get_yticklabels())] for bar in bars]


def test_faint_images_have_a_scale_of_their_own_unless_it_is_shared(rng):
    relevance = np.stack([np.full((4, 4), 0.5), np.full((4, 4), -0.001)])
    own, shared = (drawn_images(ks.plot_heatmaps(relevance, shared_scale=shared)) for shared in (False, True))
    assert [image.get_array()[0, 0] for image in own] == [1, -1]
    assert [image.get_array()[0, 0] for image in shared] == [1, -0.002]
    assert bar_labels(ks.plot_heatmaps(relevance)) == [["−0.5", "0", "0.5"], ["−0.001", "0", "0.001"]]
    assert bar_labels(ks.plot_heatmaps(relevance, shared_scale=True)) == [["−0.5", "0", "0.5"]]


def test_the_scale_ends_at_the_percentile_and_the_bar_shows_it():
    relevance = np.arange(100.0).reshape(1, 10, 10)
    assert bar_labels(ks.plot_heatmaps(relevance, percentile=90)) == [["−90", "0", "90"]]
    assert bar_labels(ks.plot_heatmaps(relevance, percentile=100)) == [["−99", "0", "99"]]
    relevance[0, 1:] = 0  # the percentile is 0, and the other nine pixels are seen all the same
    assert bar_labels(ks.plot_heatmaps(relevance, percentile=50)) == [["−9", "0", "9"]]


def test_the_smallest_and_the_largest_numbers_are_drawn(rng, tmp_path):
    for scale in (1e-310, 1e30):
        (image,) = drawn_images(ks.plot_heatmaps(np.array([[[scale, -scale], [0.0, scale]]])))
        np.testing.assert_array_equal(image.get_array(), [[1, -1], [0, 1]])


def test_several_heatmaps_stand_beside_each_image_under_their_names(rng):
    relevance = {"LRP": rng.normal(size=(3, 4, 4)), "gradient": rng.normal(size=(3, 4, 4, 3))}
    figure = ks.plot_heatmaps(relevance, rng.random((3, 4, 4, 3)))
    assert len(drawn_images(figure)) == 3 * 3
    texts = [text.get_text() for text in figure.texts]
    assert texts.count("LRP") == texts.count("gradient") == 3


def test_explanation_objects_are_drawn_as_their_arrays(rng):
    """Of LRP and Shapley values, alone and in a dict; values of groups are spread over their pixels."""
    model = keras.Sequential([keras.Input((4, 4)), layers.Flatten(), layers.Dense(3, "softmax")])
    images = rng.random((2, 4, 4)).astype("float32")
    groups = np.arange(16).reshape(4, 4) // 4
    explanation = ks.LRP(model).explain(images)
    values = ks.exact_shapley_values(model, images, target=None, players=groups)
    figure = ks.plot_heatmaps({"LRP": explanation, "Shapley values": values}, images, percentile=100)
    drawn = [image.get_array() for image in drawn_images(figure)]
    for i in range(2):
        lrp, shapley = explanation.input[i], values.values[i][groups] / 4
        np.testing.assert_allclose(drawn[3 * i + 1], lrp / np.abs(lrp).max(), rtol=1e-5)
        np.testing.assert_allclose(drawn[3 * i + 2], shapley / np.abs(shapley).max(), rtol=1e-5)
    alone = drawn_images(ks.plot_heatmaps(explanation, percentile=100))
    np.testing.assert_array_equal(alone[1].get_array(), drawn[4])


def test_names_of_classes_are_not_formulas():
    figure = ks.plot_heatmaps(np.ones((1, 4, 4)), titles=["$5 or $x^"], title="a_b$")
    figure.canvas.draw()
    assert {text.get_text() for text in figure.texts} == {"$5 or $x^", "a_b$"}


@pytest.mark.parametrize(
    "arguments, word",
    [
        (dict(relevance=np.zeros((2, 12))), "pass `images=`"),
        (dict(relevance=np.zeros(12)), "`relevance`"),
        (dict(relevance=np.zeros((0, 4, 4))), "`relevance`"),
        (dict(relevance=np.full((1, 4, 4), np.nan)), "`relevance`.*finite"),
        (dict(relevance=np.zeros((2, 4, 4)), images=np.zeros((3, 4, 4))), "number"),
        (dict(relevance=np.zeros((2, 4, 4)), images=np.zeros((2, 5, 4))), "height"),
        (dict(relevance=np.zeros((2, 4, 4)), images=np.zeros((2, 4, 4, 2))), "`images`"),
        (dict(relevance=np.zeros((2, 4, 4)), images=np.full((2, 4, 4), np.inf)), "`images`.*finite"),
        (dict(relevance=np.zeros((2, 4, 4)), titles=["one"]), "`titles`.*2"),
        (dict(relevance=np.zeros((2, 4, 4)), titles="ab"), "`titles`"),
        (dict(relevance=np.zeros((2, 4, 4)), columns=0), "`columns`"),
        (dict(relevance=np.zeros((2, 4, 4)), columns=1.5), "`columns`"),
        (dict(relevance=np.zeros((2, 9)), images=np.zeros((2, 4, 4))), "16 features"),
        (dict(relevance=np.zeros((2, 4, 4)), percentile=0), "`percentile`"),
        (dict(relevance={}), "`relevance`"),
        (dict(relevance={"a": np.zeros((2, 4, 4)), "b": np.zeros((2, 4, 5))}), "one shape"),
        (dict(relevance=np.array([["a"]])), "real numbers"),
    ],
)
def test_bad_input_is_named(arguments, word):
    with pytest.raises(ValueError, match=word):
        ks.plot_heatmaps(**arguments)


def test_pyplot_keeps_its_backend_and_opens_no_figure():
    import matplotlib
    from matplotlib import pyplot

    backend = matplotlib.get_backend()
    ks.plot_heatmaps(np.ones((1, 4, 4)))
    assert pyplot.get_fignums() == []
    assert matplotlib.get_backend() == backend
