"""Pictures of relevance: what is drawn where, and what is refused."""

import keras
import numpy as np
import pytest

import keras_shapley as ks
from keras_shapley.plotting import display_images, relevance_maps


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
    written = {text.get_text() for text in figure.texts}
    assert {"headline", *(f"image {i}" for i in range(n))} <= written
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_the_scale_is_symmetric_and_zero_is_white(rng):
    figure = ks.plot_heatmaps(rng.normal(size=(3, 8, 8)) + 2)
    for image in drawn_images(figure):
        low, high = image.get_clim()
        assert low == -high
        assert image.cmap(image.norm(0.0)) == (1, 1, 1, 1)


def test_relevance_of_nothing_is_white():
    (image,) = drawn_images(ks.plot_heatmaps(np.zeros((1, 4, 4))))
    assert np.all(image.to_rgba(image.get_array()) == 1)


def test_titles_stay_inside_their_cells(rng):
    titles = ["true: an exceptionally long name of a class that nobody wants 100%\nshort"] * 4
    figure = ks.plot_heatmaps(rng.normal(size=(4, 8, 8)), titles=titles, title="x" * 300)
    width = figure.get_figwidth() * figure.dpi
    boxes = [text.get_window_extent() for text in figure.texts if text.get_text()]
    assert all(-1 <= box.x0 and box.x1 <= width + 1 for box in boxes)


def test_images_are_shown_in_the_range_that_they_have(rng):
    bytes_ = np.array([[[0, 255], [51, 102]]], "uint8")
    np.testing.assert_allclose(display_images(bytes_)[0], [[0, 1], [0.2, 0.4]])
    unit = rng.random((2, 3, 3))
    np.testing.assert_array_equal(display_images(unit), unit)
    wide = display_images(rng.normal(size=(2, 3, 3, 3)))
    assert wide.min() == 0 and wide.max() == 1


def test_flat_relevance_takes_the_layout_of_the_images(rng):
    flat, images = rng.normal(size=(2, 12)), rng.random((2, 3, 4))
    np.testing.assert_array_equal(relevance_maps(flat, images)[""], flat.reshape(2, 3, 4))
    np.testing.assert_array_equal(relevance_maps(flat, rng.random((2, 3, 4, 3)))[""], flat.reshape(2, 3, 4))


def test_channels_first_is_understood(rng):
    keras.config.set_image_data_format("channels_first")
    try:
        relevance = rng.normal(size=(2, 3, 5, 4))
        np.testing.assert_allclose(relevance_maps(relevance)[""], relevance.sum(axis=1))
        assert display_images(rng.random((2, 3, 5, 4))).shape == (2, 5, 4, 3)
    finally:
        keras.config.set_image_data_format("channels_last")


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
        (dict(relevance=np.zeros((2, 4, 4)), percentile=0), "`percentile`"),
        (dict(relevance={}), "`relevance`"),
        (dict(relevance={"a": np.zeros((2, 4, 4)), "b": np.zeros((2, 4, 5))}), "one shape"),
        (dict(relevance=np.array([["a"]])), "real numbers"),
    ],
)
def test_bad_input_is_named(arguments, word):
    with pytest.raises(ValueError, match=word):
        ks.plot_heatmaps(**arguments)


def test_pyplot_is_left_alone():
    import matplotlib
    from matplotlib import pyplot

    backend = matplotlib.get_backend()
    ks.plot_heatmaps(np.ones((1, 4, 4)))
    assert pyplot.get_fignums() == []
    assert matplotlib.get_backend() == backend
