"""The rule for recurrent layers, after Arras et al. (2017, 2019)."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeAlias

from keras import ops, tree

from keras_shapley.backend import matmul
from keras_shapley.layers.linear_maps import DenseMap
from keras_shapley.lrp.rules.base import CallRecord, Rule, stabilize
from keras_shapley.lrp.rules.linear import Epsilon
from keras_shapley.models.graph import Call, Value
from keras_shapley.models.layer_types import RECURRENT
from keras_shapley.models.loops import Loop, Loops, StepBack
from keras_shapley.models.recurrent import GRUStep, LSTMStep, SimpleStep, check_recurrent
from keras_shapley.utils.typing import Structure, Tensor

__all__ = ["Recurrent"]


class Recurrent:
    """SimpleRNN, LSTM, GRU, and Bidirectional layers of these: relevance goes back step by step, Arras et al. (2019).

    In a product of a gate and a signal all relevance goes to the signal. A sum of states receives it in proportion, and
    an activation passes it unchanged. The weights of the signal, `[x, h] -> act(x W + h U + b)`, follow `rule`. The
    gates of a step thus count as weights, and `h U` times the reset gate as `h U'` with weights of its own. Relevance
    of biases and of initial states of zero appears as a gap, as `rule` says.

    A masked step receives nothing. The two directions of a Bidirectional layer receive equal parts of a product, and
    parts in proportion of a sum or average. A rule of weights that a table gives to a recurrent layer, as in
    `rules=[(keras.layers.LSTM, "epsilon")]`, becomes the `rule` of this one.

    Args:
        rule: rule of the weights; `Epsilon()` by default. With `Shapley()` a step's inputs share the bias.
        epsilon: stabiliser of the denominators of sums.

    Examples:
        >>> model = keras.Sequential([keras.Input((5, 2)), keras.layers.LSTM(4), keras.layers.Dense(1)])
        >>> explainer = ks.LRP(model, rules=[(keras.layers.LSTM, ks.rules.Recurrent(ks.rules.Epsilon(0.001)))])
        >>> explainer.explain(np.ones((3, 5, 2))).input.shape
        (3, 5, 2)
    """

    fits: ClassVar[tuple[type, ...]] = RECURRENT

    def __init__(self, rule: Rule | None = None, epsilon: float = 1e-6) -> None:
        self.rule = Epsilon() if rule is None else rule
        self.epsilon = epsilon

    def check(self, call: Call) -> None:
        """Raises a `ValueError` if a call of a recurrent layer has no such steps."""
        check_recurrent(call)

    def __call__(self, call: CallRecord, inputs: list[Tensor], relevance: Structure) -> list[Tensor]:
        run = Loops(call, inputs)
        steps = [_BACK[type(loop.step)](loop, self._signal_rule(call), self.epsilon) for loop in run.loops]
        return run.back(tree.flatten(relevance), lambda r, ys: self._split(run.merge_mode, r, ys), steps)

    def _signal_rule(self, call: CallRecord) -> "_SignalRule":
        def relevance(linear: DenseMap, x: Tensor, r: Tensor) -> Tensor:
            # a step's input is nobody's output: what pads the sequence does not pad the step
            return self.rule(CallRecord(call.name, call.op, ((Value(),), {}), linear_map=linear), [x], r)[0]

        return relevance

    def _split(self, merge_mode: str | None, r: Tensor, ys: Sequence[Tensor]) -> list[Tensor]:
        """Relevance of the two outputs that a Bidirectional layer merges."""
        if merge_mode == "concat":
            return ops.split(r, [ys[0].shape[-1]], axis=-1)
        if merge_mode == "mul":
            return [r / 2, r / 2]
        quotient = r / stabilize(ys[0] + ys[1], self.epsilon)
        return [y * quotient for y in ys]


# takes a linear map, its input and the relevance of its output, returns that of the input
_SignalRule: TypeAlias = Callable[[DenseMap, Tensor, Tensor], Tensor]


class _Signal(DenseMap):
    """The weights of a step's signal, a linear map of `[x, h]`.

    Args:
        layer: the Keras layer.
        kernel: weights of `x`, and below them those of `h`.
        bias: shape `(units,)`, or one for each step.
        n: number of features of `x`.
        gate: what `h U` is multiplied with, or None.
    """

    def __init__(self, layer: Any, kernel: Tensor, bias: Tensor, n: int, gate: Tensor | None = None) -> None:
        super().__init__(layer)
        self._kernel = kernel
        self._bias = bias
        self._n = n
        self._gate = gate

    @property
    def kernel(self) -> Tensor:
        return self._kernel

    @property
    def bias(self) -> Tensor:
        return self._bias

    def __call__(self, x: Tensor, kernel: Tensor) -> Tensor:
        if self._gate is None:
            return super().__call__(x, kernel)
        n = self._n
        return matmul(x[..., :n], kernel[:n]) + self._gate * matmul(x[..., n:], kernel[n:])

    def fan_in(self, real: Tensor) -> Tensor:
        return super().__call__(real, self.unit_kernel(real.dtype))


def _simple_back(loop: Loop, rule: _SignalRule, epsilon: float) -> tuple[Structure, StepBack]:
    """The way back through SimpleRNN: every step is a dense layer."""
    n = loop.x.shape[-1]
    signal = _Signal(loop.layer, _stacked(loop.step, 0), loop.step.bias, n)

    def back(xh: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        r = rule(signal, xh, states[0])
        return r[..., :n], [r[..., n:]]

    return ops.concatenate([loop.x, loop.before[0]], axis=-1), back


def _lstm_back(loop: Loop, rule: _SignalRule, epsilon: float) -> tuple[Structure, StepBack]:
    """The way back through LSTM: from the output to the cell state, and along it or to the candidate."""
    n, units = loop.x.shape[-1], loop.layer.cell.units
    start = 2 * units
    bias = loop.step.bias[start : start + units]
    signal = _Signal(loop.layer, _stacked(loop.step, start)[:, :units], bias, n)

    def back(parts: tuple[Tensor, ...], states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        xh, kept, added = parts
        r_h, r_c = states
        quotient = (r_h + r_c) / stabilize(kept + added, epsilon)
        r = rule(signal, xh, added * quotient)
        return r[..., :n], [r[..., n:], kept * quotient]

    xh = ops.concatenate([loop.x, loop.before[0]], axis=-1)
    return (xh, loop.parts.kept, loop.parts.added), back


def _gru_back(loop: Loop, rule: _SignalRule, epsilon: float) -> tuple[Structure, StepBack]:
    """The way back through GRU: along the state or to the candidate."""
    n, units, layer, step = loop.x.shape[-1], loop.layer.cell.units, loop.layer, loop.step
    kernel = _stacked(step, 2 * units)
    bias, recurrent_bias = step.bias[2 * units :], step.recurrent_bias[2 * units :]
    resets_after = layer.cell.reset_after

    def back(parts: tuple[Tensor, ...], states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        xh, kept, added, reset_gate = parts
        quotient = states[0] / stabilize(kept + added, epsilon)
        if resets_after:
            signal = _Signal(layer, kernel, bias + reset_gate * recurrent_bias, n, reset_gate)
        else:
            signal = _Signal(layer, kernel, bias, n)
        r = rule(signal, xh, added * quotient)
        return r[..., :n], [r[..., n:] + kept * quotient]

    h, r = loop.before[0], loop.parts.r
    xh = ops.concatenate([loop.x, h if resets_after else r * h], axis=-1)
    return (xh, loop.parts.kept, loop.parts.added, r), back


def _stacked(step: SimpleStep, start: int) -> Tensor:
    """The weights of `[x, h]`, of the columns from `start` on."""
    return ops.concatenate([step.kernel[:, start:], step.recurrent_kernel[:, start:]], axis=0)


_BACK = {SimpleStep: _simple_back, LSTMStep: _lstm_back, GRUStep: _gru_back}
