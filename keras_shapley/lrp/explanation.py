"""The results of an explanation, as NumPy arrays."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops, tree

from keras_shapley.lrp.to_shap import relevance_to_shap
from keras_shapley.models.outputs import ModelOutput
from keras_shapley.utils.result_files import ResultFormat
from keras_shapley.utils.structures import leaves
from keras_shapley.utils.targets import is_weights
from keras_shapley.utils.typing import Structure
from keras_shapley.utils.wording import count


@dataclasses.dataclass
class ConservationGap:
    """The relevance that each call lost or created, per image.

    The signed gaps of all calls add up to `head_total` less the sum of the input's relevance.

    Attributes:
        signed: by call, the relevance of its output less that of its inputs, shape `(batch,)`.
        relative: by call, the absolute gap over the sum of the absolute relevance of its output, shape `(batch,)`; at
            the head over `|head_total|`.

    Examples:
        With the rule `epsilon` the bias of the layer absorbs its part of the relevance.

        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="neuron")])
        >>> model.set_weights([np.ones((2, 1)), np.array([1.0])])
        >>> gap = ks.LRP(model, rules="epsilon").explain(np.ones((1, 2))).conservation_gap
        >>> print(gap.signed["neuron"].round(2), gap.relative["neuron"].round(2))
        [1.] [0.33]
    """

    signed: dict[str, np.ndarray]
    relative: dict[str, np.ndarray]

    @property
    def absolute(self) -> dict[str, np.ndarray]:
        """By call, the absolute gap, shape `(batch,)`."""
        return {name: np.abs(gap) for name, gap in self.signed.items()}

    def __repr__(self) -> str:
        return f"ConservationGap({count(len(self.signed), 'call')}, {self.largest()})"

    def largest(self) -> str:
        """The largest gap of all calls and images, in words."""
        if not self.signed:
            return "no gap"
        gap, name = max((float(gap.max()), name) for name, gap in self.absolute.items())
        return f"largest gap {gap:.2g} at {name!r}"

    def summary(self) -> dict[str, tuple[tuple[float, float], tuple[float, float]]]:
        """By call, `(median, maximum)` over the images, of the absolute gap and of the relative one."""
        absolute = self.absolute
        return {
            name: (_median_and_maximum(absolute[name]), _median_and_maximum(relative))
            for name, relative in self.relative.items()
        }


def _median_and_maximum(gap: np.ndarray) -> tuple[float, float]:
    return float(np.median(gap)), float(np.max(gap))


@dataclasses.dataclass
class Explanation:
    """Relevance of the input and of every layer of a model for a batch, as NumPy arrays.

    `LRP.explain` returns it. With several targets a sample, everything that depends on the target has an axis for them
    after the batch. It can be given wherever an array of attributions can, as to `ks.metrics` and `ks.plot_heatmaps`.

    Attributes:
        input: relevance of the input, in its structure and shape.
        layers: by call, relevance of its output, in its shape; only calls below the head's players.
        output: the model's output, shape `(batch, *output)`.
        probability: the output where the model's graph says that it is a probability; with `head="softmax"` or
            `"sigmoid"` the probabilities of the logits; else None. Shape `(batch, *output)`.
        target: what is explained: indices of outputs, shape `(batch,)`, or weights, `(batch, *output)`. It can be given
            as `target` again.
        versus: what it was compared with, likewise, or None.
        head: relevance of the head's players, in their shape; a list for a model whose output is an average of several
            softmaxes or sigmoids.
        head_stderr: standard error of `head`; 0 where it is exact, NaN where it is unknown, as by quadrature.
        head_total: the relevance that was distributed, shape `(batch,)`. For a softmax or sigmoid it is the target's
            probability less `head_baseline`; for a linear head the output; where a ReLU is the end and rules are not
            measured from a baseline, the sum of eq. (1). With weights it is the weighted sum of these. Measured from a
            baseline it is what is explained less its value there.
        head_baseline: the target's probability with no player present, shape `(batch,)`; 0 for other heads. Measured
            from a baseline it is the value there of what is explained.
        head_missed: what the Shapley values of a probability missed of `head_total`, shape `(batch,)`: the error of the
            quadrature; rounding for other methods, 0 for other heads. Measured from a baseline it is then distributed
            in proportion to the values.
        head_paths: number of random paths behind `head`; 0 without sampling.
        conservation_gap: the relevance that each call lost or created.
        amplification: by call, the sum of the absolute relevance of its inputs over that of its output, shape
            `(batch,)`. It is above 1 where inputs receive relevance of both signs. The product along a path is the
            factor by which eq. (2) can grow; it has no bound where denominators come near zero.
        amplified: how much the relevance grew on its way: the sum of the absolute relevance of the input over that of
            the head, shape `(batch,)`. For a linear head the denominator is the largest of three numbers: its
            relevance, the terms of its sum, and its value at the baseline. So an output near zero is no growth.
        arrived: the share of the head's relevance that arrived at the input, shape `(batch,)`. NaN where the head's
            players cancel to less than a tenth of their absolute sum, of which a share says nothing.

    Examples:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "relu", name="hidden")])
        >>> model.add(keras.layers.Dense(2, "softmax"))
        >>> explanation = ks.LRP(model).explain(np.ones((5, 4)), target=1)
        >>> explanation.input.shape, explanation.layers["hidden"].shape
        ((5, 4), (5, 3))
        >>> probability = explanation.head_total + explanation.head_baseline
        >>> bool(np.allclose(probability, explanation.output[:, 1]))
        True
    """

    input: Structure
    layers: dict[str, Any]
    output: np.ndarray
    probability: np.ndarray | None
    target: np.ndarray
    versus: np.ndarray | None
    head: np.ndarray | list[np.ndarray]
    head_stderr: np.ndarray | list[np.ndarray]
    head_total: np.ndarray
    head_baseline: np.ndarray
    head_missed: np.ndarray
    head_paths: int
    conservation_gap: ConservationGap
    amplification: dict[str, np.ndarray]
    amplified: np.ndarray
    arrived: np.ndarray

    @property
    def heatmap(self) -> Structure:
        """The relevance of the input."""
        return self.input

    def titles(self, class_names: Sequence[str] | None = None) -> list[str]:
        """What is explained of each sample, in words, as the pictures have it above: `class 3 (98 %)`, `output 0: 3.2`.

        The numbers are outputs of the model: probabilities where it has them, also if a logit is explained.

        Args:
            class_names: of the outputs, or of the classes 0 and 1 of a single probability.

        Raises:
            ValueError: if there are fewer or more names than classes, or names for an output of several axes.

        Examples:
            >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, "softmax")])
            >>> model.set_weights([np.eye(2), np.zeros(2)])
            >>> explanation = ks.LRP(model).explain(np.array([[0.0, 2.0]]))
            >>> explanation.titles(), explanation.titles(["cat", "dog"])
            (['class 1 (88 %)'], ['dog (88 %)'])
        """
        values = self.output if self.probability is None else self.probability
        output = ModelOutput("output", 0, values.shape[1:], None if self.probability is None else "softmax")
        output.check_class_names(class_names)

        def labels(targets: np.ndarray) -> list[list[str]]:
            columns = targets if self.head_total.ndim > 1 else targets[:, None]
            return [[output.label(target, row, class_names) for target in each] for each, row in zip(columns, values)]

        found = labels(self.target)
        if self.versus is not None:
            pairs = (zip(*sample) for sample in zip(found, labels(self.versus)))
            found = [[f"{one} against {other}" for one, other in sample] for sample in pairs]
        return [", ".join(sample) for sample in found]

    def to_shap(self, x: Any, by: str = "auto") -> Any:
        """A `shap.Explanation`, which the plots of the package shap take; several targets are its last axis.

        Base values are those of the output at the baseline, so that bars of relevance from a baseline end at the
        output. Other rules have no baseline, and their bars end where the relevance that arrived ends.

        Args:
            x: the inputs that were explained, or a data frame of them.
            by: as in `ShapleyValues.to_shap`.

        Raises:
            ImportError: if the package shap is not installed.
            ValueError: on inputs of another shape, or an unknown `by`.
        """
        return relevance_to_shap(self, x, by)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Saves all of it as one `.npz` file, without pickle, in one step.

        Raises:
            OSError: if the file cannot be written.

        Examples:
            >>> import tempfile
            >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
            >>> explanation = ks.LRP(model).explain(np.ones((5, 4)), target=1)
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     explanation.save(folder + "/relevance.npz")
            ...     again = ks.Explanation.load(folder + "/relevance.npz")
            >>> np.array_equal(again.input, explanation.input)
            True
        """
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        gap = fields.pop("conservation_gap")
        _FORMAT.save(path, {**fields, "signed": gap.signed, "relative": gap.relative})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Explanation":
        """The explanation that `save` wrote. Nothing is unpickled, and what is too large for its file is not read.

        Raises:
            ValueError: if the file holds no explanation.
            OSError: if there is no file, or it cannot be read.
        """
        fields = _FORMAT.load(path)
        gap = ConservationGap(fields.pop("signed"), fields.pop("relative"))
        return cls(conservation_gap=gap, **fields)

    def __repr__(self) -> str:
        shapes = tree.map_structure(lambda part: part.shape, self.input)
        parts = [
            count(len(self.output), "sample"),
            f"input {shapes}",
            f"target {_targets(self.target)}",
            f"head_total {_range(self.head_total, '.3g')}",
            self.conservation_gap.largest(),
        ]
        return f"Explanation({', '.join(parts)})"

    @property
    def overflow(self) -> str | None:
        """The first call on the way back whose relevance is not finite though the model's output is, or None."""
        if np.all(np.isfinite(self.output)):
            for name, ratio in reversed(self.amplification.items()):
                if not np.all(np.isfinite(ratio)):
                    return name
        return None


def _is_result(fields: dict[str, Any]) -> bool:
    """Whether fields of a file are those of an explanation; they may be of any type, and raise any error."""
    shape = fields["head_total"].shape
    # of each image, or of each of its targets
    by_target = ("head_baseline", "head_missed", "amplified", "arrived")
    heads = [(head.shape, head.dtype.kind) for head in leaves(fields["head"])]
    names = {field.name for field in dataclasses.fields(Explanation)} - {"conservation_gap"}
    return (
        set(fields) == {*names, "signed", "relative"}
        and len(shape) in (1, 2)
        and all(fields[name].shape == shape and fields[name].dtype.kind == "f" for name in by_target)
        and all(part.shape[: len(shape)] == shape for name in _STRUCTURES for part in leaves(fields[name]))
        and all(part.dtype.kind == "f" for name in _STRUCTURES for part in leaves(fields[name]))
        and all(isinstance(fields[name], dict) for name in ("layers", *_BY_CALL))
        and all(part.shape == shape for name in _BY_CALL for part in fields[name].values())
        and list(fields["signed"]) == list(fields["relative"])
        and heads == [(errors.shape, errors.dtype.kind) for errors in leaves(fields["head_stderr"])]
        and len(fields["output"]) == shape[0]
        and (fields["probability"] is None or fields["probability"].shape == fields["output"].shape)
        and fields["target"].shape[: len(shape)] == shape
        and (fields["versus"] is None or fields["versus"].shape == fields["target"].shape)
        and isinstance(fields["head_paths"], int)
    )


# numbers of each call, and all fields that are structures of arrays
_BY_CALL = ("signed", "relative", "amplification")
_STRUCTURES = ("input", "layers", "head", "head_stderr", *_BY_CALL)
_FORMAT = ResultFormat("Explanation", _STRUCTURES, _is_result)


def _targets(target: np.ndarray) -> str:
    """What is explained, in a word or two."""
    return "weights" if is_weights(target) else _range(target, "d")


def _range(values: np.ndarray, form: str) -> str:
    """The smallest and the largest value, or the only one."""
    low, high = format(values.min(), form), format(values.max(), form)
    return low if low == high else f"{low} to {high}"


# sums of absolute relevance that count as none
_TINY = 1e-30
# a head whose players cancel to this share of their absolute sum has no share of which to speak
_CANCELS = 0.1
# what float32 leaves of the difference of two equal numbers, beside their size
_ROUNDING = 1e-6
# the entries of a report that do not depend on the target
_WITHOUT_TARGET = ("output", "probability")


def assemble(
    reports: Sequence[dict[str, Any]],
    order: Sequence[str],
    *,
    has_axis: bool,
    is_probability: bool,
    n_images: int | None = None,
) -> Explanation:
    """The `Explanation` of a batch from what `Walk.report` returns for each of its targets.

    Args:
        reports: one dict of tensors for each target; `input` has the structure of the user's batch.
        order: names of the model's calls, in their order.
        has_axis: whether the results have an axis of targets.
        is_probability: whether the model's output is a probability.
        n_images: length of the batch, without the images that fill it up; None for all.
    """
    n_paths = max(int(ops.convert_to_numpy(report["head_paths"])) for report in reports)
    by_image = [{name: value for name, value in report.items() if name != "head_paths"} for report in reports]
    arrays = tree.map_structure(lambda tensor: ops.convert_to_numpy(tensor)[:n_images], by_image)
    merged = arrays[0]
    if has_axis:
        stacked = tree.map_structure(lambda *parts: np.stack(parts, axis=1), *arrays)
        merged = {**stacked, **{name: merged[name] for name in _WITHOUT_TARGET if name in merged}}

    def one_or_all(parts: list[np.ndarray]) -> np.ndarray | list[np.ndarray]:
        return parts[0] if len(parts) == 1 else parts

    def in_order(by_call: dict[str, Any]) -> dict[str, Any]:
        # JAX sorts the keys
        return {name: by_call[name] for name in order if name in by_call}

    return Explanation(
        input=merged["input"],
        layers=in_order(merged["layers"]),
        output=merged["output"],
        probability=merged["output"] if is_probability else merged.get("probability"),
        target=merged["target"],
        versus=merged.get("versus"),
        head=one_or_all(merged["head"]),
        head_stderr=one_or_all(merged["head_stderr"]),
        head_total=merged["head_total"],
        head_baseline=merged["head_baseline"],
        head_missed=merged["head_missed"],
        head_paths=n_paths,
        conservation_gap=ConservationGap(in_order(merged["signed"]), in_order(merged["relative"])),
        amplification=in_order(merged["amplification"]),
        **growth(merged["ends"]),
    )


def growth(ends: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """`amplified` and `arrived` of an `Explanation`, from the `ends` of `Walk.report`."""
    head, terms, arrived, size = (ends[name].astype("float64") for name in ("head", "head_size", "input", "input_size"))
    is_zero = terms < _TINY
    # a total that is rounding beside the value at the baseline is none
    cancels = np.abs(head) <= np.maximum(_CANCELS * terms, _ROUNDING * np.abs(ends["baseline"].astype("float64")))
    # what is not finite stays so, and is told elsewhere
    with np.errstate(invalid="ignore"):
        return {
            "amplified": np.where(is_zero & (size < _TINY), 0.0, size / np.where(is_zero, 1.0, terms)),
            "arrived": np.where(cancels, np.nan, arrived / np.where(cancels, 1.0, head)),
        }
