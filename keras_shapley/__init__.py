"""Shapley activations and relevance propagation for Keras 3 (Li & Cui, arXiv 1909.06143)."""

from keras_shapley import metrics, presets, rules
from keras_shapley.callbacks import LRPHeatmaps
from keras_shapley.convert import Conversion, to_relu, to_shapley
from keras_shapley.explanation import Explanation
from keras_shapley.games import ShapleyValues, exact_shapley_values, sampled_shapley_values
from keras_shapley.initializers import SANormal
from keras_shapley.layers import (
    SAConv1D,
    SAConv2D,
    SAConv3D,
    SADense,
    SADepthwiseConv2D,
    SAEinsumDense,
    ShapLUConv1D,
    ShapLUConv2D,
    ShapLUConv3D,
    ShapLUDense,
    ShapLUDepthwiseConv2D,
    ShapLUEinsumDense,
)
from keras_shapley.lrp import LRP
from keras_shapley.monitor import GateMonitor
from keras_shapley.multilinear import FastShapleyValues, fast_shapley_values
from keras_shapley.plotting import plot_heatmaps
from keras_shapley.shapley import neuron_shapley_values

__version__ = "0.1.0"

__all__ = [
    "Conversion",
    "Explanation",
    "FastShapleyValues",
    "GateMonitor",
    "LRP",
    "LRPHeatmaps",
    "SAConv1D",
    "SAConv2D",
    "SAConv3D",
    "SADense",
    "SADepthwiseConv2D",
    "SAEinsumDense",
    "SANormal",
    "ShapLUConv1D",
    "ShapLUConv2D",
    "ShapLUConv3D",
    "ShapLUDense",
    "ShapLUDepthwiseConv2D",
    "ShapLUEinsumDense",
    "ShapleyValues",
    "exact_shapley_values",
    "fast_shapley_values",
    "metrics",
    "neuron_shapley_values",
    "plot_heatmaps",
    "presets",
    "rules",
    "sampled_shapley_values",
    "to_relu",
    "to_shapley",
]
