"""Files of all kinds, whole, broken and hostile: a line for an error, nothing executed, nothing written."""

import os
import pathlib

import keras
import numpy as np
import pytest
from PIL import Image

from faults.corpus import CANARY, Case, cases, image_bytes, plain_model
from faults.jobs import names
from faults.warm import MEBIBYTE, Warm

if keras.backend.backend() != "torch":
    pytest.skip("once, where nothing is compiled", allow_module_level=True)

# of a child beside its parent; the largest image that is read takes 169 MiB as it is, and three times that as RGB
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


def faults_of(case: Case, warm: Warm, good: pathlib.Path, folder: pathlib.Path) -> tuple[list[str], int]:
    """What is wrong with the way in which a file was taken, and the memory that it took."""
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
    job = ("faults.jobs:load_result", given) if case.kind == "result" else ("faults.jobs:command", *words)
    outcome = warm.call(*job, cwd=folder, limit=40)

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
    if any(CANARY in name for name in set(after) - set(before)) or (folder.parent / CANARY).exists():
        found.append("EXECUTED, or written outside")
    if outcome.memory > MEMORY:
        found.append(f"{outcome.memory / MEBIBYTE:.0f} MiB")
    if found:
        found.append(outcome.err[-1500:])
    return found, outcome.memory


def judged(chosen, warm, good, tmp_path):
    faulty, most = {}, 0
    for number, case in enumerate(chosen):
        folder = tmp_path / str(number)
        folder.mkdir()
        found, memory = faults_of(case, warm, good, folder)
        most = max(most, memory)
        if found:
            faulty[case.name] = found
    return faulty, most


def test_a_sample_of_hostile_files(warm, good, tmp_path):
    chosen = np.random.default_rng(0).choice(cases(), size=25, replace=False)
    faulty, _ = judged(chosen, warm, good, tmp_path)
    assert not faulty


@pytest.mark.slow
def test_all_hostile_files(warm, good, tmp_path):
    chosen = cases()
    assert len(chosen) >= 500
    faulty, most = judged(chosen, warm, good, tmp_path)
    print(f"{len(chosen)} files, at most {most / MEBIBYTE:.0f} MiB more than an idle process")
    assert not faulty
