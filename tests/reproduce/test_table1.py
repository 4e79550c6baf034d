"""`reproduce/table1_example.py`: the paper's example, step by step."""

import numpy as np
import pytest
import table1_example as script

from lab.analysis import table1


@pytest.mark.parametrize(
    ("order", "sums", "outputs", "gains"),
    [
        ((0, 1, 2), [-2, 2, -1], [0, 2, 0], [0, 2, -2]),
        ((0, 2, 1), [-2, -5, -1], [0, 0, 0], [0, 0, 0]),
        ((1, 0, 2), [3, 2, -1], [3, 2, 0], [-1, 3, -2]),
        ((1, 2, 0), [3, 0, -1], [3, 0, 0], [0, 3, -3]),
        ((2, 0, 1), [-4, -5, -1], [0, 0, 0], [0, 0, 0]),
        ((2, 1, 0), [-4, 0, -1], [0, 0, 0], [0, 0, 0]),
    ],
)
def test_rows_are_the_papers(order, sums, outputs, gains):
    assert table1.contributions(order) == (sums, outputs, gains)


def test_enumeration_gives_the_papers_averages():
    np.testing.assert_allclose(table1.approximations()["exact"], [float(value) for value in table1.PAPER], atol=1e-6)


def test_written_table(tmp_path, capsys):
    assert script.main(["--out", str(tmp_path)]) == 0
    text = (tmp_path / "table1.md").read_text()
    assert "| average |  |  | -1/6 | 4/3 | -7/6 |" in text
    assert "| paper |  |  | -1/6 | 4/3 | -7/6 |" in text
    assert "| x2, x3, x1 | 3, 0, -1 | 3, 0, 0 | 0 | 3 | -3 |" in text
    assert text in capsys.readouterr().out
