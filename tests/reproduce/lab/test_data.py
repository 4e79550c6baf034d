"""`lab/data.py`: what the loader takes, and what it says where there is nothing."""

import http.server
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from reference.paths import REPRODUCE

from lab import data


@pytest.fixture
def arrays(rng):
    def arrays(name, train=7, test=3):
        shape = data.IMAGE_SHAPES[name]
        return {
            "x_train": rng.integers(0, 256, (train, *shape), dtype="uint8"),
            "y_train": rng.integers(0, 10, train),
            "x_test": rng.integers(0, 256, (test, *shape), dtype="uint8"),
            "y_test": rng.integers(0, 10, test),
        }

    return arrays


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_file_comes_back_as_it_was_written(name, arrays, tmp_path):
    written = arrays(name)
    np.savez(tmp_path / "data.npz", **written)
    (x_train, y_train), (x_test, y_test) = data.load(name, tmp_path / "data.npz")
    for key, array in {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}.items():
        np.testing.assert_array_equal(array, written[key])
    assert x_train.dtype == "uint8"
    assert y_train.dtype == "int32"


def test_labels_in_a_column_as_keras_has_them_for_cifar10(arrays, tmp_path):
    written = arrays("cifar10")
    np.savez_compressed(tmp_path / "data.npz", **{**written, "y_test": written["y_test"][:, None]})
    _, (_, y_test) = data.load("cifar10", tmp_path / "data.npz")
    np.testing.assert_array_equal(y_test, written["y_test"])


@pytest.mark.parametrize(
    ("key", "array", "says"),
    [
        ("y_test", None, "no array 'y_test'.*x_train, y_train, x_test.$"),
        ("x_train", np.zeros((7, 32, 32, 3), "float32"), "'x_train' must be uint8 .*float32"),
        ("x_test", np.zeros((3, 28, 28), "uint8"), r"'x_test' must be uint8 of shape \(n, 32, 32, 3\)"),
        ("x_test", np.zeros((0, 32, 32, 3), "uint8"), "'x_test' must be"),
        ("y_train", np.zeros(6, int), "'y_train' must hold 7 integers"),
        ("y_train", np.full(7, 10), "'y_train' must hold 7 integers from 0 to 9"),
        ("y_train", np.zeros(7), "'y_train' must hold 7 integers .*float64"),
        ("x_test", np.array([None]), "'x_test' cannot be read"),
    ],
)
def test_error_names_file_and_array(key, array, says, arrays, tmp_path):
    written = {name: a for name, a in {**arrays("cifar10"), key: array}.items() if a is not None}
    np.savez(tmp_path / "odd.npz", **written)
    with pytest.raises(ValueError, match=f"odd.npz.*{says}"):
        data.load("cifar10", tmp_path / "odd.npz")


@pytest.mark.parametrize("content", [b"", b"no zip", np.zeros(3).tobytes()])
def test_file_that_is_no_npz(content, tmp_path):
    (tmp_path / "data.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"data.npz is not an .npz file with x_train"):
        data.load("mnist", tmp_path / "data.npz")


def test_no_such_file(tmp_path):
    with pytest.raises(data.DataNotFound, match="none.npz: no such file.*--data FILE.npz"):
        data.load("mnist", tmp_path / "none.npz")


def test_without_tensorflow_datasets(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(data.DataNotFound, match=r"pip install 'keras_shapley\[reproduce\]'.*--data FILE.npz"):
        data.load("mnist")


def test_source_tells_copies_apart(arrays, tmp_path):
    x = arrays("mnist")["x_train"]
    lines = [data.source("mnist", tmp_path / "data.npz", pixels) for pixels in (x, x.copy(), x ^ 1)]
    assert lines[0] == lines[1] != lines[2]
    assert lines[0].startswith("data.npz, ")


class _NotFound(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_error(404)

    def log_message(self, *args):
        pass


def test_server_that_answers_is_reachable():
    """A 404 on the front page does not mean that the data are not there."""
    with http.server.HTTPServer(("127.0.0.1", 0), _NotFound) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert data.unreachable(url) is None
        thread.join()
    assert "refused" in data.unreachable(url)


PREPARE = """
import sys
import numpy as np
import tensorflow_datasets as tfds

class Tiny(tfds.image_classification.MNIST, skip_registration=True):
    name, __module__, url_infos = "mnist", tfds.image_classification.MNIST.__module__, {}

    def _split_generators(self, dl_manager):
        return {split: self._examples(split) for split in ("train", "test")}

    def _examples(self, split):
        with np.load(sys.argv[1]) as file:
            for i, (x, y) in enumerate(zip(file[f"x_{split}"], file[f"y_{split}"])):
                yield i, {"image": x[..., None], "label": int(y)}

tfds.disable_progress_bar()
Tiny().download_and_prepare()

from lab import data
train, test = data.load("mnist")
np.savez(sys.argv[2], x_train=train[0], y_train=train[1], x_test=test[0], y_test=test[1])
print(data.source("mnist", None, train[0]))
"""


def environment(**changes):
    path = os.pathsep.join([str(REPRODUCE), str(REPRODUCE.parent)])
    return {**os.environ, "PYTHONPATH": path, **changes}


@pytest.mark.once
def test_what_tfds_has_prepared(arrays, tmp_path):
    written = arrays("mnist")
    np.savez(tmp_path / "in.npz", **written)
    command = [sys.executable, "-c", PREPARE, tmp_path / "in.npz", tmp_path / "out.npz"]
    env = environment(TFDS_DATA_DIR=str(tmp_path / "tfds"))
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].startswith("tfds mnist/3.0.1, sha256 of x_train ")
    with np.load(tmp_path / "out.npz") as file:
        for split in ("train", "test"):
            # TFDS has an order of its own
            order = [
                sorted(range(len(x)), key=lambda i: x[i].tobytes()) for x in (written[f"x_{split}"], file[f"x_{split}"])
            ]
            for letter in "xy":
                theirs, ours = written[f"{letter}_{split}"][order[0]], file[f"{letter}_{split}"][order[1]]
                np.testing.assert_array_equal(ours, theirs)


@pytest.mark.once
def test_no_data_and_no_network_is_one_line_and_exit_code_2(tmp_path):
    env = environment(TFDS_DATA_DIR=str(tmp_path), https_proxy="http://127.0.0.1:9", HTTPS_PROXY="http://127.0.0.1:9")
    command = [sys.executable, REPRODUCE / "cifar10_resnet20.py", "--out", tmp_path / "run"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    ours = [line for line in done.stderr.splitlines() if "cifar10" in line]
    assert len(ours) == 1
    assert "set TFDS_DATA_DIR" in ours[0]
    assert "--data FILE.npz" in ours[0]
    assert list(tmp_path.iterdir()) == []
