"""Figures of heatmaps: what is drawn where, and what is refused."""

import dataclasses
import re

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


def test_a_title_of_thousands_of_letters_is_cut_in_few_steps(rng, monkeypatch):
    from matplotlib.text import Text

    measured = []
    measure = Text.get_window_extent
    monkeypatch.setattr(Text, "get_window_extent", lambda *arguments: measured.append(1) or measure(*arguments))
    figure = ks.plot_heatmaps(rng.normal(size=(1, 8, 8)), titles=["letters" * 1000 + "\n" + "words" * 1000])
    (title,) = [text.get_text() for text in figure.texts if "…" in text.get_text()]
    assert all(line.endswith("…") and 5 < len(line) < 100 for line in title.split("\n"))
    assert len(measured) < 500


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


def colour_at(figure, axes, row, column):
    """Red, green and blue of the picture where the pixel of a panel is drawn, in [0, 1]."""
    figure.canvas.draw()
    picture = np.asarray(figure.canvas.buffer_rgba())[::-1]
    across, up = axes.transData.transform((column, row))
    return picture[int(up), int(across), :3] / 255


def test_an_overlay_covers_the_grey_photograph_as_far_as_it_is_relevant(rng):
    """The colours of the picture itself, where nothing, a little and the most is relevant."""
    photograph = rng.random((1, 2, 3, 3))
    relevance = np.array([[[0, 0, 0.25], [-0.25, 1, -1]]])
    figure = ks.plot_heatmaps(relevance, photograph, overlay=True)
    plain = ks.plot_heatmaps(relevance, photograph)
    panel = figure.axes[1]
    assert len(figure.axes) == len(plain.axes)
    brightness = photograph[0] @ [0.299, 0.587, 0.114]
    low, high = np.percentile(brightness, [1, 99])
    for row, column in np.ndindex(2, 3):
        strength = abs(relevance[0, row, column])
        opaque = 0.85 * strength**0.5
        grey = 0.5 + 0.5 * np.clip((brightness[row, column] - low) / (high - low), 0, 1)
        expected = (1 - opaque) * grey + opaque * colour_at(plain, plain.axes[1], row, column)
        np.testing.assert_allclose(colour_at(figure, panel, row, column), expected, atol=0.02)
    assert colour_at(figure, panel, 1, 1)[0] > 0.3 > colour_at(figure, panel, 1, 1)[2]
    assert colour_at(figure, panel, 1, 2)[2] > 0.3 > colour_at(figure, panel, 1, 2)[0]


def test_a_dark_and_a_pale_photograph_are_seen_under_an_overlay(rng):
    """As well as the same photograph in full light; one without contrast is white, and its noise is not shown."""
    photograph = rng.random((6, 8))
    photograph[0, :2] = 0, 1
    variants = np.stack([photograph, 0.12 * photograph, 0.85 + 0.15 * photograph, np.zeros((6, 8))])
    figure = ks.plot_heatmaps(np.zeros((4, 6, 8)), variants, overlay=True, columns=1)
    shown = [axes.images[0].get_array() for axes in figure.axes if len(axes.images) == 2]
    for grey in shown[1:3]:
        np.testing.assert_allclose(grey, shown[0], atol=0.01)
    assert np.ptp(shown[0]) > 0.45 and (shown[3] == 1).all()
    faint = ks.plot_heatmaps(np.zeros((1, 6, 8)), 0.5 + 0.01 * photograph[None], overlay=True)
    (panel,) = (axes for axes in faint.axes if len(axes.images) == 2)
    assert np.ptp(panel.images[0].get_array()) < 0.06


@pytest.mark.parametrize("ground", [0.0, 0.05, 1.0])
def test_a_small_object_on_a_plain_ground_is_seen_under_an_overlay(ground):
    photograph = np.full((64, 64), ground)
    photograph[30:35, 30:35] = 0.9 if ground < 0.5 else 0.1
    figure = ks.plot_heatmaps(np.zeros((1, 64, 64)), photograph[None], overlay=True)
    (panel,) = (axes for axes in figure.axes if len(axes.images) == 2)
    grey = panel.images[0].get_array()
    assert abs(grey[32, 32] - grey[0, 0]) == pytest.approx(0.5)


def test_grey_images_have_overlays_too(rng):
    figure = ks.plot_heatmaps(
        {"a": rng.normal(size=(2, 4, 4)), "b": np.zeros((2, 4, 4))}, rng.random((2, 4, 4)), overlay=True
    )
    panels = [axes for axes in figure.axes if len(axes.images) == 2]
    assert len(panels) == 4
    assert not panels[1].images[1].get_alpha().any()


def test_a_pixel_has_the_value_of_its_group_also_where_groups_differ_in_size(rng):
    model = keras.Sequential([keras.Input((3, 4)), layers.Flatten(), layers.Dense(2)])
    images = rng.random((2, 3, 4)).astype("float32")
    groups = np.array([[0, 0, 0, 1], [0, 0, 0, 1], [0, 2, 2, 1]])
    result = ks.exact_shapley_values(model, images, 0, players=groups)
    for overlay in (False, True):
        figure = ks.plot_heatmaps(result, images, percentile=100, overlay=overlay)
        for i in range(2):
            drawn = figure.axes[3 * i + 1].images[-1].get_array()
            np.testing.assert_allclose(drawn, result.values[i][groups] / np.abs(result.values[i]).max(), rtol=1e-6)


def test_a_group_of_all_channels_counts_once_and_channels_of_their_own_are_added(rng):
    groups = np.stack([np.zeros((2, 2), int), np.zeros((2, 2), int), [[1, 2], [1, 0]]], axis=-1)
    images = rng.random((1, 2, 2, 3))
    result = ks.exact_shapley_values(lambda x: x.reshape(len(x), -1) @ np.arange(12.0), images, players=groups)
    values = result.values.reshape(3)
    expected = np.array([[sum(values[k] for k in set(groups[y, x])) for x in range(2)] for y in range(2)])
    for shown in (result, {"flat": flat(result)}):
        heat = drawn_images(ks.plot_heatmaps(shown, images, percentile=100))[1].get_array()
        np.testing.assert_allclose(heat, expected / np.abs(expected).max())


def flat(result):
    """The same of a function of flat inputs."""
    n = len(result.x)
    return dataclasses.replace(result, x=result.x.reshape(n, -1), players=result.players.reshape(-1))


def small_model(shape=(4, 4)):
    return keras.Sequential([keras.Input(shape), layers.Flatten(), layers.Dense(5, "softmax")])


@pytest.mark.parametrize("method", ["LRP", "Shapley values"])
def test_several_targets_stand_side_by_side_under_their_outputs(method, rng):
    model, images = small_model(), rng.random((2, 4, 4)).astype("float32")
    targets = np.array([[3, 1], [0, 3]])
    groups = np.arange(16).reshape(4, 4) // 4

    def explained(target):
        if method == "LRP":
            return ks.LRP(model).explain(images, target)
        return ks.exact_shapley_values(model, images, target, players=groups)

    figure = ks.plot_heatmaps(explained(targets), images, percentile=100)
    assert [text.get_text() for text in figure.texts] == ["output 3", "output 1", "output 0", "output 3"]
    drawn = drawn_images(figure)
    for k in range(2):
        alone = drawn_images(ks.plot_heatmaps(explained(targets[:, k]), images, percentile=100))
        for i in range(2):
            np.testing.assert_allclose(drawn[3 * i + 1 + k].get_array(), alone[2 * i + 1].get_array(), atol=1e-5)


def test_several_targets_in_a_dict_and_on_a_shared_scale(rng):
    model, images = small_model(), rng.random((2, 4, 4)).astype("float32")
    lrp = ks.LRP(model)
    figure = ks.plot_heatmaps({"LRP": lrp.explain(images, [[3, 1], [0, 1]])}, images, shared_scale=True)
    texts = [text.get_text() for text in figure.texts]
    assert texts[:4] == ["LRP, output 3", "LRP, output 1", "LRP, output 0", "LRP, output 1"]
    assert texts[4:] == ["LRP, target 1 of 2", "LRP, output 1"]
    one = ks.plot_heatmaps({"LRP": lrp.explain(images, [3, 0])}, images, patch_size=2)
    assert [text.get_text() for text in one.texts] == ["LRP", "LRP, patches"] * 2


def test_weights_of_outputs_are_one_target(rng):
    model, images = small_model(), rng.random((3, 4, 4)).astype("float32")
    explanation = ks.LRP(model).explain(images, np.array([1.0, -1.0, 0, 0, 0]))
    assert len(drawn_images(ks.plot_heatmaps(explanation, images))) == 2 * 3


def test_of_several_inputs_one_is_drawn_as_the_error_says(rng):
    """Inputs of one shape would pass for a batch."""
    scan, mask = keras.Input((4, 4), name="scan"), keras.Input((4, 4), name="mask")
    outputs = layers.Dense(3)(layers.Flatten()(layers.Concatenate()([scan, mask])))
    x = {"scan": rng.random((2, 4, 4)).astype("float32"), "mask": rng.random((2, 4, 4)).astype("float32")}
    for model, inputs, key in (
        (keras.Model({"scan": scan, "mask": mask}, outputs), x, "scan"),
        (keras.Model([scan, mask], outputs), list(x.values()), 0),
    ):
        explanation = ks.LRP(model).explain(inputs)
        remedy = f"relevance.heatmap[{key!r}]"
        for images in (None, x["scan"]):
            with pytest.raises(ValueError, match=re.escape(f"such as {remedy}")):
                ks.plot_heatmaps(explanation, images)
        with pytest.raises(ValueError, match=re.escape(f"relevance['LRP'].heatmap[{key!r}]")):
            ks.plot_heatmaps({"LRP": explanation}, x["scan"])
        assert len(drawn_images(ks.plot_heatmaps(explanation.heatmap[key], x["scan"]))) == 4
        several = ks.LRP(model).explain(inputs, [[0, 1]])
        with pytest.raises(ValueError, match=re.escape(f"{remedy}[:, 0]")):
            ks.plot_heatmaps(several, x["scan"])
        assert len(drawn_images(ks.plot_heatmaps(several.heatmap[key][:, 0], x["scan"]))) == 4
    with pytest.raises(ValueError, match=r"`images` has 2 arrays.*images\['scan'\]"):
        ks.plot_heatmaps(explanation.heatmap[0], x)
    with pytest.raises(ValueError, match=r"`relevance` has 2 arrays.*np.stack"):
        ks.plot_heatmaps(explanation.heatmap)


def test_the_only_input_of_a_dict_is_drawn(rng):
    scan = keras.Input((4, 4), name="scan")
    model = keras.Model({"scan": scan}, layers.Dense(3)(layers.Flatten()(scan)))
    x = {"scan": rng.random((2, 4, 4)).astype("float32")}
    result = ks.exact_shapley_values(model, x, 1, players={"scan": np.arange(16).reshape(4, 4) // 4})
    for explanation in (ks.LRP(model).explain(x), result):
        assert len(drawn_images(ks.plot_heatmaps(explanation, x, overlay=True))) == 4


def test_lists_of_photographs_are_batches(rng):
    photographs = [rng.random((4, 5, 3)) for _ in range(2)]
    assert len(drawn_images(ks.plot_heatmaps(rng.normal(size=(2, 4, 5)), photographs))) == 4
    with pytest.raises(ValueError, match="`images` must be one array"):
        ks.plot_heatmaps(rng.normal(size=(2, 4, 5)), [photographs[0], photographs[1][:3]])


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
        (dict(relevance=1.0), "`relevance`"),
        (dict(relevance=np.zeros((1, 2)), images=[["a", "film"]]), "`images`.*real numbers.*plot_tokens"),
        (dict(relevance=np.zeros((2, 4, 4)), overlay=True), "`overlay=True`.*`images="),
        (dict(relevance=np.zeros((2, 9)), images=np.zeros((2, 9))), "plot_series.*plot_tokens.*plot_bars"),
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


def test_an_explanation_has_titles_of_its_own(rng):
    """Those of one target; several have labels, and given titles come first."""
    images = rng.random((2, 8, 8)).astype("float32")
    model = keras.Sequential([keras.Input((8, 8)), keras.layers.Flatten(), keras.layers.Dense(3, "softmax")])
    explainer = ks.LRP(model)
    explanation = explainer.explain(images)

    def titles(*arguments, **options):
        return [text.get_text() for text in ks.plot_heatmaps(*arguments, **options).texts if text.get_text()]

    assert titles(explanation, images) == explanation.titles()
    assert titles(explanation, images, titles=["", ""]) == []
    assert titles(explanation, images, titles=["a", "b"]) == ["a", "b"]
    assert set(titles(explainer.explain(images, [[0, 1]]), images)) == {"output 0", "output 1"}


def test_groups_of_pixels_have_no_patches(rng):
    """Each pixel of a group has its value, so that sums of pixels would be none of relevance."""
    images = rng.random((1, 4, 4)).astype("float32")
    model = keras.Sequential([keras.Input((4, 4)), keras.layers.Flatten(), keras.layers.Dense(1)])
    values = ks.exact_shapley_values(model, images, 0, players=2)
    figure = ks.plot_heatmaps({"LRP": ks.LRP(model).explain(images), "values": values}, images, patch_size=2)
    assert [text.get_text() for text in figure.texts if text.get_text()] == ["LRP", "LRP, patches", "values"]
    pixels, patches, groups = (image.get_array()[::2, ::2] for image in drawn_images(figure)[1:])
    np.testing.assert_allclose(groups.ravel(), values.values[0] / np.abs(values.values).max(), rtol=1e-5)
    # a linear model: sums of relevance are Shapley values
    np.testing.assert_allclose(patches, groups, rtol=1e-4)
    assert not np.allclose(pixels, patches)
