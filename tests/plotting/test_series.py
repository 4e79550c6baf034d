"""Figures of series: lines, the colours behind them, and what is refused."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_shapley as ks


def panels(figure):
    return [axes for axes in figure.axes if axes.images]


def test_each_feature_of_each_sample_is_a_line_on_its_relevance(rng):
    x, relevance = rng.normal(size=(2, 9, 3)), rng.normal(size=(2, 9, 3))
    figure = ks.plot_series(relevance, x, feature_names=["a", "b", "c"], titles=["first", "second"], title="headline")
    drawn = panels(figure)
    assert len(drawn) == 6
    for k, axes in enumerate(drawn):
        i, feature = divmod(k, 3)
        (line,) = axes.lines
        np.testing.assert_array_equal(line.get_xydata(), np.stack([np.arange(9), x[i, :, feature]], axis=-1))
        # the features of a sample share a scale
        expected = relevance[i, :, feature] / np.abs(relevance[i]).max()
        np.testing.assert_allclose(axes.images[0].get_array()[0], expected)
        assert axes.get_ylim() == drawn[feature].get_ylim()
    texts = [text.get_text() for text in figure.texts]
    assert texts.count("a") == texts.count("b") == texts.count("c") == 2
    assert {"headline", "first", "second"} <= set(texts)


def test_the_colour_of_a_step_stands_behind_its_point():
    """Colours of the picture: step 3 pushes up, step 6 down, and nothing else has colours."""
    relevance = np.zeros((1, 10))
    relevance[0, [3, 6]] = 1, -1
    figure = ks.plot_series(relevance, np.zeros((1, 10)))
    figure.canvas.draw()
    picture = np.asarray(figure.canvas.buffer_rgba())[::-1, :, :3].astype(int)
    for step in range(10):
        across, up = panels(figure)[0].transData.transform((step + 0.2, 0.3))
        red, _, blue = picture[int(up), int(across)]
        assert (red > blue + 50, blue > red + 50) == (step == 3, step == 6)


def test_series_of_one_feature_may_have_an_axis_for_it(rng):
    x, relevance = rng.normal(size=(2, 9)), rng.normal(size=(2, 9))
    for values, series in ((relevance, x), (relevance[..., None], x), (relevance, x[..., None])):
        drawn = panels(ks.plot_series(values, series))
        np.testing.assert_allclose(drawn[1].images[0].get_array()[0], relevance[1] / np.abs(relevance[1]).max())


def test_relevance_of_steps_is_shown_with_each_feature(rng):
    relevance = rng.normal(size=(1, 9))
    drawn = panels(ks.plot_series(relevance, rng.normal(size=(1, 9, 4))))
    assert len(drawn) == 4
    for axes in drawn:
        np.testing.assert_allclose(axes.images[0].get_array(), relevance / np.abs(relevance).max())


def test_explanations_several_targets_and_groups_of_steps(rng):
    """Segments of unequal length have the colour of their value, in every feature."""
    model = keras.Sequential([keras.Input((6, 2)), layers.LSTM(3), layers.Dense(3)])
    x = rng.normal(size=(2, 6, 2)).astype("float32")
    steps = np.array([0, 0, 0, 0, 1, 2])
    segments = np.stack([steps, steps], axis=-1)
    values = ks.exact_shapley_values(model, x, [[0, 2]], players=segments)
    figure = ks.plot_series({"segments": values, "steps": rng.normal(size=(2, 6))}, x)
    drawn = panels(figure)
    assert len(drawn) == 2 * 3 * 2
    texts = [text.get_text() for text in figure.texts]
    assert texts == ["segments, output 0", "segments, output 2", "steps"] * 2
    for i in range(2):
        for k in range(2):
            expected = values.values[i, :, k][steps] / np.abs(values.values[i, :, k]).max()
            for feature in range(2):
                heat = drawn[6 * i + 2 * k + feature].images[0].get_array()[0]
                np.testing.assert_allclose(heat, expected, rtol=1e-6)


def test_samples_share_a_scale_if_they_are_asked_to():
    relevance = np.array([[0.5, 0.0], [0.0, -2.0]])
    own, shared = (panels(ks.plot_series(relevance, relevance, shared_scale=s)) for s in (False, True))
    assert [axes.images[0].get_array().max() for axes in own] == [1, 0]
    assert [axes.images[0].get_array()[0, 0] for axes in shared] == [0.25, 0]


@pytest.mark.parametrize("n, steps, features", [(1, 1, 1), (3, 5, 2), (2, 400, 1), (1, 30, 12)])
@pytest.mark.parametrize("n_maps", [1, 3])
def test_nothing_overlaps_and_nothing_leaves_the_figure(n, steps, features, n_maps, rng):
    x = rng.normal(size=(n, steps, features)) * np.logspace(-7, 7, features) + 1000
    relevance = {f"method {k} of a long name": rng.normal(size=x.shape) * 10.0**-k for k in range(n_maps)}
    titles = [f"true: {i} (12%)\npredicted: an unusually long name (83%)" for i in range(n)]
    names = [f"an exceptionally long name {k}" for k in range(features)]
    figure = ks.plot_series(relevance, x, titles=titles, title="Headline", feature_names=names)
    figure.canvas.draw()
    ticks = []
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            seen = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
            ticks += [label for tick in seen for label in (tick.label1, tick.label2) if label.get_visible()]
    texts = [text for text in (*figure.texts, *ticks) if text.get_text()]
    boxes = [artist.get_window_extent() for artist in (*texts, *(axes.patch for axes in figure.axes))]
    edge = figure.bbox
    for i, box in enumerate(boxes):
        assert edge.x0 <= box.x0 and box.x1 <= edge.x1 and edge.y0 <= box.y0 and box.y1 <= edge.y1
        for other in boxes[:i]:
            overlap_x = min(box.x1, other.x1) - max(box.x0, other.x0)
            overlap_y = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert min(overlap_x, overlap_y) < 1, (box, other)


@pytest.mark.parametrize(
    "arguments, word",
    [
        (dict(relevance=np.zeros((2, 9)), x=np.zeros((2, 8))), "steps of `x`"),
        (dict(relevance=np.zeros((2, 9, 2)), x=np.zeros((2, 9))), "features"),
        (dict(relevance=np.zeros((2, 9)), x=np.zeros((2, 9, 3, 3))), "`x`.*plot_heatmaps.*plot_tokens"),
        (dict(relevance=np.zeros(9), x=np.zeros(9)), "`x`"),
        (dict(relevance=np.zeros((0, 9)), x=np.zeros((0, 9))), "`x`"),
        (dict(relevance=np.full((1, 9), np.nan), x=np.zeros((1, 9))), "`relevance`.*finite"),
        (dict(relevance=np.zeros((1, 9)), x=np.full((1, 9), np.inf)), "`x`.*finite"),
        (dict(relevance=np.zeros((1, 2)), x=[["a", "b"]]), "`x`.*real numbers"),
        (dict(relevance=np.zeros((2, 9)), x=np.zeros((2, 9)), titles=["one"]), "`titles`.*2"),
        (dict(relevance=np.zeros((2, 9)), x=np.zeros((2, 9)), feature_names=["a", "b"]), "`feature_names`.*1"),
        (dict(relevance=np.zeros((2, 9)), x=np.zeros((2, 9)), percentile=101), "`percentile`"),
        (dict(relevance={}, x=np.zeros((2, 9))), "`relevance`"),
        (dict(relevance=np.zeros((2, 9)), x={"a": np.zeros((2, 9)), "b": np.zeros((2, 9))}), r"x\['a'\]"),
    ],
)
def test_bad_input_is_named(arguments, word):
    with pytest.raises(ValueError, match=word):
        ks.plot_series(**arguments)
