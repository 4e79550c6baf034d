"""`LRPHeatmaps`: relevance drawn at the end of each epoch, so that one sees an explanation form."""

import io
import numbers
import pathlib
import warnings

import keras
import numpy as np
from keras import ops

from keras_shapley.lrp.explainer import LRP
from keras_shapley.plotting.animation import animated
from keras_shapley.plotting.arrays import display_images, height_and_width, relevance_maps
from keras_shapley.plotting.heatmaps import plot_heatmaps
from keras_shapley.utils.files import check_writable, write
from keras_shapley.utils.validation import classes, finite, integer, one_of

# images of `class_means` at once
_BLOCK = 64


class LRPHeatmaps(keras.callbacks.Callback):
    """Writes one picture of LRP heatmaps at the end of every `freq`-th epoch.

    Each image is shown beside the relevance of its pixels, eq. (2) of the paper, with its true and predicted class. The
    model runs in inference mode and is left as it was; the random paths of the explainer are the same in every epoch,
    so that what differs is the model. What cannot work fails when training begins; an epoch whose relevance is not
    finite, because training diverged, is passed over with a warning.

    Args:
        x: images, as the model takes them, shape `(n, h, w)` or `(n, h, w, channels)`; of any shape where `images` is
            given and has as many pixels.
        y: their classes, shape `(n,)` or `(n, 1)`, or one-hot `(n, classes)`; or None.
        target: the class to explain: `"true"` (default where `y` is given), `"predicted"` (default elsewhere), or an
            int for all images.
        images: what to show, shape `(n, h, w)` or `(n, h, w, channels)`; by default `x`. For an `x` that is normalised.
        class_names: list of strings, one a class.
        directory: where `epoch_0001.png` and its successors go; epochs are counted from 1, as Keras shows them.
        freq: draw after every `freq`-th epoch.
        tensorboard_dir: log directory for the same pictures as TensorBoard images, or None. Needs TensorFlow and
            TensorBoard.
        save_arrays: whether to write `epoch_0001.npz` as well, with `relevance`, `x`, `output`, `probability`,
            `target`, `head_total`, `conservation_gap` (shape `(calls, n)`) and `calls`; and `y` where given.
        class_means: more data, of which `epoch_0001_classes.png` and its successors show the mean image and the mean
            relevance of each class: images in the shape of `x`, by the class that is predicted, or a tuple `(images,
            classes)`. Their mean relevance goes into `epoch_0001.npz` as `class_means`, with NaN for a class without
            images, if arrays are saved.
        animation: whether to write `lrp_heatmaps.gif` (and `lrp_heatmaps_classes.gif`) as well, of the pictures of this
            training, a frame each.
        explainer: what explains: an `LRP` of the model or of a part of it, or any object with its `explain(x, target)`.
            By default `LRP(model, seed=seed)`, of the model that is trained.
        seed: of the default explainer.

    Raises:
        ValueError: at once, on an option that cannot be, NaN or infinity, or counts that differ; when training begins,
            on a model that `LRP` refuses, images or classes that do not fit the model, or `tensorboard_dir` without
            TensorFlow or TensorBoard.
        OSError: when training begins, if a directory cannot be written.
    """

    def __init__(
        self,
        x,
        y=None,
        *,
        target=None,
        images=None,
        class_names=None,
        directory="lrp_heatmaps",
        freq=1,
        tensorboard_dir=None,
        save_arrays=False,
        class_means=None,
        animation=False,
        explainer=None,
        seed=0,
    ):
        super().__init__()
        self.x = finite("x", ops.convert_to_numpy(x))
        n = len(self.x)
        self.y = None if y is None else classes("y", y, n)
        self.target = ("predicted" if y is None else "true") if target is None else target
        if isinstance(self.target, bool) or not isinstance(self.target, (int, np.integer)):
            one_of("target", self.target, ("true", "predicted"))
        if self.target == "true" and y is None:
            raise ValueError("target='true' needs the true classes `y`. Received: y=None")
        integer("freq", freq, 1)

        self.images = self.x if images is None else ops.convert_to_numpy(images)
        if len(self.images) != n:
            raise ValueError(f"`images` must be {n}, as many as `x`. Received shape: {self.images.shape}")
        try:
            display_images(self.images)
        except ValueError as error:
            if images is not None:
                raise
            raise ValueError(f"`x` cannot be shown as it is, so `images=` must say what to show: {error}") from None
        relevance_maps(_as_drawn(np.zeros(self.x.shape), self.images), self.images)

        if isinstance(class_names, str):
            raise ValueError(f"`class_names` must be a list of strings. Received: class_names={class_names!r}")
        self.class_names = None if class_names is None else [str(name) for name in class_names]
        self.directory = pathlib.Path(directory)
        self.tensorboard_dir = None if tensorboard_dir is None else pathlib.Path(tensorboard_dir)
        self.freq, self.save_arrays = int(freq), save_arrays
        self.animation = one_of("animation", animation, (True, False))
        self.class_means = None if class_means is None else _with_classes(class_means, self.x.shape[1:])
        self._frames = {}
        self.explainer, self.seed = explainer, seed
        self._explainer = self._writer = None

    def on_train_begin(self, logs=None):
        # made anew each time: the callback may serve one model after another
        self._explainer = LRP(self.model, seed=self.seed) if self.explainer is None else self.explainer
        self._frames = {}
        check_writable("directory", self.directory)
        if self.tensorboard_dir is not None:
            check_writable("tensorboard_dir", self.tensorboard_dir)
            _summary()
        if isinstance(self._explainer, LRP):
            # before it sees `y`: its own error would speak of a `target`
            self._check_classes(self._explainer.n_classes)
        # what fails, fails now; and what is compiled here serves every epoch
        found = self._explain()
        self._check_classes(found.probability.shape[1])

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.freq:
            return
        found = self._explain()
        if not np.all(np.isfinite(found.input)):
            cause = (
                "training has diverged" if found.overflow is None else f"it grew without bound at {found.overflow!r}"
            )
            warnings.warn(
                f"LRPHeatmaps drew nothing for epoch {epoch + 1}: the relevance holds NaN or infinity, as {cause}.",
                stacklevel=2,
            )
            return
        arrays = self._arrays(found)
        figures = {"": self._figure(found, epoch, logs)}
        if self.class_means is not None:
            arrays["class_means"], shown = self._class_means(found.probability.shape[1])
            figures["_classes"] = self._figure_of_classes(arrays["class_means"], shown, epoch, logs)
        name = f"epoch_{epoch + 1:04d}"
        for suffix, figure in figures.items():
            picture = io.BytesIO()
            figure.savefig(picture, format="png")
            write(self.directory / f"{name}{suffix}.png", picture.getvalue())
            if self.animation:
                self._frames.setdefault(suffix, []).append(picture.getvalue())
        if self.save_arrays:
            saved = io.BytesIO()
            np.savez_compressed(saved, **arrays)
            write(self.directory / f"{name}.npz", saved.getvalue())
        if self.tensorboard_dir is not None:
            self._to_tensorboard(figures, epoch)

    def _to_tensorboard(self, figures, epoch):
        if self._writer is None:
            self._writer = _summary().create_file_writer(str(self.tensorboard_dir))
        with self._writer.as_default():
            for suffix, figure in figures.items():
                pixels = np.asarray(figure.canvas.buffer_rgba())[None, ..., :3]
                _summary().image(f"lrp_heatmaps{suffix}", pixels, step=epoch + 1)
        self._writer.flush()

    def on_train_end(self, logs=None):
        for suffix, frames in self._frames.items():
            write(self.directory / f"lrp_heatmaps{suffix}.gif", animated(frames))
        self._frames = {}
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _check_classes(self, n_outputs):
        n_classes = max(n_outputs, 2)
        for name, y in {"y": self.y, "class_means": self.class_means and self.class_means[1]}.items():
            if y is not None and y.max() >= n_classes:
                raise ValueError(f"`{name}` must be in [0, {n_classes}), the model's classes. Received: {y.max()}")
        if self.class_names is not None and len(self.class_names) != n_classes:
            raise ValueError(f"`class_names` must be {n_classes}. Received: {len(self.class_names)} names")

    def _explain(self):
        target = self.y if self.target == "true" else None if self.target == "predicted" else int(self.target)
        with warnings.catch_warnings():
            # said in our own words where it matters
            warnings.simplefilter("ignore", RuntimeWarning)
            return self._explainer.explain(self.x, target)

    def _figure(self, found, epoch, logs):
        return plot_heatmaps(
            _as_drawn(found.input, self.images),
            self.images,
            titles=self._titles(found),
            title=self._headline(epoch, logs),
        )

    def _class_means(self, n_outputs):
        """Mean relevance of each class, NaN for one without images, and its mean images, `(classes, ...)` both."""
        x, y = self.class_means
        n_classes = max(n_outputs, 2)
        # blocks of one size, the last filled up with its last image: each other size is compiled anew
        size = min(_BLOCK, len(x))
        blocks = [np.minimum(np.arange(start, start + size), len(x) - 1) for start in range(0, len(x), size)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            found = [self._explainer.explain(x[block], None if y is None else y[block]) for block in blocks]
        relevance, target = (
            np.concatenate([getattr(part, name) for part in found])[: len(x)] for name in ("input", "target")
        )
        chosen = [target == k for k in range(n_classes)]
        return tuple(
            np.stack([of[rows].mean(axis=0) if rows.any() else np.full(of.shape[1:], np.nan) for rows in chosen])
            for of in (relevance, x)
        )

    def _figure_of_classes(self, means, images, epoch, logs):
        met = np.isfinite(means.reshape(len(means), -1)).all(axis=1)
        shape = self.images.shape[1:]
        return plot_heatmaps(
            _as_drawn(means[met], self.images[:1]),
            images[met].reshape(-1, *shape) if images[0].size == self.images[0].size else None,
            titles=[self._name(k) for k in np.flatnonzero(met)],
            title=_with_logs("Mean relevance of each class", epoch, logs),
        )

    def _headline(self, epoch, logs):
        of_each = self.target in ("true", "predicted")
        explained = f"the {self.target} class" if of_each else f"class {self._name(int(self.target))}"
        return _with_logs(f"Relevance of {explained}", epoch, logs)

    def _titles(self, found):
        """Two lines an image: the true class with its probability, the predicted class with its own."""
        probability = found.probability
        if probability.shape[1] == 1:
            probability = np.concatenate([1 - probability, probability], axis=1)
        predicted = probability.argmax(axis=1)
        titles = []
        for i, p in enumerate(probability):
            shown = {} if self.y is None else {"true": self.y[i]}
            shown["predicted"] = predicted[i]
            if self.target not in ("true", "predicted"):
                shown["explained"] = found.target[i]
            titles.append("\n".join(f"{word}: {self._name(k)} ({p[k]:.0%})" for word, k in shown.items()))
        return titles

    def _name(self, index):
        return str(index) if self.class_names is None else self.class_names[index]

    def _arrays(self, found):
        gaps = found.conservation_gap.signed
        arrays = {
            "relevance": found.input,
            "x": self.x,
            "output": found.output,
            "probability": found.probability,
            "target": found.target,
            "head_total": found.head_total,
            "conservation_gap": np.stack(list(gaps.values())),
            "calls": np.array(list(gaps)),
        }
        return arrays if self.y is None else {**arrays, "y": self.y}


def _with_logs(words, epoch, logs):
    """What is shown, the epoch, and the first few of its logs, without those that are of single layers."""
    of_all = {name: value for name, value in (logs or {}).items() if "/" not in name}
    shown = [f"{name} {value:.3g}" for name, value in of_all.items() if isinstance(value, numbers.Real)]
    return f"{words}, epoch {epoch + 1}" + (": " if shown else "") + ", ".join(shown[:6])


def _with_classes(data, shape):
    """`(images, their classes or None)`, checked."""
    x, y = data if isinstance(data, tuple) and len(data) == 2 else (data, None)
    x = finite("class_means", ops.convert_to_numpy(x))
    if x.shape[1:] != shape or not len(x):
        raise ValueError(f"`class_means` must be images of shape {shape}, as `x`. Received: shape {x.shape}")
    return x, None if y is None else classes("class_means", y, len(x))


def _as_drawn(relevance, images):
    """Relevance in the layout of the images, where the model takes another."""
    fits = relevance.ndim in (3, 4) and height_and_width(relevance.shape) == height_and_width(images.shape)
    return relevance if fits else relevance.reshape(len(relevance), -1)


def _summary():
    try:
        import tensorboard  # noqa: F401 (what TensorFlow writes its summaries with)
        import tensorflow as tf
    except ImportError as error:
        raise ValueError(
            f"`tensorboard_dir` needs TensorFlow and TensorBoard, and {error.name!r} cannot be imported: install it, "
            "or pass tensorboard_dir=None."
        ) from None
    return tf.summary
