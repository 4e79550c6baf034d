"""`reproduce/figure1_attention.py`: the gate of a neuron with one signal out of line."""

import figure1_attention as script
import matplotlib.image
import numpy as np
import pytest
from scipy.special import ndtr

from lab.analysis import figure1


@pytest.mark.parametrize("weight", figure1.WEIGHTS)
def test_gates_are_eq_1_with_both_second_moments(weight):
    signals, rest = np.array([-7.0, 0.5, 30.0]), -4.0
    exact, pooled = figure1.gates(signals, rest, weight)
    for i, signal in enumerate(signals):
        w = np.array([weight] + [1.0] * (figure1.N - 1))
        x = np.array([signal / weight] + [rest / (figure1.N - 1)] * (figure1.N - 1))
        u = np.sum(w * x)
        for found, q in ((exact, np.sum((w * x) ** 2)), (pooled, np.mean(x**2) * np.sum(w**2))):
            assert found[i] == pytest.approx(ndtr(u / 2 / np.sqrt(q / 6 + u**2 / 12)), rel=1e-5)


def test_far_out_the_exact_gate_forgets_the_others_and_the_weight():
    for rest in figure1.SUMS:
        for weight in figure1.WEIGHTS:
            exact, _ = figure1.gates(np.array([-1e6, 1e6]), rest, weight)
            np.testing.assert_allclose(exact, ndtr([-1, 1]), atol=1e-4)


def test_picture(tmp_path, capsys):
    assert script.main(["--out", str(tmp_path)]) == 0
    picture = matplotlib.image.imread(tmp_path / "figure1.png")
    assert picture.shape[0] > 300 and picture[..., :3].std() > 0.05
    assert "pooled" in capsys.readouterr().out
