"""A built Keras model as a list of calls. The only file that knows private parts of Keras."""

import keras
from keras.src.activations.activations import ReLU as ReLUOperation
from keras.src.applications import convnext, inception_resnet_v2
from keras.src.backend import get_keras_mask, set_keras_mask
from keras.src.ops import core, math, nn
from keras.src.ops import numpy as operations


def _classes(module, names):
    return tuple(getattr(module, name) for name in names.split())


class AttachMask:
    """What a model inside another does with the mask that it is called with."""

    name = "mask"

    def call(self, x, mask):
        if get_keras_mask(x) is not None:
            return x
        # a copy: others may use the tensor without the mask
        x = keras.ops.copy(x)
        set_keras_mask(x, mask)
        return x

    __call__ = call


RELU_OPERATIONS = (nn.Relu, ReLUOperation)
# What stands in a graph for `keras.ops` functions, and layers without a public name, by what they do to their input
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
    *_classes(math, "Erf Erfc Rsqrt"),
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
BILINEAR_OPERATIONS = _classes(operations, "Dot Einsum Matmul Tensordot")
EXTREME_OPERATIONS = _classes(operations, "Amax Amin Max Min")
MEAN_OPERATIONS = (operations.Mean, operations.Sum, nn.AveragePool)
MOVING_OPERATIONS = (
    *_classes(
        operations,
        "BroadcastTo Concatenate ExpandDims Flip GetItem Hstack Moveaxis Pad Ravel Repeat Reshape Roll Rot90 Split "
        "Squeeze Stack Swapaxes Tile Transpose Vstack",
    ),
    *_classes(core, "Slice Unstack"),
    *_classes(nn, "DepthToSpace SpaceToDepth"),
)
LOOKUP_OPERATIONS = _classes(operations, "Take")
SOFTMAX_OPERATIONS = (nn.Softmax,)
CONSTANT_OPERATIONS = _classes(
    operations,
    "Argmax Argmin Equal Greater GreaterEqual Isfinite Isinf Isnan Less LessEqual LogicalAnd LogicalNot LogicalOr "
    "LogicalXor NotEqual OnesLike Sign ZerosLike",
)
