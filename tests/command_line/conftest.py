"""Models and pictures for the command line."""

import keras
import matplotlib.image
import pytest
from keras import layers

import keras_shapley as ks
from command_line.saved import save


@pytest.fixture
def grey(tmp_path):
    """A model of grey images without an axis of channels."""
    keras.utils.set_random_seed(0)
    end = [layers.Flatten(), ks.SADense(8), layers.Dense(3, "softmax")]
    return save(keras.Sequential([keras.Input((8, 8)), *end]), tmp_path / "grey.keras")


@pytest.fixture
def colour(tmp_path):
    """A model of coloured images of any size that rescales their pixels itself."""
    keras.utils.set_random_seed(0)
    body = [layers.Rescaling(1 / 255), layers.Conv2D(4, 3, activation="relu"), layers.GlobalAveragePooling2D()]
    return save(keras.Sequential([keras.Input((None, None, 3)), *body, layers.Dense(1)]), tmp_path / "colour.keras")


@pytest.fixture
def pictures(tmp_path, rng):
    """Two image files of the same name and of the grey model's size."""
    paths = [tmp_path / "cat.png", tmp_path / "more" / "cat.png"]
    paths[1].parent.mkdir()
    for path in paths:
        matplotlib.image.imsave(path, rng.uniform(size=(8, 8, 3)))
    return [str(path) for path in paths]
