"""Pictures of attributions. Matplotlib is imported when something is drawn, and no window is ever opened."""

from keras_shapley.plotting.heatmaps import plot_heatmaps

__all__ = ["plot_heatmaps"]
