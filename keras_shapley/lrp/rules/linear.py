"""Rules for linear layers: one formula each, on the layer's linear map. What a rule is, `keras_shapley.rules` says.

Below, `z_kj = w_kj x_k` is what input `k` adds to output `j`, a superscript + or - keeps one sign, and the sums in
denominators run over the inputs of an output.
"""

import dataclasses
import functools
import operator

from keras import ops

from keras_shapley.backend import vjp
from keras_shapley.layers.linear_maps import linear_map
from keras_shapley.lrp.rules.base import stabilize
from keras_shapley.models.windows import real_elements
from keras_shapley.utils.validation import one_of


@dataclasses.dataclass
class Part:
    """A share of a layer's relevance and how it is dealt out: in proportion to the sum of `terms`, and to `bias`.

    Attributes:
        relevance: of the output.
        terms: pairs `(x, kernel)`, whose maps `L(x; kernel)` add up to the denominator.
        bias: what the denominator has beside them.
    """

    relevance: object
    terms: list
    bias: object


class LinearRule:
    """A rule for layers with a linear map. Subclasses say in `parts` what is dealt out in proportion to what.

    Args:
        epsilon: stabiliser of the denominators, `epsilon sign(denominator)` with sign(0) = +1.
        bias: `"distribute"`: the bias is dealt to the inputs equally, `b/n` each, as in eq. (2). `"absorb"`: it keeps
            its share of the relevance, which is lost to the inputs and shows as a gap. `"ignore"`: it has no share.
    """

    def __init__(self, epsilon=1e-6, bias="absorb"):
        self.epsilon = epsilon
        self.bias = one_of("bias", bias, ("distribute", "absorb", "ignore"))

    def parts(self, x, kernel, b, real, relevance, linear):
        """The `Part`s of the layer's relevance.

        Args:
            x: input.
            kernel: weights.
            b: bias, zero where it is absent or ignored.
            real: ones in the shape of one image, zeros where padding in front put zeros.
            relevance: of the output.
            linear: the `LinearMap`.
        """
        raise TypeError(f"{type(self).__name__} does not say what it deals out.")

    def __call__(self, call, inputs, relevance):
        linear, (x,) = call.linear or linear_map(call.op), inputs
        kernel = ops.cast(linear.kernel, x.dtype)
        has_bias = linear.bias is not None and self.bias != "ignore"
        b = ops.cast(linear.bias, x.dtype) if has_bias else ops.zeros((), x.dtype)
        real = real_elements(call, x)
        found = []
        for part in self.parts(x, kernel, b, real, relevance, linear):
            if call.preactivation is not None and part.terms[0][0] is x and part.terms[0][1] is kernel:
                denominator, transpose = call.preactivation
                terms = [(x, transpose)]
            else:
                maps = [(part_x, *vjp(lambda x, w=w: linear(x, w), part_x)) for part_x, w in part.terms]
                denominator = sum(u for _, u, _ in maps) + part.bias
                terms = [(part_x, transpose) for part_x, _, transpose in maps]
            quotient = part.relevance / stabilize(denominator, self.epsilon)
            found += [part_x * transpose(quotient)[0] for part_x, transpose in terms]
            if has_bias and self.bias == "distribute":
                share = linear.merge(quotient, part.bias) / linear.fan_in(real)
                found.append(real * linear.spread(share, x))
        return [functools.reduce(operator.add, found)]


def _signs(x):
    """Positive and negative part."""
    return ops.maximum(x, 0.0), ops.minimum(x, 0.0)


class Epsilon(LinearRule):
    """`r_k = sum_j z_kj / (sum_i z_ij + b_j) r_j`: LRP-epsilon, Bach et al. (2015), eq. (58)."""

    def parts(self, x, kernel, b, real, relevance, linear):
        return [Part(relevance, [(x, kernel)], b)]


class Shapley(Epsilon):
    """Eq. (2): `r_k = sum_j (z_kj + b_j/n) / (sum_i z_ij + b_j) r_j`, on any layer with a linear map.

    `n` is the number of inputs that an output has at its place, so that at a border the bias goes to real inputs alone;
    zeros that a ZeroPadding layer in front put there are no inputs either.

    Args:
        epsilon, bias: as in `LinearRule`.
    """

    def __init__(self, epsilon=1e-9, bias="distribute"):
        super().__init__(epsilon, bias)


class Gamma(LinearRule):
    """LRP-gamma, Montavon et al. (2019), generalised to inputs and outputs of either sign (Andeol et al., 2021).

    Outputs that are positive deal in proportion to `z_kj + gamma z_kj^+`, the others to `z_kj + gamma z_kj^-`.

    Args:
        gamma: how much the favoured sign is raised.
        epsilon, bias: as in `LinearRule`.
    """

    def __init__(self, gamma=0.25, epsilon=1e-6, bias="absorb"):
        super().__init__(epsilon, bias)
        self.gamma = gamma

    def parts(self, x, kernel, b, real, relevance, linear):
        up, down = _signs(x)
        raised, lowered = (kernel + self.gamma * part for part in _signs(kernel))
        b_up, b_down = (b + self.gamma * part for part in _signs(b))
        positive = linear(x, kernel) + b >= 0
        return [
            Part(ops.where(positive, relevance, 0), [(up, raised), (down, lowered)], b_up),
            Part(ops.where(positive, 0, relevance), [(up, lowered), (down, raised)], b_down),
        ]


class AlphaBeta(LinearRule):
    """`r_k = sum_j (alpha z_kj^+ / sum_i z_ij^+ - beta z_kj^- / sum_i z_ij^-) r_j`, Bach et al. (2015), eq. (60).

    Args:
        alpha, beta: weights of either sign; `alpha - beta = 1` conserves.
        epsilon, bias: as in `LinearRule`.

    Raises:
        ValueError: if `alpha` or `beta` is negative, or `alpha - beta` is not 1.
    """

    def __init__(self, alpha=2.0, beta=1.0, epsilon=1e-6, bias="absorb"):
        super().__init__(epsilon, bias)
        if alpha < 0 or beta < 0 or abs(alpha - beta - 1) > 1e-9:
            raise ValueError(
                f"`alpha` and `beta` must not be negative, and alpha - beta must be 1. Received: alpha={alpha!r}, "
                f"beta={beta!r}"
            )
        self.alpha, self.beta = alpha, beta

    def parts(self, x, kernel, b, real, relevance, linear):
        (up, down), (plus, minus), (b_up, b_down) = _signs(x), _signs(kernel), _signs(b)
        parts = [Part(self.alpha * relevance, [(up, plus), (down, minus)], b_up)]
        if self.beta:
            parts.append(Part(-self.beta * relevance, [(up, minus), (down, plus)], b_down))
        return parts


class ZPlus(AlphaBeta):
    """`r_k = sum_j z_kj^+ / sum_i z_ij^+ r_j`, Montavon et al. (2017): `AlphaBeta(1, 0)`.

    Args:
        epsilon, bias: as in `LinearRule`.
    """

    def __init__(self, epsilon=1e-6, bias="absorb"):
        super().__init__(1.0, 0.0, epsilon, bias)


class ZBox(LinearRule):
    """For inputs between bounds: in proportion to `z_kj - low w_kj^+ - high w_kj^-`, Montavon et al. (2017).

    Args:
        low, high: bounds of the input, numbers or arrays that broadcast against a batch of inputs.
        epsilon: as in `LinearRule`. The bias has no part in this rule.
    """

    def __init__(self, low, high, epsilon=1e-6):
        super().__init__(epsilon, "ignore")
        self.low, self.high = low, high

    def parts(self, x, kernel, b, real, relevance, linear):
        plus, minus = _signs(kernel)
        low, high = (real * ops.cast(bound, x.dtype) + ops.zeros_like(x) for bound in (self.low, self.high))
        return [Part(relevance, [(x, kernel), (-low, plus), (-high, minus)], b)]


class WSquare(LinearRule):
    """In proportion to `w_kj**2`, whatever the input, Montavon et al. (2017)."""

    def __init__(self, epsilon=1e-6, bias="ignore"):
        super().__init__(epsilon, bias)

    def parts(self, x, kernel, b, real, relevance, linear):
        return [Part(relevance, [(real + ops.zeros_like(x), ops.square(kernel))], b * b)]


class Flat(LinearRule):
    """Equally to all inputs of an output, Lapuschkin et al. (2019).

    Args:
        epsilon: as in `LinearRule`. The bias has no part in this rule.
    """

    def __init__(self, epsilon=1e-6):
        super().__init__(epsilon, "ignore")

    def parts(self, x, kernel, b, real, relevance, linear):
        return [Part(relevance, [(real + ops.zeros_like(x), ops.ones_like(kernel))], b)]
