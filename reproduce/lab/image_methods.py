"""Explanations that the study of ImageNet compares.

Each is a function of `(network, output)`, where `output` is `"logit"` or `"probability"`. It returns a function of
`(x, target)` that attributes this output of the targets to the elements of the images, `(n, side, side, 3)`. Where a
method has a baseline, it is the network's.
"""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops

import keras_shapley as ks
from keras_shapley import presets, rules
from keras_shapley.backend import compiled, vjp
from lab.explanations import NEURONS
from lab.gradients import along_path, input_gradients
from lab.imagenet import Network

Attribution = Callable[[np.ndarray, np.ndarray], np.ndarray]
Method = Callable[[Network, str], Attribution]
# images that are explained at once
BLOCK = 4
STEPS = 16
MASKS = 64
# squares along a side of the image; they are the players
PATCHES = 7


def relevance(network: Network, output: str, *, from_baseline: bool = False, **options: Any) -> Attribution:
    """`ks.LRP`; rules without a baseline see BatchNormalization merged."""
    if callable(options.get("rules")):
        options["rules"] = options["rules"](network)
    if from_baseline:
        options["baseline"] = network.baseline
    else:
        options["merge_batch_norm"] = True
    explainer = ks.LRP(network.probabilities, head="linear" if output == "logit" else "auto", **options)
    return lambda x, target: ops.convert_to_numpy(explainer(x, target))


def gamma(network: Network) -> presets.Table:
    """Gamma, with the bounds of the pixels on the first layer."""
    black, white = (np.asarray(network.preprocess(np.full((1, 1, 1, 3), value, "float32"))) for value in (0, 255))
    return presets.epsilon_gamma_box(np.minimum(black, white), np.maximum(black, white))


def model(network: Network, output: str) -> keras.Model:
    """The model with this output."""
    return network.logits if output == "logit" else network.probabilities


def gradient_times_difference(network: Network, output: str) -> Attribution:
    """The gradient times the difference from the baseline."""
    gradient = input_gradients(model(network, output))
    return lambda x, target: (x - network.baseline) * gradient(x, target)


def integrated_gradients(network: Network, output: str) -> Attribution:
    """Integrated gradients from the baseline."""
    gradient = input_gradients(model(network, output))
    return lambda x, target: along_path(gradient, x, target, STEPS, network.baseline)


def grad_cam(network: Network, output: str) -> Attribution:
    """Grad-CAM (Selvaraju et al. 2017) at the last feature maps; each of their places stands for a square of pixels."""
    explained = model(network, output)
    pool = [layer for layer in explained.layers if isinstance(layer, layers.GlobalAveragePooling2D)][-1]
    features, head = keras.Model(explained.input, pool.input), keras.Model(pool.input, explained.output)

    def coarse_maps(x, weights):
        values = features(x, training=False)
        _, pullback = vjp(lambda values: head(values, training=False), values)
        importance = ops.mean(pullback(weights)[0], axis=(1, 2), keepdims=True)
        return ops.relu(ops.sum(values * importance, axis=-1, keepdims=True))

    coarse_maps = compiled(coarse_maps, explained.variables)

    def explain(x: np.ndarray, target: np.ndarray) -> np.ndarray:
        weights = np.eye(explained.output_shape[-1], dtype="float32")[target]
        coarse = ops.convert_to_numpy(coarse_maps(ops.convert_to_tensor(x), ops.convert_to_tensor(weights)))
        places = np.arange(network.side) * coarse.shape[1] // network.side
        return np.broadcast_to(coarse[:, places][:, :, places], x.shape)

    return explain


def fast(network: Network, output: str, **options: Any) -> Attribution:
    """`ks.fast_shapley_values`."""
    explained = model(network, output)
    options = {"baseline": network.baseline, "progress": False, **options}
    return lambda x, target: ks.fast_shapley_values(explained, x, target, **options).heatmap


def moments_of_patches(network: Network, output: str) -> Attribution:
    """Moments with patches as players; the elements of a patch share its value equally."""
    players = np.broadcast_to(patches(network.side)[..., None], network.baseline.shape)
    return fast(network, output, players=players)


def in_blocks(explain: Attribution, x: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The attribution of a few images at a time."""
    starts = range(0, len(x), BLOCK)
    with warnings.catch_warnings():
        # the tables show what is lost
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.concatenate([explain(x[start : start + BLOCK], target[start : start + BLOCK]) for start in starts])


def patches(side: int) -> np.ndarray:
    """The number of each pixel's patch, `(side, side)`."""
    places = np.arange(side) * PATCHES // side
    return places[:, None] * PATCHES + places


def _lrp(**options: Any) -> Method:
    return functools.partial(relevance, **options)


def _from_baseline(**options: Any) -> Method:
    return _lrp(from_baseline=True, **options)


# in the order of the table; the first is what a user gets without options
METHODS: dict[str, Method] = {
    "Shapley propagation": _from_baseline(),
    "Shapley propagation, gates from 8 passes": _from_baseline(gates=8),
    "Shapley propagation, gates from 32 passes": _from_baseline(gates=32),
    "first order": _from_baseline(rules=[(NEURONS, rules.FirstOrder())]),
    "rescale": _from_baseline(rules=[(NEURONS, rules.Rescale())]),
    "gamma from the baseline": _from_baseline(
        rules=[(presets.CONVOLUTION, rules.Gamma(0.25)), (presets.ADDITION, rules.AbsoluteSum())]
    ),
    "epsilon from the baseline": _from_baseline(rules="epsilon"),
    "epsilon_plus from the baseline": _from_baseline(rules="epsilon_plus"),
    "epsilon_alpha2_beta1 from the baseline": _from_baseline(rules="epsilon_alpha2_beta1"),
    "eq. (2)": _lrp(rules="paper"),
    "epsilon": _lrp(rules="epsilon"),
    "epsilon_plus": _lrp(rules="epsilon_plus"),
    "epsilon_plus_flat": _lrp(rules="epsilon_plus_flat"),
    "epsilon_alpha2_beta1": _lrp(rules="epsilon_alpha2_beta1"),
    "epsilon_gamma_box": _lrp(rules=gamma),
    "gradient x difference": gradient_times_difference,
    "Grad-CAM": grad_cam,
    f"integrated gradients, {STEPS} steps": integrated_gradients,
    f"masks of pixels, {MASKS} gradients": functools.partial(fast, method="masks", n=MASKS),
    "moments of patches": moments_of_patches,
}
