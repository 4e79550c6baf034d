"""The Python code in `README.md` and in the pages of `docs/`, block after block as a reader would run it."""

import importlib
import importlib.util
import pathlib
import re
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
from reference.paths import ROOT, of_checkout

from keras_shapley.utils import progress

pytestmark = pytest.mark.once

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def shap():
    """Imported, as a page uses it; it warns when it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("shap") if importlib.util.find_spec("shap") else None


@pytest.mark.filterwarnings("ignore:Of the relevance of")
@pytest.mark.filterwarnings("ignore:Relevance grew")
@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p)], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_blocks_run_one_after_the_other(page, tmp_path, monkeypatch, rng, shap):
    if "import ray" in "".join(blocks(page)):
        _run_apart(page, tmp_path)
        return
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(progress, "_DELAY", float("inf"))
    # names of layers are counted from here
    keras.utils.clear_session()
    names = {}
    if page.name == "README.md":
        # what the reader has
        names |= {"x": rng.uniform(size=(2, 32, 32, 3)).astype("float32"), "y": np.array([1, 3])}
        layers = [keras.Input((32, 32, 3)), keras.layers.Conv2D(2, 3, 2, activation="relu"), keras.layers.Flatten()]
        keras.Sequential([*layers, keras.layers.Dense(10, "softmax")]).save("model.keras")
    for block in blocks(page):
        if ".to_shap()" in block and shap is None:
            continue
        exec(compile(block, page.name, "exec"), names)


def _run_apart(page, folder):
    """In a process of its own: Ray has threads, and warnings of its own."""
    pytest.importorskip("ray")
    code = "\n".join([*blocks(page), "assert np.abs(relevance - ks.LRP(model).explain(x).input).max() < 1e-6"])
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_search_over_activations_runs(tmp_path):
    """In a process of its own: KerasTuner has warnings of its own, and writes its trials beside it."""
    pytest.importorskip("keras_tuner")
    page = (ROOT / "docs" / "many_machines.md").read_text()
    (code,) = re.findall(r'^```python title="tune.py"\n(.*?)^```', page, re.MULTILINE | re.DOTALL)
    code += """
kinds = [trial.hyperparameters.get("activation") for trial in tuner.oracle.trials.values()]
assert sorted(kinds) == ["gelu", "relu", "sa"], kinds
scores = {trial.hyperparameters.get("activation"): trial.score for trial in tuner.oracle.trials.values()}
chosen = tuner.get_best_hyperparameters()[0].get("activation")
assert scores[chosen] == max(scores.values())
assert isinstance(best.layers[0], ks.SADense) == (chosen == "sa") and relevance.shape == (4, 64)
# all three are loaded again, with their weights
for model, trial in zip(tuner.get_best_models(3), tuner.oracle.get_best_trials(3)):
    accuracy = model.evaluate(x[72:], y[72:], verbose=0, return_dict=True)["accuracy"]
    assert abs(accuracy - trial.score) < 1e-6, (accuracy, trial.score)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_readme_makes_what_it_says(tmp_path, monkeypatch, rng, shap):
    test_the_blocks_run_one_after_the_other(ROOT / "README.md", tmp_path, monkeypatch, rng, shap)
    assert (tmp_path / "heatmaps.png").exists()
    assert len(list(pathlib.Path(tmp_path).glob("lrp_heatmaps/*.png"))) == 1


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().split()) <= 900


@of_checkout
def test_links_lead_somewhere():
    pages = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "reproduce" / "README.md"]
    pages += (ROOT / "reproduce" / "results").glob("*.md")
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text())]
    assert len(links) > 100
    lost = [f"{page.relative_to(ROOT)}: {link}" for page, link in links if not _leads_somewhere(page, link)]
    assert not lost


def _leads_somewhere(page, link):
    path, _, heading = link.partition("#")
    if ":" in path:
        return True
    target = page.parent / path if path else page
    if not target.exists():
        return False
    headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE) if heading else []
    return not heading or heading in [re.sub(r"[^\w -]", "", h).strip().lower().replace(" ", "-") for h in headings]
