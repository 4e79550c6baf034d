"""Where the repository's folders are."""

import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
REPRODUCE = ROOT / "reproduce"
FIXTURES = ROOT / "tests" / "fixtures"
