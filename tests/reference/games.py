"""A small function without additive inputs, and the error of sampled values."""

import numpy as np

import keras_shapley as ks

W = np.random.default_rng(0).normal(size=(5, 4))


V = np.random.default_rng(1).normal(size=(4, 2))


def network(x):
    """Two outputs of five inputs, no additive ones."""
    return np.tanh(x.reshape(len(x), 5) @ W) @ V + x.reshape(len(x), 5).prod(axis=1, keepdims=True)


def error(truth, x, fn, **options):
    """Mean square error over forty seeds."""
    found = [ks.sampled_shapley_values(fn, x, seed=seed, batch_size=5000, **options).values for seed in range(40)]
    return np.mean(np.square(np.array(found) - truth))
