"""Pictures of attributions. Matplotlib is imported when something is drawn, and no window is ever opened."""

from keras_shapley.plotting.bars import plot_bars
from keras_shapley.plotting.heatmaps import plot_heatmaps
from keras_shapley.plotting.series import plot_series
from keras_shapley.plotting.tokens import plot_tokens, tokens_html

__all__ = ["plot_bars", "plot_heatmaps", "plot_series", "plot_tokens", "tokens_html"]
