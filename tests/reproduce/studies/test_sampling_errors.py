"""`studies/sampling_errors.py`: its methods agree on one game, and table and picture come from its results."""

import json

import keras
import matplotlib.image
import numpy as np
import pytest

from studies import sampling_errors as script


@pytest.mark.once
@pytest.mark.filterwarnings("ignore")
def test_every_method_estimates_the_same_values():
    """With many samples, on a network of which the exact values are nearly known."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((8, 8)), keras.layers.Flatten(), keras.layers.Dense(8, "tanh"), keras.layers.Dense(3, "softmax")]
    )
    x = np.zeros((2, 8, 8), "float32")
    x[:, 2:4, 2:5] = np.random.default_rng(0).uniform(0.5, 1, size=(2, 2, 3))
    target = np.array([0, 2])
    truth, _ = script.sampled(2000, model, x, target, 1)
    for name, (function, _) in (script.METHODS | script.peers()).items():
        values, cost = function(600, model, x, target, 0)
        error = np.linalg.norm(values - truth) / np.linalg.norm(truth)
        assert values.shape == x.shape and cost > 0
        assert error < 0.1, name


@pytest.mark.once
@pytest.mark.filterwarnings("ignore")
def test_table_and_picture(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(script, "EPOCHS", 1)
    for name in ("METHODS", "PEERS"):
        few = {method: (function, sizes[:1]) for method, (function, sizes) in getattr(script, name).items()}
        monkeypatch.setattr(script, name, few)
    assert script.main(["--quick", "--out", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    # behind the progress bars of a slow machine
    assert text.endswith((tmp_path / "sampling_errors.md").read_text() + "\n") and "antithetic, orthogonal" in text
    assert matplotlib.image.imread(tmp_path / "sampling_errors.png")[..., :3].std() > 0.05
    record = json.loads((tmp_path / "sampling_errors.json").read_text())
    for row in record["errors"]["mlp"].values():
        for point in row:
            assert len(point["error"]) == record["images"] == 10 and min(point["error"]) >= 0
    assert "mean over 2 seeds of the orders and 10 digits" in text and "The truth is 80 antithetic" in text
    # of the digits' errors, by hand
    values = np.array(record["errors"]["mlp"]["moments"][0]["error"])
    half = 2.2622 * values.std(ddof=1) / 10**0.5
    words = f"| moments | 88: {values.mean():.3f} ({values.mean() - half:.3f} to {values.mean() + half:.3f}) |"
    assert words in text


def test_results_that_are_none_are_one_line(tmp_path, capsys):
    (tmp_path / "sampling_errors.json").write_text("{")
    with pytest.raises(SystemExit):
        script.main(["--table", "--out", str(tmp_path)])
    assert "sampling_errors.json is no JSON file" in capsys.readouterr().err
