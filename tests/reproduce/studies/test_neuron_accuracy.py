"""`studies/neuron_accuracy.py`: its truths against each other, and table and picture."""

import matplotlib.image
import numpy as np
import pytest
from reference import paper

from studies import neuron_accuracy as script


def test_long_sampling_is_as_near_enumeration_as_it_says(monkeypatch):
    monkeypatch.setattr(script, "NEURONS", 8)
    a, b = script.products("normal", 6, seed=1)
    values, stderr = script.sampled(a, b, 4000, np.random.default_rng(0))
    exact = np.stack([paper.exact_shapley_values(np.ones(6), row, bias) for row, bias in zip(a, b)])
    np.testing.assert_allclose(script.approximated(a, b, method="exact"), exact, atol=1e-5)
    z = (values - exact) / np.where(stderr > 0, stderr, 1)
    assert np.sqrt(np.mean(np.square(z))) < 1.6
    # efficiency, whatever was drawn
    np.testing.assert_allclose(values.sum(axis=1), np.maximum(a.sum(axis=1) + b, 0) - np.maximum(b, 0), atol=1e-5)


@pytest.mark.once
def test_errors_are_over_all_neurons(monkeypatch):
    monkeypatch.setattr(script, "NEURONS", 40)
    found = script.errors("half of them 0", 4, seed=0)
    a, b = script.products("half of them 0", 4, seed=0)
    exact = script.approximated(a, b, method="exact")
    error = np.linalg.norm(script.approximated(a, b, method="gaussian") - exact) / np.linalg.norm(exact)
    mean, low, high = found["eq. (1)"]
    assert mean == pytest.approx(error, rel=1e-5) and low < mean < high
    assert found["truth"] == [0, 0, 0]


@pytest.mark.once
def test_picture_and_table(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(script, "LONG", 100)
    assert script.main(["--out", str(tmp_path), "--widths", "4", "20"]) == 0
    text = capsys.readouterr().out
    assert text == (tmp_path / "neuron_accuracy.md").read_text() + "\n" and "## Uniform inputs in [0, 1]" in text
    assert matplotlib.image.imread(tmp_path / "neuron_accuracy.png")[..., :3].std() > 0.05
    before = (tmp_path / "neuron_accuracy.md").read_text()
    assert script.main(["--table", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "neuron_accuracy.md").read_text() == before


def test_results_that_are_none_are_one_line(tmp_path, capsys):
    (tmp_path / "neuron_accuracy.json").write_text("{")
    with pytest.raises(SystemExit):
        script.main(["--table", "--out", str(tmp_path)])
    assert "neuron_accuracy.json is no JSON file" in capsys.readouterr().err
