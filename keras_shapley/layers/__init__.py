"""Layers with Shapley activations, and what they are made of."""

from keras_shapley.layers.initializers import SANormal
from keras_shapley.layers.sa import SAConv1D, SAConv2D, SAConv3D, SADense, SADepthwiseConv2D, SAEinsumDense
from keras_shapley.layers.shaplu import (
    ShapLUConv1D,
    ShapLUConv2D,
    ShapLUConv3D,
    ShapLUDense,
    ShapLUDepthwiseConv2D,
    ShapLUEinsumDense,
)

__all__ = [
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
]
