"""Results as `shap.Explanation`: every plot of shap is drawn."""

import sys

import keras
import numpy as np
import pytest

import keras_shapley as ks

# shap warns of its own use of matplotlib and NumPy
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def shap(monkeypatch):
    pytest.importorskip("matplotlib").use("Agg")
    shap = pytest.importorskip("shap")
    import matplotlib.pyplot as plt

    yield shap
    plt.close("all")


W = np.random.default_rng(0).normal(size=(5, 3))


def table(x):
    return np.tanh(x.reshape(len(x), -1)[:, :5] @ W)


@pytest.fixture
def x(rng):
    return rng.normal(size=(12, 5))


def draw_tables(shap, explanation):
    """Each plot on a figure of its own."""
    import matplotlib.pyplot as plt

    plots = {
        "waterfall": lambda: shap.plots.waterfall(explanation[0], show=False),
        "force": lambda: shap.plots.force(explanation[0], matplotlib=True, show=False),
        "bar": lambda: shap.plots.bar(explanation, show=False),
        "bar of one": lambda: shap.plots.bar(explanation[1], show=False),
        "beeswarm": lambda: shap.plots.beeswarm(explanation, show=False),
        "scatter": lambda: shap.plots.scatter(explanation[:, 0], show=False),
    }
    for draw in plots.values():
        plt.close("all")
        draw()
        plt.gcf().canvas.draw()


def test_features(shap, x):
    result = ks.exact_shapley_values(table, x, 1, baseline=x[:4])
    explanation = result.to_shap()
    np.testing.assert_array_equal(explanation.values, result.values)
    np.testing.assert_array_equal(explanation.data, x)
    # the plots add up: base value and values are the output
    np.testing.assert_allclose(explanation.base_values + explanation.values.sum(axis=1), table(x)[:, 1], atol=1e-12)
    assert explanation.feature_names == [f"feature {k}" for k in range(5)]
    draw_tables(shap, explanation)
    result.feature_names = ["a", "b", "c", "d", "e"]
    assert result.to_shap().feature_names == result.feature_names


@pytest.mark.parametrize("target", ["all", [[2, 0]]])
def test_several_outputs_are_the_last_axis(shap, x, target):
    result = ks.exact_shapley_values(table, x, target)
    explanation = result.to_shap()
    k = result.values.shape[2]
    assert explanation.values.shape == (12, 5, k) and explanation.base_values.shape == (12, k)
    assert explanation.output_names == [f"output {k}" for k in ([0, 1, 2] if target == "all" else [2, 0])]
    draw_tables(shap, explanation[:, :, 0])
    np.testing.assert_array_equal(
        explanation[:, :, "output 2"].values, result.values[:, :, 2 if target == "all" else 0]
    )


def test_groups_of_features_and_several_inputs(shap, x):
    result = ks.exact_shapley_values(table, x, 0, players=[0, 1, 0, 2, 2])
    explanation = result.to_shap()
    np.testing.assert_allclose(explanation.data[:, 0], x[:, [0, 2]].mean(axis=1))
    np.testing.assert_allclose(explanation.data[:, 1], x[:, 1])
    assert explanation.feature_names == ["player 0", "feature 1", "player 2"]
    draw_tables(shap, explanation)

    inputs = {"age": x[:, :1], "scan": x[:, 1:].reshape(12, 2, 2), "pair": x[:, :2]}
    players = {"age": None, "scan": "inputs", "pair": None}
    several = ks.exact_shapley_values(
        lambda batch: batch["age"][:, 0] * batch["pair"].sum(axis=1), inputs, 0, players=players
    )
    explanation = several.to_shap()
    assert explanation.feature_names == ["age", "scan", "pair 0", "pair 1"]
    np.testing.assert_allclose(explanation.data[:, 1], x[:, 1:].mean(axis=1))
    draw_tables(shap, explanation)
    with pytest.raises(ValueError, match="by='players'"):
        several.to_shap("elements")


def test_tokens_are_players_of_plots(shap, rng):
    ids = rng.integers(1, 9, size=(6, 4))
    explanation = ks.exact_shapley_values(lambda batch: batch.sum(axis=1) / 3, ids, 0).to_shap()
    np.testing.assert_array_equal(explanation.data, ids)
    draw_tables(shap, explanation)
    steps = rng.normal(size=(6, 4, 3))
    explanation = ks.exact_shapley_values(
        lambda batch: batch.prod(axis=2).sum(axis=1), steps, 0, players="tokens"
    ).to_shap()
    assert explanation.values.shape == (6, 4)
    draw_tables(shap, explanation)


def test_words_are_drawn_as_text(shap):
    tokens = np.array([[1, 7, 3], [8, 2, 2]])
    explanation = ks.shapley_values(lambda t: (t == 7).sum(axis=1) - 1.0 * (t == 8).sum(axis=1), tokens).to_shap()
    explanation.data = np.array([["a", "good", "film"], ["bad", "and", "and"]], dtype=object)
    drawn = shap.plots.text(explanation, display=False)
    assert "good" in drawn and "bad" in drawn


@pytest.mark.parametrize("target", [1, [[2, 0]]])
def test_relevance_of_a_linear_model_is_its_values(shap, x, target):
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
    values = ks.exact_shapley_values(model, x, target, baseline=0.5).to_shap()
    relevance = ks.LRP(model, baseline=0.5).explain(x, target).to_shap(x)
    np.testing.assert_allclose(relevance.values, values.values, atol=1e-5)
    np.testing.assert_allclose(relevance.base_values, values.base_values, atol=1e-5)
    np.testing.assert_array_equal(relevance.data, x)
    if target == 1:
        draw_tables(shap, relevance)


def test_names_of_columns_and_both_ways_of_an_image(shap, rng):
    pandas = pytest.importorskip("pandas")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    frame = pandas.DataFrame(rng.normal(size=(4, 3)).astype("float32"), columns=["age", "height", "weight"])
    assert ks.LRP(model).explain(frame, 0).to_shap(frame).feature_names == ["age", "height", "weight"]
    values = ks.exact_shapley_values(model, frame, 0)
    np.testing.assert_array_equal(values.to_shap("elements").values, values.values)
    images = rng.uniform(size=(2, 4, 4, 3)).astype("float32")
    network = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(1)])
    explanation = ks.LRP(network).explain(images)
    assert explanation.to_shap(images).values.shape == (2, 4, 4, 3)
    np.testing.assert_allclose(explanation.to_shap(images, by="players").values, explanation.input.reshape(2, 48))
    with pytest.raises(ValueError, match="`by` must be one of"):
        explanation.to_shap(images, by="pixels")


def test_relevance_of_several_inputs_and_of_images(shap, rng):
    one, two = keras.Input((2,), name="one"), keras.Input((4, 4, 3), name="two")
    joined = keras.layers.Concatenate()([one, keras.layers.Flatten()(two)])
    model = keras.Model({"one": one, "two": two}, keras.layers.Dense(1)(joined))
    x = {"two": rng.uniform(size=(2, 4, 4, 3)), "one": rng.uniform(size=(2, 2))}
    explanation = ks.LRP(model).explain(x)
    drawn = explanation.to_shap(x)
    assert drawn.values.shape == (2, 50)
    np.testing.assert_allclose(drawn.values[:, 48:], explanation.input["one"], atol=1e-6)
    with pytest.raises(ValueError, match=r"inputs that were explained, of shape .*\(2, 4, 4, 3\).*Received: \(2, 2\)"):
        explanation.to_shap(x["one"])
    images = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(1)])
    shap.image_plot(ks.LRP(images).explain(x["two"]).to_shap(x["two"]), show=False)


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1), (8, 8, 3)])
@pytest.mark.parametrize("target", [1, [[0, 2]], "all"])
def test_images(shap, shape, target, rng):
    images = rng.uniform(size=(2, *shape))
    result = ks.exact_shapley_values(table, images, target, players=2)
    explanation = result.to_shap()
    k = () if target == 1 else result.values.shape[2:]
    assert explanation.values.shape == (2, *shape, *k)
    np.testing.assert_array_equal(explanation.data, images)
    values = explanation.values.reshape(2, 64, -1, *k).sum(axis=(1, 2))
    np.testing.assert_allclose(values, result.values.sum(axis=1), atol=1e-12)
    shap.image_plot(explanation, show=False)
    by_patch = result.to_shap("players")
    assert by_patch.values.shape == (2, 4, *k)
    draw_tables(shap, by_patch if target == 1 else by_patch[:, :, 0])


def test_channels_first(shap, rng):
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    try:
        images = rng.uniform(size=(2, 3, 8, 6))
        result = ks.exact_shapley_values(table, images, [[0, 2]], players=2)
        explanation = result.to_shap()
    finally:
        keras.config.set_image_data_format(before)
    assert explanation.values.shape == (2, 8, 6, 3, 2)
    np.testing.assert_array_equal(explanation.data, np.moveaxis(images, 1, -1))
    np.testing.assert_allclose(explanation.values[0, 1, 2, 1], result.heatmap[0, :, 1, 1, 2])
    shap.image_plot(explanation, show=False)


def test_a_missing_package_and_a_wrong_word_are_named(x, monkeypatch):
    result = ks.exact_shapley_values(table, x, 1)
    with pytest.raises(ValueError, match="`by` must be one of 'auto', 'players', 'elements'"):
        result.to_shap("pixels")
    monkeypatch.setitem(sys.modules, "shap", None)
    with pytest.raises(ImportError, match="pip install shap"):
        result.to_shap()
