"""Every notebook runs from top to bottom and is saved with the pictures that it draws."""

import os
import pathlib

import nbformat
import pytest
from nbclient import NotebookClient
from reference.paths import ROOT

pytestmark = pytest.mark.once

FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def read(path):
    return nbformat.read(path, nbformat.NO_CONVERT)


def code_cells(path):
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_runs_from_top_to_bottom(path, monkeypatch):
    monkeypatch.setenv("QUICK", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FOLDER.parent), os.environ.get("PYTHONPATH", "")]))
    notebook = read(path)
    # a cell that fails raises
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(FOLDER)}}).execute()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_is_saved_with_its_outputs(path):
    numbers = [cell.execution_count for cell in code_cells(path)]
    assert numbers == list(range(1, len(numbers) + 1))
    for cell in code_cells(path):
        kinds = [kind for output in cell.outputs for kind in output.get("data", {})]
        assert kinds.count("image/png") >= cell.source.count("plt.show()")
        assert not any(output.output_type == "error" or output.get("name") == "stderr" for output in cell.outputs)
    text = path.read_text()
    assert len(text) < 1_500_000
    assert str(pathlib.Path.home()) not in text
    assert "/tmp/" not in text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_opens_with_a_question_and_a_picture_that_it_draws(path):
    first, *others = read(path).cells
    assert "?**" in first.source
    assert "](attachment:opening.png)" in first.source
    drawn = {
        output.data["image/png"].strip()
        for cell in others
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    }
    assert first.attachments["opening.png"]["image/png"].strip() in drawn, "the picture is not of the last run"


def test_there_are_notebooks():
    assert NOTEBOOKS
