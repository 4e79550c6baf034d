"""`GateMonitor`: how many gates are shut and how much gradient arrives, layer by layer, while a model learns."""

import keras
from keras import ops

from keras_shapley.backend import compiled, vjp
from keras_shapley.layers.activations import gate
from keras_shapley.layers.base import ShapleyLayer
from keras_shapley.layers.linear_maps import LINEAR_TYPES, linear_map
from keras_shapley.layers.normal import normal_cdf
from keras_shapley.models.layer_types import activation_name
from keras_shapley.models.tracing import trace
from keras_shapley.utils.validation import finite


class GateMonitor(keras.callbacks.Callback):
    """Adds to the logs of every epoch, for each layer, the shares of closed and of open gates and a gradient norm.

    A gate is what a neuron lets through of a gradient: with ReLU 0 or 1, with SA and ShapLU the probability of eq. (1)
    that the neuron is open, with GELU `Phi(s)`. It is counted as closed below `threshold` and as open above `1 -
    threshold`. The norm is that of the loss's gradient by the layer's kernel. All are of the same images
    in every epoch, with the model in inference mode; keys are `NAME/closed`, `NAME/open` and `NAME/gradient_norm`.

    History has them, and so have `CSVLogger` and `TensorBoard` where this callback stands in front of them.

    Args:
        x, y: images and their labels as the model takes them in `fit`; a batch of a few hundred.
        threshold: of gates, above 0 and below 1/2.

    Raises:
        ValueError: at once, on a bad threshold, NaN, infinity, or numbers of `x` and `y` that differ; when training
            begins, if the model is neither Sequential nor Functional, or has several inputs.
    """

    def __init__(self, x, y, *, threshold=0.01):
        super().__init__()
        self.x, self.y = finite("x", ops.convert_to_numpy(x)), ops.convert_to_numpy(y)
        if len(self.x) != len(self.y) or not len(self.x):
            raise ValueError(f"`x` and `y` must be as many. Received: {len(self.x)} and {len(self.y)}")
        if not 0 < threshold < 0.5:
            raise ValueError(f"`threshold` must be above 0 and below 0.5. Received: threshold={threshold!r}")
        self.threshold = threshold

    def on_train_begin(self, logs=None):
        self._graph = trace(self.model)
        if len(self._graph.inputs) != 1:
            raise ValueError(f"GateMonitor takes models with one input. Received: {len(self._graph.inputs)}")
        linear = {id(call.op): call for call in reversed(self._graph.calls) if isinstance(call.op, LINEAR_TYPES)}
        places = {id(variable): i for i, variable in enumerate(self.model.variables)}
        # of each layer the weights that learn, but its bias
        self._places = {
            call.name: [places[id(v)] for v in call.op.trainable_variables if len(v.shape) > 1]
            for call in reversed(linear.values())
        }
        self._measure = compiled(self._measured, self.model.variables)

    def on_epoch_end(self, epoch, logs=None):
        found = self._measure(ops.convert_to_tensor(self.x), ops.convert_to_tensor(self.y))
        if logs is not None:
            logs.update({name: float(ops.convert_to_numpy(value)) for name, value in found.items()})

    def _measured(self, x, y):
        return {**self._shares(x), **self._norms(x, y)}

    def _shares(self, x):
        """Shares of closed and open gates of every layer that has gates, by their keys."""
        values, found = {self._graph.inputs[0]: x}, {}
        for call in self._graph.calls:
            inputs = [values[value] for value in call.inputs]
            outputs = keras.tree.flatten(call(*inputs))
            values.update(zip(call.outputs, outputs))
            gates = _gates(call, inputs, outputs)
            if gates is not None:
                closed, opened = gates < self.threshold, gates > 1 - self.threshold
                for name, which in (("closed", closed), ("open", opened)):
                    found[f"{call.name}/{name}"] = ops.mean(ops.cast(which, "float32"))
        return found

    def _norms(self, x, y):
        variables = self.model.variables
        values = [variable.value for variable in variables]
        places = sorted({place for some in self._places.values() for place in some})

        def loss(*learned):
            mapping = dict(enumerate(values)) | dict(zip(places, learned))
            with keras.StatelessScope(state_mapping=[(variables[i], value) for i, value in mapping.items()]):
                y_pred = self.model(x, training=False)
                return ops.cast(self.model.compute_loss(x=x, y=y, y_pred=y_pred, training=False), "float32")

        value, pullback = vjp(loss, *(values[place] for place in places))
        gradients = dict(zip(places, pullback(ops.ones_like(value))))
        return {
            f"{name}/gradient_norm": ops.sqrt(sum(ops.sum(ops.square(gradients[place])) for place in some))
            for name, some in self._places.items()
            if some
        }


def _gates(call, inputs, outputs):
    """What the neurons of a call let through of a gradient, or None for a call without gates."""
    if isinstance(call.op, ShapleyLayer):
        return gate(*call.op.gate_moments(inputs[0]))
    function = activation_name(call.op)
    if function == "relu":
        return ops.cast(outputs[0] > 0, "float32")
    if function != "gelu":
        return None
    s = linear_map(call.op).preactivation(inputs[0]) if isinstance(call.op, LINEAR_TYPES) else inputs[0]
    return normal_cdf(s)
