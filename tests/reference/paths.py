"""Where the repository's folders are."""

import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
REPRODUCE = ROOT / "reproduce"
FIXTURES = ROOT / "tests" / "fixtures"
# the tests also run on an installed wheel, where these files are not
of_checkout = pytest.mark.skipif(not (ROOT / "keras_shapley").is_dir(), reason="tests files of the checkout")
