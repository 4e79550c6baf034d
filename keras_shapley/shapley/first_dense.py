"""Models that begin with a Dense layer: a player that enters adds its rows of the kernel to the layer's sums.

Along an order of players the first layer then costs additions, and no matrix product.
"""

from collections.abc import Sequence

import keras
import numpy as np
from keras import layers, ops

from keras_shapley.backend import compiled
from keras_shapley.layers.activations import shapley_activation
from keras_shapley.layers.sa import ShapleyActivation
from keras_shapley.models.graph import Call, Value, ancestors, run
from keras_shapley.models.kept import kept
from keras_shapley.models.last_layers import activated, is_plain_dense
from keras_shapley.models.layer_types import ORDER_KEEPING, SCALING
from keras_shapley.models.tracing import trace
from keras_shapley.utils.typing import Operation, Tensor

# layers that treat each element on its own, and keep the order of the elements
_ELEMENTWISE = (*ORDER_KEEPING, *SCALING)


class FirstDense:
    """A model in two parts: the sums of its first layer, a Dense one, and what follows.

    The sums are `u`, and behind them, for SA, the second moments `q`. Both are additive over the inputs.

    Args:
        before: calls in front of the layer.
        dense: call of the layer.
        behind: calls behind the layer.
        output: of the model.
        variables: of the model.
    """

    def __init__(
        self, before: list[Call], dense: Call, behind: list[Call], output: Value, variables: Sequence[Tensor]
    ) -> None:
        self._before = before
        self._dense = dense
        self._behind = behind
        self._output = output
        self._compiled_inputs = compiled(self._layer_inputs, variables)
        self._compiled_rest = compiled(self._rest, variables, any_batch=True)

    @property
    def width(self) -> int:
        """Number of sums."""
        return sum(kernel.shape[1] for kernel in self._kernels)

    def sums(self, x: np.ndarray) -> np.ndarray:
        """The layer's sums for a batch, shape `(batch, width)`, float64."""
        powers = self._input_powers(x)
        return np.concatenate([power @ kernel for power, kernel in zip(powers, self._kernels)], axis=1)

    def increments(self, image: np.ndarray, other: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """What each player adds to the sums if its elements are those of `image` rather than those of `other`.

        Args:
            image: of the shape of an input.
            other: same shape.
            numbers: of the player of each element, same shape.

        Returns:
            Shape `(players, width)`, float64.
        """
        numbers = numbers.reshape(-1)
        by_player = np.argsort(numbers, kind="stable")
        starts = np.searchsorted(numbers[by_player], np.arange(numbers.max() + 1))
        differences = (np.diff(power, axis=0)[0] for power in self._input_powers(np.stack([other, image])))
        added = [difference[:, None] * kernel for difference, kernel in zip(differences, self._kernels)]
        return np.add.reduceat(np.concatenate(added, axis=1)[by_player], starts, axis=0)

    def outputs_from_sums(self, sums: np.ndarray) -> Tensor:
        """The model's outputs for sums of shape `(batch, width)`."""
        return self._compiled_rest(ops.convert_to_tensor(sums))

    @property
    def _kernels(self) -> list[np.ndarray]:
        """The kernel for the inputs and, for SA, one for their squares."""
        layer = self._dense.op
        kernel = ops.convert_to_numpy(layer.kernel).astype("float64")
        if not isinstance(layer, ShapleyActivation):
            return [kernel]
        squares = np.square(kernel)
        if layer.second_moment == "pooled":
            squares = np.broadcast_to(squares.mean(axis=0), squares.shape)
        return [kernel, squares]

    def _input_powers(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The layer's inputs for a batch, and their squares, float64."""
        inputs = ops.convert_to_numpy(self._compiled_inputs(ops.convert_to_tensor(x))).astype("float64")
        return inputs, np.square(inputs)

    def _layer_inputs(self, x: Tensor) -> Tensor:
        for call in self._before:
            x = call(x)
        return x

    def _rest(self, sums: Tensor) -> Tensor:
        return run(self._behind, {self._dense.outputs[0]: _activated(self._dense.op, sums)})[self._output]


def first_dense(model: keras.Model, output: int = 0) -> FirstDense | None:
    """The `FirstDense` of a model in float32 that begins with a Dense layer, for one of its outputs; else None."""
    return kept(model, ("first dense", output), lambda: _found(model, output))


def _found(model: keras.Model, output: int) -> FirstDense | None:
    try:
        graph = trace(model)
    except ValueError:
        # a model whose call is code of its own is evaluated as a whole
        return None
    if len(graph.inputs) != 1:
        return None
    end = graph.outputs[output]
    needed = ancestors([end])
    calls = [call for call in graph.calls if call in needed]

    before = []
    shape = tuple(model.inputs[0].shape)
    call = _only_user(graph.inputs[0], calls, end)
    while call is not None and _keeps_elements(call, shape):
        before.append(call)
        shape = call.op.compute_output_shape(shape)
        call = _only_user(call.outputs[0], calls, end)
    if call is None or len(shape) != 2 or not is_plain_dense(call):
        return None
    behind = [other for other in calls if other is not call and other not in before]
    return FirstDense(before, call, behind, end, model.variables)


def _only_user(value: Value, calls: list[Call], output: Value) -> Call | None:
    """The call that alone uses a value, and has no other input; None if there is none, or if it gives the output."""
    users = [call for call in calls if value in call.inputs]
    if len(users) != 1 or len(users[0].inputs) != 1 or users[0].outputs[0] is output:
        return None
    return users[0]


def _keeps_elements(call: Call, shape: tuple[int | None, ...]) -> bool:
    """Whether a call treats each element of an input of this shape on its own, and keeps their order."""
    # with channels_first, Flatten moves the channels behind the other axes
    moves = isinstance(call.op, layers.Flatten) and call.op.data_format == "channels_first" and len(shape) > 2
    return call.is_a(_ELEMENTWISE) and not moves


def _activated(layer: Operation, sums: Tensor) -> Tensor:
    """The output of a Dense layer from its sums, `u` and for SA `q`."""
    u = sums[:, : layer.units]
    q = sums[:, layer.units :]
    b = ops.zeros((), sums.dtype) if layer.bias is None else ops.convert_to_tensor(layer.bias)
    if isinstance(layer, ShapleyActivation):
        return shapley_activation(u, q, b)
    return activated(layer, u + b)
