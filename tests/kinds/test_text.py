"""Tokens through an Embedding and a convolution."""

import keras
import numpy as np
import pytest
from keras import layers
from reference.kinds import check_gates, check_relevance, check_values, trained

import keras_shapley as ks

GOOD, BAD, STEPS = 7, 8, 6


@pytest.fixture(scope="module")
def data():
    """A text is good if it has the word 7, and bad if it has the word 8."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, 7, size=(200, STEPS))
    y = np.arange(200) % 2
    tokens[np.arange(200), rng.integers(0, STEPS, size=200)] = np.where(y == 1, GOOD, BAD)
    return tokens, y


@pytest.fixture(scope="module")
def model(data):
    network = [keras.Input((STEPS,), dtype="int32"), layers.Embedding(9, 4), layers.Conv1D(8, 2, activation="relu")]
    network += [layers.GlobalMaxPooling1D(), layers.Dense(1, "sigmoid")]
    return trained(keras.Sequential(network), *data, "binary_crossentropy")


def test_lrp(model, data):
    tokens, y = data
    explanation = check_relevance(model, tokens[:8], np.arange(STEPS), 0, least=0.8)
    found = tokens[np.arange(8), np.abs(explanation.input[:8]).argmax(axis=1)]
    assert (np.isin(found, (GOOD, BAD))).mean() > 0.8


def test_shapley_values(model, data):
    tokens, _ = data
    check_values(model, tokens[:8], np.arange(STEPS), 0, players="tokens")
    best = ks.shapley_values(model, tokens[:8]).values
    of_word = best[tokens[:8] == GOOD]
    assert (of_word > 0).all() and len(of_word) == 4


def test_gate_monitor(model, data):
    check_gates(model, *data, kernels=2, gates=1)


def test_heatmaps(model, data, tmp_path):
    """Tokens are no image, but a row of them can be shown as one."""
    tokens, y = data
    with pytest.raises(ValueError, match="`images=` must say what to show"):
        ks.LRPHeatmaps(tokens[:4])
    images = (tokens[:4, None] / 9).astype("float32")
    model.fit(*data, verbose=0, callbacks=[ks.LRPHeatmaps(tokens[:4], y[:4], images=images, directory=tmp_path)])
    assert (tmp_path / "epoch_0001.png").exists()


def test_plot(model, data):
    tokens, _ = data
    words = [[f"word {token}" for token in text] for text in tokens[:2]]
    explanation = ks.LRP(model).explain(tokens[:2])
    drawn = [text.get_text() for text in ks.plot_tokens(explanation, words).texts]
    page = ks.tokens_html(explanation, words)
    for word in sum(words, []):
        assert word in drawn and f">{word}<" in page
