"""Explanations that the studies of faithfulness compare: functions of `(model, x, target)` that give one of each image.

Attributions are of the target's probability, NumPy arrays in the shape of `x`.
"""

import functools
import importlib.util

import keras
import numpy as np
import shap_peers
from keras import ops
from sensitivity import sensitivities, sensitivity

import keras_shapley as ks
from keras_shapley import rules
from keras_shapley.layers.linear_maps import LINEAR_TYPES

# images at once
BLOCK = 250
STEPS = 32


def relevance(model, x, target, **options):
    """LRP, from the Shapley values of the softmax; BatchNormalization is merged, else eq. (2) leaves all bounds."""
    explainer = ks.LRP(model, merge_batch_norm=True, **options)
    blocks = [slice(start, start + BLOCK) for start in range(0, len(x), BLOCK)]
    return np.concatenate([ops.convert_to_numpy(explainer(x[block], target[block])) for block in blocks])


def gradient_times_input(model, x, target):
    return x * sensitivity(model, x, target)


def integrated_gradients(model, x, target):
    """By the midpoint rule, from the baseline, which is zero (Sundararajan et al. 2017)."""
    times = (np.arange(STEPS) + 0.5) / STEPS
    slope = sensitivities(model)
    return x * np.mean([slope((t * x).astype("float32"), target) for t in times], axis=0)


def noise(model, x, target):
    """Random numbers, as large as the gradient times the input on the whole."""
    draws = np.random.default_rng(0).normal(size=x.shape)
    sizes = (
        np.linalg.norm(part.reshape(len(x), -1), axis=1) for part in (gradient_times_input(model, x, target), draws)
    )
    return draws * np.divide(*sizes).reshape(-1, *(1,) * (x.ndim - 1))


def fast(model, x, target, **options):
    return ks.fast_shapley_values(model, x, target, **options).values


def _by_rule(rule):
    return functools.partial(relevance, rules=[(LINEAR_TYPES, rule)])


# name: its cost in gradients of the model, counted in passes through it of which a gradient has three; and the function
METHODS = {
    "noise": (0, noise),
    "gradient": (1, sensitivity),
    "gradient x input": (1, gradient_times_input),
    "eq. (2)": (1.4, relevance),
    "eq. (2) without b/n": (1.4, _by_rule(rules.Epsilon(1e-9))),
    "epsilon 0.01": (1.4, _by_rule(rules.Epsilon(0.01))),
    "epsilon 0.1": (1.4, _by_rule(rules.Epsilon(0.1))),
    "epsilon 1": (1.4, _by_rule(rules.Epsilon(1.0))),
    "epsilon plus flat": (1.4, functools.partial(relevance, rules="epsilon_plus_flat")),
    "integrated gradients": (STEPS, integrated_gradients),
    # two maps a layer at each node; and 16 passes of samples there
    "moments, no samples": (8, functools.partial(fast, n_samples=0)),
    "moments": (8 + 4 * 16 / 3, fast),
    "masks 32": (32, functools.partial(fast, method="masks", n=32)),
    "masks 64": (64, functools.partial(fast, method="masks", n=64)),
    "masks 256": (256, functools.partial(fast, method="masks", n=256)),
}


def moments_of_patches(model, x, target, players):
    """Fast estimate for groups; each element has an equal part of what its group has.

    Args:
        players: the group of each element, ints in the shape of an image.
    """
    return (fast(model, x, target, players=players) / np.bincount(players.ravel()))[:, players]


def peers(model, x, target):
    """Explanations of shap, where it is installed, and what an image costs: by name a pair.

    Two orders of the pixels, the fewest that PermutationExplainer takes, and as many gradients as integrated gradients;
    these on PyTorch alone.
    """
    if importlib.util.find_spec("shap") is None:
        return {}
    values, evaluations = shap_peers.permutations(2, model, x, target, 0)
    found = {"shap, PermutationExplainer": (values, evaluations / shap_peers.GRADIENT)}
    if keras.backend.backend() == "torch":
        values, evaluations = shap_peers.gradients(STEPS, model, x, target, 0)
        found["shap, GradientExplainer"] = values, evaluations / shap_peers.GRADIENT
    return found
