"""Explanations that the studies of faithfulness compare: functions of `(model, x, target)`.

Each returns an attribution of the target's probability for every image, a NumPy array of the shape of `x`.
"""

import functools
import importlib.util
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers, ops

import keras_shapley as ks
from keras_shapley import rules
from lab.environment import BACKEND
from lab.gradients import along_path, input_gradient, input_gradients
from lab.peers import shapley_values

# images that are explained at once
BLOCK = 250
STEPS = 32
# masked passes that measure gates, and coalitions of a surrogate
MASKED, COALITIONS = 8, 256
# the types that hold neurons
NEURONS = (*ks.presets.LINEAR_TYPES, *ks.presets.ELEMENTWISE)


class Method(NamedTuple):
    """A way to explain.

    Attributes:
        gradients: its cost for an image in gradients of the model, counted in passes; a gradient has three.
        explain: function of `(model, x, target)`.
    """

    gradients: float
    explain: Callable[[keras.Model, np.ndarray, np.ndarray], np.ndarray]


def lrp(model: keras.Model, x: np.ndarray, target: np.ndarray, **options: Any) -> np.ndarray:
    """`ks.LRP(model, **options)`, block by block."""
    explainer = ks.LRP(model, **options)
    blocks = [slice(start, start + BLOCK) for start in range(0, len(x), BLOCK)]
    return np.concatenate([ops.convert_to_numpy(explainer(x[block], target[block])) for block in blocks])


def relevance(model: keras.Model, x: np.ndarray, target: np.ndarray, **options: Any) -> np.ndarray:
    """LRP from sampled Shapley values of the softmax. BatchNormalization is merged, or eq. (2) grows without bounds."""
    published = {"rules": "paper", "head_method": "sampled", "merge_batch_norm": True}
    return lrp(model, x, target, **published | options)


def relevance_by_rule(model: keras.Model, x: np.ndarray, target: np.ndarray, *, rule: rules.Epsilon) -> np.ndarray:
    """LRP with one rule for all linear layers."""
    return relevance(model, x, target, rules=[((layers.Dense, layers.Conv2D), rule)])


def gradient_times_input(model: keras.Model, x: np.ndarray, target: np.ndarray) -> np.ndarray:
    return x * input_gradient(model, x, target)


def integrated_gradients(model: keras.Model, x: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Integrated gradients from the baseline zero."""
    return along_path(input_gradients(model), x, target, STEPS)


def noise(model: keras.Model, x: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Random numbers; those of an image have the norm of its gradient times input."""
    draws = np.random.default_rng(0).normal(size=x.shape)
    sizes = (
        np.linalg.norm(part.reshape(len(x), -1), axis=1) for part in (gradient_times_input(model, x, target), draws)
    )
    return draws * np.divide(*sizes).reshape(-1, *(1,) * (x.ndim - 1))


def fast(model: keras.Model, x: np.ndarray, target: np.ndarray, **options: Any) -> np.ndarray:
    """`ks.fast_shapley_values`, whose errors are measured here, so that it need not warn of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ks.fast_shapley_values(model, x, target, **options).heatmap


DEFAULT = "default"  # which is Shapley propagation
GATES, SURROGATE = f"{DEFAULT}, gates={MASKED}", f"surrogate, {COALITIONS} coalitions"
METHODS = {
    "noise": Method(0, noise),
    "gradient": Method(1, input_gradient),
    "gradient x input": Method(1, gradient_times_input),
    "eq. (2)": Method(1.4, relevance),
    "eq. (2) without b/n": Method(1.4, functools.partial(relevance_by_rule, rule=rules.Epsilon(1e-9))),
    "epsilon 0.01": Method(1.4, functools.partial(relevance_by_rule, rule=rules.Epsilon(0.01))),
    "epsilon 0.1": Method(1.4, functools.partial(relevance_by_rule, rule=rules.Epsilon(0.1))),
    "epsilon 1": Method(1.4, functools.partial(relevance_by_rule, rule=rules.Epsilon(1.0))),
    "epsilon plus flat": Method(1.4, functools.partial(relevance, rules="epsilon_plus_flat")),
    DEFAULT: Method(2, lrp),
    "integrated gradients": Method(STEPS, integrated_gradients),
    # at each of four nodes two maps a layer, and with samples 16 passes
    "moments, no samples": Method(8, functools.partial(fast, n_samples=0)),
    "moments": Method(8 + 4 * 16 / 3, fast),
    "masks 32": Method(32, functools.partial(fast, method="masks", n=32)),
    "masks 64": Method(64, functools.partial(fast, method="masks", n=64)),
    "masks 256": Method(256, functools.partial(fast, method="masks", n=256)),
}


def methods_of_patches(players: np.ndarray) -> dict[str, Method]:
    """What is explained by patches of pixels at once, by name.

    The value of a patch is shared equally between its elements.

    Args:
        players: the patch of each element, integers in the shape of an image.
    """
    return {
        GATES: Method(2 + MASKED, functools.partial(lrp, gates=MASKED, players=players)),
        # each patch goes once through the first layer
        "moments of patches": Method(30, functools.partial(fast, players=players)),
        SURROGATE: Method(COALITIONS / 3, functools.partial(surrogate, players=players)),
    }


def surrogate(model: keras.Model, x: np.ndarray, target: np.ndarray, *, players: np.ndarray) -> np.ndarray:
    """`ks.shapley_values` without options but a budget."""
    return ks.shapley_values(model, x, target, players=players, budget=COALITIONS, progress=False).heatmap


def peers(model: keras.Model, x: np.ndarray, target: np.ndarray) -> dict[str, tuple[np.ndarray, float]]:
    """Attributions by shap and their cost for an image in gradients, by name; empty if shap is not installed.

    PermutationExplainer has two orders of the pixels, the fewest that it takes, and GradientExplainer as many gradients
    as integrated gradients. The latter runs on PyTorch alone.
    """
    if importlib.util.find_spec("shap") is None:
        return {}
    estimates = {"shap, PermutationExplainer": shapley_values.shap_permutations(2, model, x, target, 0)}
    if BACKEND == "torch":
        estimates["shap, GradientExplainer"] = shapley_values.shap_gradients(STEPS, model, x, target, 0)
    return {name: (values, evaluations / shapley_values.GRADIENT) for name, (values, evaluations) in estimates.items()}
