"""The steps of recurrent layers: everything that Keras computes in one, and keeps to itself.

A step reads `[x, h]`, the step's input and the last output. Below, `gate` is the layer's recurrent activation and `act`
its activation, and the letters are those of Keras.

| layer | step |
|---|---|
| SimpleRNN | `h = act(x W + h U + b)` |
| LSTM | `c = f c + i g`, `h = o act(c)`; `g = act(x W_g + h U_g + b_g)`, and gates `i`, `f`, `o` likewise |
| GRU | `h = z h + (1 - z) n`; `n = act(x W_n + (r h) U_n + b_n)`, and gates `z`, `r` likewise |
| GRU, `reset_after` | the same with `n = act(x W_n + b_n + r (h U_n + b'_n))` |
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from keras import layers, ops

from keras_shapley.backend import matmul
from keras_shapley.models.graph import Call
from keras_shapley.models.layer_types import is_elementwise
from keras_shapley.utils.typing import Tensor


class SimpleParts(NamedTuple):
    """A step of SimpleRNN: the sums in front of the activation, and `h`."""

    sums: Tensor
    h: Tensor


class LSTMParts(NamedTuple):
    """A step of LSTM.

    Attributes:
        sums: in front of the activations of `i`, `f`, `g`, `o`, shape `(..., 4 units)`.
        i: input gate.
        f: forget gate.
        g: candidate.
        o: output gate.
        kept: `f c`, with the cell state before.
        added: `i g`.
        c: cell state.
        squashed: `act(c)`.
        h: output.
    """

    sums: Tensor
    i: Tensor
    f: Tensor
    g: Tensor
    o: Tensor
    kept: Tensor
    added: Tensor
    c: Tensor
    squashed: Tensor
    h: Tensor


class GRUParts(NamedTuple):
    """A step of GRU.

    Attributes:
        sums: in front of the activations of `z` and `r`, shape `(..., 2 units)`.
        z: update gate.
        r: reset gate.
        reset: what `r` multiplies: `h U_n + b'_n` with `reset_after`, else `h`.
        sums_n: in front of the activation of `n`.
        n: candidate.
        kept: `z h`, with the state before.
        added: `(1 - z) n`.
        h: output.
    """

    sums: Tensor
    z: Tensor
    r: Tensor
    reset: Tensor
    sums_n: Tensor
    n: Tensor
    kept: Tensor
    added: Tensor
    h: Tensor


class SimpleStep:
    """The step of SimpleRNN.

    Args:
        cell: cell of the Keras layer.
        dtype: in which it is computed.

    Attributes:
        kernel: weights of `x`.
        recurrent_kernel: weights of `h`.
        bias: added to the sums; zero without one.
        recurrent_bias: `b'` of a GRU with `reset_after`, else zero.
        act: the activation.
        gate: the recurrent activation; None for SimpleRNN.
        n_states: number of states.
    """

    n_states = 1

    def __init__(self, cell: Any, dtype: str) -> None:
        self.cell = cell
        self.kernel = ops.cast(cell.kernel, dtype)
        self.recurrent_kernel = ops.cast(cell.recurrent_kernel, dtype)
        self.bias = ops.zeros(cell.kernel.shape[1:], dtype) if cell.bias is None else ops.cast(cell.bias, dtype)
        self.recurrent_bias = ops.zeros_like(self.bias)
        if len(self.bias.shape) == 2:
            self.bias, self.recurrent_bias = self.bias[0], self.bias[1]
        self.act = cell.activation
        self.gate: Any = getattr(cell, "recurrent_activation", None)

    def of_input(self, x: Tensor) -> Tensor:
        """What the inputs add to the sums, `x W + b`."""
        return matmul(x, self.kernel) + self.bias

    def parts(self, added: Tensor, states: Sequence[Tensor]) -> Any:
        """Everything that a step computes, or that many do.

        Args:
            added: `of_input` of the inputs, shape `(..., gates * units)`.
            states: before the step, each `(..., units)`.
        """
        (h,) = states
        sums = added + matmul(h, self.recurrent_kernel)
        return SimpleParts(sums, self.act(sums))

    def states(self, parts: Any) -> list[Tensor]:
        """The states after the step."""
        return [parts.h]


class LSTMStep(SimpleStep):
    """The step of LSTM, as `SimpleStep`."""

    n_states = 2

    def parts(self, added: Tensor, states: Sequence[Tensor]) -> LSTMParts:
        h, c = states
        sums = added + matmul(h, self.recurrent_kernel)
        i, f, g, o = ops.split(sums, 4, axis=-1)
        i, f, g, o = self.gate(i), self.gate(f), self.act(g), self.gate(o)
        kept, new = f * c, i * g
        squashed = self.act(kept + new)
        return LSTMParts(sums, i, f, g, o, kept, new, kept + new, squashed, o * squashed)

    def states(self, parts: Any) -> list[Tensor]:
        return [parts.h, parts.c]


class GRUStep(SimpleStep):
    """The step of GRU, as `SimpleStep`."""

    @property
    def units(self) -> int:
        return self.cell.units

    def parts(self, added: Tensor, states: Sequence[Tensor]) -> GRUParts:
        (h,) = states
        split = 2 * self.units
        kernel_n, bias_n = self.recurrent_kernel[:, split:], self.recurrent_bias[split:]
        sums = added[..., :split] + matmul(h, self.recurrent_kernel[:, :split]) + self.recurrent_bias[:split]
        z, r = map(self.gate, ops.split(sums, 2, axis=-1))
        if self.cell.reset_after:
            reset = matmul(h, kernel_n) + bias_n
            sums_n = added[..., split:] + r * reset
        else:
            reset = h
            sums_n = added[..., split:] + matmul(r * h, kernel_n)
        n = self.act(sums_n)
        kept, new = z * h, (1 - z) * n
        return GRUParts(sums, z, r, reset, sums_n, n, kept, new, kept + new)


_STEPS = {layers.SimpleRNNCell: SimpleStep, layers.LSTMCell: LSTMStep, layers.GRUCell: GRUStep}


def step_of(cell: Any, dtype: str) -> SimpleStep:
    """The step of a cell for which `check_recurrent` raises nothing."""
    return next(make for cls, make in _STEPS.items() if isinstance(cell, cls))(cell, dtype)


def directions(layer: Any) -> list[Any]:
    """The layers inside a Bidirectional layer, or the one layer itself."""
    return [layer.forward_layer, layer.backward_layer] if isinstance(layer, layers.Bidirectional) else [layer]


def check_recurrent(call: Call) -> None:
    """Raises a `ValueError` if the steps of a recurrent layer are not known.

    Args:
        call: of an RNN, SimpleRNN, LSTM, GRU or Bidirectional.
    """
    for layer in directions(call.op):
        cell: Any = getattr(layer, "cell", None)
        known = next((cls for cls in _STEPS if isinstance(cell, cls) and type(cell).call is cls.call), None)
        if known is None:
            what = type(layer if cell is None else cell).__name__
            raise ValueError(
                f"The steps of {call.description} are not known, for it has a {what} inside. Cells that are: "
                f"{', '.join(cls.__name__ for cls in _STEPS)}; cells on top of each other are known as layers on top "
                "of each other. Or give the layer a rule of its own, a function, or use shapley_values, which takes "
                "any model."
            )
        if layer.stateful:
            raise ValueError(
                f"{call.description} is stateful, so what it returns depends on the batches before. Build the model "
                "again with stateful=False, and set_weights."
            )
        for name in ("activation", "recurrent_activation"):
            function = getattr(cell, name, None)
            if function is not None and not is_elementwise(function):
                raise ValueError(
                    f"{call.description} has the {name} {getattr(function, '__name__', function)!r}, which is not "
                    "known to act on each element alone. Give the layer a rule of its own, a function, or use "
                    "shapley_values, which takes any model."
                )
