"""Pictures of `LRPHeatmaps` without training."""

from typing import NamedTuple

import numpy as np
import pytest

import keras_shapley as ks
from keras_shapley.callbacks import heatmaps as module


class Shown(NamedTuple):
    """What the callback drew of one epoch: titles and headline of its pictures, and the arrays that it saved."""

    titles: list[str]
    headline: str
    arrays: dict[str, np.ndarray]
    class_titles: list[str] | None
    class_headline: str | None


@pytest.fixture
def show(tmp_path, monkeypatch):
    """Function `(model, *arguments, **options)`: what `LRPHeatmaps` draws after the first epoch of this model."""
    pictures = []

    def recorded(*arguments, **options):
        pictures.append(options)
        return ks.plot_heatmaps(*arguments, **options)

    monkeypatch.setattr(module, "plot_heatmaps", recorded)

    def show(model, *arguments, logs=None, **options):
        pictures.clear()
        callback = ks.LRPHeatmaps(*arguments, directory=tmp_path, save_arrays=True, **options)
        callback.set_model(model)
        callback.on_train_begin()
        callback.on_epoch_end(0, logs)
        callback.on_train_end()
        with np.load(tmp_path / "epoch_0001.npz") as file:
            arrays = dict(file)
        first, *others = pictures
        # lines are filled up, for one layout
        titles = [title.rstrip("\n") for title in first["titles"]]
        classes = (others[0]["titles"], others[0]["title"]) if others else (None, None)
        return Shown(titles, first["title"], arrays, *classes)

    return show
