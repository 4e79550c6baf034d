"""Random-permutation dropout, which the paper (section 2.2) calls similar to training with Shapley gradients."""

from typing import Any

import keras
import numpy as np
from keras import ops, random


class InputDropoutDense(keras.layers.Dense):
    """`Dense` whose inputs are dropped in training, half of them on average, and the others doubled.

    Args:
        permutation: if True, the number of inputs that stay is uniform from none to all, as if a random order were cut
            at a random place; if False, each input stays with probability 1/2, as in `Dropout(0.5)`. The paper has
            neither a factor nor inference; the doubling is the customary one.
    """

    def __init__(self, *args: Any, permutation: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.permutation = permutation
        # Keras would draw this seed from the source of the first weights, and change those of the layers behind
        self.seed_generator = random.SeedGenerator(int(np.random.randint(2**31)))

    def call(self, inputs: Any, training: bool = False) -> Any:
        if training:
            inputs = 2 * inputs * self.present(ops.shape(inputs))
        return super().call(inputs)

    def present(self, shape: tuple) -> Any:
        """1 for each input `(batch, inputs)` that stays, 0 for the others."""
        level = 0.5
        if self.permutation:
            # the number of uniform variables below another uniform variable is uniform
            level = random.uniform((shape[0], 1), seed=self.seed_generator)
        return ops.cast(random.uniform(shape, seed=self.seed_generator) < level, self.compute_dtype)
