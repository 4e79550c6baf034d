"""Shapley activations and relevance propagation for Keras 3 (Li & Cui, arXiv 1909.06143)."""

from keras_shapley.utils.command_lines import is_command_line

# the command line shows its help, and finds mistakes in its arguments, before Keras and its backend are imported
if not is_command_line():
    from keras_shapley import metrics
    from keras_shapley.callbacks import GateMonitor, LRPHeatmaps
    from keras_shapley.layers import (
        SAConv1D,
        SAConv1DTranspose,
        SAConv2D,
        SAConv2DTranspose,
        SAConv3D,
        SAConv3DTranspose,
        SADense,
        SADepthwiseConv1D,
        SADepthwiseConv2D,
        SAEinsumDense,
        SANormal,
        SASeparableConv1D,
        SASeparableConv2D,
        ShapLUConv1D,
        ShapLUConv1DTranspose,
        ShapLUConv2D,
        ShapLUConv2DTranspose,
        ShapLUConv3D,
        ShapLUConv3DTranspose,
        ShapLUDense,
        ShapLUDepthwiseConv1D,
        ShapLUDepthwiseConv2D,
        ShapLUEinsumDense,
        ShapLUSeparableConv1D,
        ShapLUSeparableConv2D,
    )
    from keras_shapley.lrp import presets, rules
    from keras_shapley.lrp.explainer import LRP
    from keras_shapley.lrp.explanation import Explanation
    from keras_shapley.models.convert import Conversion, to_relu, to_shapley
    from keras_shapley.plotting import plot_heatmaps, plot_series, plot_tokens, tokens_html
    from keras_shapley.shapley.exact import exact_shapley_values
    from keras_shapley.shapley.fast import fast_shapley_values
    from keras_shapley.shapley.interactions import ShapleyInteractions, shapley_interactions
    from keras_shapley.shapley.neuron import neuron_shapley_values
    from keras_shapley.shapley.result import ShapleyValues
    from keras_shapley.shapley.sampled import sampled_shapley_values
    from keras_shapley.shapley.values import shapley_values

__version__ = "0.2.0.dev0"

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


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
