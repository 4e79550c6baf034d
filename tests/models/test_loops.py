"""The loops of recurrent layers compute what Keras computes, and know its states."""

import numpy as np
import pytest
from keras import layers, ops

from keras_shapley.models.graph import Call, Value
from keras_shapley.models.loops import Loops
from keras_shapley.models.recurrent import check_recurrent

MASK = np.array([[0, 0, 1, 1, 0], [1, 0, 1, 0, 1], [0, 0, 0, 0, 0], [1, 1, 1, 0, 0]], bool)

LAYERS = {
    "SimpleRNN": lambda **options: layers.SimpleRNN(3, **options),
    "LSTM": lambda **options: layers.LSTM(3, **options),
    "GRU": lambda **options: layers.GRU(3, **options),
    "GRU, reset before": lambda **options: layers.GRU(3, reset_after=False, **options),
    "LSTM, other activations": lambda **options: layers.LSTM(
        3, activation="relu", recurrent_activation="hard_sigmoid", use_bias=False, **options
    ),
    "GRU, no bias": lambda **options: layers.GRU(3, use_bias=False, **options),
    "LSTM, unrolled": lambda **options: layers.LSTM(3, unroll=True, **options),
    "RNN of a cell": lambda **options: layers.RNN(layers.LSTMCell(3), **options),
}


def shaken(layer, rng):
    """The layer with random weights, its biases too."""
    for weight in layer.weights:
        weight.assign(rng.normal(size=weight.shape))
    return layer


def call_of(layer, n_states=0, mask=None):
    arguments = {"initial_state": [Value() for _ in range(n_states)] or None, "mask": mask}
    return Call("call", layer, ((Value(),), arguments))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_outputs_and_states_are_those_of_keras(name, sequences, backwards, masked, rng, backend):
    """Also behind masked steps, in front of them, and for a sequence that is masked as a whole."""
    if backend == "torch" and "unrolled" in name and backwards and masked:
        pytest.skip("Keras 3.15 does not run this layer on PyTorch")
    layer = LAYERS[name](return_sequences=sequences, return_state=True, go_backwards=backwards)
    x = ops.convert_to_tensor(rng.normal(size=(4, 5, 2)).astype("float32"))
    layer(x)
    shaken(layer, rng)
    n_states = 2 if "LSTM" in name or "RNN of" in name else 1
    states = [ops.convert_to_tensor(rng.normal(size=(4, 3)).astype("float32")) for _ in range(n_states)]
    mask = ops.convert_to_tensor(MASK) if masked else None
    for given in ([], states):
        loops = Loops(call_of(layer, len(given), mask), [x, *given])
        expected = layer(x, initial_state=given or None, mask=mask)
        outputs = loops.loops[0].outputs()
        for ours, keras_ in zip(outputs, expected):
            np.testing.assert_allclose(*map(ops.convert_to_numpy, (ours, keras_)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("sequences", [False, True])
def test_the_directions_of_bidirectional_are_those_of_keras(sequences, masked, rng):
    layer = layers.Bidirectional(layers.GRU(3, return_sequences=sequences), merge_mode=None)
    x = ops.convert_to_tensor(rng.normal(size=(4, 5, 2)).astype("float32"))
    layer(x)
    shaken(layer, rng)
    mask = ops.convert_to_tensor(MASK) if masked else None
    loops = Loops(call_of(layer, 0, mask), [x])
    for ours, keras_ in zip(loops.outputs, layer(x, mask=mask), strict=True):
        np.testing.assert_allclose(*map(ops.convert_to_numpy, (ours, keras_)), rtol=1e-5, atol=1e-6)


REFUSED = {
    "is stateful": lambda: layers.LSTM(3, stateful=True),
    "a StackedRNNCells inside": lambda: layers.RNN([layers.GRUCell(3), layers.GRUCell(3)]),
    "the activation 'softmax'": lambda: layers.SimpleRNN(3, activation="softmax"),
    "the recurrent_activation 'softmax'": lambda: layers.Bidirectional(layers.GRU(3, recurrent_activation="softmax")),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_not_known_is_refused_by_name(message):
    layer = REFUSED[message]()
    with pytest.raises(ValueError, match=f"'call'.*{message}"):
        check_recurrent(call_of(layer))


def test_a_cell_with_code_of_its_own_is_refused():
    class Own(layers.LSTMCell):
        def call(self, inputs, states, training=False):
            return super().call(inputs, states, training)

    with pytest.raises(ValueError, match="Own inside"):
        check_recurrent(call_of(layers.RNN(Own(3))))
