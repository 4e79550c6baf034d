"""`reproduce/figure2_scatter.py`: SA is no function of s, and stays within its cone."""

import figure2_scatter as script
import matplotlib.image
import numpy as np
from scipy.special import ndtr

from lab.analysis import figure2


def test_samples_are_eq_5():
    s, y = figure2.samples(0)
    signals = np.random.default_rng(0).uniform(-1, 1, (figure2.SAMPLES, figure2.N))
    u, q = signals.sum(axis=1), (signals**2).sum(axis=1)
    np.testing.assert_allclose(s, u, atol=1e-6)
    np.testing.assert_allclose(y, ndtr(u / 2 / np.sqrt(q / 6 + u**2 / 12)) * u, atol=1e-6)


def test_samples_lie_within_reach_and_come_near_both_edges():
    s, y = figure2.samples(1)
    low, high = np.sort(figure2.reach(s), axis=0)
    assert (low <= y).all() and (y <= high + 1e-6).all()
    place = (y - low) / (high - low)
    assert place.min() < 0.1 and place.max() > 0.9


def test_picture(tmp_path, capsys):
    assert script.main(["--out", str(tmp_path)]) == 0
    assert matplotlib.image.imread(tmp_path / "figure2.png")[..., :3].std() > 0.05
    assert "gates from 0." in capsys.readouterr().out
