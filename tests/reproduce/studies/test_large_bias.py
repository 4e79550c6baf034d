"""`studies/large_bias.py`: shares of the relevance, one neuron at a time."""

import matplotlib.image
import numpy as np
import pytest
from reference import paper

from lab.analysis import large_bias
from studies import large_bias as script


@pytest.mark.parametrize("multiple", [0.3, 3])
def test_spreads_are_those_of_the_formulas(multiple, monkeypatch):
    # orders, which the reference goes through, are too many of nine
    monkeypatch.setattr(large_bias, "N", 5)
    monkeypatch.setattr(large_bias, "NEURONS", 4)
    found = large_bias.spreads(multiple, seed=1)
    w, x = np.random.default_rng(1).standard_normal((2, 4, 5))
    for neuron in range(4):
        b = multiple * np.sqrt(np.mean((w[neuron] * x[neuron]) ** 2))
        own = x[neuron], w[neuron], b
        expected = {
            "eq. (2)": paper.relevance_shares(*own, r=1.0),
            "eq. (2) without b/n": w[neuron] * x[neuron],
            "exact Shapley values": paper.exact_shapley_values(*own),
        }
        for name, values in expected.items():
            spread = np.std(5 * values / np.sum(values))
            assert found[name][neuron] == pytest.approx(spread, rel=1e-3), name


def test_far_out_eq_2_distributes_equally_and_shapley_values_are_the_products():
    far = large_bias.spreads(100, seed=0)
    assert np.median(far["eq. (2)"]) < 0.1
    # of large numbers differences are left, and shares are over sums that can be small
    products = far["eq. (2) without b/n"]
    assert np.quantile(np.abs(far["exact Shapley values"] / products - 1), 0.9) < 1e-3


def test_picture_and_table(tmp_path, capsys):
    assert script.main(["--out", str(tmp_path)]) == 0
    assert matplotlib.image.imread(tmp_path / "large_bias.png")[..., :3].std() > 0.05
    assert (tmp_path / "large_bias.md").read_text() + "\n" == capsys.readouterr().out
