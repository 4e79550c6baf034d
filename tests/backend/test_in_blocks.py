"""`in_blocks`: a function gets a batch at once, or on PyTorch a few samples at a time, and returns the same."""

import sys

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_shapley as ks
from keras_shapley.backend import compiled, in_blocks

IS_TORCH = keras.backend.backend() == "torch"


@pytest.mark.parametrize("size", [2**10, 2**17 + 1], ids=["small", "large"])
@pytest.mark.parametrize("is_compiled", [False, True])
def test_results_are_those_of_the_whole_batch(size, is_compiled, rng, numpy):
    """With a tensor of one sample beside those of five. Where gradients may be asked for, a batch stays whole."""
    x, y = rng.normal(size=(5, size)).astype("float32"), rng.normal(size=(1, size)).astype("float32")
    calls = []

    def fn(x, y):
        calls.append(x.shape[0])
        return x * y + y, ops.square(x)

    run = compiled(lambda *pair: in_blocks(fn, *pair), []) if is_compiled else lambda *pair: in_blocks(fn, *pair)
    product, square = run(ops.convert_to_tensor(x), ops.convert_to_tensor(y))
    np.testing.assert_allclose(numpy(product), x * y + y, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(numpy(square), x**2, rtol=1e-6)
    if IS_TORCH:
        assert calls == ([1] * 5 if is_compiled and size > 2**17 else [5])


class Masked(layers.Layer):
    """Acts on each element alone, with the mask of the whole batch."""

    supports_masking = True

    def call(self, x, mask=None):
        return ops.tanh(x) if mask is None else ops.tanh(x) * ops.cast(mask, x.dtype)[..., None]


@pytest.mark.skipif(not IS_TORCH, reason="the other backends compute a batch at once")
@pytest.mark.filterwarnings("ignore:.*masks the token 0", "ignore:Layer .flatten")
def test_a_mask_is_that_of_the_whole_batch(rng):
    model = keras.Sequential(
        [
            keras.Input((64,), dtype="int32"),
            layers.Embedding(9, 8, mask_zero=True),
            layers.Dense(64),
            Masked(name="masked"),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )
    tokens = rng.integers(9, size=(80, 64))
    explanation = ks.LRP(model, rules=[("masked", ks.rules.Elementwise())]).explain(tokens, 0)
    np.testing.assert_allclose(explanation.input.sum(axis=1), explanation.head_total, rtol=1e-3, atol=1e-5)


@pytest.mark.skipif(not IS_TORCH, reason="the other backends compute a batch at once")
@pytest.mark.parametrize("gates", [0, 8])
@pytest.mark.parametrize("activation", ["relu", "gelu", "prelu"])
def test_relevance_in_blocks_is_that_of_the_whole_batch(activation, gates, rng, monkeypatch):
    keras.utils.set_random_seed(0)
    images = keras.Input((96, 96, 2))
    x = layers.BatchNormalization()(layers.Conv2D(16, 3, padding="same")(images))
    x = layers.PReLU("random_normal")(x) if activation == "prelu" else layers.Activation(activation)(x)
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(layers.Add()([x, layers.Conv2D(16, 1)(images)]))
    model = keras.Model(images, layers.Dense(3, "softmax")(layers.GlobalAveragePooling2D()(x)))
    batch = rng.normal(size=(5, 96, 96, 2)).astype("float32")
    players = np.arange(batch[0].size).reshape(batch[0].shape) // 3072
    measured = {"gates": gates, "players": players} if gates else {}
    explainer = ks.LRP(model, baseline=batch.mean(axis=0), **measured)
    in_blocks = ops.convert_to_numpy(explainer(batch, 1))
    monkeypatch.setattr(sys.modules["keras_shapley.backend.torch"], "_BLOCK", batch.size * 100)
    np.testing.assert_allclose(in_blocks, ops.convert_to_numpy(explainer(batch, 1)), rtol=1e-5, atol=1e-10)
