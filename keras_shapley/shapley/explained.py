"""What is explained of each image, all outputs or targets, as values of a game."""

import dataclasses
import math

import numpy as np

from keras_shapley.utils.targets import as_weights, is_weights, target_values


@dataclasses.dataclass(frozen=True)
class Explained:
    """What is explained of each image: all outputs, or its targets.

    Attributes:
        targets: the targets of each image, indices or weights, one column after the other; None for all outputs.
        shape: of what is explained of one image: that of the outputs, `()` for a target, `(k,)` for k targets.
        whole: what is explained of each whole image, `(batch, values)`.
    """

    targets: list[np.ndarray] | None
    shape: tuple[int, ...]
    whole: np.ndarray

    def values(self, number: int, outputs: np.ndarray) -> np.ndarray:
        """What is explained of an image, given by its number, in outputs `(n, *output)`: shape `(n, values)`."""
        if self.targets is None:
            return outputs.reshape(len(outputs), -1)
        return np.stack([target_values(column[number], outputs) for column in self.targets], axis=1)

    def weights(self, images: np.ndarray, values: np.ndarray, output_shape: tuple[int, ...]) -> np.ndarray:
        """Weights of the outputs for rows, each an image and one of its values by number: `(rows, *output)`."""
        if self.targets is None:
            rows = np.eye(math.prod(output_shape))[values]
        else:
            rows = as_weights(np.stack(self.targets)[values, images], output_shape)
        return rows.reshape(len(images), *output_shape)

    @property
    def target(self) -> np.ndarray | None:
        """The targets as users give them, `(batch,)`, `(batch, k)` or weights `(batch, *output)`; None for all."""
        if self.targets is None:
            return None
        return np.stack(self.targets, axis=1) if self.shape else self.targets[0]


def values_of_targets(column: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """The value of each image's target, an index or weights, in its outputs `(batch, *output)`: shape `(batch,)`."""
    outputs = outputs.reshape(len(outputs), -1)
    if is_weights(column):
        return np.sum(outputs * column.reshape(outputs.shape), axis=1)
    return outputs[np.arange(len(outputs)), column]
