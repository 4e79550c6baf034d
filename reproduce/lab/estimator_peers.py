"""Estimators of Shapley values in shap, captum and shapiq, all of the same game, counted by what they evaluate.

Each is as its package recommends it, with these choices: shap's KernelExplainer without the L1 penalty that keeps ten
players, shapiq's KernelSHAP with pairs, ProxySHAP with its adjustment by residuals.
"""

import functools
import importlib
import importlib.metadata
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

Value = Callable[[np.ndarray], np.ndarray]
# function of a game's value, the number of players, a budget of evaluations and a seed, that returns `(players,)`
Peer = Callable[[Value, int, int, int], np.ndarray]


class Counted:
    """The value of coalitions of a game, which counts them.

    Args:
        value: function of bools `(coalitions, players)` that returns `(coalitions,)`.

    Attributes:
        n: number of coalitions that were evaluated, each as often as it was asked for.
    """

    def __init__(self, value: Value) -> None:
        self._value = value
        self.n = 0

    def __call__(self, coalitions: Any) -> np.ndarray:
        """Values of coalitions, given as numbers whose positive ones are present; one coalition may have one axis."""
        present = np.atleast_2d(np.asarray(coalitions)) > 0
        self.n += len(present)
        return self._value(present)


def _shap_kernel(value: Value, n: int, budget: int, seed: int) -> np.ndarray:
    import shap

    np.random.seed(seed)
    explainer = shap.KernelExplainer(value, np.zeros((1, n)))
    # two evaluations are those of nobody and of everybody
    return explainer.shap_values(np.ones(n), nsamples=budget - 2, l1_reg=False, silent=True)


def _shap_permutation(value: Value, n: int, budget: int, seed: int) -> np.ndarray:
    import shap

    explainer = shap.PermutationExplainer(value, np.zeros((1, n)), seed=seed)
    # an order and its reverse are the least
    return explainer(np.ones((1, n)), max_evals=max(budget, 2 * n + 1), silent=True).values[0]


def _captum_kernel(value: Value, n: int, budget: int, seed: int) -> np.ndarray:
    import captum.attr
    import torch

    torch.manual_seed(seed)
    method = captum.attr.KernelShap(lambda present: torch.from_numpy(value(present.numpy())))
    ones = torch.ones((1, n))
    return method.attribute(ones, baselines=0 * ones, n_samples=budget, perturbations_per_eval=budget)[0].numpy()


def _shapiq(name: str, options: dict[str, Any], value: Value, n: int, budget: int, seed: int) -> np.ndarray:
    estimator = getattr(importlib.import_module("shapiq.approximator"), name)(n=n, random_state=seed, **options)
    found = estimator.approximate(budget, value)
    return np.array([found[(player,)] for player in range(n)])


_ORDER_1 = {"index": "SV", "max_order": 1}
PEERS: dict[str, Peer] = {
    "shap.KernelExplainer": _shap_kernel,
    "shap.PermutationExplainer": _shap_permutation,
    "captum.KernelShap": _captum_kernel,
    "shapiq.KernelSHAP": functools.partial(_shapiq, "KernelSHAP", {"pairing_trick": True}),
    "shapiq.LeverageSHAP": functools.partial(_shapiq, "LeverageSHAP", {}),
    "shapiq.PermutationSamplingSV": functools.partial(_shapiq, "PermutationSamplingSV", {}),
    "shapiq.OddSHAP": functools.partial(_shapiq, "OddSHAP", {}),
    "shapiq.RegressionMSR": functools.partial(_shapiq, "RegressionMSR", {"index": "SV"}),
    "shapiq.ProxySHAP": functools.partial(_shapiq, "ProxySHAP", {**_ORDER_1, "adjustment": True}),
}
# where each package keeps its estimators
_MODULES = {"shap": "shap", "captum": "captum.attr", "shapiq": "shapiq.approximator"}


def package(name: str) -> str:
    """The package of a peer."""
    return name.partition(".")[0]


def missing(name: str) -> str | None:
    """Why a peer cannot be measured with what is installed, in words; None if it can."""
    try:
        with warnings.catch_warnings():
            # of what the packages themselves import
            warnings.simplefilter("ignore")
            module = importlib.import_module(_MODULES[package(name)])
    except ImportError:
        return f"{package(name)} is not installed"
    if hasattr(module, name.partition(".")[2]):
        return None
    return f"{package(name)} {importlib.metadata.version(package(name))} does not have it"
