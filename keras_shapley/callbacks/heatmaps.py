"""`LRPHeatmaps`: heatmaps drawn at the end of each epoch, to see an explanation form."""

import numbers
import pathlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import keras
import numpy as np

from keras_shapley.callbacks.arguments import (
    by_input,
    checked_class_means,
    checked_images,
    checked_labels,
    checked_names,
    checked_target,
    finite_inputs,
    in_layout,
    of_rows,
    shown_input,
)
from keras_shapley.callbacks.labels import are_labels, check_labels, true_values
from keras_shapley.callbacks.subject import Subject, output_values, rules_in_words
from keras_shapley.callbacks.tensorboard import TensorBoardImages
from keras_shapley.lrp.diagnosis import diagnosis
from keras_shapley.lrp.explainer import LRP
from keras_shapley.lrp.explanation import Explanation
from keras_shapley.models.given_inputs import inputs_and_labels
from keras_shapley.models.outputs import ModelOutput
from keras_shapley.plotting.animation import animated_gif
from keras_shapley.plotting.files import npz_content, png_content
from keras_shapley.plotting.heatmaps import plot_heatmaps
from keras_shapley.utils.data import is_data_set
from keras_shapley.utils.files import check_writable, write
from keras_shapley.utils.quiet import quiet
from keras_shapley.utils.structures import leaves
from keras_shapley.utils.typing import Structure, Tensor
from keras_shapley.utils.validation import integer, one_of

# images of `class_means` that are explained at once
_BLOCK_SIZE = 64
# logs in a headline
_MAX_LOGS = 6


class Explainer(Protocol):
    """What `LRPHeatmaps` asks of an explainer.

    An attribute `output`, a `ModelOutput`, describes the explained output. Without it one more explanation is made.
    Attributes `preset`, the name of its rules, and `model` are used in headlines and warnings.
    """

    def explain(self, x: Tensor, target: Any = None) -> Explanation: ...


class LRPHeatmaps(keras.callbacks.Callback):
    """Draws heatmaps of the relevance of the same images at the end of every `freq`-th epoch.

    Each image is drawn beside the relevance of its pixels. The first line of its title says what the map shows, such
    as `class 1 (46 %)` or `output 0: 3.2`. Further lines give the predicted and the true class if they are different
    ones, or the true number of a regression. Percentages are the model's own, and only probabilities have them. The
    headline names the rules of the explainer.

    The model runs in inference mode and is not changed. The random paths of the explainer are the same in every epoch,
    so that differences between pictures come from the model. Whatever does not fit the model is an error when training
    begins. An epoch whose relevance is not finite, as when training has diverged, is skipped with a warning. Relevance
    that grew more than 100 times, or of which less than half arrives at the pixels, is warned of once in a training
    (`Explanation.amplified`, `Explanation.arrived`).

    Args:
        x: images as the model takes them, shape `(n, h, w)` or `(n, h, w, channels)`; any other shape if `images` is
            given and has as many pixels. For a model with several inputs a list or dict of arrays, of which one is
            drawn. Or a data set of batches of these, which may have the labels, too: all of it is explained.
        y: labels of the images for the explained output: class numbers of shape `(n,)` or `(n, 1)`, or one-hot rows;
            for a regression the true numbers, in the shape of the output. The classes of a single sigmoid unit are 0
            and 1, and both are explained by the unit, which speaks for class 1.
        target: what is explained: `"true"`, the class in `y` (default with class numbers); `"predicted"`, the largest
            output (default otherwise); an int, the index of an output; or weights, bools or floats of the shape of
            one output, for the weighted sum of the outputs. A single unit is explained itself, whatever its class.
        images: images to show in the place of `x`, shape `(n, h, w)`, `(n, h, w, 1)` or `(n, h, w, 3)`, for example
            before they were normalised.
        class_names: a name for each class: two for a single sigmoid unit, else as many as the output has units.
        directory: where the pictures `epoch_0001.png`, ... are written. Epochs count from 1, as in Keras's output.
        freq: number of epochs from one picture to the next.
        tensorboard_dir: log directory to which the pictures are written as TensorBoard images, too. It needs TensorFlow
            and TensorBoard.
        save_arrays: whether `epoch_0001.npz`, ... are written, with `relevance`, `x`, `output`, `target`,
            `head_total`, `conservation_gap` of shape `(calls, n)`, the names `calls`, `probability` if the output is
            one, and `y` if given.
        class_means: more images in the shape of `x`, or a tuple `(images, class numbers)`. The pictures
            `epoch_0001_classes.png`, ... show the mean image and the mean relevance of each class, which is the
            predicted one if no class numbers are given. For a single sigmoid unit the relevance is that of the unit
            for the images of both classes. `save_arrays` saves the mean relevance as `class_means`, NaN for a class
            without images.
        animation: whether the pictures are joined to `lrp_heatmaps.gif` and `lrp_heatmaps_classes.gif` when training
            ends. A training that begins at a later epoch, as `BackupAndRestore` resumes one, begins them with the
            pictures of earlier epochs in `directory`.
        explainer: `LRP` of the model or of a part of it, or any object with its method `explain(x, target)`. By default
            `LRP(model, output=output, seed=seed)` of the model in training.
        output: name or index of the output that the default explainer explains, for a model with several.
        shown: name or index of the input that is drawn, for a model with several. By default the only one that has the
            shape of images.
        seed: seed of the default explainer.

    Warns:
        RuntimeWarning: if a file cannot be written. Training goes on.

    Raises:
        ValueError: when it is made, if an option is out of range, lengths differ, or a number is NaN or infinite; when
            training begins, if `LRP` refuses the model, the images, labels, target or names do not fit it,
            `class_means` is given for an output without classes, or `tensorboard_dir` needs a package that is not
            installed.
        OSError: when training begins, if a directory cannot be written.

    Examples:
        >>> x = np.random.default_rng(0).random((32, 8, 8)).astype("float32")
        >>> y = np.arange(32) % 3
        >>> model = keras.Sequential([keras.Input((8, 8)), keras.layers.Flatten(), keras.layers.Dense(3, "softmax")])
        >>> model.compile("adam", "sparse_categorical_crossentropy")
        >>> heatmaps = ks.LRPHeatmaps(x[:4], y[:4], directory="heatmaps", save_arrays=True)
        >>> history = model.fit(x, y, verbose=0, callbacks=[heatmaps])
        >>> with np.load("heatmaps/epoch_0001.npz") as arrays:
        ...     arrays["relevance"].shape
        (4, 8, 8)
    """

    _explainer: Explainer
    _subject: Subject

    def __init__(
        self,
        x: Any,
        y: Tensor | None = None,
        *,
        target: Literal["true", "predicted"] | int | Tensor | None = None,
        images: Tensor | None = None,
        class_names: Sequence[str] | None = None,
        directory: str | pathlib.Path = "lrp_heatmaps",
        freq: int = 1,
        tensorboard_dir: str | pathlib.Path | None = None,
        save_arrays: bool = False,
        class_means: Tensor | tuple[Tensor, Tensor] | None = None,
        animation: bool = False,
        explainer: Explainer | None = None,
        output: str | int | None = None,
        shown: str | int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if is_data_set(x):
            x, labels = inputs_and_labels(None, x)
            y = labels if y is None else y
        self.x = finite_inputs("x", x)
        self.shown = shown_input(shown, self.x)
        of_shown = leaves(self.x)[self.shown]
        self.y = None if y is None else checked_labels(y, len(of_shown))
        self.target = checked_target(target, self.y)
        self.images = checked_images(images, of_shown)
        self.class_names = checked_names(class_names)
        self.class_means = None if class_means is None else checked_class_means(class_means, self.x)
        self.directory = pathlib.Path(directory)
        self.tensorboard_dir = None if tensorboard_dir is None else pathlib.Path(tensorboard_dir)
        self.freq = integer("freq", freq, 1)
        self.save_arrays = save_arrays
        self.animation = one_of("animation", animation, (True, False))
        self.explainer = explainer
        if explainer is not None and output is not None:
            raise ValueError("`output` is for the default explainer. Give it to yours: LRP(model, output=...)")
        self.output = output
        self.seed = seed
        self._tensorboard: TensorBoardImages | None = None
        # pictures of this training for the animations, by the suffix of their names
        self._frames: dict[str, list[bytes]] = {}
        # whether this training has had an epoch
        self._has_begun = False
        # the kinds of faults of this training that were warned of
        self._warned: set[str] = set()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        # a new one each time, as the callback may serve one model after another
        if self.explainer is None:
            self._explainer = LRP(self.model, output=self.output, seed=self.seed)
        else:
            self._explainer = self.explainer
        self._frames = {}
        self._has_begun = False
        self._warned = set()
        check_writable("directory", self.directory)
        if self.tensorboard_dir is not None:
            check_writable("tensorboard_dir", self.tensorboard_dir)
            self._tensorboard = TensorBoardImages(self.tensorboard_dir)
        # what fails, fails before training; and what is compiled here serves every epoch
        self._subject = self._described_subject()
        self._check_classes()
        self._explain(self.x, self._subject.request())

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._has_begun = True
        if (epoch + 1) % self.freq:
            return
        explanation = self._explain(self.x, self._subject.request())
        preset = getattr(self._explainer, "preset", None)
        faults = diagnosis(explanation, getattr(self._explainer, "model", self.model), preset)
        if not all(np.isfinite(part).all() for part in leaves(explanation.input)):
            skipped = f"LRPHeatmaps drew nothing for epoch {epoch + 1}, whose relevance is not finite"
            warnings.warn(": ".join([skipped, *faults.values()]), stacklevel=2)
            return
        for kind in faults.keys() - self._warned:
            warnings.warn(f"LRPHeatmaps, epoch {epoch + 1}: {faults[kind]}", RuntimeWarning, stacklevel=2)
            self._warned.add(kind)
        arrays = self._arrays(explanation)
        pictures = {"": self._picture(explanation, epoch, logs)}
        if self.class_means is not None:
            relevance, images = self._class_means(*self.class_means)
            arrays["class_means"] = relevance
            pictures["_classes"] = self._class_means_picture(relevance, images, epoch, logs)
        self._write(epoch, pictures, arrays)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self.animation and not self._has_begun:
            # one that was interrupted behind its last epoch
            for suffix in ("", "_classes"):
                self._frames[suffix] = self._earlier(suffix, self.params.get("epochs", 0))
        for suffix, pictures in self._frames.items():
            if pictures:
                self._write_file(f"lrp_heatmaps{suffix}.gif", animated_gif(pictures))
        self._frames = {}
        if self._tensorboard is not None:
            self._tensorboard.close()
            self._tensorboard = None

    def _described_subject(self) -> Subject:
        """What the pictures show, for the present explainer."""
        output = getattr(self._explainer, "output", None)
        if output is None or None in output.shape:
            # what the explainer does not say, an explanation does
            explanation = self._explain(self.x, None)
            link = None if explanation.probability is None else "softmax"
            output = ModelOutput("output", 0, explanation.output.shape[1:], link)
        truth = None if self.y is None else true_values(self.y, output)
        default = "true" if are_labels(truth) else "predicted"
        return Subject(output, default if self.target is None else self.target, truth, self.class_names)

    def _check_classes(self) -> None:
        """Raises a `ValueError` if `class_means` or `class_names` does not fit the output."""
        output = self._subject.output
        if self.class_means is not None:
            if output.n_classes is None:
                raise ValueError(
                    "`class_means` needs an output with classes: several units in one axis, or a single probability. "
                    f"Received: an output of shape {output.shape}. Leave `class_means` out, or pass "
                    "explainer=LRP(model, head='sigmoid') if a single unit is the logit of a class."
                )
            labels = self.class_means[1]
            if labels is not None:
                check_labels("class_means", labels, output.n_classes)
        output.check_class_names(self.class_names)

    def _explain(self, x: Structure, target: np.ndarray | int | None) -> Explanation:
        # `on_epoch_end` warns itself, and names the epoch
        with quiet():
            return self._explainer.explain(x, target)

    def _class_means(self, x: Structure, labels: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Mean relevance and mean image of each class, shape `(n_classes, ...)`."""
        images = leaves(x)[self.shown]
        n = len(images)
        # all blocks have the same size, as another size would be compiled anew: the last repeats its last image
        size = min(_BLOCK_SIZE, n)
        blocks = [np.minimum(np.arange(start, start + size), n - 1) for start in range(0, n, size)]
        # a class is explained by its own output, unless all images are by one
        own = [None if labels is None else self._subject.unit(labels[block]) for block in blocks]
        targets = own if isinstance(self._subject.target, str) else [self._subject.request()] * len(blocks)
        explanations = [self._explain(of_rows(x, block), target) for block, target in zip(blocks, targets)]
        relevance = np.concatenate([leaves(explanation.input)[self.shown] for explanation in explanations])[:n]
        output = self._subject.output
        if labels is None:
            values = np.concatenate([output_values(explanation) for explanation in explanations])[:n]
            labels = np.array([output.predicted(row) for row in values])
        n_classes = output.n_classes or 0
        return _mean_by_class(relevance, labels, n_classes), _mean_by_class(images, labels, n_classes)

    def _picture(self, explanation: Explanation, epoch: int, logs: Mapping[str, Any] | None) -> bytes:
        """Heatmaps of `x`, a PNG file."""
        titles = self._subject.titles(explanation)
        # one layout for all epochs: an animation must not jump where a prediction changes
        most = self._subject.n_lines - 1
        titles = [title + (most - title.count("\n")) * "\n" for title in titles]
        return png_content(
            plot_heatmaps(
                in_layout(leaves(explanation.input)[self.shown], self.images),
                self.images,
                titles=titles,
                title=_with_logs(self._subject.headline(), rules_in_words(self._explainer), epoch, logs),
            )
        )

    def _class_means_picture(
        self, relevance: np.ndarray, images: np.ndarray, epoch: int, logs: Mapping[str, Any] | None
    ) -> bytes:
        """Mean heatmaps of the classes that have images, a PNG file."""
        indices = np.flatnonzero(np.isfinite(relevance.reshape(len(relevance), -1)).all(axis=1)).tolist()
        can_be_shown = images[0].size == self.images[0].size
        subject = "Mean relevance of each class"
        if not isinstance(self._subject.target, str):
            subject = f"Mean r{self._subject.headline()[1:]}, by class"
        elif self._subject.output.n_units == 1:
            subject = f"Mean relevance of {self._subject.output.unit_name(0, self._subject.names)}, by class"
        return png_content(
            plot_heatmaps(
                in_layout(relevance[indices], self.images),
                images[indices].reshape(-1, *self.images.shape[1:]) if can_be_shown else None,
                titles=[self._subject.class_name(index) for index in indices],
                title=_with_logs(subject, rules_in_words(self._explainer), epoch, logs),
            )
        )

    def _arrays(self, explanation: Explanation) -> dict[str, np.ndarray]:
        """What `save_arrays` saves."""
        gaps = explanation.conservation_gap.signed
        arrays = {
            **by_input("relevance", explanation.input),
            **by_input("x", self.x),
            "output": explanation.output,
            "target": explanation.target,
            "head_total": explanation.head_total,
            "conservation_gap": np.stack(list(gaps.values())),
            "calls": np.array(list(gaps)),
        }
        if explanation.probability is not None:
            arrays["probability"] = explanation.probability
        if self._subject.truth is not None:
            arrays["y"] = self._subject.truth
        return arrays

    def _write(self, epoch: int, pictures: Mapping[str, bytes], arrays: Mapping[str, np.ndarray]) -> None:
        """Writes what was drawn after an epoch, pictures by the suffix of their names."""
        name = f"epoch_{epoch + 1:04d}"
        for suffix, picture in pictures.items():
            self._write_file(f"{name}{suffix}.png", picture)
            if self.animation:
                if suffix not in self._frames:
                    self._frames[suffix] = self._earlier(suffix, epoch)
                self._frames[suffix].append(picture)
        if self.save_arrays:
            self._write_file(f"{name}.npz", npz_content(**arrays))
        if self._tensorboard is not None:
            tags = {f"lrp_heatmaps{suffix}": picture for suffix, picture in pictures.items()}
            self._tensorboard.write(tags, epoch + 1)

    def _earlier(self, suffix: str, epoch: int) -> list[bytes]:
        """The pictures of epochs before this one, which a training has that goes on after an interruption."""
        epochs = range(self.freq, epoch + 1, self.freq)
        paths = [self.directory / f"epoch_{number:04d}{suffix}.png" for number in epochs]
        return [path.read_bytes() for path in paths if path.exists()]

    def _write_file(self, name: str, content: bytes) -> None:
        """Writes a file, or warns: a full disk must not end a training."""
        path = self.directory / name
        try:
            write(path, content)
        except OSError as error:
            warnings.warn(f"LRPHeatmaps could not write {path}: {error}", RuntimeWarning, stacklevel=4)


def _mean_by_class(values: np.ndarray, labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Mean of the rows of each class, shape `(n_classes, ...)`, NaN for a class without rows."""
    missing = np.full(values.shape[1:], np.nan)
    rows_by_class = [values[labels == k] for k in range(n_classes)]
    return np.stack([rows.mean(axis=0) if len(rows) else missing for rows in rows_by_class])


def _with_logs(subject: str, rules: str, epoch: int, logs: Mapping[str, Any] | None) -> str:
    """A headline: the subject, the rules, the epoch and its first logs, without those of single layers."""
    values = {name: value for name, value in (logs or {}).items() if "/" not in name}
    words = [f"{name} {value:.3g}" for name, value in values.items() if isinstance(value, numbers.Real)]
    headline = ", ".join(filter(None, [subject, rules, f"epoch {epoch + 1}"]))
    return f"{headline}: {', '.join(words[:_MAX_LOGS])}" if words else headline
