"""Everything of Keras that is not public. No other file imports `keras.src` or reads a name with an underscore.

A model's graph holds operations that have no public class: those of `keras.ops`, and layers that `keras.applications`
defines for itself. They are listed here by what they do to their input, and `layer_types.py` puts them beside the
public layers that do the same.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any

import keras
from keras.src.activations.activations import ReLU as ReLUOperation
from keras.src.applications import convnext, inception_resnet_v2
from keras.src.backend import compute_output_spec, get_keras_mask, set_keras_mask
from keras.src.backend.common import global_state
from keras.src.layers.merging.base_merge import Merge
from keras.src.legacy.saving.saving_options import keras_option_scope
from keras.src.legacy.saving.saving_utils import model_from_config
from keras.src.models.functional import Functional
from keras.src.ops import core, linalg, math, nn
from keras.src.ops import numpy as operations
from keras.src.saving.serialization_lib import SafeModeScope

from keras_shapley.utils.typing import Operation, Structure, Tensor


class AttachMask:
    """The operation that Keras performs when a model inside another is called with a mask."""

    name = "mask"

    def call(self, x: Tensor, mask: Tensor) -> Tensor:
        if get_keras_mask(x) is not None:
            return x
        # a copy: others may use the tensor without the mask
        x = keras.ops.copy(x)
        set_keras_mask(x, mask)
        return x

    __call__ = call


def attached_mask(tensor: Tensor) -> Tensor | None:
    """The mask that Keras attached to a tensor, if it did."""
    return get_keras_mask(tensor)


def attach_mask(tensor: Tensor, mask: Tensor | None) -> None:
    """Attaches a Keras mask, if there is one, to a tensor."""
    if mask is not None:
        set_keras_mask(tensor, mask)


def output_specs(fn: Callable[..., Structure], shapes: Sequence[tuple[int, ...]], dtypes: Sequence[str]) -> Structure:
    """What `fn` returns for tensors of these shapes, as symbolic tensors; nothing is computed."""
    return compute_output_spec(fn, *map(keras.KerasTensor, shapes, dtypes))


def declared_weights(config: dict[str, Any], *, is_legacy: bool = False) -> int:
    """Number of weights that a model of this configuration has. They are not made, and neither is code executed.

    Args:
        config: of a `.keras` file.
        is_legacy: whether it is the configuration of an `.h5` file.
    """
    # variables that wait to be made, of which Keras keeps a list
    waiting = "uninitialized_variables"
    before = global_state.get_global_attribute(waiting)
    global_state.set_global_attribute(waiting, [])
    try:
        # what cannot be made so may still be a model; all up to there are counted
        with contextlib.suppress(Exception), keras.StatelessScope(initialize_variables=False), SafeModeScope(True):
            if is_legacy:
                with keras_option_scope(use_legacy_config=True):
                    model_from_config(config)
            else:
                keras.saving.deserialize_keras_object({**config, "compile_config": None}, safe_mode=True)
        variables = global_state.get_global_attribute(waiting)
    finally:
        global_state.set_global_attribute(waiting, before)
    return sum(prod(variable.shape) for variable in variables)


def is_transparent(op: Operation) -> bool:
    """Whether an operation is a model made of layers alone, whose `call` is not code of its own."""
    if isinstance(op, keras.Sequential):
        return type(op).call is keras.Sequential.call
    return isinstance(op, keras.Function) and type(op).call in (keras.Function.call, Functional.call)


def nodes(model: Any) -> Iterator[Any]:
    """The nodes of a Functional or built Sequential model in an order in which they can run, its inputs left out."""
    model = getattr(model, "_functional", model)
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if not node.is_input:
                yield node


def input_structure(model: Any) -> Structure:
    """How a model's inputs are nested; a single tensor for a Sequential model."""
    return model.inputs[0] if isinstance(model, keras.Sequential) else model._inputs_struct


def output_keys(model: Any) -> list[str] | None:
    """The keys of a model's outputs, in the order of `model.outputs`; None for outputs that are no dict."""
    outputs = getattr(model, "_outputs_struct", None)
    return sorted(outputs) if isinstance(outputs, dict) else None


def sublayers(op: Operation) -> list[Operation]:
    """An operation and, if it is a layer, all layers inside it."""
    return list(op._flatten_layers()) if isinstance(op, keras.layers.Layer) else [op]


def first_input_shape(op: Operation) -> tuple[int | None, ...] | None:
    """The shape of the first tensor that an operation was first called on; None for one that is inside of another."""
    return tuple(op._inbound_nodes[0].input_tensors[0].shape) if op._inbound_nodes else None


def first_output_shape(op: Operation) -> tuple[int | None, ...] | None:
    """As `first_input_shape`, of the first tensor that it returned."""
    return tuple(op._inbound_nodes[0].output_tensors[0].shape) if op._inbound_nodes else None


def attention_denses(layer: Operation) -> list[Operation]:
    """The dense layers for query, key, value and output of an attention layer with heads."""
    return [layer._query_dense, layer._key_dense, layer._value_dense, layer._output_dense]


def build_activations(model: Any) -> None:
    """Builds layers that are activations of other layers. Keras does so when the model is first called on data."""
    for layer in model._flatten_layers():
        activation: Any = getattr(layer, "activation", None)
        if isinstance(activation, keras.layers.Layer) and not activation.built and layer._inbound_nodes:
            activation.build(tuple(layer._inbound_nodes[0].output_tensors[0].shape))


def takes_training(op: Operation) -> bool:
    """Whether the `call` of an operation has an argument `training`."""
    return getattr(op, "_call_has_training_arg", False)


def in_dtype(op: Operation, dtype: Any) -> Operation:
    """The operation, or a layer with the same weights that computes in this float dtype instead of its policy's."""
    dtype = keras.backend.standardize_dtype(dtype)
    is_float = keras.backend.is_float_dtype(dtype)
    if not isinstance(op, keras.layers.Layer) or not is_float or op.compute_dtype == dtype:
        return op
    # copy.copy would build a new layer, with weights of its own
    twin = object.__new__(type(op))
    twin.__dict__.update(op.__dict__)
    twin.__dict__["_dtype_policy"] = keras.DTypePolicy(dtype)
    return twin


def _classes(module: Any, names: str) -> tuple[type, ...]:
    return tuple(getattr(module, name) for name in names.split())


def newer_classes(module: Any, names: str) -> tuple[type, ...]:
    """Classes of a module that the oldest Keras we support does not have yet: those that are there."""
    return tuple(getattr(module, name) for name in names.split() if hasattr(module, name))


# ReLU; the second may have a slope, a maximum or a threshold
RELU_OPERATIONS = (nn.Relu, ReLUOperation)
ELEMENTWISE_OPERATIONS = (
    *_classes(
        nn,
        "Celu Elu Gelu HardShrink HardSigmoid HardSilu HardTanh LeakyRelu LogSigmoid Relu6 Selu Sigmoid Silu "
        "SoftShrink Softplus Softsign SparsePlus SparseSigmoid Squareplus TanhShrink Threshold",
    ),
    *_classes(
        operations,
        "Absolute Abs Arctan Arcsinh Cbrt Clip Copy Cos Cosh Exp Exp2 Expm1 Log Log10 Log1p Log2 Negative Reciprocal "
        "Sin Sinh Sqrt Square Tanh",
    ),
    *_classes(math, "Erf Rsqrt"),
    *newer_classes(math, "Erfc"),
    *_classes(core, "Cast StopGradient"),
    AttachMask,
    convnext.LayerScale,
    convnext.StochasticDepth,
    *RELU_OPERATIONS,
)
ADDITION_OPERATIONS = (*_classes(operations, "Add Subtract"), inception_resnet_v2.CustomScaleLayer)
PRODUCT_OPERATIONS = _classes(operations, "Multiply")
ONE_OPERAND_OPERATIONS = _classes(operations, "Divide TrueDivide Power")
PAIR_EXTREME_OPERATIONS = _classes(operations, "Maximum Minimum")
CONVOLUTION_OPERATIONS = _classes(nn, "Conv DepthwiseConv")
BILINEAR_OPERATIONS = (*_classes(operations, "Dot Einsum Matmul Tensordot"), *CONVOLUTION_OPERATIONS)
EXTREME_OPERATIONS = _classes(operations, "Amax Amin Max Min")
MEAN_OPERATIONS = (operations.Mean,)
# linear and without a bias, as averages are
SUM_OPERATIONS = (*_classes(operations, "Cumsum Diff Sum Tril Triu"), nn.AveragePool)
MAX_POOLING_OPERATIONS = (nn.MaxPool,)
# sizes of deviations
SPREAD_OPERATIONS = (operations.Var, operations.Std, linalg.Norm)
VARIANCE_OPERATION = operations.Var
NORM_OPERATION = linalg.Norm
MOVING_OPERATIONS = (
    *_classes(
        operations,
        "BroadcastTo Concatenate ExpandDims Flip GetItem Hstack Moveaxis Pad Ravel Repeat Reshape Roll Rot90 Split "
        "Squeeze Stack Swapaxes Tile Transpose Vstack Where",
    ),
    *_classes(core, "Slice Unstack"),
    *newer_classes(nn, "DepthToSpace SpaceToDepth"),
)
INDEXING_OPERATIONS = _classes(operations, "GetItem")
# each element is one of two
SELECTION_OPERATIONS = _classes(operations, "Where")
LOOKUP_OPERATIONS = _classes(operations, "Take")
# it passes values on, and no gradient
STOP_GRADIENT_OPERATIONS = _classes(core, "StopGradient")
SOFTMAX_OPERATIONS = (nn.Softmax,)
LOG_SOFTMAX_OPERATIONS = (nn.LogSoftmax,)
ONE_HOT_OPERATIONS = (nn.OneHot,)
SIGMOID_OPERATION = nn.Sigmoid
ADD_OPERATION = operations.Add
DIVISION_OPERATIONS = _classes(operations, "Divide TrueDivide")
STACK_OPERATION = operations.Stack
CAST_OPERATION = core.Cast
SUBTRACT_OPERATION = operations.Subtract
LEAKY_RELU_OPERATION = nn.LeakyRelu
SCALED_ADDITION = inception_resnet_v2.CustomScaleLayer
MINIMUM_OPERATIONS = _classes(operations, "Amin Min Minimum")
# each element times a number
AFFINE_OPERATIONS = (
    *_classes(core, "Cast StopGradient"),
    *_classes(operations, "Copy Negative"),
    AttachMask,
    convnext.LayerScale,
    convnext.StochasticDepth,
)
# layers that insert axes behind the batch's where an input has fewer than another
MERGE_LAYERS = (Merge,)
EXPAND_DIMS_OPERATION = operations.ExpandDims
RESHAPING_OPERATIONS = _classes(operations, "Reshape Squeeze ExpandDims Ravel")  # the same numbers in the same order
# no relevance and no gradient passes these
CONSTANT_OPERATIONS = _classes(
    operations,
    "Argmax Argmin Equal Greater GreaterEqual Isfinite Isinf Isnan Less LessEqual LogicalAnd LogicalNot LogicalOr "
    "LogicalXor NotEqual OnesLike Sign ZerosLike",
)
