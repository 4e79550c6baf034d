"""Relevance of a ReLU neuron with a large bias, section 2.1 of the paper."""

import pathlib

import numpy as np
from keras import ops

import keras_shapley as ks
from lab import files, pictures, tables

NEURONS, N = 1000, 9
MULTIPLES = (0.1, 0.3, 1, 3, 10, 30, 100)
INTRODUCTION = f"""\
# Relevance where the bias is large

Made by `python reproduce/studies/large_bias.py`. How unequal the {N} inputs' shares of the relevance are: the standard
deviation of n r_k / (sum of r), which is 0 if all shares are equal. Median over {NEURONS:,} random ReLU neurons. The
bias is positive, in units of the root mean square of the products w_k x_k.
"""


def spreads(multiple: float, seed: int) -> dict[str, np.ndarray]:
    """Standard deviation of the shares of each neuron, `(NEURONS,)`: eq. (2), eq. (2) without b/n, Shapley values.

    Args:
        multiple: the bias over the root mean square of the products.
        seed: of the neurons.
    """
    rng = np.random.default_rng(seed)
    products = np.prod(rng.standard_normal((2, NEURONS, N)), axis=0).astype("float32")
    b = multiple * np.sqrt(np.mean(np.square(products), axis=1))
    exact = ks.neuron_shapley_values(np.ones((1, N), "float32"), products.T, b, method="exact")
    relevance = {
        "eq. (2)": products + b[:, None] / N,
        "eq. (2) without b/n": products,
        "exact Shapley values": ops.convert_to_numpy(exact)[0].T,
    }
    return {name: np.std(values, axis=1) / np.abs(np.mean(values, axis=1)) for name, values in relevance.items()}


def write(out: pathlib.Path, seed: int = 0) -> str:
    """Writes large_bias.md and large_bias.png; returns the table."""
    by_multiple = [spreads(multiple, seed) for multiple in MULTIPLES]
    medians = {name: [float(np.median(spread[name])) for spread in by_multiple] for name in by_multiple[0]}
    lines = [INTRODUCTION, *tables.head("bias", *map(str, MULTIPLES))]
    lines += [tables.line([name, *(f"{value:.3f}" for value in values)]) for name, values in medians.items()]
    text = "\n".join([*lines, "", f"- Seed {seed}."]) + "\n"
    files.write(out / "large_bias.md", text)

    with pictures.picture(out / "large_bias.png", 7, 4) as figure:
        axes = figure.subplots()
        for (name, values), style in zip(medians.items(), ("-o", "-s", "--x")):
            axes.plot(MULTIPLES, values, style, label=name)
        axes.set_xscale("log")
        axes.set(xlabel="bias over the products' root mean square", ylabel="standard deviation of the shares, times n")
        axes.set(title="Does a large bias make the inputs' shares of the relevance equal?", ylim=(0, None))
        pictures.label_ends(axes)
    return text
