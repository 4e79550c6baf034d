"""Each cell of the table in docs/model_kinds.md is a test."""

import re

import pytest
from reference.paths import ROOT

PAGE = (ROOT / "docs" / "model_kinds.md").read_text()
ROWS = re.findall(r"^\| \[(.+?)\]\(\.\./(tests/kinds/test_\w+\.py)\) \|(.+)\|$", PAGE, flags=re.M)
COLUMNS = ("test_lrp", "test_shapley_values", "test_gate_monitor", "test_heatmaps", "test_plot")


@pytest.mark.parametrize("kind, path, cells", ROWS, ids=[path for _, path, _ in ROWS])
def test_every_cell_has_a_test(kind, path, cells):
    source = (ROOT / path).read_text()
    cells = [cell.strip() for cell in cells.split("|")]
    assert len(cells) == len(COLUMNS) and all(cells)
    for cell, name in zip(cells, COLUMNS):
        (body,) = re.findall(rf"^def {name}\(.*?(?=^def |^@|\Z)", source, flags=re.M | re.S)
        assert (cell in ("refused", "with `images=`")) == ("pytest.raises" in body)


def test_every_kind_is_in_the_table():
    files = {f"tests/kinds/{path.name}" for path in (ROOT / "tests" / "kinds").glob("test_*.py")}
    assert {path for _, path, _ in ROWS} == files - {"tests/kinds/test_page.py"}
