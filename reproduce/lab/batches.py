"""Training batches: of arrays as they are, or of images shifted and mirrored at random, as in the Keras example."""

import functools
from typing import Any

import keras
import numpy as np

from lab.data import scaled


def pixel_mean(images: np.ndarray) -> np.ndarray:
    """Mean of each pixel and channel over uint8 images, in [0, 1], float32."""
    return (images.mean(axis=0, dtype="float64") / 255).astype("float32")


def centred(images: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """`x/255 - mean` in float32."""
    return scaled(images) - mean


def of_arrays(x: np.ndarray, y: np.ndarray, batch_size: int) -> dict[str, Any]:
    """Arguments of `model.fit` for shuffled batches of arrays, float32 `(n, ...)` and integers `(n,)`."""
    if keras.backend.backend() != "tensorflow":
        return {"x": x, "y": y, "batch_size": batch_size}
    import tensorflow as tf

    shuffled = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x)).batch(batch_size).prefetch(2)
    return {"x": untuned(shuffled), "shuffle": False}


def untuned(dataset: Any) -> Any:
    """A `tf.data.Dataset` whose buffers keep their sizes.

    TensorFlow 2.21 tunes them after 0.01, 0.02, 0.04 seconds and so on, and on two cores training often stood still
    from one tuning to the next: an epoch of 11 seconds took 20.5.
    """
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


class Batches(keras.utils.PyDataset):
    """Shuffled, shifted and mirrored batches `(images, labels)`, one epoch after the other.

    Batch `index`, counted on through the epochs, depends on the seed and on `index` alone. So neither prefetching nor a
    resumption at the epoch `first_epoch` changes the images of an epoch.

    Args:
        images: uint8 array `(n, height, width, channels)`.
        labels: array `(n,)`.
        mean: the mean that `centred` subtracts.
        batch_size: of every batch except the last of an epoch, which has the rest.
        seed: of the order, the shifts and the mirroring.
        shift: the largest shift, as a fraction of height and width. Uniform, with fractions of a pixel.
        first_epoch: the epoch that index 0 begins.
    """

    num_batches = None

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        mean: np.ndarray,
        batch_size: int,
        seed: int,
        *,
        shift: float,
        first_epoch: int = 0,
    ) -> None:
        super().__init__()
        self.images, self.labels, self.mean = images, labels, mean
        self.batch_size, self.seed, self.shift, self.first_epoch = batch_size, seed, shift, first_epoch
        self.steps = -(-len(images) // batch_size)
        self.permutation = functools.lru_cache(maxsize=2)(self._permutation)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        epochs, step = divmod(index, self.steps)
        epoch = self.first_epoch + epochs
        chosen = self.permutation(epoch)[step * self.batch_size :][: self.batch_size]
        rng = np.random.default_rng([1, self.seed, epoch, step])
        # as in the Keras example, the mean is subtracted before the shift
        images = centred(self.images[chosen], self.mean)
        shifts = rng.uniform(-self.shift, self.shift, (len(chosen), 2)) * images.shape[1:3]
        return shifted(images, shifts, rng.random(len(chosen)) < 0.5), self.labels[chosen]

    def _permutation(self, epoch: int) -> np.ndarray:
        """Order of the images in an epoch."""
        return np.random.default_rng([0, self.seed, epoch]).permutation(len(self.images))

    def endless(self) -> Any:
        """The batches in a form for `fit(..., steps_per_epoch=batches.steps, shuffle=False)`."""
        if keras.backend.backend() != "tensorflow":
            return self
        import tensorflow as tf

        # Keras would wrap a PyDataset in a generator, and TensorFlow 2.21's kernel for generators makes malloc return
        # memory to the system at once: every step of the training then took twice as long on a CPU
        signature = tf.float32, tf.as_dtype(self.labels.dtype)

        def batch(index: Any) -> tuple[Any, Any]:
            images, labels = tf.numpy_function(lambda i: self[int(i)], [index], signature)
            return tf.ensure_shape(images, (None, *self.images.shape[1:])), tf.ensure_shape(labels, (None,))

        return untuned(tf.data.Dataset.counter().map(batch).prefetch(2))


def shifted(images: np.ndarray, shifts: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
    """Shifted, then mirrored images: `out[i, j] = image[i + dy, j + dx]`, bilinear; outside, the nearest border pixel.

    Args:
        images: float array `(n, height, width, channels)`.
        shifts: `(dy, dx)` of each image in pixels, shape `(n, 2)`.
        mirrored: whether to mirror each image left to right, bool of shape `(n,)`.

    Returns:
        Array of the shape and dtype of `images`.
    """
    image, row = np.arange(len(images))[:, None], np.arange(images.shape[1])[:, None]
    near, far, weight = _neighbours(shifts[:, 0], images.shape[1], images.dtype)
    images = (1 - weight) * images[image, near] + weight * images[image, far]
    near, far, weight = _neighbours(shifts[:, 1], images.shape[2], images.dtype)
    near, far = (np.where(mirrored[:, None], columns[:, ::-1], columns)[:, None] for columns in (near, far))
    image = image[..., None]
    return (1 - weight) * images[image, row, near] + weight * images[image, row, far]


def _neighbours(shift: np.ndarray, size: int, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two pixels of an axis around each shifted pixel, `(n, size)` each, and the weight of the second."""
    whole = np.floor(shift)
    near = np.arange(size) + whole.astype(int)[:, None]
    weight = (shift - whole).astype(dtype)[:, None, None, None]
    return np.clip(near, 0, size - 1), np.clip(near + 1, 0, size - 1), weight
