"""Shapley propagation through recurrent layers: neurons, products and sums of every step, as between layers."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from keras import layers, ops

from keras_shapley.backend import matmul
from keras_shapley.lrp.propagation.neurons import Activation
from keras_shapley.lrp.propagation.rule import DifferenceRecord, DifferenceRule
from keras_shapley.lrp.propagation.variation import Multiplier, Variation
from keras_shapley.models.graph import Value
from keras_shapley.models.loops import Loop, Loops, StepBack
from keras_shapley.models.recurrent import GRUStep, LSTMStep, SimpleStep
from keras_shapley.utils.typing import Structure, Tensor, TensorFunction


class Recurrent(DifferenceRule):
    """SimpleRNN, LSTM, GRU, and Bidirectional layers of these.

    A gate is a neuron of `[x, h]`. In a product, gate and signal receive the Shapley values of two factors. An
    activation behind a sum of states has the contributions of both. A masked step receives nothing.

    Args:
        kind: of the neurons, as in `Activation`.
    """

    def __init__(self, kind: str = "shapley") -> None:
        self._neuron = Activation(kind)
        self.kind = kind

    def multipliers(
        self,
        call: DifferenceRecord,
        inputs: Sequence[Variation],
        outputs: Sequence[Variation],
        multipliers: Sequence[Multiplier],
    ) -> list[Multiplier]:
        run = Loops(call, [x.value for x in inputs])
        at_baseline = Loops(call, [ops.broadcast_to(x.baseline, x.value.shape) for x in inputs])
        merged = list(map(Variation, run.outputs, at_baseline.outputs))
        steps = [
            _BACK[type(loop.step)](_Steps(loop, baseline, self._coefficients))
            for loop, baseline in zip(run.loops, at_baseline.loops)
        ]
        of_outputs = [multiplier.of_player(y.difference) for y, multiplier in zip(outputs, multipliers)]
        return list(map(Multiplier, run.back(of_outputs, lambda m, _: _split(run.merge_mode, m, merged), steps)))

    def _coefficients(self, function: TensorFunction, z: Variation, y: Variation) -> "_Coefficients":
        """`G` and `H` of the neurons `y = function(z)`: the multipliers of `z` where those of `y` are 1."""
        op = function if isinstance(function, layers.Layer) else layers.Activation(function, name="activation")
        record = DifferenceRecord("step", op, ((Value(),), {}))
        multiplier = self._neuron.before(record, function, z, y, Multiplier(ops.ones_like(z.value)))
        return {"g": multiplier.u} if multiplier.q is None else {"g": multiplier.u, "h": multiplier.q}


# `G`, and `H` where it is not zero
_Coefficients: TypeAlias = dict[str, Tensor]


def _split(merge_mode: str | None, m: Tensor, ys: Sequence[Variation]) -> list[Tensor]:
    """The multipliers of the two outputs that a Bidirectional layer merges."""
    if merge_mode == "concat":
        return ops.split(m, [ys[0].value.shape[-1]], axis=-1)
    if merge_mode == "mul":
        return [m * _mean(ys[1]), m * _mean(ys[0])]
    return [m / 2, m / 2] if merge_mode == "ave" else [m, m]


def _mean(factor: Variation) -> Tensor:
    """What the difference of the other factor of a product is multiplied with, for its Shapley value."""
    return (factor.value + factor.baseline) / 2


@dataclasses.dataclass
class _Steps:
    """All steps of a loop, and of the same loop at the baseline.

    Attributes:
        loop: the loop.
        baseline: the same at the baseline.
        coefficients: function that returns `G` and `H` of neurons, from activation, sums and outputs.
    """

    loop: Loop
    baseline: Loop
    coefficients: Callable[[TensorFunction, Variation, Variation], _Coefficients]

    def __post_init__(self) -> None:
        self.step: Any = self.loop.step
        self.x = Variation(self.loop.x, self.baseline.x)
        self.h = Variation(self.loop.before[0], self.baseline.before[0])
        self.n = self.x.value.shape[-1]

    def part(self, name: str) -> Variation:
        """What every step computes, such as a gate."""
        return Variation(getattr(self.loop.parts, name), getattr(self.baseline.parts, name))


class _Weights:
    """Weights of a linear map, for the way back through the neurons behind it."""

    def __init__(self, kernel: Tensor) -> None:
        self._transposed = ops.transpose(kernel)
        self._squares = ops.square(kernel)
        self._transposed_squares = ops.square(self._transposed)

    def squares(self, difference: Tensor) -> Tensor:
        """Sum of the squared contributions of inputs."""
        return matmul(ops.square(difference), self._squares)

    def back(self, difference: Tensor, u: Tensor, q: Tensor | None) -> Tensor:
        """The multipliers of the inputs from those of the sums."""
        m = matmul(u, self._transposed)
        return m if q is None else m + difference * matmul(q, self._transposed_squares)


def _times(m: Tensor, coefficients: _Coefficients) -> tuple[Tensor, Tensor | None]:
    """The multipliers of a neuron's sum, and of its squared contributions, from that of its output."""
    return m * coefficients["g"], m * coefficients["h"] if "h" in coefficients else None


def _simple_back(steps: _Steps) -> tuple[Structure, StepBack]:
    """The way back through SimpleRNN."""
    step, n = steps.step, steps.n
    weights = _Weights(ops.concatenate([step.kernel, step.recurrent_kernel], axis=0))
    xh = ops.concatenate([steps.x.difference, steps.h.difference], axis=-1)
    z = _with_squares(steps.part("sums"), weights.squares(xh))

    def back(parts: dict[str, Any], states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        m = weights.back(parts["xh"], *_times(states[0], parts["neuron"]))
        return m[..., :n], [m[..., n:]]

    return {"xh": xh, "neuron": steps.coefficients(step.act, z, steps.part("h"))}, back


def _lstm_back(steps: _Steps) -> tuple[Structure, StepBack]:
    """The way back through LSTM."""
    step, n = steps.step, steps.n
    weights = _Weights(ops.concatenate([step.kernel, step.recurrent_kernel], axis=0))
    xh = ops.concatenate([steps.x.difference, steps.h.difference], axis=-1)
    z = _with_squares(steps.part("sums"), weights.squares(xh))
    i, f, g, o, kept, added = map(steps.part, ("i", "f", "g", "o", "kept", "added"))
    z_i, z_f, z_g, z_o = _blocks(z, 4)
    # the gates at once: a quadrature takes long to compile
    of_gates = steps.coefficients(step.gate, _side_by_side([z_i, z_f, z_o]), _side_by_side([i, f, o]))
    of_g = steps.coefficients(step.act, z_g, g)
    c = _with_squares(steps.part("c"), kept.q + added.q)
    parts = {
        "xh": xh,
        "neurons": {key: _inserted(of_gates[key], of_g[key], 2 * step.cell.units) for key in of_gates},
        "cell": steps.coefficients(step.act, c, steps.part("squashed")),
        "d_kept": kept.difference,
        "d_added": added.difference,
        "c": _mean(Variation(steps.loop.before[1], steps.baseline.before[1])),
        **{name: _mean(steps.part(name)) for name in ("i", "f", "g", "o", "squashed")},
    }

    def back(at: dict[str, Any], states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        m_h, m_c = states
        u, q = _times(m_h * at["o"], at["cell"])
        m_kept = m_added = m_c + u
        if q is not None:
            m_kept, m_added = m_kept + at["d_kept"] * q, m_added + at["d_added"] * q
        of_neurons = [m_added * at["g"], m_kept * at["c"], m_added * at["i"], m_h * at["squashed"]]
        m = weights.back(at["xh"], *_times(ops.concatenate(of_neurons, axis=-1), at["neurons"]))
        return m[..., :n], [m[..., n:], m_kept * at["f"]]

    return parts, back


def _gru_back(steps: _Steps) -> tuple[Structure, StepBack]:
    """The way back through GRU."""
    step, n, split = steps.step, steps.n, 2 * steps.step.units
    resets_after = step.cell.reset_after
    kernel, recurrent_kernel = step.kernel, step.recurrent_kernel
    gate_weights = _Weights(ops.concatenate([kernel[:, :split], recurrent_kernel[:, :split]], axis=0))
    x, h, r, reset = steps.x, steps.h, steps.part("r"), steps.part("reset")
    product = Variation(r.value * reset.value, r.baseline * reset.baseline)
    xh = ops.concatenate([x.difference, h.difference], axis=-1)
    z_gates = _with_squares(steps.part("sums"), gate_weights.squares(xh))
    of_gates = steps.coefficients(step.gate, z_gates, _side_by_side([steps.part("z"), r]))
    # with reset_after the product is one more addend, else it goes through the weights
    kernel_n, recurrent_kernel_n = kernel[:, split:], recurrent_kernel[:, split:]
    if resets_after:
        weights = _Weights(ops.concatenate([kernel_n, ops.eye(step.units, dtype=kernel.dtype)], axis=0))
    else:
        weights = _Weights(ops.concatenate([kernel_n, recurrent_kernel_n], axis=0))
    xp = ops.concatenate([x.difference, product.difference], axis=-1)
    z_n = _with_squares(steps.part("sums_n"), weights.squares(xp))
    parts = {
        "xh": xh,
        "xp": xp,
        "gates": of_gates,
        "candidate": steps.coefficients(step.act, z_n, steps.part("n")),
        "h": _mean(h),
        **{name: _mean(steps.part(name)) for name in ("z", "r", "reset", "n")},
    }
    transposed = ops.transpose(recurrent_kernel_n)

    def back(at: dict[str, Any], states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        (m,) = states
        of_xp = weights.back(at["xp"], *_times(m * (1 - at["z"]), at["candidate"]))
        m_product = of_xp[..., n:]
        m_reset = m_product * at["r"]
        of_gates = [m * (at["h"] - at["n"]), m_product * at["reset"]]
        of_xh = gate_weights.back(at["xh"], *_times(ops.concatenate(of_gates, axis=-1), at["gates"]))
        of_h = of_xh[..., n:] + m * at["z"] + (matmul(m_reset, transposed) if resets_after else m_reset)
        return of_xh[..., :n] + of_xp[..., :n], [of_h]

    return parts, back


def _with_squares(z: Variation, squares: Tensor) -> Variation:
    """A sum with the sum of its squared contributions."""
    return Variation(z.value, z.baseline, lambda: squares)


def _blocks(z: Variation, n: int) -> list[Variation]:
    """Sums in `n` blocks of units."""
    parts = zip(*(ops.split(part, n, axis=-1) for part in (z.value, z.baseline, z.q)))
    return [_with_squares(Variation(value, baseline), squares) for value, baseline, squares in parts]


def _side_by_side(blocks: Sequence[Variation]) -> Variation:
    """Blocks of units as one."""
    value, baseline, squares = (
        ops.concatenate(parts, axis=-1) for parts in zip(*((z.value, z.baseline, z.q) for z in blocks))
    )
    return _with_squares(Variation(value, baseline), squares)


def _inserted(blocks: Tensor, block: Tensor, at: int) -> Tensor:
    """Units with a block of others in between."""
    return ops.concatenate([blocks[..., :at], block, blocks[..., at:]], axis=-1)


_BACK = {SimpleStep: _simple_back, LSTMStep: _lstm_back, GRUStep: _gru_back}
