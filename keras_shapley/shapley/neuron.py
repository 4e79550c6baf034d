"""Shapley values of one neuron: eq. (1), its efficient closed form, a closer approximation, and exact values."""

from typing import Any

import numpy as np
from keras import backend, layers, ops

from keras_shapley.backend import matmul, maximum
from keras_shapley.layers.activations import TINY, gate
from keras_shapley.layers.normal import normal_cdf, normal_pdf
from keras_shapley.layers.scaling import scale_of
from keras_shapley.models.keras_internals import in_dtype
from keras_shapley.models.layer_types import activation_name, activation_of, is_elementwise
from keras_shapley.models.mean_slope import NormalMoments, mean_slope, order_moments, rounding_of, second_coefficient
from keras_shapley.shapley.exact import MAX_PLAYERS, all_coalitions
from keras_shapley.utils.typing import Tensor
from keras_shapley.utils.validation import finite, one_of

_NODES = 8


def neuron_shapley_values(
    x: Tensor,
    kernel: Tensor,
    bias: Tensor | None = None,
    *,
    method: str = "gaussian",
    activation: Any = "relu",
    normalize: bool = False,
) -> Tensor:
    """Shapley values of the inputs of one Dense layer and its activation, such as eq. (1); absent inputs are 0.

    With `u` the sum of `a_k = w_k x_k` and `f` the activation, exact Shapley values sum to `f(u + b) - f(b)`, as do
    those by `"efficient"`. Those by `"gaussian"` sum to `Phi((mu + b)/sigma) (u + b)`, because eq. (1) distributes the
    bias too; those by `"quadrature"` sum to nearly the exact total.

    Args:
        x: inputs, shape `(batch, inputs)`.
        kernel: weights, shape `(inputs, units)`.
        bias: shape `(units,)`, or None for zeros.
        method: `"gaussian"` is eq. (1). `"efficient"` is the rule of Shapley propagation, `G a_k + H a_k**2`, with `G`
            the mean slope of `f` over the normal distribution of eq. (1), for ReLU its gate, and `H` such that the
            values sum to the exact total. `"quadrature"` keeps the time `t` in [0, 1] at which an input enters, at 8
            Gauss-Legendre nodes: the mean of `relu` over a normal distribution that has the mean and variance of the
            inputs present at `t`, with and without the input. `"exact"` enumerates all coalitions of up to 16 inputs.
        activation: the name or function of an elementwise activation of Keras, or a layer such as
            `keras.layers.LeakyReLU(0.3)`. `"gaussian"` and `"quadrature"` are for ReLU alone.
        normalize: whether to distribute what the sum lacks over the inputs, in proportion to `|w_k x_k|`.

    Returns:
        Tensor of shape `(batch, inputs, units)`.

    Raises:
        ValueError: on an unknown `method`, an `activation` that the method does not take or that is not elementwise,
            shapes that do not fit, NaN or infinity, or more than 16 inputs for `"exact"`.

    Examples:
        Table 1 of the paper, and three approximations. `efficient` sums to the exact total, `quadrature` nearly.

        >>> x, kernel, bias = np.array([[-1.0, 2, -1]]), np.array([[1.0], [2], [3]]), np.array([-1.0])
        >>> for method in ("exact", "gaussian", "efficient", "quadrature"):
        ...     values = ks.neuron_shapley_values(x, kernel, bias, method=method)
        ...     print(method, [round(float(value), 3) for value in values[0, :, 0]])
        exact [-0.167, 1.333, -1.167]
        gaussian [-0.421, 1.157, -1.052]
        efficient [-0.315, 1.262, -0.946]
        quadrature [-0.298, 1.301, -0.963]

        A neuron with GELU.

        >>> for method in ("exact", "efficient"):
        ...     values = ks.neuron_shapley_values(x / 2, kernel, bias / 2, method=method, activation="gelu")
        ...     print(method, [round(float(value), 3) for value in values[0, :, 0]])
        exact [-0.141, 0.646, -0.505]
        efficient [-0.151, 0.606, -0.454]
    """
    methods = {"gaussian": _gaussian, "efficient": _efficient, "quadrature": _quadrature, "exact": _exact}
    one_of("method", method, tuple(methods))
    x = ops.convert_to_tensor(x)
    kernel = ops.convert_to_tensor(kernel)
    b = ops.zeros(kernel.shape[-1:]) if bias is None else ops.convert_to_tensor(bias)
    f = _activation(activation, method)
    dtype = backend.result_type("float32", x.dtype, kernel.dtype, b.dtype)
    if f.weights:
        dtype = f.variable_dtype
    f = in_dtype(f, dtype)
    x = finite("x", ops.cast(x, dtype))
    kernel = finite("kernel", ops.cast(kernel, dtype))
    b = finite("bias", ops.cast(b, dtype))
    if len(x.shape) != 2 or len(kernel.shape) != 2 or x.shape[1] != kernel.shape[0] or b.shape != kernel.shape[1:]:
        raise ValueError(
            "`x`, `kernel` and `bias` must have shapes (batch, inputs), (inputs, units) and (units,). Received: "
            f"{tuple(x.shape)}, {tuple(kernel.shape)} and {tuple(b.shape)}"
        )
    if method == "exact" and x.shape[1] > MAX_PLAYERS:
        raise ValueError(
            f"method='exact' enumerates 2**inputs coalitions and takes up to {MAX_PLAYERS} inputs. "
            f"Received: x with {x.shape[1]} inputs. Use method='efficient', or for ReLU 'quadrature'."
        )
    a = x[:, :, None] * kernel
    values = methods[method](a, b, f)
    return _normalized(values, a, b, f) if normalize else values


def _activation(activation: Any, method: str) -> layers.Layer:
    """The user's activation as a layer, checked."""
    layer = activation if isinstance(activation, layers.Layer) else layers.Activation(activation)
    if not is_elementwise(activation_of(layer) or layer):
        raise ValueError(
            "`activation` must be elementwise, and the name, function or layer of an activation of Keras. Received: "
            f"activation={activation!r}"
        )
    if method in ("gaussian", "quadrature") and activation_name(layer) != "relu":
        raise ValueError(
            f"method={method!r} is for ReLU. Received: activation={activation!r}. Use method='efficient', or 'exact' "
            f"for up to {MAX_PLAYERS} inputs."
        )
    return layer


def _gaussian(a: Tensor, b: Tensor, f: layers.Layer) -> Tensor:
    """Eq. (1), from the products `a_k = w_k x_k` of shape `(batch, inputs, units)`."""
    u = ops.sum(a, axis=1, keepdims=True)
    scale = scale_of(a, [1])
    q = ops.sum(ops.square(scale * a), axis=1, keepdims=True)
    return gate(u, q, b, scale) * (a + b / a.shape[1])


def _efficient(a: Tensor, b: Tensor, f: layers.Layer) -> Tensor:
    """`G a_k + H a_k**2`, with `G` the mean slope of `f` and `H` fixed by efficiency."""
    u = ops.sum(a, axis=1)
    q = ops.sum(ops.square(a), axis=1)
    mean, variance = order_moments(u, q)
    g = mean_slope(f, f, NormalMoments(b + mean, variance))
    dy = f(u + b) - f(b[None])
    h = second_coefficient(g, u, q, dy, rounding_of(u + b, b))
    return g[:, None] * a + h[:, None] * ops.square(a)


def _quadrature(a: Tensor, b: Tensor, f: layers.Layer) -> Tensor:
    """Integral over t of `R(m + a_k, v) - R(m, v)`, where `R(m, v)` is the mean of `relu` over N(m, v)."""
    u = ops.sum(a, axis=1, keepdims=True)
    q = ops.sum(ops.square(a), axis=1, keepdims=True)
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    values = ops.zeros_like(a)
    for t, weight in zip((nodes + 1) / 2, weights / 2):
        # of the other inputs at t; rounding can take the variance below zero
        mean = b + float(t) * (u - a)
        variance = float(t * (1 - t)) * maximum(q - ops.square(a), 0)
        values = values + float(weight) * (_mean_relu(mean + a, variance) - _mean_relu(mean, variance))
    return values


def _mean_relu(m: Tensor, v: Tensor) -> Tensor:
    """Mean of `relu` over a normal distribution with mean `m` and variance `v`."""
    sigma = ops.sqrt(v + TINY)
    z = m / sigma
    return m * normal_cdf(z) + sigma * normal_pdf(z)


def _exact(a: Tensor, b: Tensor, f: layers.Layer) -> Tensor:
    """Shapley values by enumeration, image by image."""
    present, coefficients = all_coalitions(a.shape[1])
    present = ops.cast(present, a.dtype)
    coefficients = ops.cast(coefficients, a.dtype)
    if not a.shape[0]:
        return a
    return ops.stack([matmul(coefficients, f(matmul(present, image) + b)) for image in a])


def _normalized(values: Tensor, a: Tensor, b: Tensor, f: layers.Layer) -> Tensor:
    """Values that sum to `f(u + b) - f(b)`; inputs that are all zero share equally."""
    size = ops.sum(ops.abs(a), axis=1, keepdims=True)
    weights = ops.where(size > 0, ops.abs(a) / ops.where(size > 0, size, 1), 1 / a.shape[1])
    total = f(ops.sum(a, axis=1) + b) - f(b[None])
    return values + weights * (total - ops.sum(values, axis=1))[:, None]
