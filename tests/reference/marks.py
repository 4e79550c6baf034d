"""Marks that several files share."""

import keras
import pytest

# small networks with few players, on which masks are biased a little
MASKS_OF_FEW_PLAYERS = pytest.mark.filterwarnings("ignore:method='masks' is biased for:UserWarning")
# networks with random weights, on which moments and masks may miss any part of the total
MAY_MISS_THE_TOTAL = pytest.mark.filterwarnings("ignore:The values of .* miss more than a quarter:RuntimeWarning")
# random models, each with shapes of its own, for which JAX compiles every operation
SLOW_ON_JAX = [pytest.mark.slow] if keras.backend.backend() == "jax" else []


def slow_on_jax(value):
    """A parameter whose test JAX compiles for seconds."""
    return pytest.param(value, marks=pytest.mark.slow) if keras.backend.backend() == "jax" else value
