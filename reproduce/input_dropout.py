"""Random-permutation dropout, which the paper (section 2.2) calls similar to training with Shapley gradients."""

import keras
import numpy as np
from keras import ops, random


class InputDropoutDense(keras.layers.Dense):
    """`Dense` that in training sees, in every image, a random half of its inputs on average, doubled.

    Args:
        permutation: whether the number of inputs that stay is uniform from none to all, as where a random order is cut
            at a random place; else each stays with probability 1/2, as in `Dropout(0.5)`. The doubling, the customary
            one, is ours: the paper has none, and no inference.
    """

    def __init__(self, *args, permutation, **kwargs):
        super().__init__(*args, **kwargs)
        self.permutation = permutation
        # Keras would draw the seed from where the first weights come from, and change those of the layers behind
        self.seed_generator = random.SeedGenerator(int(np.random.randint(2**31)))

    def call(self, inputs, training=False):
        if training:
            inputs = 2 * inputs * self.present(ops.shape(inputs))
        return super().call(inputs)

    def present(self, shape):
        """1 where an input `(batch, inputs)` stays, 0 elsewhere."""
        level = 0.5
        if self.permutation:
            # of independent uniform numbers, as many are below another one as a uniform number says
            level = random.uniform((shape[0], 1), seed=self.seed_generator)
        return ops.cast(random.uniform(shape, seed=self.seed_generator) < level, self.compute_dtype)
