"""What importing and installing the package does, and does not."""

import datetime
import os
import re
import subprocess
import sys

import keras
import pytest
from reference.paths import ROOT

import keras_shapley as ks

BLOCK_TENSORFLOW = """
import importlib.machinery
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "tensorflow":
            return importlib.machinery.ModuleSpec(name, self)

    def create_module(self, spec):
        raise ModuleNotFoundError(f"No module named {spec.name!r}", name=spec.name)

    def exec_module(self, module):
        pass

sys.meta_path.insert(0, Blocked())
"""

EVERYTHING = """
import numpy as np, keras, keras_shapley as ks

model = keras.Sequential([
    keras.Input((8, 8, 1)), ks.SAConv2D(4, 3), ks.ShapLUConv2D(4, 3, gradient="full"), keras.layers.MaxPooling2D(2),
    keras.layers.Flatten(), ks.ShapLUDense(8), keras.layers.Dense(3, "softmax"),
])
model.compile("adam", "sparse_categorical_crossentropy")
x, y = np.random.default_rng(0).random((8, 8, 8, 1)), np.arange(8) % 3
heatmaps = ks.LRPHeatmaps(x[:2], y[:2], directory=OUT + "/heatmaps", save_arrays=True)
model.fit(x, y, epochs=2, verbose=0, callbacks=[heatmaps])
model.save(OUT + "/model.keras")
loaded = keras.models.load_model(OUT + "/model.keras")
one, other = (ks.LRP(m).explain(x).input for m in (model, loaded))
assert np.abs(one - other).max() < 1e-5
ks.neuron_shapley_values(x[:, 0, :, 0], np.ones((8, 2)), method="quadrature")
assert "tensorflow" not in sys.modules
"""


def run(code, **environment):
    """Runs `code` in a new process on the same backend."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": keras.backend.backend(), **environment},
        capture_output=True,
        text=True,
    )


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="TensorFlow is the backend")
def test_everything_works_with_tensorflow_blocked(tmp_path):
    done = run(BLOCK_TENSORFLOW + f"OUT = {str(tmp_path)!r}\n" + EVERYTHING)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in (tmp_path / "heatmaps").glob("*.png")) == ["epoch_0001.png", "epoch_0002.png"]


def test_importing_adds_no_backend_and_draws_nothing():
    code = """
import sys
import keras
heavy = {"tensorflow", "jax", "torch", "matplotlib"}
before = heavy & set(sys.modules)
import keras_shapley
assert heavy & set(sys.modules) <= before | {keras.backend.backend()}, heavy & set(sys.modules)
"""
    done = run(code)
    assert done.returncode == 0, done.stderr


def test_importing_opens_no_file_and_no_connection():
    code = """
import keras, sys
opened = []

def watch(event, args):
    if event.startswith("socket.") or event == "open" and not str(args[0]).endswith((".py", ".pyc")):
        opened.append((event, args))

# what the interpreter itself needs to find modules is not counted: code, and listings of directories
sys.addaudithook(watch)
import keras_shapley
sys.exit(str(opened) if opened else 0)
"""
    done = run(code, PYTHONDONTWRITEBYTECODE="1")
    assert done.returncode == 0, done.stderr


def test_version_and_date_are_the_same_everywhere():
    """The newest section of the changelog is that of this version, and has the date of the citation."""
    version, date = re.search(r"^## (\S+) \((.*)\)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE).groups()
    assert version == ks.__version__ and re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert datetime.date.fromisoformat(date)
    citation = (ROOT / "CITATION.cff").read_text().splitlines()
    assert f"version: {version}" in citation and f"date-released: {date}" in citation


def test_every_public_name_has_a_docstring():
    public = [getattr(ks, name) for name in dir(ks) if not name.startswith("_")]
    undocumented = [thing for thing in public if not (thing.__doc__ or "").strip()]
    assert not undocumented
