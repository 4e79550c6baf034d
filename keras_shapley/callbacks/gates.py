"""`GateMonitor`: how many gates are closed and how large the gradients are, layer by layer, during training."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops, tree

from keras_shapley.backend import compiled, vjp
from keras_shapley.layers.activations import gate
from keras_shapley.layers.base import ShapleyLayer
from keras_shapley.layers.linear_maps import LINEAR_TYPES, linear_map
from keras_shapley.layers.normal import normal_cdf
from keras_shapley.models.evaluation import as_model_takes
from keras_shapley.models.given_inputs import inputs_and_labels, inputs_of, is_frame
from keras_shapley.models.graph import Call, Graph
from keras_shapley.models.layer_types import activation_name
from keras_shapley.models.tracing import trace
from keras_shapley.utils.data import is_data_set
from keras_shapley.utils.structures import arrays_of
from keras_shapley.utils.typing import Structure, Tensor
from keras_shapley.utils.validation import finite


class GateMonitor(keras.callbacks.Callback):
    """Adds the shares of closed and open gates and the gradient norm of every layer to the logs of each epoch.

    The gate of a neuron is the factor that multiplies its sum: 0 or 1 for ReLU, the probability of eq. (1) that the
    neuron is open for SA and ShapLU, and `Phi(s)` for GELU. A gate is closed below `threshold` and open above
    `1 - threshold`. The gradient norm is the norm of the gradient of the loss with respect to the layer's kernel. All
    are measured on the same data in each epoch, with the model in inference mode.

    The keys in the logs are `NAME/closed`, `NAME/open` and `NAME/gradient_norm`. They appear in `History`, and in
    `CSVLogger` and `TensorBoard` if this callback comes before them in the list.

    Args:
        x: inputs as the model takes them in `fit`: an array `(n, ...)`, several in a list or dict, or a data frame; or
            a data set of batches `(x, y)`. A few hundred samples are enough.
        y: their labels as the model takes them in `fit`, arrays `(n, ...)` in the structure of its outputs; None if
            they are in the data set.
        threshold: gates below it count as closed, above 0 and below 1/2.

    Raises:
        ValueError: when it is made, if `threshold` is out of range, `x` holds NaN or infinity, there are no labels, or
            `x` and `y` differ in length; when training begins, if the model is neither Sequential nor Functional, or
            `x` or `y` does not fit it.

    Examples:
        >>> x = np.random.default_rng(0).normal(size=(32, 6)).astype("float32")
        >>> y = np.arange(32) % 3
        >>> hidden = ks.SADense(8, name="hidden")
        >>> model = keras.Sequential([keras.Input((6,)), hidden, keras.layers.Dense(3, "softmax", name="classes")])
        >>> model.compile("adam", "sparse_categorical_crossentropy")
        >>> history = model.fit(x, y, verbose=0, callbacks=[ks.GateMonitor(x, y)]).history
        >>> sorted(key for key in history if "/" in key)
        ['classes/gradient_norm', 'hidden/closed', 'hidden/gradient_norm', 'hidden/open']
    """

    _graph: Graph
    _kernels: dict[str, list[int]]
    _data: tuple[Structure, Structure]

    def __init__(self, x: Structure, y: Structure | None = None, *, threshold: float = 0.01) -> None:
        super().__init__()
        if is_data_set(x):
            x, labels = inputs_and_labels(None, x)
            y = labels if y is None else y
        elif y is None and isinstance(x, tuple) and len(x) in (2, 3):
            x, y = x[:2]
        if y is None:
            raise ValueError("`y` must be the labels of `x`: the gradients are those of the loss. Received: None")
        self.x = x
        self.y = tree.map_structure(ops.convert_to_numpy, y)
        arrays = arrays_of(x)
        for array in [] if is_frame(x) else arrays:
            finite("x", ops.convert_to_numpy(array))
        labels = tree.flatten(self.y)
        if not all(part.ndim for part in labels):
            raise ValueError("`y` must be the labels of `x`, arrays of shape (batch, ...). Received: numbers")
        lengths = {len(array) for array in [*arrays, *labels]}
        if len(lengths) > 1 or not max(lengths):
            raise ValueError(f"`x` and `y` must have the same length, 1 or more. Received lengths: {sorted(lengths)}")
        if not 0 < threshold < 0.5:
            raise ValueError(f"`threshold` must be above 0 and below 0.5. Received: threshold={threshold!r}")
        self.threshold = threshold

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._graph = trace(self.model)
        self._kernels = _kernel_indices(self._graph.calls, self.model.variables)
        self._measure = compiled(self._measurements, self.model.variables)
        x = as_model_takes(self.model, inputs_of(self.model, self.x))
        self._data = tree.map_structure(ops.convert_to_tensor, (x, self.y))
        # what fails, fails before training; and what is compiled here serves every epoch
        try:
            self._measure(*self._data)
        except Exception as error:
            raise ValueError(f"GateMonitor cannot measure the model on `x` and `y`: {error}") from error

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        measurements = self._measure(*self._data)
        if logs is not None:
            logs.update({key: float(ops.convert_to_numpy(value)) for key, value in measurements.items()})

    def _measurements(self, x: Structure, y: Structure) -> dict[str, Tensor]:
        """What is added to the logs, scalars by their keys."""
        return {**self._gate_shares(x), **self._gradient_norms(x, y)}

    def _gate_shares(self, x: Structure) -> dict[str, Tensor]:
        """Shares of closed and of open gates of every call that has gates."""
        tensors = dict(zip(self._graph.inputs, tree.flatten(x)))
        shares = {}
        for call in self._graph.calls:
            inputs = [tensors[value] for value in call.inputs]
            outputs = tree.flatten(call(*inputs))
            tensors.update(zip(call.outputs, outputs))
            gates = _gates(call, inputs, outputs)
            if gates is not None:
                shares[f"{call.name}/closed"] = ops.mean(ops.cast(gates < self.threshold, "float32"))
                shares[f"{call.name}/open"] = ops.mean(ops.cast(gates > 1 - self.threshold, "float32"))
        return shares

    def _gradient_norms(self, x: Structure, y: Structure) -> dict[str, Tensor]:
        """Norm of the gradient of the loss with respect to the kernel of every linear layer."""
        variables = self.model.variables
        values = [variable.value for variable in variables]
        indices = sorted({index for kernels in self._kernels.values() for index in kernels})
        if not indices:
            return {}

        def loss(*kernels: Tensor) -> Tensor:
            present = dict(enumerate(values)) | dict(zip(indices, kernels))
            with keras.StatelessScope(state_mapping=[(variables[i], value) for i, value in present.items()]):
                y_pred = self.model(x, training=False)
                return ops.cast(self.model.compute_loss(x=x, y=y, y_pred=y_pred, training=False), "float32")

        value, pullback = vjp(loss, *(values[index] for index in indices))
        gradients = dict(zip(indices, pullback(ops.ones_like(value))))
        return {
            f"{name}/gradient_norm": ops.sqrt(sum(ops.sum(ops.square(gradients[index])) for index in kernels))
            for name, kernels in self._kernels.items()
        }


def _kernel_indices(calls: Sequence[Call], variables: Sequence[keras.Variable]) -> dict[str, list[int]]:
    """Where the trainable kernels of each linear layer stand in `variables`, by the name of its first call."""
    position = {id(variable): i for i, variable in enumerate(variables)}
    kernels = {}
    layers_met = set()
    for call in calls:
        if not isinstance(call.op, LINEAR_TYPES) or id(call.op) in layers_met:
            continue
        layers_met.add(id(call.op))
        # a bias may have several axes, too
        bias = linear_map(call.op).bias
        indices = [position[id(v)] for v in call.op.trainable_variables if len(v.shape) > 1 and v is not bias]
        if indices:
            kernels[call.name] = indices
    return kernels


def _gates(call: Call, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> Tensor | None:
    """Gates of the neurons of a call, shaped as its output, or None if it has no gates."""
    if isinstance(call.op, ShapleyLayer):
        return gate(*call.op.gate_moments(inputs[0]))
    activation = activation_name(call.op)
    if activation == "relu":
        return ops.cast(outputs[0] > 0, "float32")
    if activation == "gelu":
        is_linear = isinstance(call.op, LINEAR_TYPES)
        s = linear_map(call.op).preactivation(inputs[0]) if is_linear else inputs[0]
        return normal_cdf(s)
    return None
