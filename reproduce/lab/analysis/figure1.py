"""Fig. 1 of the paper: the gate of a neuron, one of whose signals varies ("attention to exception")."""

import pathlib

import numpy as np
from keras import ops

from keras_shapley.layers.activations import gate
from lab import pictures

# The paper names neither the number of signals nor their size: these are ours.
N = 10  # signals
SUMS = (-4.0, -1.0, 4.0)  # of the signals that stay
WEIGHTS = (1 / 3, 1.0, 3.0)  # of the signal that varies, relative to the others
FAR = 40.0  # its largest absolute value


def gates(signals: np.ndarray, rest: float, weight: float = 1.0) -> list[np.ndarray]:
    """The gate of eq. (1) with the exact and with the pooled second moment, in the shape of `signals`.

    Args:
        signals: values of `w_k x_k`, shape `(n,)`.
        rest: sum of the other signals, which are equal and have weight 1.
        weight: `w_k`.
    """
    x, w = np.full((len(signals), N), rest / (N - 1)), np.ones(N)
    x[:, 0], w[0] = signals / weight, weight
    u, exact, pooled = x @ w, x**2 @ w**2, np.mean(x**2, axis=1) * np.sum(w**2)
    u, *second_moments = (ops.convert_to_tensor(moment, "float32") for moment in (u, exact, pooled))
    return [ops.convert_to_numpy(gate(u, q, 0.0)) for q in second_moments]


def curve(rest: float) -> tuple[np.ndarray, np.ndarray]:
    """The signals of the picture, and the exact gate at each."""
    signals = np.linspace(-FAR, FAR, 801)
    return signals, gates(signals, rest)[0]


def write(out: pathlib.Path) -> str:
    """Writes figure1.png; returns a table of the right panel."""
    with pictures.picture(out / "figure1.png", 8, 3.4) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        for rest in SUMS:
            left.plot(*curve(rest), label=f"others sum to {rest:g}")
        signals, exact = curve(SUMS[0])
        right.plot(signals, exact, "k", label="exact, any $w_k$")
        for weight in WEIGHTS:
            right.plot(signals, gates(signals, SUMS[0], weight)[1], "--", label=f"pooled, $w_k$ = {weight:.2g}")
        left.set(title="exact second moment, eq. (1)", ylabel="gate")
        right.set(title="pooled, others sum to -4")
        figure.suptitle("Does the gate open for one signal that is unlike the others?")
        for axes in (left, right):
            axes.set(xlabel="signal $w_k x_k$", ylim=(0, 1))
            axes.axhline(0.5, color="0.8", zorder=0)
            axes.title.set_fontsize("medium")
            pictures.label_ends(axes)

    signals = np.array([-FAR, -4, 0, 4, FAR])
    lines = ["gate where the others sum to -4 and the signal is"]
    lines.append(f"{'w_k':>6} {'':8}" + "".join(f"{signal:>8g}" for signal in signals))
    for weight in WEIGHTS:
        for name, values in zip(("exact", "pooled"), gates(signals, SUMS[0], weight)):
            lines.append(f"{weight:6.2f} {name:8}" + "".join(f"{value:8.3f}" for value in values))
    return "\n".join(lines)
