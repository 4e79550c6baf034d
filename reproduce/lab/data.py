"""The data of the experiments: MNIST and CIFAR-10 from tensorflow-datasets or a file, and scikit-learn's digits."""

import functools
import hashlib
import logging
import pathlib
import urllib.error
import urllib.request
import zipfile
from typing import NamedTuple

import numpy as np

IMAGE_SHAPES = {"mnist": (28, 28), "cifar10": (32, 32, 3)}
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# where tensorflow-datasets downloads from
HOMES = {"mnist": "https://storage.googleapis.com", "cifar10": "https://www.cs.toronto.edu"}
# known copies with other pixels, by the hash of their training images
COPIES = {"a012783a2ef42bf2": "a JPEG copy, PSNR 30.5 dB"}
REMEDY = "pass --data FILE.npz (arrays x_train, y_train, x_test, y_test as in keras.datasets)"
# of scikit-learn's digits
TEST_DIGITS = 500
# of its table of tumours
TEST_ROWS = 100

Split = tuple[np.ndarray, np.ndarray]


class DataNotFound(OSError):
    """The data are not on this machine and cannot be downloaded; the message is one line with the remedy."""


class Data(NamedTuple):
    """Images and labels, and a line that says where they come from."""

    train: Split
    test: Split
    source: str


def load(name: str, file: str | pathlib.Path | None = None) -> tuple[Split, Split]:
    """Images and labels of a data set.

    Args:
        name: `"mnist"` or `"cifar10"`.
        file: path of an .npz file with `x_train`, `y_train`, `x_test`, `y_test` as in `keras.datasets`; None for
            `tfds.load(name)`, which looks in `TFDS_DATA_DIR` and downloads what is not there.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: uint8 images `(n, 28, 28)` or `(n, 32, 32, 3)`, int32 labels `(n,)`.

    Raises:
        DataNotFound: no such file, no tensorflow-datasets, or no network.
        ValueError: the file holds something else; the message names the file and the array.
    """
    arrays = _from_tfds(name) if file is None else _from_npz(name, pathlib.Path(file))
    x_train, y_train, x_test, y_test = arrays
    return (x_train, y_train), (x_test, y_test)


@functools.lru_cache(maxsize=1)
def load_scaled(name: str, file: str | None = None) -> Data:
    """`load(name, file)` with float32 images in [0, 1]; the last result is kept for the next call."""
    (x_train, y_train), (x_test, y_test) = load(name, file)
    where = source(name, file, x_train)
    return Data((scaled(x_train), y_train), (scaled(x_test), y_test), where)


def scaled(images: np.ndarray) -> np.ndarray:
    """Images in [0, 1], float32."""
    return images.astype("float32") / 255


def source(name: str, file: str | pathlib.Path | None, x_train: np.ndarray) -> str:
    """A line for the record of a run: where `load(name, file)` found its images, and a hash of the training images.

    The hash tells copies of a data set with other pixels apart.
    """
    if file is None:
        import tensorflow_datasets as tfds

        where = f"tfds {tfds.builder(name).info.full_name}"
    else:
        where = pathlib.Path(file).name
    digest = hashlib.sha256(np.ascontiguousarray(x_train)).hexdigest()
    return f"{where}, sha256 of x_train {digest[:16]}"


def known_copy(source: str) -> str | None:
    """What is known of a source that has other pixels than the original images; None for all others."""
    return next((words for digest, words in COPIES.items() if digest in source), None)


def described(source: str) -> str:
    """A source, with what is known of copies that have other pixels."""
    words = known_copy(source)
    return f"{source} ({words})" if words else source


def digits(seed: int) -> tuple[Split, Split, list[int]]:
    """scikit-learn's handwritten digits, images `(n, 8, 8)` in [0, 1].

    Args:
        seed: decides which 500 digits are for testing.

    Returns:
        `train, test, examples`; `examples` are the indices of ten test images, one for each digit.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.default_rng(seed).permutation(len(data.target))
    x, y = (data.images[order] / 16).astype("float32"), data.target[order]
    train, test = (x[TEST_DIGITS:], y[TEST_DIGITS:]), (x[:TEST_DIGITS], y[:TEST_DIGITS])
    return train, test, [int(np.argmax(test[1] == digit)) for digit in range(10)]


def digits_source(x_train: np.ndarray) -> str:
    """A line for the record of a run on scikit-learn's digits."""
    return _scikit_learn("digits", x_train)


def breast_cancer() -> Data:
    """scikit-learn's table of 569 tumours, each feature with mean 0 and standard deviation 1 in training."""
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order], y[order].astype("int32")
    x = ((x - x[TEST_ROWS:].mean(axis=0)) / x[TEST_ROWS:].std(axis=0)).astype("float32")
    train, test = (x[TEST_ROWS:], y[TEST_ROWS:]), (x[:TEST_ROWS], y[:TEST_ROWS])
    return Data(train, test, _scikit_learn("breast_cancer", train[0]))


def _scikit_learn(name: str, x_train: np.ndarray) -> str:
    from sklearn import __version__

    digest = hashlib.sha256(np.ascontiguousarray(x_train)).hexdigest()[:16]
    return f"scikit-learn {__version__} {name}, sha256 of x_train {digest}"


def _from_npz(name: str, path: pathlib.Path) -> tuple[np.ndarray, ...]:
    if not path.is_file():
        raise DataNotFound(f"{path}: no such file. To read {name}, {REMEDY}.")
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no zip archive")
        file = np.load(path)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is not an .npz file with x_train, y_train, x_test, y_test ({error}).") from error
    with file:
        return _checked(name, path, file, "train") + _checked(name, path, file, "test")


def _checked(name: str, path: pathlib.Path, file: np.lib.npyio.NpzFile, split: str) -> Split:
    """The arrays `x_<split>` and `y_<split>` of an .npz file."""
    arrays = []
    for key in (f"x_{split}", f"y_{split}"):
        if key not in file:
            raise ValueError(f"{path} has no array '{key}'. It has: {', '.join(file.files) or 'none'}.")
        try:
            arrays.append(file[key])
        except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path}: array '{key}' cannot be read ({error}).") from error
    x, y = arrays
    shape = IMAGE_SHAPES[name]
    if x.dtype != np.uint8 or x.shape[1:] != shape or not len(x):
        raise ValueError(
            f"{path}: array 'x_{split}' must be uint8 of shape (n, {', '.join(map(str, shape))}) for {name}. "
            f"It is {x.dtype} of shape {x.shape}."
        )
    if y.shape not in {(len(x),), (len(x), 1)} or y.dtype.kind not in "iu" or y.min() < 0 or y.max() > 9:
        raise ValueError(
            f"{path}: array 'y_{split}' must hold {len(x)} integers from 0 to 9, one for each image of 'x_{split}'. "
            f"It is {y.dtype} of shape {y.shape}."
        )
    return x, y.reshape(-1).astype("int32")


def _from_tfds(name: str) -> tuple[np.ndarray, ...]:
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise DataNotFound(
            f"{name} comes through tensorflow-datasets, which cannot be imported ({error}): "
            f"pip install 'keras_shapley[reproduce]', or {REMEDY}."
        ) from error

    # tfds warns of every data set that it has yet to prepare
    log = logging.getLogger("absl")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        builder = tfds.builder(name)
        prepared = builder.is_prepared()
    finally:
        log.setLevel(level)

    advice = f"set TFDS_DATA_DIR to a directory where tfds.load('{name}') has prepared it, or {REMEDY}"
    if not prepared:
        # without a network, tfds retries for three minutes before it reports an error
        reason = unreachable(HOMES[name])
        if reason:
            raise DataNotFound(
                f"{name} is not in {builder.data_path.parent.parent} and cannot be downloaded ({reason}): {advice}."
            )
    try:
        splits = tfds.load(name, split=["train", "test"], batch_size=-1, as_supervised=True)
    except (OSError, tfds.download.DownloadError) as error:
        raise DataNotFound(f"tfds.load('{name}') failed ({error}): {advice}.") from error
    arrays: list[np.ndarray] = []
    for x, y in tfds.as_numpy(splits):
        arrays += [x.reshape(-1, *IMAGE_SHAPES[name]), y.astype("int32")]
    return tuple(arrays)


def unreachable(url: str) -> str | None:
    """Why a server does not answer; None if it does, whatever its answer."""
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=10).close()
    except urllib.error.HTTPError as error:
        error.close()
    except OSError as error:
        return str(getattr(error, "reason", error))
    return None
