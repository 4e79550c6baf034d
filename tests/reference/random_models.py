"""Small random models of every kind that relevance passes through, as a hypothesis strategy."""

import contextlib
import dataclasses

import keras
import numpy as np
from hypothesis import strategies as st
from keras import layers, ops

import keras_shapley as ks

SHAPES = {"image": (6, 6, 2), "steps": (4, 3), "vector": (5,)}
HEADS = ["linear", "softmax", "sigmoid", "relu", "tanh"]


def _conv(filters=3, size=3, **options):
    return layers.Conv2D(filters, size, padding="same", **options)


def _gated(x, gate):
    return layers.Multiply()([x, gate])


# by name, what comes next in the branch of an input; maps stay at least 1 x 1
ANYWHERE = {
    "relu": lambda x: layers.ReLU()(x),
    "leaky relu": lambda x: layers.LeakyReLU(0.2)(x),
    "gelu": lambda x: layers.Activation("gelu")(x),
    "tanh": lambda x: ops.tanh(x),
    "dropout": lambda x: layers.Dropout(0.3)(x),
    "batch normalization": lambda x: layers.BatchNormalization()(x),
    "a number times, plus a number": lambda x: 0.7 * x + 0.2,
    "dense": lambda x: layers.Dense(4)(x),
    "dense with silu": lambda x: layers.Dense(4, "silu")(x),
    "SA dense": lambda x: ks.SADense(4)(x),
    "ShapLU dense": lambda x: ks.ShapLUDense(4)(x),
    "add": lambda x: layers.Add()([x, layers.Dense(x.shape[-1], "relu")(x)]),
    "subtract": lambda x: x - layers.Dense(x.shape[-1])(x),
    "concatenate": lambda x: layers.Concatenate()([x, layers.Dense(2, "relu")(x)]),
    "multiply": lambda x: _gated(x, layers.Dense(x.shape[-1], "sigmoid")(x)),
    "maximum": lambda x: layers.Maximum()([x, layers.Dense(x.shape[-1])(x)]),
}
BLOCKS = {
    "vector": ANYWHERE,
    "image": {
        **ANYWHERE,
        "conv": lambda x: _conv()(x),
        "conv, valid": lambda x: layers.Conv2D(3, min(2, x.shape[1]), activation="relu")(x),
        "conv, strided": lambda x: _conv(strides=2, activation="relu")(x),
        "conv, normalized": lambda x: layers.ReLU()(layers.BatchNormalization()(_conv()(x))),
        "SA conv": lambda x: ks.SAConv2D(3, 2, padding="same")(x),
        "ShapLU conv": lambda x: ks.ShapLUConv2D(3, 3, padding="same")(x),
        "depthwise": lambda x: layers.DepthwiseConv2D(3, padding="same")(x),
        "separable": lambda x: layers.SeparableConv2D(3, 2, padding="same", activation="relu")(x),
        "max pooling": lambda x: layers.MaxPooling2D(2, padding="same")(x),
        "average pooling": lambda x: layers.AveragePooling2D(2, padding="same")(x),
        "zero padding": lambda x: layers.ZeroPadding2D(1)(x),
        "conv added": lambda x: layers.Add()([x, _conv(x.shape[-1], activation="relu")(x)]),
        "excited": lambda x: _gated(x, layers.Dense(x.shape[-1], "sigmoid")(layers.GlobalAveragePooling2D()(x))),
    },
    "steps": {
        **ANYWHERE,
        "less its average": lambda x: layers.Subtract()([x, layers.GlobalAveragePooling1D()(x)]),
        "at least its average": lambda x: layers.Maximum()([layers.GlobalAveragePooling1D()(x), x]),
        "conv with relu": lambda x: layers.Conv1D(3, 2, padding="causal", activation="relu")(x),
        "layer normalization": lambda x: layers.LayerNormalization()(x),
        "attention": lambda x: layers.Add()([x, layers.MultiHeadAttention(2, 2)(x, x)]),
        "LSTM": lambda x: layers.LSTM(3, return_sequences=True)(x),
        "max pooling": lambda x: layers.MaxPooling1D(2, padding="same")(x),
    },
}
# what moments are not carried through
WITHOUT_MOMENTS = {"maximum", "at least its average", "layer normalization", "attention", "LSTM"}
# blocks that are linear where there is no bias
LINEAR = {"dense", "batch normalization", "dropout", "conv", "depthwise", "average pooling", "zero padding"}
ENDS = {
    "flatten": lambda x: layers.Flatten()(x),
    "average": lambda x: ops.mean(x, axis=tuple(range(1, len(x.shape) - 1))) if len(x.shape) > 2 else x,
    "maximum": lambda x: ops.max(x, axis=tuple(range(1, len(x.shape) - 1))) if len(x.shape) > 2 else x,
}


@dataclasses.dataclass(frozen=True)
class Network:
    """A model in words, so that hypothesis can print and shrink it.

    Attributes:
        branches: by kind of input, the names of its blocks and of its end.
        tail: names of the blocks behind the branches.
        head: the activation of the output.
        units: number of outputs.
        bias: whether biases, and what BatchNormalization adds, are not zero.
        seed: of the weights.
    """

    branches: dict[str, tuple[list[str], str]]
    tail: list[str]
    head: str
    units: int
    seed: int
    bias: bool = True

    @property
    def names(self):
        """The names of all blocks."""
        return [*(name for blocks, _ in self.branches.values() for name in blocks), *self.tail]

    def build(self):
        """The Keras model, with random weights."""
        inputs = {kind: keras.Input(SHAPES[kind], name=kind) for kind in self.branches}
        parts = []
        for kind, (blocks, end) in self.branches.items():
            x = inputs[kind]
            for name in blocks:
                x = BLOCKS[kind][name](x)
            parts.append(ENDS[end](x))
        x = parts[0] if len(parts) == 1 else layers.Concatenate()(parts)
        for name in self.tail:
            x = ANYWHERE[name](x)
        y = layers.Dense(self.units, self.head)(x)
        model = keras.Model(inputs if len(inputs) > 1 else next(iter(inputs.values())), y)
        self._fill(model)
        return model

    def inputs(self, n, seed=0):
        """A random batch, in the structure that the model takes."""
        rng = np.random.default_rng([self.seed, seed])
        arrays = {kind: rng.normal(size=(n, *SHAPES[kind])).astype(keras.config.floatx()) for kind in self.branches}
        return arrays if len(arrays) > 1 else next(iter(arrays.values()))

    def _fill(self, model):
        rng = np.random.default_rng(self.seed)
        for weight in model.weights:
            name = weight.path.rpartition("/")[2]
            if "seed" in name:
                continue
            fan_in = max(np.prod(weight.shape[:-1]), 1) if len(weight.shape) > 1 else 1
            values = rng.normal(size=weight.shape) / np.sqrt(fan_in)
            if name in ("gamma", "moving_variance"):
                values = rng.uniform(0.5, 2, size=weight.shape)
            elif len(weight.shape) == 1:
                values = 0.3 * values * self.bias
            weight.assign(values)


@st.composite
def networks(draw, kinds=tuple(SHAPES), blocks=None, heads=HEADS, ends=tuple(ENDS), bias=True):
    """Strategy of `Network`: one or two inputs, up to three blocks each, one or two behind them."""
    chosen = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=2, unique=True))

    def names(kind, most):
        known = [name for name in BLOCKS[kind] if blocks is None or name in blocks]
        return draw(st.lists(st.sampled_from(known), max_size=most))

    branches = {kind: (names(kind, 3), draw(st.sampled_from(ends))) for kind in chosen}
    head = draw(st.sampled_from(heads))
    units = 1 if head == "sigmoid" else draw(st.integers(2, 3))
    return Network(branches, names("vector", 2), head, units, draw(st.integers(0, 10**6)), bias)


@contextlib.contextmanager
def eager_float64():
    """Layers are float64, and functions run without being compiled, as a random model is run a few times only."""
    before = keras.config.floatx()
    with contextlib.ExitStack() as stack:
        stack.callback(keras.config.set_floatx, before)
        keras.config.set_floatx("float64")
        if keras.backend.backend() == "jax":
            import jax

            stack.enter_context(jax.enable_x64())
            stack.enter_context(jax.disable_jit())
        stack.enter_context(eager_tensorflow())
        yield


@contextlib.contextmanager
def eager_tensorflow():
    """TensorFlow runs functions without making graphs, which takes longer than to run them once."""
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)
