"""One call of a model, and a rule applied to it."""

from functools import partial

import keras
from keras import ops

from keras_shapley.backend import compiled
from keras_shapley.lrp.rules.base import CallRecord
from keras_shapley.models.tracing import trace

BIAS = keras.initializers.RandomNormal(stddev=0.3, seed=1)


def call_of(layer, *shapes):
    """The layer's call in a model of its own."""
    inputs = [keras.Input(shape) for shape in shapes]
    model = keras.Model(inputs, layer(inputs if len(inputs) > 1 else inputs[0]))
    return trace(model).calls[-1]


def propagate(rule, call, inputs, relevance, dtype="float32"):
    record = CallRecord(call.name, call.op, call.arguments, call.outputs)
    tensors = [ops.convert_to_tensor(x, dtype=dtype) for x in inputs]
    parts = compiled(partial(rule, record), ())(tensors, ops.convert_to_tensor(relevance, dtype=dtype))
    return [ops.convert_to_numpy(part).astype("float64") for part in parts]


def total(relevance):
    """Sum over everything but the batch."""
    return relevance.reshape(len(relevance), -1).sum(axis=1)
