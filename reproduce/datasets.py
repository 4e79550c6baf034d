"""MNIST and CIFAR-10 for the scripts of this directory: from tensorflow-datasets or a file, to training batches."""

import functools
import hashlib
import logging
import pathlib
import typing
import urllib.error
import urllib.request
import zipfile

import keras
import numpy as np

IMAGE_SHAPES = {"mnist": (28, 28), "cifar10": (32, 32, 3)}
# where tensorflow-datasets downloads from
HOMES = {"mnist": "https://storage.googleapis.com", "cifar10": "https://www.cs.toronto.edu"}
# pixels other than the original ones, by the hash of those for training
COPIES = {"a012783a2ef42bf2": "a JPEG copy, PSNR 30.5 dB"}
REMEDY = "pass --data FILE.npz (arrays x_train, y_train, x_test, y_test as in keras.datasets)"


class DataNotFound(OSError):
    """The data are neither here nor to be had; the message is one line that says what to do."""


def load(name, data=None):
    """Images and labels of a data set.

    Args:
        name: `"mnist"` or `"cifar10"`.
        data: path of an .npz file with `x_train`, `y_train`, `x_test`, `y_test` as in `keras.datasets`; None for
            `tfds.load(name)`, which looks in `TFDS_DATA_DIR` and downloads what is not there.

    Returns:
        `(x_train, y_train), (x_test, y_test)`: uint8 images `(n, 28, 28)` or `(n, 32, 32, 3)`, int32 labels `(n,)`.

    Raises:
        DataNotFound: no such file, no tensorflow-datasets, or no network.
        ValueError: the file holds something else; the message names the file and the array.
    """
    arrays = _from_tfds(name) if data is None else _from_npz(name, pathlib.Path(data))
    x_train, y_train, x_test, y_test = arrays
    return (x_train, y_train), (x_test, y_test)


def source(name, data, x_train):
    """Where `load(name, data)` found its images, and which they are: a line for the record of a run.

    The hash is of the training pixels, so that copies of a data set with other pixels do not pass for it.
    """
    if data is None:
        import tensorflow_datasets as tfds

        where = f"tfds {tfds.builder(name).info.full_name}"
    else:
        where = pathlib.Path(data).name
    digest = hashlib.sha256(np.ascontiguousarray(x_train)).hexdigest()
    return f"{where}, sha256 of x_train {digest[:16]}"


def copy(source):
    """Of what `source` gave: in words, that these are not the original pixels, or None."""
    return next((words for digest, words in COPIES.items() if digest in source), None)


def described(source):
    """What `source` gave, with what is known of copies that have other pixels."""
    words = copy(source)
    return f"{source} ({words})" if words else source


class Data(typing.NamedTuple):
    """Images and labels, and where they come from."""

    train: tuple
    test: tuple
    source: str


@functools.lru_cache(maxsize=1)
def of_unit_range(name, data=None):
    """`load(name, data)` with float32 images in [0, 1], kept for the next call."""
    (x_train, y_train), (x_test, y_test) = load(name, data)
    found = source(name, data, x_train)
    return Data((_unit_range(x_train), y_train), (_unit_range(x_test), y_test), found)


def _unit_range(images):
    return images.astype("float32") / 255


def _from_npz(name, path):
    if not path.is_file():
        raise DataNotFound(f"{path}: no such file. To read {name}, {REMEDY}.")
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no zip archive")
        file = np.load(path)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is not an .npz file with x_train, y_train, x_test, y_test ({error}).") from error
    with file:
        return _images(name, path, file, "train") + _images(name, path, file, "test")


def _images(name, path, file, split):
    """The checked arrays `x_<split>`, `y_<split>` of an .npz file."""
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


def _from_tfds(name):
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise DataNotFound(
            f"{name} comes through tensorflow-datasets, which cannot be imported ({error}): "
            f"pip install 'keras_shapley[reproduce]', or {REMEDY}."
        ) from error

    # it warns of every data set that it has yet to prepare
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
        # without a network tensorflow-datasets retries for three minutes before it says so
        reason = _unreachable(HOMES[name])
        if reason:
            raise DataNotFound(
                f"{name} is not in {builder.data_path.parent.parent} and cannot be downloaded ({reason}): {advice}."
            )
    try:
        splits = tfds.load(name, split=["train", "test"], batch_size=-1, as_supervised=True)
    except (OSError, tfds.download.DownloadError) as error:
        raise DataNotFound(f"tfds.load('{name}') failed ({error}): {advice}.") from error
    arrays = []
    for x, y in tfds.as_numpy(splits):
        arrays += [x.reshape(-1, *IMAGE_SHAPES[name]), y.astype("int32")]
    return tuple(arrays)


def _unreachable(url):
    """Why a server does not answer, or None if it does, whatever its answer."""
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=10).close()
    except urllib.error.HTTPError as error:
        error.close()
    except OSError as error:
        return str(getattr(error, "reason", error))
    return None


def pixel_mean(images):
    """Mean of each pixel and channel over uint8 images, in [0, 1], float32."""
    return (images.mean(axis=0, dtype="float64") / 255).astype("float32")


def normalised(images, mean):
    """`x/255 - mean` in float32."""
    return _unit_range(images) - mean


class Batches(keras.utils.PyDataset):
    """Shuffled, shifted and mirrored batches `(images, labels)` of one epoch after the other.

    Batch `index`, counted on through the epochs, follows from the seed and `index` alone: neither prefetching nor a
    resumption at the epoch `first_epoch` changes what an epoch is made of.

    Args:
        images: uint8 array `(n, height, width, channels)`.
        labels: array `(n,)`.
        mean: what `normalised` subtracts.
        batch_size: of every batch but an epoch's last, which has the rest.
        seed: of the order, the shifts and the mirroring.
        shift: the largest shift, as a fraction of height and width; uniform, fractions of a pixel included.
        first_epoch: the epoch that index 0 begins.
    """

    num_batches = None

    def __init__(self, images, labels, mean, batch_size, seed, *, shift, first_epoch=0):
        super().__init__()
        self.images, self.labels, self.mean = images, labels, mean
        self.batch_size, self.seed, self.shift, self.first_epoch = batch_size, seed, shift, first_epoch
        self.steps = -(-len(images) // batch_size)
        self.permutation = functools.lru_cache(maxsize=2)(self.permutation)

    def __getitem__(self, index):
        epochs, step = divmod(index, self.steps)
        epoch = self.first_epoch + epochs
        chosen = self.permutation(epoch)[step * self.batch_size :][: self.batch_size]
        rng = np.random.default_rng([1, self.seed, epoch, step])
        # as in the old Keras example, the mean is subtracted before the shift
        images = normalised(self.images[chosen], self.mean)
        shifts = rng.uniform(-self.shift, self.shift, (len(chosen), 2)) * images.shape[1:3]
        return shifted(images, shifts, rng.random(len(chosen)) < 0.5), self.labels[chosen]

    def permutation(self, epoch):
        """Order of the images in an epoch."""
        return np.random.default_rng([0, self.seed, epoch]).permutation(len(self.images))

    def endless(self):
        """The batches in a form for `fit(..., steps_per_epoch=batches.steps, shuffle=False)`."""
        if keras.backend.backend() != "tensorflow":
            return self
        import tensorflow as tf

        # Keras would make a generator of a PyDataset, and the kernel behind it (TensorFlow 2.21) sets malloc to hand
        # memory back to the system at once: every step of the training then took twice as long on a CPU
        signature = tf.float32, tf.as_dtype(self.labels.dtype)

        def batch(index):
            images, labels = tf.numpy_function(lambda i: self[int(i)], [index], signature)
            return tf.ensure_shape(images, (None, *self.images.shape[1:])), tf.ensure_shape(labels, (None,))

        return tf.data.Dataset.counter().map(batch).prefetch(2)


def shifted(images, shifts, mirrored):
    """Shifted, then mirrored images: `out[i, j] = image[i + dy, j + dx]`, bilinear; outside, the nearest border pixel.

    Args:
        images: float array `(n, height, width, channels)`.
        shifts: `(dy, dx)` of each image in pixels, shape `(n, 2)`.
        mirrored: which images to mirror left to right, bool of shape `(n,)`.

    Returns:
        Array of the shape and dtype of `images`.
    """
    image, row = np.arange(len(images))[:, None], np.arange(images.shape[1])[:, None]
    near, far, weight = _taps(shifts[:, 0], images.shape[1], images.dtype)
    images = (1 - weight) * images[image, near] + weight * images[image, far]
    near, far, weight = _taps(shifts[:, 1], images.shape[2], images.dtype)
    near, far = (np.where(mirrored[:, None], columns[:, ::-1], columns)[:, None] for columns in (near, far))
    image = image[..., None]
    return (1 - weight) * images[image, row, near] + weight * images[image, row, far]


def _taps(shift, size, dtype):
    """The two pixels of an axis around each shifted one, `(n, size)` each, and the weight of the second."""
    whole = np.floor(shift)
    near = np.arange(size) + whole.astype(int)[:, None]
    weight = (shift - whole).astype(dtype)[:, None, None, None]
    return np.clip(near, 0, size - 1), np.clip(near + 1, 0, size - 1), weight
