"""The loader of the `reproduce/` scripts: what it takes, what it says where there is nothing, and its batches."""

import http.server
import os
import subprocess
import sys
import threading

import datasets
import keras
import numpy as np
import pytest
from reference.paths import REPRODUCE
from scipy import ndimage

tensorflow_only = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the same on every backend")


@pytest.fixture
def arrays(rng):
    def arrays(name, train=7, test=3):
        shape = datasets.IMAGE_SHAPES[name]
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
    (x_train, y_train), (x_test, y_test) = datasets.load(name, tmp_path / "data.npz")
    for key, array in {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}.items():
        np.testing.assert_array_equal(array, written[key])
    assert x_train.dtype == "uint8"
    assert y_train.dtype == "int32"


def test_labels_in_a_column_as_keras_has_them_for_cifar10(arrays, tmp_path):
    written = arrays("cifar10")
    np.savez_compressed(tmp_path / "data.npz", **{**written, "y_test": written["y_test"][:, None]})
    _, (_, y_test) = datasets.load("cifar10", tmp_path / "data.npz")
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
        datasets.load("cifar10", tmp_path / "odd.npz")


@pytest.mark.parametrize("content", [b"", b"no zip", np.zeros(3).tobytes()])
def test_file_that_is_no_npz(content, tmp_path):
    (tmp_path / "data.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"data.npz is not an .npz file with x_train"):
        datasets.load("mnist", tmp_path / "data.npz")


def test_no_such_file(tmp_path):
    with pytest.raises(datasets.DataNotFound, match="none.npz: no such file.*--data FILE.npz"):
        datasets.load("mnist", tmp_path / "none.npz")


def test_without_tensorflow_datasets(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(datasets.DataNotFound, match=r"pip install 'keras_shapley\[reproduce\]'.*--data FILE.npz"):
        datasets.load("mnist")


def test_source_tells_copies_apart(arrays, tmp_path):
    x = arrays("mnist")["x_train"]
    lines = [datasets.source("mnist", tmp_path / "data.npz", pixels) for pixels in (x, x.copy(), x ^ 1)]
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
        assert datasets._unreachable(url) is None
        thread.join()
    assert "refused" in datasets._unreachable(url)


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

import datasets
train, test = datasets.load("mnist")
np.savez(sys.argv[2], x_train=train[0], y_train=train[1], x_test=test[0], y_test=test[1])
print(datasets.source("mnist", None, train[0]))
"""


def environment(**changes):
    path = os.pathsep.join([str(REPRODUCE), str(REPRODUCE.parent)])
    return {**os.environ, "PYTHONPATH": path, **changes}


@tensorflow_only
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


@tensorflow_only
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


def test_shift_is_that_of_scipy(rng):
    """Bilinear, nearest pixel outside; the old Keras generator used `scipy.ndimage`."""
    images = rng.normal(size=(20, 9, 7, 3))
    shifts = np.concatenate([rng.uniform(-4, 4, (14, 2)), rng.integers(-3, 4, (4, 2)), [[0, 0], [30, -30]]])
    ours = datasets.shifted(images, shifts, np.zeros(20, bool))
    for image, (dy, dx), result in zip(images, shifts, ours, strict=True):
        theirs = ndimage.affine_transform(image, np.eye(3), (dy, dx, 0), order=1, mode="nearest")
        np.testing.assert_allclose(result, theirs, atol=1e-12)


def test_mirror_comes_after_the_shift(rng):
    images = rng.normal(size=(2, 5, 6, 3)).astype("float32")
    shifts = rng.uniform(-2, 2, (2, 2))
    plain = datasets.shifted(images, shifts, np.array([False, False]))
    mixed = datasets.shifted(images, shifts, np.array([True, False]))
    np.testing.assert_array_equal(mixed[0], plain[0, :, ::-1])
    np.testing.assert_array_equal(mixed[1], plain[1])
    assert mixed.dtype == "float32"


@pytest.fixture
def batches(rng):
    """Function that makes batches of 4 from ten images whose every pixel is ten times the label."""

    def batches(**changes):
        labels = np.arange(10, dtype="int32")
        images = np.broadcast_to(10 * labels.astype("uint8")[:, None, None, None], (10, 6, 6, 3))
        options = {"mean": np.zeros((6, 6, 3), "float32"), "batch_size": 4, "seed": 3, "shift": 0.1, **changes}
        return datasets.Batches(images, labels, **options)

    return batches


def test_an_epoch_has_every_image_once_with_its_label(batches):
    made = batches()
    assert made.steps == 3
    for epoch in range(3):
        images, labels = (np.concatenate(parts) for parts in zip(*(made[3 * epoch + i] for i in range(3)), strict=True))
        assert sorted(labels) == list(range(10))
        np.testing.assert_allclose(images, np.broadcast_to(labels[:, None, None, None] * 10 / 255, images.shape), 1e-6)
    assert [len(made[i][0]) for i in range(4)] == [4, 4, 2, 4]


def test_resumed_epochs_are_those_of_an_uninterrupted_run(rng):
    images, labels = rng.integers(0, 256, (10, 8, 8, 3), dtype="uint8"), np.arange(10, dtype="int32")

    def make(seed=5, first_epoch=0):
        mean = np.full((8, 8, 3), 0.5, "float32")
        return datasets.Batches(images, labels, mean, 4, seed, shift=0.1, first_epoch=first_epoch)

    whole, resumed = make(), make(first_epoch=2)
    for i in (4, 0, 2):  # in any order: prefetching may ask early
        for a, b in zip(whole[6 + i], resumed[i], strict=True):
            np.testing.assert_array_equal(a, b)
    assert list(whole[0][1]) != list(whole[3][1])  # other epoch
    assert list(whole[0][1]) != list(make(seed=6)[0][1])
    assert np.abs(whole[0][0] - make(seed=6)[0][0]).max() > 0.1


def test_mean_is_subtracted_before_the_shift(batches):
    """So an image that is its mean is zero wherever it goes."""
    ramp = np.broadcast_to(np.arange(6, dtype="float32")[:, None, None] / 255, (6, 6, 3))
    made = batches(mean=ramp)
    made.images = np.broadcast_to(np.arange(6, dtype="uint8")[:, None, None], (10, 6, 6, 3))
    np.testing.assert_allclose(made[0][0], 0, atol=1e-7)


def test_shifts_fill_their_range_and_half_the_images_are_mirrored():
    """Read off images with a ramp each way: the centre's value is the shift, the slope's sign the mirroring."""
    y, x = np.meshgrid(np.arange(40), np.arange(40), indexing="ij")
    images = np.repeat(np.stack([y, x, x], -1)[None].astype("uint8"), 2000, axis=0)
    made = datasets.Batches(images, np.zeros(2000, "int32"), np.zeros((40, 40, 3), "float32"), 2000, 0, shift=0.1)
    seen = made[0][0] * 255
    dy = seen[:, 20, 20, 0] - 20
    mirrored = seen[:, 20, 21, 1] < seen[:, 20, 20, 1]
    dx = np.where(mirrored, seen[:, 20, 19, 1], seen[:, 20, 20, 1]) - 20
    for shift in (dy, dx):
        assert -4 <= shift.min() < -3.98
        assert 3.98 < shift.max() <= 4.0001
        assert abs(shift.mean()) < 0.2  # 4 standard errors
    assert abs(np.corrcoef(dy, dx)[0, 1]) < 0.1
    assert abs(mirrored.mean() - 0.5) < 0.05


def test_fit_sees_the_batches_in_order(rng):
    """Whatever the backend's way of feeding: as if each batch had been trained on by hand."""
    images, labels = rng.integers(0, 256, (10, 6, 6, 3), dtype="uint8"), rng.integers(0, 3, 10).astype("int32")
    made = datasets.Batches(images, labels, np.zeros((6, 6, 3), "float32"), 4, 0, shift=0.1)

    def model():
        layers = [keras.Input((6, 6, 3)), keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")]
        model = keras.Sequential(layers)
        model.layers[-1].set_weights([np.linspace(-1, 1, 108 * 3).reshape(108, 3), np.zeros(3)])
        model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
        return model

    fitted, by_hand = model(), model()
    fitted.fit(made.endless(), steps_per_epoch=made.steps, epochs=2, shuffle=False, verbose=0)
    for i in range(2 * made.steps):
        by_hand.train_on_batch(*made[i])
    for a, b in zip(fitted.get_weights(), by_hand.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
