"""Rules that measure a neuron from a baseline."""

from typing import ClassVar

from keras_shapley.lrp.rules.base import CallRecord
from keras_shapley.utils.typing import Tensor

__all__ = ["FirstOrder", "Rescale", "ShapleyPropagation"]


class ShapleyPropagation:
    """Shapley propagation: the paper's neuron, eq. (1), measured from a baseline. The default of `LRP`.

    A neuron `y = f(z)` has the contributions `a_k = w_k (x_k - x'_k)` to its sum, where `x'` is the input at the
    baseline. With `u` their sum and `q` the sum of their squares, its Shapley values are to second order
    `G a_k + H a_k**2`:

    - `G` is the mean slope of `f` over random orders, by the moments of eq. (1): for ReLU the gate
      `Phi((z' + u/2)/sigma)`, `sigma**2 = q/6 + u**2/12`;
    - `H = (y - y' - G u)/q`, so that they sum to the difference of the output.

    The bias cancels, there is no parameter, and relevance sums to `f(x) - f(x')`. Pooling, products, softmaxes and
    normalisation follow the Shapley values of two, which are conserved as well. `LRP` walks with multipliers, so this
    object only says which neurons are meant.

    Examples:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(2)])
        >>> x = np.random.default_rng(0).normal(size=(5, 3))
        >>> explanation = ks.LRP(model, baseline=0.5).explain(x, target=1)
        >>> difference = model.predict(x, verbose=0)[:, 1] - model.predict(np.full((1, 3), 0.5), verbose=0)[0, 1]
        >>> bool(np.allclose(explanation.input.sum(axis=1), difference, atol=1e-5))
        True
    """

    kind: ClassVar[str] = "shapley"

    def __call__(self, call: CallRecord, inputs: list[Tensor], relevance: Tensor) -> list[Tensor]:
        raise ValueError(f"Rule {type(self).__name__} measures from a baseline: LRP(model, rules=..., baseline=0.0).")


class FirstOrder(ShapleyPropagation):
    """`G a_k` alone: the difference times the gradient with the gates of eq. (1). It does not conserve relevance.

    Examples:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(2)])
        >>> rules = [(keras.layers.Dense, ks.rules.FirstOrder())]
        >>> ks.LRP(model, rules=rules, baseline=0.0).explain(np.ones((1, 3))).input.shape
        (1, 3)
    """

    kind = "first_order"


class Rescale(ShapleyPropagation):
    """`a_k (y - y')/u`: the rescale rule of DeepLIFT (Shrikumar et al. 2017).

    Examples:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(2)])
        >>> rules = [(keras.layers.Dense, ks.rules.Rescale())]
        >>> ks.LRP(model, rules=rules, baseline=0.0).explain(np.ones((1, 3))).input.shape
        (1, 3)
    """

    kind = "rescale"
