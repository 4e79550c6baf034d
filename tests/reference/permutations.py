"""Shapley values by their definition."""

import itertools
import math

import numpy as np


def by_permutations(value_of, n):
    """Shapley values by the definition: mean contribution over all orders."""
    values = np.zeros(n)
    for order in itertools.permutations(range(n)):
        present = np.zeros(n, bool)
        before = value_of(present)
        for player in order:
            present[player] = True
            after = value_of(present)
            values[player] += after - before
            before = after
    return values / math.factorial(n)
