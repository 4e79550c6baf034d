"""The code in `README.md`, block after block as a reader would run it, with narrow layers and little data."""

import functools
import re

import keras
import numpy as np
import pytest
from reference.paths import ROOT

import keras_shapley as ks

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i : i + 1], self.y[i : i + 1]


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="once, where nothing is compiled")
def test_the_python_blocks_run_one_after_the_other(tmp_path, monkeypatch, rng):
    # names of layers are counted from here, and weights would be downloaded
    keras.utils.clear_session()
    small = functools.partial(keras.applications.ResNet50V2, weights=None, input_shape=(32, 32, 3), classes=10)
    monkeypatch.setattr(keras.applications, "ResNet50V2", small)
    monkeypatch.chdir(tmp_path)
    x, y = rng.uniform(size=(2, 32, 32, 3)).astype("float32"), np.array([1, 3])
    names = {"x": x, "x_train": x, "x_test": x, "y": y, "y_train": y, "y_test": y, "dataset": Batches(x, y)}
    names |= {"MyLayer": keras.layers.Identity, "my_rule": ks.rules.Epsilon(0.1)}
    for block in BLOCKS:
        block = re.sub(r"SAConv2D\(\d+,", "SAConv2D(2,", block).replace("epochs=10", "epochs=2")
        exec(compile(block, "README.md", "exec"), names)

    assert len(list(tmp_path.glob("lrp_heatmaps/*.png"))) == 2
    assert (tmp_path / "heatmaps.png").exists() and "sa_conv2d" in (tmp_path / "log.csv").read_text()
    assert names["relevance"].shape == x.shape and names["values"].shape == x.shape
    # those of the last way that it shows, masks
    assert names["found"].stderr.shape == (2, x[0].size)
