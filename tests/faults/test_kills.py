"""Work that is killed at random moments and begun again: no half file, no lost or doubled row, the same in the end."""

import json
import os
import pathlib
import shutil
import time
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from faults.corpus import plain_model
from faults.jobs import names
from faults.warm import Warm
from keras_shapley.utils.files import check_writable, write

pytestmark = pytest.mark.once

KILLS = 20
# what a row says of the time that it took, and of the repository, in which others may work meanwhile
OWN = ("seconds", "commit")


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    process = Warm(["faults.kill_jobs"], tmp_path_factory.mktemp("warm"))
    yield process
    process.close()


def no_preparation(folder: pathlib.Path) -> None:
    """Nothing is needed."""


def images_and_model(folder: pathlib.Path) -> None:
    plain_model().save(folder / "model.keras")
    rng = np.random.default_rng(0)
    for number in range(4):
        Image.fromarray(rng.integers(0, 256, (8, 8)).astype("uint8")).save(folder / f"{number}.png")


def made_up_images(folder: pathlib.Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {}
    for split, n in (("train", 200), ("test", 50)):
        arrays[f"x_{split}"] = rng.integers(0, 256, (n, 28, 28)).astype("uint8")
        arrays[f"y_{split}"] = rng.integers(0, 10, n)
    np.savez(folder / "data.npz", **arrays)


def content(path: pathlib.Path) -> object:
    """What a file says, without the times in rows and archives."""
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        assert len({json.dumps(row["run"]) for row in rows}) == len(rows)
        return sorted(json.dumps(_without_its_own(row), sort_keys=True) for row in rows)
    if path.suffix == ".npz":
        with np.load(path) as file:
            return {name: file[name].tobytes() for name in file.files}
    return path.read_bytes()


def _without_its_own(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_its_own(part) for key, part in value.items() if key not in OWN}
    return value


def whole(folder: pathlib.Path, results: str) -> dict[str, object]:
    """All results in a folder by name; temporary files, locks and what holds times are left out."""
    paths = [path for path in sorted(folder.glob(results)) if path.is_file()]
    return {str(path.relative_to(folder)): content(path) for path in paths if path.suffix not in (".new", ".lock")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("job", "prepare", "results", "final"),
    [
        ("fit", no_preparation, "maps/*", ["maps/*", "weights"]),
        ("command", images_and_model, "out/*", ["out/*"]),
        ("grid", made_up_images, "out/*.jsonl", ["out/*.jsonl", "out/*.png"]),
        ("benchmark", no_preparation, "out/*.jsonl", ["out/*.jsonl", "networks/*.npz"]),
    ],
)
def test_what_is_killed_goes_on_to_the_same_end(
    job: str,
    prepare: Callable[[pathlib.Path], None],
    results: str,
    final: list[str],
    warm: Warm,
    tmp_path: pathlib.Path,
):
    source = tmp_path / "source"
    source.mkdir()
    prepare(source)

    def run(folder: pathlib.Path, kill_after: float | None = None) -> tuple[int, float]:
        outcome = warm.call(f"faults.kill_jobs:{job}", cwd=folder, seconds=kill_after or 300)
        assert kill_after is not None or outcome.status == 0, outcome.err
        return outcome.status, outcome.seconds

    reference = tmp_path / "whole"
    shutil.copytree(source, reference)
    _, seconds = run(reference)
    expected = {pattern: whole(reference, pattern) for pattern in final}
    known = whole(reference, results)
    assert known and all(expected.values())

    rng, killed, left = np.random.default_rng(0), 0, 0
    for number in range(KILLS):
        folder = tmp_path / str(number)
        shutil.copytree(source, folder)
        # on a machine that others use, a run may be faster than the one that was timed
        status, _ = run(folder, float(rng.uniform(0, 0.9) * seconds))
        killed += status < 0
        # what is there under its final name is as it will be
        for name, found in whole(folder, results).items():
            if name.endswith(".jsonl"):
                assert set(found) <= set(known[name])
            else:
                assert found == known[name], name
        left += _age(folder)
        run(folder)
        assert {pattern: whole(folder, pattern) for pattern in final} == expected
        assert not [name for name in names(str(folder)) if name.endswith(".new")]
        shutil.rmtree(folder)
    print(f"{job}: killed {killed} of {KILLS} times within {seconds:.1f} s; {left} files were half written")
    assert killed >= KILLS / 2


def _age(folder: pathlib.Path) -> int:
    """Makes temporary files a day old, as a run finds them that begins again later; returns their number."""
    temporary = list(folder.rglob("*.new"))
    for path in temporary:
        os.utime(path, (time.time() - 86_400,) * 2)
    return len(temporary)


def test_what_killed_writers_left_is_removed(tmp_path):
    """If it is old: others may be writing. And whatever has another name is the user's."""
    left = [
        tmp_path / name
        for name in ("a.png.keras_shapley-123-456.new", "b.png.keras_shapley-7-8.new", "[x].keras_shapley-9-9.new")
    ]
    kept = [tmp_path / name for name in ("a.new", "a.png", "report.2024-12.new", "a.png.keras_shapley-1-2.new")]
    for path in [*left, *kept]:
        path.write_bytes(b"half")
        if path != kept[-1]:
            os.utime(path, (0, 0))
    write(tmp_path / "a.png", b"whole")
    write(tmp_path / "[x]", b"whole")
    assert not left[0].exists() and left[1].exists() and not left[2].exists()
    check_writable("directory", tmp_path)
    assert not left[1].exists() and all(path.exists() for path in kept)
    assert (tmp_path / "a.png").read_bytes() == b"whole"
