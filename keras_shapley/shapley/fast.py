"""Shapley values of a whole network at the price of a few gradients, from its multilinear extension (Owen 1972).

With `F(p)` the expected output when input k is present with probability `p_k`, independently of the others,
`phi_k = integral over t in [0, 1] of dF/dp_k at p = (t, ..., t)`.
"""

import math

import keras
import numpy as np
from keras import ops

from keras_shapley.models.evaluation import evaluated, inference
from keras_shapley.shapley.masks import Masks
from keras_shapley.shapley.moments import MomentPropagation
from keras_shapley.shapley.players import Players
from keras_shapley.shapley.result import FastShapleyValues
from keras_shapley.utils.validation import finite, integer, one_of, targets

# gradients, where no number is asked for
_N = {"moments": 4, "masks": 64}
# Values of a network that a batch takes by moments, at most, unless one image takes more. A few numbers are held of
# each: its mean, its variance, and what their gradients need.
_VALUES = 2**22
# Inputs with masks that a network sees at once, and elements of these, at most: more is not known of any model.
_MASKED, _ELEMENTS = 512, 2**21


def fast_shapley_values(
    model,
    x,
    target=None,
    *,
    method="moments",
    n=None,
    n_samples=16,
    baseline=0.0,
    players=None,
    seed=0,
    normalize=False,
):
    """Shapley values of a network's inputs, approximately, for the cost of some gradients an image.

    Args:
        model: a built Keras model with one input of floats and outputs `(batch, outputs)`; Sequential or Functional for
            `"moments"`.
        x: a batch, as the model takes it; all images in one call, for each call compiles.
        target: the output to explain: None for the largest of each image, an int, or ints of shape `(batch,)`.
        method: `"moments"` carries mean and variance of what is present through the network, layer by layer, and takes
            one gradient of both at each of `n` Gauss-Legendre nodes in t: with 4 of them and 16 samples about thirty
            gradients of the model by their passes, and two to six times that by the clock. `"masks"` is a mean of
            `(x - baseline) * gradient` over `n` random masks, mixed with a little of t, a quarter of them evenly
            over t, the rest where these found large gradients; for any differentiable model.
        n: number of nodes, or of masks; by default 4 for `"moments"` and 64 for `"masks"`.
        n_samples: of `"moments"`, the random coalitions at each node whose variance in the network corrects that of
            independent neighbours, a factor for each channel; 2 or more, or 0 for none. They are not differentiated.
        baseline: what stands in the place of an absent input: a number, or an array of the shape of one input.
        players: of `"moments"`, as in `exact_shapley_values`; each group passes once through what is affine in front.
        seed: of masks and coalitions, which are the same for all images.
        normalize: whether to spread the residual over the players, in proportion to the absolute values.

    Returns:
        `FastShapleyValues`.

    Raises:
        ValueError: on an unknown `method`, an `n` that does not fit it, inputs or a baseline that are of another shape
            or not finite, outputs that are not, players that do not partition the input or are for `"masks"`, a target
            out of range, or a layer without moments, which the message names.
    """
    one_of("method", method, tuple(_N))
    integer("seed", seed, 0)
    n = integer("n", _N[method] if n is None else n, 1)
    if integer("n_samples", n_samples, 0) == 1:
        raise ValueError("`n_samples` must be 0, or 2 or more, to have a variance. Received: n_samples=1")
    if players is not None and method == "masks":
        # between absent and present a group changes far more than the gradients at these ends tell
        raise ValueError("`players` must be None for method='masks'. Use method='moments', or sampled_shapley_values.")
    x, baseline = _checked(model, x, baseline)
    if method == "moments":
        estimate = MomentPropagation(model, Players(players, x.shape[1:]), n, n_samples, seed)
        size = _VALUES // estimate.values_of_image(x.shape[1:], x.dtype)
    else:
        estimate = Masks(model, x.shape[1:], n, seed)
        size = min(_MASKED, _ELEMENTS // baseline.size) // estimate.block
    batches, forward = _batches(len(x), max(size, 1)), inference(model)
    outputs = np.concatenate([evaluated(forward, x[rows], "model") for rows in batches])[: len(x)]
    without = evaluated(forward, baseline[None], "model")
    target = targets(target, outputs)
    total = (outputs - without)[np.arange(len(x)), target]

    chosen = np.eye(outputs.shape[1], dtype=x.dtype)[target]
    found = [estimate(x[rows], baseline, chosen[rows]) for rows in batches]
    values, stderr = (None if parts[0] is None else np.concatenate(parts)[: len(x)] for parts in zip(*found))
    axes = tuple(range(1, values.ndim))
    residual = total - values.sum(axis=axes)
    if normalize:
        values = values + _shares(values) * residual.reshape(-1, *(1 for _ in axes))
    return FastShapleyValues(values, stderr, target, total, residual)


def _batches(n, largest):
    """Numbers of images, `(batches, images)`, in batches of one size, for another would compile anew.

    The last image comes as often as that takes.
    """
    count = math.ceil(n / largest)
    return np.minimum(np.arange(count * math.ceil(n / count)), n - 1).reshape(count, -1)


def _shares(values):
    """Parts of one for each image, in proportion to absolute values, the same for all where these are zero."""
    sizes = np.abs(values).reshape(len(values), -1)
    whole = sizes.sum(axis=1, keepdims=True)
    equal = np.full_like(sizes, 1 / sizes.shape[1])
    return np.divide(sizes, whole, out=equal, where=whole > 0).reshape(values.shape)


def _checked(model, x, baseline):
    """Inputs and baseline as finite arrays of the model's dtype, in its shape."""
    if not isinstance(model, keras.Model) or not model.built:
        raise ValueError(f"`model` must be a built keras.Model. Received: {model!r}")
    # a model whose call is code of its own does not say what it takes
    inputs = getattr(model, "inputs", None)
    if inputs and (len(inputs) != 1 or not keras.backend.is_float_dtype(inputs[0].dtype)):
        received = ", ".join(f"{tensor.name} of {tensor.dtype}" for tensor in inputs)
        raise ValueError(f"`model` must have one input, of floats. Received: {received}")
    dtype, expected = (inputs[0].dtype, tuple(inputs[0].shape)) if inputs else (keras.config.floatx(), np.shape(x))
    x, baseline = (np.asarray(ops.convert_to_numpy(value), dtype) for value in (x, baseline))
    fits = x.ndim == len(expected) and all(a in (None, b) for a, b in zip(expected[1:], x.shape[1:]))
    if not fits or x.ndim < 2 or not x.size:
        expected = expected if inputs else "(batch, ...)"
        raise ValueError(f"`x` must be a batch of shape {expected}, of one image or more. Received: shape {x.shape}")
    if baseline.shape not in ((), x.shape[1:]):
        raise ValueError(f"`baseline` must be a number or of shape {x.shape[1:]}. Received: shape {baseline.shape}")
    finite("x", x), finite("baseline", baseline)
    return x, np.broadcast_to(baseline, x.shape[1:])
