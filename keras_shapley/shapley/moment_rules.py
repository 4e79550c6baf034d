"""How mean and variance of a network's values pass through a call, by layer type.

A value is summed up by its mean and variance, its neighbours are taken to be independent of it, and preactivations to
be normal: assumed density filtering (Minka 2001; Gast and Roth 2018; for Shapley values Ancona et al. 2019). Mean and
variance are exact behind the first linear layer, where the neurons of the paper have `mu` and `sigma**2`.

`TABLE` gives each layer type its rule. A new layer type is one line there, or one class.
"""

import abc
import functools
import math

import keras
from keras import layers, ops

from keras_shapley.layers.activations import shapley_activation
from keras_shapley.layers.linear_maps import LINEAR_TYPES, linear_map
from keras_shapley.layers.sa import ShapleyActivation
from keras_shapley.layers.shaplu import ShapleyLinearUnit
from keras_shapley.models.graph import Call, Value
from keras_shapley.models.keras_internals import STOP_GRADIENT_OPERATIONS, first_input_shape
from keras_shapley.models.layer_types import (
    ADDITION,
    ELEMENTWISE,
    MAX_POOLING,
    MEAN,
    MOVING,
    ONE_OPERAND,
    PRODUCT,
    SCALING,
    SOFTMAX,
    WINDOW_AVERAGE,
    WITHOUT_EFFECT,
    activation_function,
    activation_layer,
    activation_name,
    activation_of,
    is_elementwise,
)
from keras_shapley.models.windows import pooling_windows
from keras_shapley.shapley.normal_moments import (
    ACTIVATIONS,
    IDENTITY,
    N_NODES,
    VARIANCE_FLOOR,
    ActivationRule,
    Moments,
    activation_rule,
    by_draws,
    by_quadrature,
    leaky_relu_moments,
    maximum_moments,
    quadrature_moments,
)
from keras_shapley.utils.typing import Tensor, TensorFunction

_REMEDY = (
    "Use sampled_shapley_values(model, x), which takes any model and gives standard errors, or LRP(model), which takes "
    "one pass, if it has a rule for the layer."
)
# stands for what padding adds to a window of max pooling, and is never the maximum
_LOWEST = -1e9


class MomentRule:
    """How moments pass through a call. The rule of a layer type overrides what is different.

    A call first makes *sums*, an affine function of its inputs, and then applies an activation to them. A call without
    an affine part has its inputs as its sums.

    Attributes:
        affine: whether the call has an affine part. If its inputs are affine in the network's input, the variance of
            its sums over groups of players is computed exactly.
        adds: whether a sum has several addends, which may depend on each other. Its variance over sampled coalitions
            then corrects that of independent addends.
    """

    affine = False
    adds = False

    def check(self, call: Call) -> None:
        """Raises a `ValueError` if this call has no moments, although its type has a rule."""

    def sums(self, call: Call, tensors: list[Tensor]) -> list[Tensor]:
        """The sums, for given inputs."""
        return tensors

    def means(self, call: Call, means: list[Tensor]) -> list[Tensor]:
        """Means of the sums, for given means of the inputs."""
        return means

    def variances(self, call: Call, variances: list[Tensor]) -> list[Tensor]:
        """Variances of the sums, for given variances of independent inputs."""
        return variances

    def activation(self, call: Call) -> ActivationRule:
        """How the activation changes the moments of the sums."""
        return IDENTITY

    def has_activation(self, call: Call) -> bool:
        """Whether the outputs are other than the sums."""
        return self.activation(call) is not IDENTITY

    def n_values(self, call: Call) -> int:
        """Number of values computed at once for each element of the output. Memory is in proportion to it."""
        return self.activation(call).n_values

    def moments(self, call: Call, sums: list[Moments], inputs: list[Moments]) -> list[Moments]:
        """Moments of the outputs, for given moments of the sums and of the inputs."""
        return [self.activation(call).moments(m, v) for m, v in sums]

    def outputs(self, call: Call, sums: list[Tensor], tensors: list[Tensor]) -> list[Tensor]:
        """The outputs, for given sums and inputs."""
        return keras.tree.flatten(call(*tensors))


class Affine(MomentRule, abc.ABC):
    """A call whose outputs are its sums. What is different is how variances pass."""

    affine = True
    adds = True

    def sums(self, call: Call, tensors: list[Tensor]) -> list[Tensor]:
        return keras.tree.flatten(call(*tensors))

    def means(self, call: Call, means: list[Tensor]) -> list[Tensor]:
        return keras.tree.flatten(call.at_full_precision(*means))

    @abc.abstractmethod
    def variances(self, call: Call, variances: list[Tensor]) -> list[Tensor]: ...

    def outputs(self, call: Call, sums: list[Tensor], tensors: list[Tensor]) -> list[Tensor]:
        return sums


class Scaling(Affine):
    """Each element is scaled, shifted or added to others: a variance is multiplied by the square of its factor."""

    def variances(self, call: Call, variances: list[Tensor]) -> list[Tensor]:
        zeros = [ops.zeros_like(v) for v in variances]
        shift = call.at_full_precision(*zeros)
        total = 0
        for i, v in enumerate(variances):
            factor = call.at_full_precision(*zeros[:i], ops.ones_like(v), *zeros[i + 1 :]) - shift
            total = total + ops.square(factor) * v
        return [total]


class Moving(Affine):
    """Elements move to other places. Constants that join them have no variance."""

    adds = False

    def variances(self, call: Call, variances: list[Tensor]) -> list[Tensor]:
        moved = self.means(call, variances)
        constants = self.means(call, [ops.zeros_like(v) for v in variances])
        return [v - constant for v, constant in zip(moved, constants)]


class Unchanged(Affine):
    """The output is the input."""

    adds = False

    def means(self, call: Call, means: list[Tensor]) -> list[Tensor]:
        return means[:1]

    def variances(self, call: Call, variances: list[Tensor]) -> list[Tensor]:
        return variances[:1]


class Mean(Affine):
    """Mean over whole axes."""

    def variances(self, call: Call, variances: list[Tensor]) -> list[Tensor]:
        (v,) = variances
        mean = call.at_full_precision(v)
        return [mean * (math.prod(mean.shape) / math.prod(v.shape))]


class AveragePooling(Affine):
    """Mean over windows, of which padding is no part."""

    def n_values(self, call: Call) -> int:
        return _window_size(call)

    def variances(self, call: Call, variances: list[Tensor]) -> list[Tensor]:
        (v,) = variances
        n = ops.sum(pooling_windows(call.op, ops.ones_like(v[:1])), axis=0)
        variance = ops.sum(pooling_windows(call.op, v), axis=0) / ops.square(n)
        return [ops.reshape(variance, call.op.compute_output_shape(v.shape))]


class Linear(Affine):
    """A linear layer: means `L(m; W) + b` and variances `L(v; W**2)`, then its activation."""

    def check(self, call: Call) -> None:
        _check_activation(call)

    def sums(self, call: Call, tensors: list[Tensor]) -> list[Tensor]:
        return [linear_map(call.op).preactivation(*tensors)]

    def means(self, call: Call, means: list[Tensor]) -> list[Tensor]:
        return self.sums(call, means)

    def variances(self, call: Call, variances: list[Tensor]) -> list[Tensor]:
        (v,) = variances
        linear = linear_map(call.op)
        return [linear(v, ops.square(ops.cast(linear.kernel, v.dtype)))]

    def activation(self, call: Call) -> ActivationRule:
        return _activation_rule(call)

    def activation_function(self, call: Call) -> TensorFunction:
        return activation_function(call.op) or keras.activations.linear

    def outputs(self, call: Call, sums: list[Tensor], tensors: list[Tensor]) -> list[Tensor]:
        return [self.activation_function(call)(*sums)]


class ShapLU(Linear):
    """A layer with ShapLU, which computes ReLU."""

    def activation(self, call: Call) -> ActivationRule:
        return ACTIVATIONS[keras.activations.relu]

    def activation_function(self, call: Call) -> TensorFunction:
        return keras.activations.relu


class SA(Linear):
    """A layer with SA: eq. (5) as a function of its sum `s = u + b`, with `q` at its mean."""

    def has_activation(self, call: Call) -> bool:
        return True

    def n_values(self, call: Call) -> int:
        return N_NODES

    def moments(self, call: Call, sums: list[Moments], inputs: list[Moments]) -> list[Moments]:
        ((m, v),) = inputs
        linear = linear_map(call.op)
        kernels = [ops.cast(kernel, m.dtype) for kernel in linear.kernels]
        b = linear.bias_or_zero(m.dtype)
        # q is linear in the squares of the inputs, exact or pooled, so that their means give its mean
        q = call.op.second_moment_of(linear, ops.sqrt(ops.square(m) + v + VARIANCE_FLOOR**2), kernels)
        return [quadrature_moments(lambda s: shapley_activation(s - b, q, b), *sums[0])]

    def outputs(self, call: Call, sums: list[Tensor], tensors: list[Tensor]) -> list[Tensor]:
        return keras.tree.flatten(call(*tensors))


class Elementwise(MomentRule):
    """A function of one tensor, element by element."""

    def check(self, call: Call) -> None:
        _check_one_tensor(call)
        _check_activation(call)

    def activation(self, call: Call) -> ActivationRule:
        return _activation_rule(call)


class LeakyReLU(MomentRule):
    def activation(self, call: Call) -> ActivationRule:
        return ActivationRule(functools.partial(leaky_relu_moments, slope=call.op.negative_slope), 1)


class PReLU(MomentRule):
    def activation(self, call: Call) -> ActivationRule:
        def moments(m: Tensor, v: Tensor) -> Moments:
            return leaky_relu_moments(m, v, ops.cast(call.op.alpha, m.dtype))

        return ActivationRule(moments, 1)


class Softmax(MomentRule):
    def check(self, call: Call) -> None:
        _check_one_tensor(call)

    def activation(self, call: Call) -> ActivationRule:
        return by_draws(call.at_full_precision)


class Product(MomentRule):
    """Product of independent tensors, or of a tensor and a constant.

    The layer has 1 for a factor where a mask closes it, which moments do not show.
    """

    def check(self, call: Call) -> None:
        if isinstance(call.op, layers.Multiply) and any(before.is_a((layers.Masking,)) for before in call.ancestors()):
            raise ValueError(f"Layer {call.description} multiplies masked tensors, which has no moments. {_REMEDY}")

    def moments(self, call: Call, sums: list[Moments], inputs: list[Moments]) -> list[Moments]:
        if len(inputs) == 1:
            scaling = Scaling()
            means = scaling.means(call, [inputs[0].mean])
            return [Moments(*pair) for pair in zip(means, scaling.variances(call, [inputs[0].variance]))]
        (mean, variance), *others = inputs
        for m, v in others:
            variance = variance * v + variance * ops.square(m) + v * ops.square(mean)
            mean = mean * m
        for constant in call.constants:
            factor = ops.cast(constant, mean.dtype)
            mean, variance = mean * factor, variance * ops.square(factor)
        return [Moments(mean, variance)]


class MaxPooling(MomentRule):
    """Maximum over windows: of pairs of elements, then of pairs of these, until a single one is left."""

    def n_values(self, call: Call) -> int:
        return _window_size(call)

    def moments(self, call: Call, sums: list[Moments], inputs: list[Moments]) -> list[Moments]:
        ((m, v),) = inputs
        real = pooling_windows(call.op, ops.ones_like(m[:1]))
        means = ops.where(real > 0, pooling_windows(call.op, m), _LOWEST)
        variances = pooling_windows(call.op, v)
        while (half := means.shape[0] // 2) > 0:
            larger = maximum_moments(
                Moments(means[:half], variances[:half]), Moments(means[half : 2 * half], variances[half : 2 * half])
            )
            means = ops.concatenate([larger.mean, means[2 * half :]], axis=0)
            variances = ops.concatenate([larger.variance, variances[2 * half :]], axis=0)
        shape = call.at_full_precision(m).shape
        return [Moments(ops.reshape(means, shape), ops.reshape(variances, shape))]


def moment_rule(call: Call) -> MomentRule:
    """The rule of a call.

    Raises:
        ValueError: if moments cannot pass through it.
    """
    quantized = getattr(call.op, "quantization_mode", None)
    rule = None if quantized else next((rule for types, rule in TABLE if call.is_a(types)), None)
    if rule is None:
        raise ValueError(f"Layer {call.description} has no moments. {_REMEDY}")
    rule.check(call)
    return rule


def _activation_rule(call: Call) -> ActivationRule:
    """The rule of the function of one element that a call is, or ends with."""
    if activation_name(call.op) == "relu":
        return ACTIVATIONS[keras.activations.relu]
    layer = _layer_call(call)
    if layer is None:
        function = activation_of(call.op)
        return by_quadrature(call.at_full_precision, is_partial=True) if function is None else activation_rule(function)
    rule = moment_rule(layer)
    # what an affine layer does to moments is exact by quadrature as well
    return by_quadrature(layer.at_full_precision) if rule.affine else rule.activation(layer)


def _layer_call(call: Call) -> Call | None:
    """The call of the layer that is the activation of another; None where none is."""
    layer = activation_layer(call.op)
    return None if layer is call.op else Call(f"{call.name}/{layer.name}", layer, ((Value(),), {}))


def _check_one_tensor(call: Call) -> None:
    if len(call.inputs) > 1:
        raise ValueError(f"Layer {call.description} has moments for one tensor alone. {_REMEDY}")


def _check_activation(call: Call) -> None:
    function = activation_of(call.op)
    layer = _layer_call(call)
    if layer is not None:
        moment_rule(layer)
    elif function is not None and function not in ACTIVATIONS and not is_elementwise(function):
        raise ValueError(
            f"Layer {call.description} has the activation {getattr(function, '__name__', function)!r}, which has "
            f"no moments. {_REMEDY}"
        )


def _window_size(call: Call) -> int:
    """Number of elements of a pooling window; 1 for global pooling, which takes its whole input once."""
    size = getattr(call.op, "pool_size", ())
    # an operation may have one size for all axes
    return size ** (len(first_input_shape(call.op) or ()) - 2) if isinstance(size, int) else math.prod(size)


# the first row that fits counts
TABLE: list[tuple[tuple[type, ...], MomentRule]] = [
    ((ShapleyActivation,), SA()),
    ((ShapleyLinearUnit,), ShapLU()),
    (LINEAR_TYPES, Linear()),
    (WINDOW_AVERAGE, AveragePooling()),
    (MAX_POOLING, MaxPooling()),
    (MEAN, Mean()),
    ((*SCALING, *ADDITION), Scaling()),
    (PRODUCT, Product()),
    (MOVING, Moving()),
    (SOFTMAX, Softmax()),
    ((layers.LeakyReLU,), LeakyReLU()),
    ((layers.PReLU,), PReLU()),
    ((*WITHOUT_EFFECT, *STOP_GRADIENT_OPERATIONS), Unchanged()),
    ((*ELEMENTWISE, *ONE_OPERAND), Elementwise()),
]
