"""The tree in `docs/architecture.md` is that of the package, and no module is long."""

import re

import pytest
from reference.paths import ROOT, of_checkout

pytestmark = [pytest.mark.once, of_checkout]


def drawn():
    """Paths of the files in the drawing."""
    tree = re.search(r"```text\n(.*?)```", (ROOT / "docs" / "architecture.md").read_text(), re.DOTALL).group(1)
    folders, files = [], set()
    for line in tree.splitlines():
        depth, name = (len(line) - len(line.lstrip())) // 2, line.split()[0]
        folders[depth:] = [name]
        if name.endswith(".py") and folders[0] == "keras_shapley/":
            files.add("".join(folders))
    return files


def test_every_module_is_in_the_drawing():
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "keras_shapley").rglob("*.py")}
    assert {path for path in modules if not path.endswith("__init__.py")} == drawn()


def test_no_module_is_long():
    lengths = {path: len(path.read_text().splitlines()) for path in (ROOT / "keras_shapley").rglob("*.py")}
    assert max(lengths.values()) <= 420, max(lengths, key=lengths.get)
