"""Every public name. A name that is imported as itself is public for type checkers, too."""

from keras_shapley import metrics as metrics
from keras_shapley.callbacks import GateMonitor as GateMonitor
from keras_shapley.callbacks import LRPHeatmaps as LRPHeatmaps
from keras_shapley.layers import (
    SAConv1D as SAConv1D,
)
from keras_shapley.layers import (
    SAConv1DTranspose as SAConv1DTranspose,
)
from keras_shapley.layers import (
    SAConv2D as SAConv2D,
)
from keras_shapley.layers import (
    SAConv2DTranspose as SAConv2DTranspose,
)
from keras_shapley.layers import (
    SAConv3D as SAConv3D,
)
from keras_shapley.layers import (
    SAConv3DTranspose as SAConv3DTranspose,
)
from keras_shapley.layers import (
    SADense as SADense,
)
from keras_shapley.layers import (
    SADepthwiseConv1D as SADepthwiseConv1D,
)
from keras_shapley.layers import (
    SADepthwiseConv2D as SADepthwiseConv2D,
)
from keras_shapley.layers import (
    SAEinsumDense as SAEinsumDense,
)
from keras_shapley.layers import (
    SANormal as SANormal,
)
from keras_shapley.layers import (
    SASeparableConv1D as SASeparableConv1D,
)
from keras_shapley.layers import (
    SASeparableConv2D as SASeparableConv2D,
)
from keras_shapley.layers import (
    ShapLUConv1D as ShapLUConv1D,
)
from keras_shapley.layers import (
    ShapLUConv1DTranspose as ShapLUConv1DTranspose,
)
from keras_shapley.layers import (
    ShapLUConv2D as ShapLUConv2D,
)
from keras_shapley.layers import (
    ShapLUConv2DTranspose as ShapLUConv2DTranspose,
)
from keras_shapley.layers import (
    ShapLUConv3D as ShapLUConv3D,
)
from keras_shapley.layers import (
    ShapLUConv3DTranspose as ShapLUConv3DTranspose,
)
from keras_shapley.layers import (
    ShapLUDense as ShapLUDense,
)
from keras_shapley.layers import (
    ShapLUDepthwiseConv1D as ShapLUDepthwiseConv1D,
)
from keras_shapley.layers import (
    ShapLUDepthwiseConv2D as ShapLUDepthwiseConv2D,
)
from keras_shapley.layers import (
    ShapLUEinsumDense as ShapLUEinsumDense,
)
from keras_shapley.layers import (
    ShapLUSeparableConv1D as ShapLUSeparableConv1D,
)
from keras_shapley.layers import (
    ShapLUSeparableConv2D as ShapLUSeparableConv2D,
)
from keras_shapley.lrp import presets as presets
from keras_shapley.lrp import rules as rules
from keras_shapley.lrp.explainer import LRP as LRP
from keras_shapley.lrp.explanation import Explanation as Explanation
from keras_shapley.models.convert import Conversion as Conversion
from keras_shapley.models.convert import to_relu as to_relu
from keras_shapley.models.convert import to_shapley as to_shapley
from keras_shapley.plotting import plot_bars as plot_bars
from keras_shapley.plotting import plot_heatmaps as plot_heatmaps
from keras_shapley.plotting import plot_series as plot_series
from keras_shapley.plotting import plot_tokens as plot_tokens
from keras_shapley.plotting import tokens_html as tokens_html
from keras_shapley.shapley.exact import exact_shapley_values as exact_shapley_values
from keras_shapley.shapley.fast import fast_shapley_values as fast_shapley_values
from keras_shapley.shapley.interactions import ShapleyInteractions as ShapleyInteractions
from keras_shapley.shapley.interactions import shapley_interactions as shapley_interactions
from keras_shapley.shapley.neuron import neuron_shapley_values as neuron_shapley_values
from keras_shapley.shapley.result import ShapleyValues as ShapleyValues
from keras_shapley.shapley.sampled import sampled_shapley_values as sampled_shapley_values
from keras_shapley.shapley.values import shapley_values as shapley_values
