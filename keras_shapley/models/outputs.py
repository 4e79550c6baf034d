"""What an output of a model is: its name, whether it is a probability, and how a picture names it."""

import dataclasses
import math
from collections.abc import Sequence

import keras
import numpy as np

from keras_shapley.models.graph import Graph
from keras_shapley.models.keras_internals import output_keys
from keras_shapley.models.model_end import model_ends
from keras_shapley.models.tracing import trace
from keras_shapley.utils.targets import is_weights
from keras_shapley.utils.validation import integer, one_of


@dataclasses.dataclass(frozen=True)
class ModelOutput:
    """An output of a model.

    Attributes:
        name: its name.
        index: its number among the model's outputs.
        shape: of one sample; unknown sizes are None.
        link: `"softmax"` or `"sigmoid"` if the model's graph says that the output is a probability, else None.
    """

    name: str
    index: int
    shape: tuple[int | None, ...]
    link: str | None

    @property
    def is_probability(self) -> bool:
        return self.link is not None

    @property
    def n_units(self) -> int | None:
        """Number of outputs of one sample, None if it depends on the input."""
        sizes = [size for size in self.shape if size is not None]
        return math.prod(sizes) if len(sizes) == len(self.shape) else None

    @property
    def n_classes(self) -> int | None:
        """Number of classes that a label can name: the outputs of one axis, or two for a single sigmoid; else None."""
        if len(self.shape) != 1 or self.shape[0] is None or (self.shape[0] == 1 and not self.is_probability):
            return None
        return max(self.shape[0], 2)

    def check_class_names(self, names: Sequence[str] | None) -> None:
        """Raises a `ValueError` if names are not one for each class, or each unit of an output without classes."""
        if names is None:
            return
        if len(self.shape) != 1:
            raise ValueError(
                f"`class_names` must be None for an output of several axes. Received: an output of shape {self.shape}"
            )
        n_names = self.n_classes or self.shape[0]
        if len(names) != n_names:
            raise ValueError(f"`class_names` must have length {n_names}. Received: {len(names)}")

    def unit(self, label: int) -> int:
        """Index of the output that speaks for a class: the label itself, or 0 for both classes of a single unit."""
        return 0 if self.n_units == 1 else label

    def predicted(self, output: np.ndarray) -> int:
        """The predicted class, by one sample's output: the largest, or whether a single probability is above 1/2."""
        return int(output[0] > 0.5) if self.n_units == 1 else int(output.argmax())

    def class_value(self, label: int, output: np.ndarray) -> float:
        """The output for a class; `1 - p` for class 0 of a single probability p."""
        if self.n_units == 1 and label == 0:
            return 1 - float(output[0])
        return float(output[self.unit(label)])

    def label(self, target: np.ndarray, output: np.ndarray, names: Sequence[str] | None = None) -> str:
        """What a map of one sample shows, in words: `class 1 (46 %)`, `cat (46 %)`, `output 0: 3.2`.

        Args:
            target: one sample's target, an index or weights.
            output: the model's output for the sample, in its own shape.
            names: of the classes, or None.
        """
        if is_weights(target):
            return f"weighted sum: {number(np.sum(target * output))}"
        # the output knows sizes that the model may not
        name = dataclasses.replace(self, shape=output.shape).unit_name(int(target), names)
        value = float(output.reshape(-1)[int(target)])
        return f"{name} ({percent(value)})" if self.is_probability else f"{name}: {number(value)}"

    def unit_name(self, index: int, names: Sequence[str] | None = None) -> str:
        """The name of an output: `class 1` for a single probability, `output (1, 0, 2)` for one of several axes."""
        if len(self.shape) > 1 and self.n_units is not None:
            sizes = [size or 0 for size in self.shape]
            return f"output {tuple(map(int, np.unravel_index(index, sizes)))}"
        return self.class_name(1 if self.n_units == 1 and self.is_probability else index, names)

    def class_name(self, label: int, names: Sequence[str] | None = None) -> str:
        """The name of a class, or `class 3`; `output 3` where the graph does not say that outputs are classes."""
        if names is not None:
            return names[label]
        return f"class {label}" if self.is_probability else f"output {label}"


def model_output(model: keras.Model, output: str | int | None = None, graph: Graph | None = None) -> ModelOutput:
    """The output of a Sequential or Functional model that is explained.

    Args:
        model: built.
        output: its index, the name of its layer, or its key if the model returns a dict; None for a model with one
            output.
        graph: of the model, where it is known; else the model is traced.

    Raises:
        ValueError: if the model has no such output, or several and `output` is None.
    """
    index = output_index(model, output)
    end = model_ends((graph or trace(model)).outputs[index])[0]
    shape = tuple(model.outputs[index].shape[1:])
    return ModelOutput(_output_names(model)[index], index, shape, end.link if end.is_probability else None)


def output_index(model: keras.Model, output: str | int | None) -> int:
    """Index of an output among `model.outputs`, from its index, its layer's name or its key in a dict.

    Raises:
        ValueError: if the model has no such output, or several and `output` is None.
    """
    names = _output_names(model)
    if output is None:
        if len(names) > 1:
            raise ValueError(f"`output` must say which output of model '{model.name}' to explain: one of {names}.")
        return 0
    if isinstance(output, str):
        layer_names = getattr(model, "output_names", None) or names
        return layer_names.index(output) if output in layer_names else names.index(one_of("output", output, names))
    if integer("output", output, 0) >= len(names):
        raise ValueError(f"`output` must be below {len(names)}, the number of outputs. Received: {output}")
    return output


def percent(probability: float) -> str:
    return f"{100 * probability:.0f} %"


def number(value: float) -> str:
    """A number with three digits or more: `3.25`, `-0.0012`, `181,300`."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.3g}"


def _output_names(model: keras.Model) -> list[str]:
    """Names of a model's outputs: the keys of a dict, or the names of their layers."""
    # a Sequential model, and one whose call is code of its own, have no `output_names`
    last_layers = [layer.name for layer in model.layers][-1:]
    return output_keys(model) or getattr(model, "output_names", None) or last_layers or [model.name]
