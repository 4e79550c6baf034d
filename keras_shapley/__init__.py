# ruff: noqa: F403, F405
"""Shapley activations and relevance propagation for Keras 3 (Li & Cui, arXiv 1909.06143)."""

import importlib
from typing import TYPE_CHECKING, Any

from keras_shapley.utils.command_lines import is_command_line

# the command line shows its help, and finds mistakes in its arguments, before Keras and its backend are imported
if TYPE_CHECKING or not is_command_line():
    from keras_shapley.public import *

__version__ = "0.2.0"

__all__ = [
    "Conversion",
    "Explanation",
    "GateMonitor",
    "LRP",
    "LRPHeatmaps",
    "SAConv1D",
    "SAConv1DTranspose",
    "SAConv2D",
    "SAConv2DTranspose",
    "SAConv3D",
    "SAConv3DTranspose",
    "SADense",
    "SADepthwiseConv1D",
    "SADepthwiseConv2D",
    "SAEinsumDense",
    "SANormal",
    "SASeparableConv1D",
    "SASeparableConv2D",
    "ShapLUConv1D",
    "ShapLUConv1DTranspose",
    "ShapLUConv2D",
    "ShapLUConv2DTranspose",
    "ShapLUConv3D",
    "ShapLUConv3DTranspose",
    "ShapLUDense",
    "ShapLUDepthwiseConv1D",
    "ShapLUDepthwiseConv2D",
    "ShapLUEinsumDense",
    "ShapLUSeparableConv1D",
    "ShapLUSeparableConv2D",
    "ShapleyInteractions",
    "ShapleyValues",
    "exact_shapley_values",
    "fast_shapley_values",
    "metrics",
    "neuron_shapley_values",
    "plot_bars",
    "plot_heatmaps",
    "plot_series",
    "plot_tokens",
    "presets",
    "rules",
    "sampled_shapley_values",
    "shapley_interactions",
    "shapley_values",
    "to_relu",
    "to_shapley",
    "tokens_html",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("keras_shapley.public"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
