"""Models that begin with a Dense layer, one player at a time: a row of its kernel is added, and no product formed."""

import numpy as np
from keras import layers, ops, tree

from keras_shapley.backend import compiled
from keras_shapley.layers.activations import shapley_activation
from keras_shapley.layers.base import ShapleyLayer
from keras_shapley.layers.sa import ShapleyActivation
from keras_shapley.models.graph import ancestors
from keras_shapley.models.tracing import trace

# what each element goes through on its own before that layer
_ELEMENTWISE = (
    layers.Flatten,
    layers.Reshape,
    layers.Identity,
    layers.Dropout,
    layers.Rescaling,
    layers.Normalization,
    layers.BatchNormalization,
)


class FirstDense:
    """A model in two parts: the sums of its first layer, a Dense one, and the rest.

    The sums `u` are additive over the inputs, and so is the second moment `q` of SA, which stands beside them.

    Args:
        calls: of the model's graph, those in front of the layer, its own, and those behind.
        graph: of the model.
        variables: of the model.
    """

    def __init__(self, before, dense, behind, graph, variables):
        self._before, self._dense, self._behind, self._graph = before, dense, behind, graph
        self._inputs = compiled(self._inputs, variables)
        self.rest = compiled(self._rest, variables, any_batch=True)

    @property
    def width(self):
        """Number of sums."""
        return sum(kernel.shape[1] for kernel in self._kernels)

    @property
    def _kernels(self):
        """One for the inputs, and for SA one for their squares."""
        layer = self._dense.op
        kernel = ops.convert_to_numpy(layer.kernel).astype("float64")
        if not isinstance(layer, ShapleyActivation):
            return [kernel]
        squares = np.square(kernel)
        return [kernel, squares if layer.second_moment == "exact" else np.broadcast_to(squares.mean(0), squares.shape)]

    def sums(self, x):
        """The layer's sums for a batch, shape `(batch, width)`, float64."""
        return np.concatenate([part @ kernel for part, kernel in zip(self._powers(x), self._kernels)], axis=1)

    def increments(self, image, other, players):
        """What each player adds to the sums if it comes as in `image` rather than in `other`.

        Args:
            image, other: of the shape of an input.
            players: of each element, in the same shape.

        Returns:
            Shape `(players, width)`, float64.
        """
        players = players.reshape(-1)
        order = np.argsort(players, kind="stable")
        starts = np.searchsorted(players[order], np.arange(players.max() + 1))
        differences = (np.diff(part, axis=0)[0] for part in self._powers(np.stack([other, image])))
        added = [difference[:, None] * kernel for difference, kernel in zip(differences, self._kernels)]
        return np.add.reduceat(np.concatenate(added, axis=1)[order], starts, axis=0)

    def _powers(self, x):
        h = ops.convert_to_numpy(self._inputs(ops.convert_to_tensor(x))).astype("float64")
        return h, np.square(h)

    def _inputs(self, x):
        """What the layer is given for a batch."""
        for call in self._before:
            x = call(x)
        return x

    def _rest(self, sums):
        """The model's output from the sums."""
        layer = self._dense.op
        b = ops.zeros((), sums.dtype) if layer.bias is None else ops.convert_to_tensor(layer.bias)
        u, q = sums[:, : layer.units], sums[:, layer.units :]
        if isinstance(layer, ShapleyActivation):
            y = shapley_activation(u, q, b)
        else:
            y = ops.relu(u + b) if isinstance(layer, ShapleyLayer) else layer.activation(u + b)
        found = {self._dense.outputs[0]: y}
        for call in self._behind:
            outputs = tree.flatten(call(*[found[value] for value in call.inputs]))
            found.update(zip(call.outputs, outputs))
        return found[self._graph.outputs[0]]


def first_dense(model):
    """The `FirstDense` of a model of float32 that begins with one, or None."""
    try:
        graph = trace(model)
    except ValueError:
        # a model whose call is code of its own is evaluated as a whole
        return None
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        return None
    needed = ancestors(graph.outputs)
    calls = [call for call in graph.calls if call in needed]
    (value,), before, shape = graph.inputs, [], tuple(model.inputs[0].shape)
    while True:
        users = [call for call in calls if value in call.inputs]
        if len(users) != 1 or len(users[0].inputs) != 1 or users[0].outputs[0] is graph.outputs[0]:
            return None
        (call,) = users
        if not call.is_a(_ELEMENTWISE):
            break
        if isinstance(call.op, layers.Flatten) and call.op.data_format == "channels_first" and len(shape) > 2:
            # moves the channels behind the rest
            return None
        before.append(call)
        value, shape = call.outputs[0], call.op.compute_output_shape(shape)
    plain = call.is_a((layers.Dense,)) and not call.op.quantization_mode and call.op.compute_dtype == "float32"
    if not plain or len(shape) != 2:
        return None
    behind = [other for other in calls if other is not call and other not in before]
    return FirstDense(before, call, behind, graph, model.variables)
