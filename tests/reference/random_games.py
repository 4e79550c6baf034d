"""Random cooperative games, as functions of batches and as a hypothesis strategy."""

import dataclasses
import functools

import numpy as np
from hypothesis import strategies as st


@dataclasses.dataclass(frozen=True)
class RandomGame:
    """A game with any value for each coalition: a function of batches of ones and zeros, `(batch, n)`.

    Attributes:
        n: number of players.
        outputs: number of values of a coalition, each a game of its own.
        seed: of the values.
        size: of the values.
    """

    n: int
    outputs: int
    seed: int
    size: float = 1.0

    @functools.cached_property
    def table(self):
        """The values, `(2**n, outputs)`; bit k of the row is player k."""
        return self.size * np.random.default_rng(self.seed).normal(size=(2**self.n, self.outputs))

    @property
    def x(self):
        """One input, in which everyone is present."""
        return np.ones((1, self.n))

    def __call__(self, x):
        return self.table[((x != 0) << np.arange(self.n)).sum(axis=1)]

    def value(self, present, output=0):
        """The value of one coalition, bools `(n,)`."""
        return self(np.asarray(present, float)[None])[0, output]

    def permuted(self, order):
        """The same game, whose player k is this one's `order[k]`."""
        return lambda x: self(x[:, np.argsort(order)])

    def with_twins(self, i, j):
        """A game in which both players are worth the same: the mean of this one and of that in which they swap."""
        order = np.arange(self.n)
        order[[i, j]] = j, i
        return lambda x: (self(x) + self(x[:, order])) / 2

    def with_dummy(self, k, worth):
        """A game in which player k adds the same to every coalition."""
        others = np.arange(self.n) != k
        return lambda x: self(x * others) + worth * (x[:, k : k + 1] != 0)


def games(least=2, most=6, outputs=2):
    """Strategy of `RandomGame`."""
    seeds = st.integers(0, 10**6)
    return st.builds(
        RandomGame, st.integers(least, most), st.integers(1, outputs), seeds, st.sampled_from([1e-6, 1.0, 1e6])
    )
