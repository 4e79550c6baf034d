"""Bars of a table's columns: their order, lengths, colours, names, and what is refused."""

import keras
import numpy as np
import pytest
from keras import layers
from reference.calls import BIAS

import keras_shapley as ks


def texts(figure):
    return [text.get_text() for text in figure.texts if text.get_text()]


def lengths(figure):
    """Of the bars, from the top."""
    bars = sorted(figure.axes[0].patches, key=lambda bar: -bar.get_y())
    return [bar.get_width() for bar in bars]


def test_one_row_has_its_values_the_largest_first():
    figure = ks.plot_bars(
        np.array([[0.5, -2.0, 1.0]]), feature_names=["a", "b", "c"], titles=["yes (80 %)"], title="One"
    )
    assert lengths(figure) == [-2.0, 1.0, 0.5]
    assert texts(figure) == ["b", "c", "a", "One", "yes (80 %)"]
    blue, red, _ = (bar.get_facecolor() for bar in sorted(figure.axes[0].patches, key=lambda bar: -bar.get_y()))
    assert blue[2] > blue[0] and red[0] > red[2]


def test_rows_have_their_mean_absolute_values():
    figure = ks.plot_bars(np.array([[1.0, -2.0], [-3.0, 0.0]]))
    assert lengths(figure) == [2.0, 1.0]
    assert texts(figure) == ["column 0", "column 1", "mean absolute value over 2 rows"]


def test_names_may_be_numbers():
    assert texts(ks.plot_bars(np.array([[1.0, 3.0, 2.0]]), feature_names=[0, 1, 2])) == ["1", "2", "0"]


def test_several_targets_are_refused(rng):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, "softmax")])
    x = rng.normal(size=(1, 4)).astype("float32")
    for several in (ks.LRP(model).explain(x, [[0, 1]]), ks.exact_shapley_values(model, x, [[0, 1]])):
        with pytest.raises(ValueError, match="`relevance` must be of one target"):
            ks.plot_bars(several)


def test_columns_that_are_inputs_of_their_own_have_a_bar_each(rng):
    inputs = {name: keras.Input((1,), name=name) for name in ("age", "height")}
    x = {name: rng.normal(size=(1, 1)).astype("float32") for name in inputs}
    model = keras.Model(inputs, layers.Dense(1)(layers.Concatenate()(list(inputs.values()))))
    found = ks.shapley_values(model, x)
    np.testing.assert_allclose(sorted(lengths(ks.plot_bars(found))), sorted(found.values[0]))


def test_only_the_largest_are_drawn():
    figure = ks.plot_bars(np.arange(1.0, 31.0)[None], most=4)
    assert lengths(figure) == [30.0, 29.0, 28.0, 27.0]
    assert "(the 4 largest of 30 columns)" in texts(figure)


def mlp(n=4):
    hidden = layers.Dense(6, "relu", bias_initializer=BIAS)
    return keras.Sequential([keras.Input((n,)), hidden, layers.Dense(1, "sigmoid", bias_initializer=BIAS)])


def test_shapley_values_bring_their_names_and_standard_errors(rng):
    names = [f"feature {k}" for k in range(12)]
    found = ks.shapley_values(mlp(12), rng.normal(size=(1, 12)), budget=40, feature_names=names, method="regression")
    figure = ks.plot_bars(found)
    order = np.argsort(-np.abs(found.values[0]))
    np.testing.assert_allclose(lengths(figure), found.values[0, order])
    assert texts(figure) == [names[k] for k in order]
    (lines,) = figure.axes[0].collections
    ends = np.array([segment[:, 0] for segment in lines.get_segments()])
    np.testing.assert_allclose(np.diff(ends)[:, 0], 2 * found.stderr[0, order])


def test_groups_of_columns_have_a_bar_each(rng):
    found = ks.exact_shapley_values(mlp(), rng.normal(size=(1, 4)), players=np.array([0, 1, 1, 0]))
    np.testing.assert_allclose(sorted(lengths(ks.plot_bars(found))), sorted(found.values[0, :, 0]))


def test_an_explanation_says_what_is_explained(rng):
    explanation = ks.LRP(mlp()).explain(rng.normal(size=(1, 4)))
    (title,) = explanation.titles()
    assert title.startswith("class 1 (") and title in texts(ks.plot_bars(explanation))


@pytest.mark.parametrize(
    ("relevance", "options", "says"),
    [
        (np.ones((2, 4, 4)), {}, r"must have the shape \(rows, columns\).*\(2, 4, 4\).*plot_heatmaps"),
        (np.ones((2, 0)), {}, r"must have the shape \(rows, columns\)"),
        (np.ones((2, 3)), {"feature_names": ["a"]}, "`feature_names` must be a list of 3 strings"),
        (np.ones((2, 3)), {"titles": ["a"]}, "`titles` must be a list of 2 strings"),
        (np.ones((2, 3)), {"most": 0}, "`most`"),
        ({"a": np.ones((1, 3))}, {}, "must be one array or explanation. Received: a dict"),
    ],
)
def test_what_cannot_be_drawn(relevance, options, says):
    with pytest.raises(ValueError, match=says):
        ks.plot_bars(relevance, **options)
