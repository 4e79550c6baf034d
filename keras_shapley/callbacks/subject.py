"""`Subject`: what the maps of a picture show, as a target and in words."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from keras_shapley.callbacks.labels import are_labels
from keras_shapley.models.outputs import ModelOutput, number, percent
from keras_shapley.utils.targets import is_weights


class Explained(Protocol):
    """What titles say of an explanation: its targets, and the outputs that it explains."""

    @property
    def target(self) -> np.ndarray: ...
    @property
    def output(self) -> np.ndarray: ...
    @property
    def probability(self) -> np.ndarray | None: ...


@dataclasses.dataclass(frozen=True)
class Subject:
    """What the maps of a picture show: an output of a model, the target, and what is known of the classes.

    Attributes:
        output: the explained output.
        target: `"true"`, `"predicted"`, the index of an output, or weights of the outputs, bools or floats.
        truth: true classes or numbers of the images, as `true_values` returns them; None if they are not known.
        names: of the classes, or None.

    Raises:
        ValueError: if the target is the true class and `truth` has no classes, for an output of several units.
    """

    output: ModelOutput
    target: str | int | np.ndarray = "predicted"
    truth: np.ndarray | None = None
    names: Sequence[str] | None = None

    def __post_init__(self) -> None:
        is_true = isinstance(self.target, str) and self.target == "true"
        if is_true and not are_labels(self.truth) and not self._has_single_unit:
            raise ValueError(
                "target='true' needs class numbers as `y`, if the output has several units. Give target='predicted' "
                "for the largest output, or the index of an output."
            )

    def request(self) -> np.ndarray | int | None:
        """The target of the images, as an explainer takes it."""
        if isinstance(self.target, np.ndarray):
            return self.target
        if self.target == "true":
            return self.unit(self.truth)
        if self.target == "predicted":
            return None
        # class 1 of a single probability is explained by its unit
        is_class_of_unit = self.target == 1 and self.output.n_classes == 2
        return self.unit(self.target) if is_class_of_unit else int(self.target)

    def unit(self, labels: Any) -> Any:
        """The outputs that speak for classes: the classes themselves, or 0 for both classes of a single unit."""
        return 0 if self._has_single_unit else labels

    def headline(self) -> str:
        """What all maps show, in words."""
        if isinstance(self.target, np.ndarray):
            return "Relevance of a weighted sum of outputs"
        if self._has_single_unit:
            return f"Relevance of {self.output.unit_name(0, self.names)}"
        if self.target == "true":
            return "Relevance of the true class"
        if self.target == "predicted":
            return f"Relevance of the {'predicted class' if self._has_classes else 'largest output'}"
        return f"Relevance of {self.output.unit_name(int(self.target), self.names)}"

    def titles(self, explanation: Explained) -> list[str]:
        """A title for each image.

        The first line says what the map shows. Further lines give the predicted and the true class if they are others,
        or the true number.
        """
        values = output_values(explanation)
        truth = [None] * len(values) if self.truth is None else self.truth
        return [self._title(*image) for image in zip(explanation.target, values, truth)]

    @property
    def n_lines(self) -> int:
        """The most lines of a title."""
        has_labels = are_labels(self.truth)
        roles = self._has_classes + has_labels
        if not isinstance(self.target, np.ndarray):
            # what is shown has no further line: an own role, or one of two classes
            if isinstance(self.target, str) and not self._has_single_unit:
                roles = max(roles - 1, 0)
            if self.output.n_units in (1, 2):
                roles = min(roles, 1)
        return 1 + roles + (self.truth is not None and not has_labels)

    def class_name(self, label: int) -> str:
        return self.output.class_name(label, self.names)

    def _title(self, target: np.ndarray, values: np.ndarray, truth: np.ndarray | None) -> str:
        """The title of one image, by its target, its outputs and its truth."""
        lines = [self.output.label(target, values, self.names)]
        roles: dict[int, list[str]] = {}
        if self._has_classes:
            roles.setdefault(self.output.predicted(values), []).append("predicted")
        if truth is not None and are_labels(truth):
            roles.setdefault(int(truth), []).append("true")
        if not is_weights(target):
            shown = 1 if self._has_single_unit else int(target)
            roles.pop(shown, None)
        for label, words in roles.items():
            value = self.output.class_value(label, values)
            value_text = percent(value) if self.output.is_probability else number(value)
            lines.append(f"{' and '.join(words)}: {self.class_name(label)} ({value_text})")
        if truth is not None and not are_labels(truth):
            value = np.sum(target * truth) if is_weights(target) else truth.reshape(-1)[int(target)]
            lines.append(f"true: {number(value)}")
        return "\n".join(lines)

    @property
    def _has_single_unit(self) -> bool:
        return self.output.n_units == 1

    @property
    def _has_classes(self) -> bool:
        """Whether units are classes: probabilities are, and others if they have labels or names."""
        has_words = are_labels(self.truth) or self.names is not None
        return self.output.n_classes is not None and (self.output.is_probability or has_words)


def rules_in_words(explainer: Any) -> str:
    """The rules by which an explainer propagates, for a headline; empty if it does not say."""
    preset = getattr(explainer, "preset", None)
    return "" if preset is None else f"rules {preset}"


def output_values(explanation: Explained) -> np.ndarray:
    """The outputs that titles give: probabilities, where there are any."""
    return explanation.output if explanation.probability is None else explanation.probability
