"""Rules for sums and products of tensors, and for means."""

from typing import ClassVar

from keras import ops

from keras_shapley.lrp.rules.base import CallRecord, in_proportion, unbroadcast
from keras_shapley.models.layer_types import ADDITION, AVERAGE_POOLING, PRODUCT, RESIZING
from keras_shapley.utils.typing import Tensor

__all__ = ["AbsoluteSum", "EqualSplit", "Proportional", "Sum"]


class Proportional:
    """Eq. (2) without weights and bias: every addend of an output receives relevance in proportion to itself.

    It is for means, as in average pooling, and for additions. The relevance of an output whose addends are all zero is
    lost.

    Args:
        epsilon: stabiliser of the denominators.

    Examples:
        >>> model = keras.Sequential([keras.Input((3, 1)), keras.layers.GlobalAveragePooling1D()])
        >>> rules = [(keras.layers.GlobalAveragePooling1D, ks.rules.Proportional())]
        >>> x = np.array([[[1.0], [2.0], [6.0]]])
        >>> print(ks.LRP(model, rules=rules).explain(x).input[0, :, 0].round(2))
        [0.33 0.67 2.  ]
    """

    fits: ClassVar[tuple[type, ...]] = (*AVERAGE_POOLING, *ADDITION, *RESIZING)

    def __init__(self, epsilon: float = 1e-9) -> None:
        self.epsilon = epsilon

    def __call__(self, call: CallRecord, inputs: list[Tensor], relevance: Tensor) -> list[Tensor]:
        return in_proportion(call.at_full_precision, inputs, relevance, self.epsilon)


class Sum(Proportional):
    """Addition, in proportion to the addends, eq. (2). A constant addend receives nothing.

    Args:
        epsilon: stabiliser of the denominators.

    Examples:
        >>> a, b = keras.Input((1,)), keras.Input((1,))
        >>> model = keras.Model([a, b], keras.layers.Add()([a, b]))
        >>> explainer = ks.LRP(model, rules=[(keras.layers.Add, ks.rules.Sum())])
        >>> r_a, r_b = explainer.explain([np.array([[3.0]]), np.array([[-1.0]])]).input
        >>> print(r_a.round(2), r_b.round(2))
        [[3.]] [[-1.]]
    """

    fits = ADDITION

    def __call__(self, call: CallRecord, inputs: list[Tensor], relevance: Tensor) -> list[Tensor]:
        if len(inputs) == 1:
            return [unbroadcast(relevance, inputs[0])]
        constant = call.at_full_precision(*map(ops.zeros_like, inputs))
        return in_proportion(lambda *x: call.at_full_precision(*x) - constant, inputs, relevance, self.epsilon)


class AbsoluteSum:
    """Addition, in proportion to absolute values: `r_k = |x_k| / sum_i |x_i| r`, so that no addend amplifies.

    This is the ratio-based splitting of Otsuki et al. (2024) for residual networks, where addends of opposite signs
    abound. Addends that are all zero receive equal parts. A constant addend receives nothing.

    Examples:
        >>> a, b = keras.Input((1,)), keras.Input((1,))
        >>> model = keras.Model([a, b], keras.layers.Add()([a, b]))
        >>> explainer = ks.LRP(model, rules=[(keras.layers.Add, ks.rules.AbsoluteSum())])
        >>> r_a, r_b = explainer.explain([np.array([[3.0]]), np.array([[-1.0]])]).input
        >>> print(r_a.round(2), r_b.round(2))
        [[1.5]] [[0.5]]
    """

    fits: ClassVar[tuple[type, ...]] = ADDITION

    def __call__(self, call: CallRecord, inputs: list[Tensor], relevance: Tensor) -> list[Tensor]:
        zeros = [ops.zeros_like(x) for x in inputs]
        constant = call.at_full_precision(*zeros)
        alone = [call.at_full_precision(*zeros[:i], x, *zeros[i + 1 :]) for i, x in enumerate(inputs)]
        sizes = [ops.abs(y - constant) for y in alone]
        total = sum(sizes)
        shares = [ops.where(total > 0, size / ops.where(total > 0, total, 1), 1 / len(inputs)) for size in sizes]
        return [unbroadcast(share * relevance, x) for share, x in zip(shares, inputs)]


class EqualSplit:
    """Product of `n` tensors: `1/n` of the relevance each, the Shapley values where an absent factor is 0.

    It is for gates, as in squeeze-and-excite blocks; for products it is also the uniform rule of Achtibat et al.
    (2024). A constant factor receives nothing, and neither does one where its mask is closed.

    Examples:
        >>> a, b = keras.Input((1,)), keras.Input((1,))
        >>> model = keras.Model([a, b], keras.layers.Multiply()([a, b]))
        >>> explainer = ks.LRP(model, rules=[(keras.layers.Multiply, ks.rules.EqualSplit())])
        >>> r_a, r_b = explainer.explain([np.array([[2.0]]), np.array([[3.0]])]).input
        >>> print(r_a.round(2), r_b.round(2))
        [[3.]] [[3.]]
    """

    fits: ClassVar[tuple[type, ...]] = PRODUCT

    def __call__(self, call: CallRecord, inputs: list[Tensor], relevance: Tensor) -> list[Tensor]:
        if not call.masks:
            return [unbroadcast(relevance, x) / len(inputs) for x in inputs]
        present = [1 if is_open is None else ops.cast(is_open, relevance.dtype) for is_open in call.are_open]
        share = relevance / ops.maximum(sum(present), 1)
        return [unbroadcast(share * each, x) for each, x in zip(present, inputs)]
