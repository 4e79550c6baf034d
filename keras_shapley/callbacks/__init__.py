"""Callbacks for `model.fit`: pictures of relevance, and how gates and gradients develop."""

from keras_shapley.callbacks.gates import GateMonitor
from keras_shapley.callbacks.heatmaps import LRPHeatmaps

__all__ = ["GateMonitor", "LRPHeatmaps"]
