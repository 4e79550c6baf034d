"""Rules for linear layers, each one formula on the layer's linear map.

Below, `z_kj = w_kj x_k` is what input `k` adds to output `j`, a superscript + or - keeps one sign, and the sums in
denominators run over the inputs of an output.
"""

import dataclasses
import functools
import operator
from collections.abc import Callable, Sequence

import numpy as np
from keras import ops

from keras_shapley.backend import maximum, minimum, vjp
from keras_shapley.layers.linear_maps import LinearMap
from keras_shapley.lrp.rules.base import CallRecord, Preactivation, stabilize
from keras_shapley.models.windows import real_elements
from keras_shapley.utils.typing import Tensor
from keras_shapley.utils.validation import one_of

__all__ = ["AlphaBeta", "Epsilon", "Flat", "Gamma", "LinearRule", "Part", "Shapley", "WSquare", "ZBox", "ZPlus"]


@dataclasses.dataclass
class Part:
    """A part of a layer's relevance, and the sum in proportion to whose addends it is distributed.

    `LinearRule.parts` returns a list of these. The denominator is `sum of L(x; kernel) over the terms + bias`.

    Args:
        relevance: the part of the output's relevance, in the shape of the output.
        terms: pairs `(x, kernel)` in the shapes of the layer's input and kernel.
        bias: what the denominator has besides the terms, in a shape that broadcasts to the output.
        is_preactivation: whether the denominator is the layer's own `u + b`, so that the value of the forward pass
            can be used again.

    Examples:
        >>> part = ks.rules.Part(relevance=np.ones((1, 2)), terms=[(np.ones((1, 3)), np.ones((3, 2)))], bias=0.0)
        >>> part.is_preactivation
        False
    """

    relevance: Tensor
    terms: Sequence[tuple[Tensor, Tensor]]
    bias: Tensor
    is_preactivation: bool = False


class LinearRule:
    """A rule for layers with a linear map. A subclass defines `parts`.

    Args:
        epsilon: stabiliser of the denominators, `epsilon sign(denominator)` with sign(0) = +1.
        bias: what becomes of the bias. `"distribute"`: the inputs receive it equally, `b/n` each, as in eq. (2).
            `"absorb"`: it keeps its part of the relevance, which appears as a gap. `"ignore"`: it is left out of the
            denominators.

    Raises:
        ValueError: if `bias` is another word.

    Examples:
        This rule distributes relevance in proportion to `|z_kj|`.

        >>> class Absolute(ks.rules.LinearRule):
        ...     def parts(self, x, kernel, b, real, relevance, linear):
        ...         term = keras.ops.abs(x), keras.ops.abs(kernel)
        ...         return [ks.rules.Part(relevance, [term], keras.ops.abs(b))]
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        >>> model.set_weights([np.array([[1.0], [2.0], [-1.0]]), np.zeros(1)])
        >>> explainer = ks.LRP(model, rules=[(keras.layers.Dense, Absolute())])
        >>> print(explainer.explain(np.ones((1, 3))).input.round(2))
        [[0.5 1.  0.5]]
    """

    def __init__(self, epsilon: float = 1e-6, bias: str = "absorb") -> None:
        self.epsilon = epsilon
        self.bias = one_of("bias", bias, ("distribute", "absorb", "ignore"))

    def parts(
        self, x: Tensor, kernel: Tensor, b: Tensor, real: Tensor, relevance: Tensor, linear: LinearMap
    ) -> list[Part]:
        """The parts into which the layer's relevance is split.

        Args:
            x: input of the layer.
            kernel: its weights.
            b: its bias; zero if it has none, or if the rule ignores it.
            real: ones in the shape of one input, zeros where a ZeroPadding layer in front put zeros.
            relevance: relevance of the output.
            linear: the layer's linear map, `linear(x, kernel)`.
        """
        raise TypeError(f"{type(self).__name__} does not define `parts`.")

    def divides_by_preactivation(self, linear: LinearMap) -> bool:
        """Whether all denominators on a layer are its own `u + b`, which the walk then saves on the way forward."""
        return False

    def __call__(self, call: CallRecord, inputs: list[Tensor], relevance: Tensor) -> list[Tensor]:
        linear = call.linear_map
        if linear is None:
            raise ValueError(
                f"Rule {type(self).__name__} is for layers with a linear map, and {call.description} has none."
            )
        (x,) = inputs
        kernel = ops.cast(linear.kernel, x.dtype)
        has_bias = linear.bias is not None and self.bias != "ignore"
        b = linear.bias_or_zero(x.dtype) if has_bias else ops.zeros((), x.dtype)
        real = real_elements(call, x)
        shares = []
        for part in self.parts(x, kernel, b, real, relevance, linear):
            denominator, pullbacks = _denominator(part, linear, call.preactivation)
            quotient = part.relevance / stabilize(denominator, self.epsilon)
            shares += [term_x * pullback(quotient)[0] for (term_x, _), pullback in zip(part.terms, pullbacks)]
            # the share b/n of eq. (2)
            if has_bias and self.bias == "distribute":
                share = linear.merge(quotient, part.bias) / linear.fan_in(real)
                shares.append(real * linear.spread(share, x))
        return [functools.reduce(operator.add, shares)]


def _denominator(
    part: Part, linear: LinearMap, saved: Preactivation | None
) -> tuple[Tensor, Sequence[Callable[[Tensor], tuple[Tensor, ...]]]]:
    """The denominator of a part, and for each of its terms the pullback of the linear map."""
    if part.is_preactivation and saved is not None:
        return saved.value, [saved.pullback]
    sums, pullbacks = zip(*(vjp(lambda x, kernel=kernel: linear(x, kernel), x) for x, kernel in part.terms))
    return sum(sums) + part.bias, pullbacks


def _signs(x: Tensor) -> tuple[Tensor, Tensor]:
    """Positive and negative part."""
    return maximum(x, 0.0), minimum(x, 0.0)


class Epsilon(LinearRule):
    """`r_k = sum_j z_kj / (sum_i z_ij + b_j) r_j`: LRP-epsilon, Bach et al. (2015), eq. (58).

    Args:
        epsilon: stabiliser of the denominators.
        bias: as in `LinearRule`.

    Examples:
        The neuron gives 1 + 2 + 3 + 2 = 8; its bias absorbs 2.

        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        >>> model.set_weights([np.array([[1.0], [2.0], [3.0]]), np.array([2.0])])
        >>> explainer = ks.LRP(model, rules=[(keras.layers.Dense, ks.rules.Epsilon())])
        >>> print(explainer.explain(np.ones((1, 3))).input.round(2))
        [[1. 2. 3.]]
    """

    def parts(
        self, x: Tensor, kernel: Tensor, b: Tensor, real: Tensor, relevance: Tensor, linear: LinearMap
    ) -> list[Part]:
        return [Part(relevance, [(x, kernel)], b, is_preactivation=True)]

    def divides_by_preactivation(self, linear: LinearMap) -> bool:
        # a subclass may call these two methods with another input or kernel
        inherits = type(self).parts is Epsilon.parts and type(self).__call__ is Epsilon.__call__
        return inherits and (self.bias != "ignore" or linear.bias is None)


class Shapley(Epsilon):
    """Eq. (2): `r_k = sum_j (z_kj + b_j/n) / (sum_i z_ij + b_j) r_j`, on any layer with a linear map.

    `n` is the number of inputs of an output. At a border it counts the inputs inside the image only, also where a
    ZeroPadding layer in front made the border, so no part of the bias is lost to padding.

    Args:
        epsilon: stabiliser of the denominators.
        bias: as in `LinearRule`.

    Examples:
        The neuron gives 1 + 2 + 3 + 2 = 8; each input receives a third of the bias.

        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        >>> model.set_weights([np.array([[1.0], [2.0], [3.0]]), np.array([2.0])])
        >>> explainer = ks.LRP(model, rules=[(keras.layers.Dense, ks.rules.Shapley())])
        >>> print(explainer.explain(np.ones((1, 3))).input.round(2))
        [[1.67 2.67 3.67]]
    """

    def __init__(self, epsilon: float = 1e-9, bias: str = "distribute") -> None:
        super().__init__(epsilon, bias)


class Gamma(LinearRule):
    """LRP-gamma, Montavon et al. (2019), generalised to inputs and outputs of either sign (Andeol et al., 2021).

    The relevance of a positive output is distributed in proportion to `z_kj + gamma z_kj^+`, that of another one in
    proportion to `z_kj + gamma z_kj^-`.

    Args:
        gamma: by how much the sign of the output is favoured.
        epsilon: stabiliser of the denominators.
        bias: as in `LinearRule`.

    Examples:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        >>> model.set_weights([np.array([[1.0], [2.0], [-1.0]]), np.zeros(1)])
        >>> explainer = ks.LRP(model, rules=[(keras.layers.Dense, ks.rules.Gamma(1.0))])
        >>> print(explainer.explain(np.ones((1, 3))).input.round(2))
        [[ 0.8  1.6 -0.4]]
    """

    def __init__(self, gamma: float = 0.25, epsilon: float = 1e-6, bias: str = "absorb") -> None:
        super().__init__(epsilon, bias)
        self.gamma = gamma

    def parts(
        self, x: Tensor, kernel: Tensor, b: Tensor, real: Tensor, relevance: Tensor, linear: LinearMap
    ) -> list[Part]:
        x_plus, x_minus = _signs(x)
        raised, lowered = (kernel + self.gamma * signed for signed in _signs(kernel))
        b_raised, b_lowered = (b + self.gamma * signed for signed in _signs(b))
        # the sign of the neuron's output, of which the bias is a part also where the rule ignores it
        is_positive = linear(x, kernel) + linear.bias_or_zero(x.dtype) >= 0
        return [
            Part(ops.where(is_positive, relevance, 0), [(x_plus, raised), (x_minus, lowered)], b_raised),
            Part(ops.where(is_positive, 0, relevance), [(x_plus, lowered), (x_minus, raised)], b_lowered),
        ]


class AlphaBeta(LinearRule):
    """`r_k = sum_j (alpha z_kj^+ / sum_i z_ij^+ - beta z_kj^- / sum_i z_ij^-) r_j`, Bach et al. (2015), eq. (60).

    Args:
        alpha: weight of the positive addends.
        beta: weight of the negative addends; `alpha - beta` must be 1, so that relevance is conserved.
        epsilon: stabiliser of the denominators.
        bias: as in `LinearRule`.

    Raises:
        ValueError: if `alpha` or `beta` is negative, or `alpha - beta` is not 1.

    Examples:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        >>> model.set_weights([np.array([[1.0], [2.0], [-1.0]]), np.zeros(1)])
        >>> explainer = ks.LRP(model, rules=[(keras.layers.Dense, ks.rules.AlphaBeta(2.0, 1.0))])
        >>> print(explainer.explain(np.ones((1, 3))).input.round(2))
        [[ 1.33  2.67 -2.  ]]
    """

    def __init__(self, alpha: float = 2.0, beta: float = 1.0, epsilon: float = 1e-6, bias: str = "absorb") -> None:
        super().__init__(epsilon, bias)
        if alpha < 0 or beta < 0 or abs(alpha - beta - 1) > 1e-9:
            raise ValueError(
                f"`alpha` and `beta` must not be negative, and alpha - beta must be 1. Received: alpha={alpha!r}, "
                f"beta={beta!r}"
            )
        self.alpha = alpha
        self.beta = beta

    def parts(
        self, x: Tensor, kernel: Tensor, b: Tensor, real: Tensor, relevance: Tensor, linear: LinearMap
    ) -> list[Part]:
        x_plus, x_minus = _signs(x)
        w_plus, w_minus = _signs(kernel)
        b_plus, b_minus = _signs(b)
        parts = [Part(self.alpha * relevance, [(x_plus, w_plus), (x_minus, w_minus)], b_plus)]
        if self.beta:
            parts.append(Part(-self.beta * relevance, [(x_plus, w_minus), (x_minus, w_plus)], b_minus))
        return parts


class ZPlus(AlphaBeta):
    """`r_k = sum_j z_kj^+ / sum_i z_ij^+ r_j`, Montavon et al. (2017): `AlphaBeta(1, 0)`.

    Args:
        epsilon: stabiliser of the denominators.
        bias: as in `LinearRule`.

    Examples:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        >>> model.set_weights([np.array([[1.0], [2.0], [-1.0]]), np.zeros(1)])
        >>> explainer = ks.LRP(model, rules=[(keras.layers.Dense, ks.rules.ZPlus())])
        >>> print(explainer.explain(np.ones((1, 3))).input.round(2))
        [[0.67 1.33 0.  ]]
    """

    def __init__(self, epsilon: float = 1e-6, bias: str = "absorb") -> None:
        super().__init__(1.0, 0.0, epsilon, bias)


class ZBox(LinearRule):
    """For inputs between bounds: in proportion to `z_kj - low w_kj^+ - high w_kj^-`, Montavon et al. (2017).

    It is meant for the first layer of a model, whose inputs are pixels. It ignores the bias.

    Args:
        low: lower bound of the inputs, a number or an array that broadcasts against a batch of inputs.
        high: upper bound of the inputs, likewise.
        epsilon: stabiliser of the denominators.

    Examples:
        Black pixels, which are 0, receive relevance as well.

        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
        >>> model.set_weights([np.array([[1.0], [2.0], [-1.0]])])
        >>> explainer = ks.LRP(model, rules=[(keras.layers.Dense, ks.rules.ZBox(0.0, 1.0))])
        >>> print(explainer.explain(np.array([[0.0, 1.0, 0.0]])).input.round(2))
        [[0.   1.33 0.67]]
    """

    def __init__(self, low: float | np.ndarray, high: float | np.ndarray, epsilon: float = 1e-6) -> None:
        super().__init__(epsilon, "ignore")
        self.low = low
        self.high = high

    def parts(
        self, x: Tensor, kernel: Tensor, b: Tensor, real: Tensor, relevance: Tensor, linear: LinearMap
    ) -> list[Part]:
        w_plus, w_minus = _signs(kernel)
        low, high = (real * ops.cast(bound, x.dtype) + ops.zeros_like(x) for bound in (self.low, self.high))
        return [Part(relevance, [(x, kernel), (-low, w_plus), (-high, w_minus)], b)]


class WSquare(LinearRule):
    """In proportion to `w_kj**2`, whatever the input is, Montavon et al. (2017).

    Args:
        epsilon: stabiliser of the denominators.
        bias: as in `LinearRule`.

    Examples:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        >>> model.set_weights([np.array([[1.0], [2.0], [-1.0]]), np.zeros(1)])
        >>> explainer = ks.LRP(model, rules=[(keras.layers.Dense, ks.rules.WSquare())])
        >>> print(explainer.explain(np.ones((1, 3))).input.round(2))
        [[0.33 1.33 0.33]]
    """

    def __init__(self, epsilon: float = 1e-6, bias: str = "ignore") -> None:
        super().__init__(epsilon, bias)

    def parts(
        self, x: Tensor, kernel: Tensor, b: Tensor, real: Tensor, relevance: Tensor, linear: LinearMap
    ) -> list[Part]:
        return [Part(relevance, [(real + ops.zeros_like(x), ops.square(kernel))], b * b)]


class Flat(LinearRule):
    """Equally to all inputs of an output, Lapuschkin et al. (2019). It ignores the bias.

    Args:
        epsilon: stabiliser of the denominators.

    Examples:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        >>> model.set_weights([np.array([[1.0], [2.0], [3.0]]), np.zeros(1)])
        >>> explainer = ks.LRP(model, rules=[(keras.layers.Dense, ks.rules.Flat())])
        >>> print(explainer.explain(np.ones((1, 3))).input.round(2))
        [[2. 2. 2.]]
    """

    def __init__(self, epsilon: float = 1e-6) -> None:
        super().__init__(epsilon, "ignore")

    def parts(
        self, x: Tensor, kernel: Tensor, b: Tensor, real: Tensor, relevance: Tensor, linear: LinearMap
    ) -> list[Part]:
        return [Part(relevance, [(real + ops.zeros_like(x), ops.ones_like(kernel))], b)]
