"""Files of all kinds, whole, broken and hostile: a line for an error, nothing executed, nothing written."""

import os
import pathlib
import shutil
from collections.abc import Iterable

import numpy as np
import pytest
from PIL import Image

from faults.corpus import CANARY, Case, cases, image_bytes, plain_model
from faults.jobs import names
from faults.warm import MEBIBYTE, Warm

pytestmark = pytest.mark.once

# beside what the command takes for files that are whole. The largest image has 169 million pixels
MEMORY = 512 * MEBIBYTE
MESSAGE = 1200


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    process = Warm(["faults.jobs"], tmp_path_factory.mktemp("warm"))
    yield process
    process.close()


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A folder with a model and an image that are as they should be."""
    folder = tmp_path_factory.mktemp("good")
    plain_model().save(folder / "model.keras")
    (folder / "image.png").write_bytes(image_bytes(Image.new("L", (8, 8), 90), "PNG"))
    return folder


def judged(case: Case, warm: Warm, good: pathlib.Path, folder: pathlib.Path, usual: int) -> tuple[list[str], int]:
    """What is wrong with the way in which a file was taken, and the memory that it took beside the usual."""
    path = folder / case.file
    try:
        case.make(path)
    except OSError as error:
        return [f"cannot be made: {error}"], 0
    before = names(folder)
    # as a shell gives a name that begins with a hyphen
    given = os.path.join(".", case.file)
    model, image = (
        given if case.kind == kind else str(good / name)
        for kind, name in (("model", "model.keras"), ("image", "image.png"))
    )
    words = ["explain", model, image, "--out", "out", *(["--classes", given] if case.kind == "classes" else [])]
    is_result = case.kind in ("ShapleyValues", "Explanation")
    job = ("faults.jobs:load_result", case.kind, given) if is_result else ("faults.jobs:command", *words)
    outcome = warm.call(*job, cwd=folder, seconds=100)

    found = []
    lines = outcome.err.splitlines()
    allowed = {"error": (2,), "works": (0,), "either": (0, 2)}[case.expected]
    if outcome.status not in allowed:
        found.append(f"exit status {outcome.status}")
    if outcome.status and not (len(lines) == 1 and lines[0].startswith("keras_shapley: error: ")):
        found.append(f"{len(lines)} lines of errors")
    if not outcome.status and not all(line.startswith("keras_shapley: warning: ") for line in lines):
        found.append("other lines than warnings")
    if len(outcome.err) > MESSAGE:
        found.append(f"{len(outcome.err)} characters of errors")
    after = [name for name in names(folder) if name != "out"]
    if outcome.status and after != before:
        found.append(f"wrote {set(after) ^ set(before)}")
    if any(name.rpartition("/")[2] == CANARY for name in after) or (folder.parent / CANARY).exists():
        found.append("EXECUTED, or written outside")
    memory = outcome.memory - usual
    if memory > MEMORY:
        found.append(f"{memory / MEBIBYTE:.0f} MiB")
    if found:
        found.append(outcome.err[-1500:])
    return found, memory


def all_judged(
    chosen: Iterable[Case], warm: Warm, good: pathlib.Path, folder: pathlib.Path
) -> tuple[dict[str, list[str]], int]:
    """What is wrong with each case, by its name, and the largest memory."""
    faulty, most = {}, 0
    words = ["explain", str(good / "model.keras"), str(good / "image.png"), "--out", str(folder / "out")]
    usual = warm.call("faults.jobs:command", *words, cwd=folder)
    assert usual.status == 0, usual.err
    for number, case in enumerate(chosen):
        place = folder / str(number)
        place.mkdir()
        found, memory = judged(case, warm, good, place, usual.memory)
        most = max(most, memory)
        if found:
            faulty[case.name] = found
        shutil.rmtree(place)
    return faulty, most


def test_a_sample_of_hostile_files(warm, good, tmp_path):
    chosen = np.random.default_rng(0).choice(cases(), size=25, replace=False)
    faulty, _ = all_judged(chosen, warm, good, tmp_path)
    assert not faulty


@pytest.mark.slow
def test_all_hostile_files(warm, good, tmp_path):
    chosen = cases()
    assert len(chosen) >= 500
    faulty, most = all_judged(chosen, warm, good, tmp_path)
    print(f"{len(chosen)} files, at most {most / MEBIBYTE:.0f} MiB more than for files that are whole")
    assert not faulty
