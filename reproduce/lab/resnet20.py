"""ResNet-20 v2 of the Keras example that the paper names, cifar10_resnet.py with n = 2 and version = 2.

It has 19 activations. 13 of them follow a convolution; 6 follow the addition that ends a block, where SA has no single
linear layer in front of it. The paper does not say what became of these 6. So there are several layouts:

- `"paper"`: batch normalization behind the activation. The 6 stay ReLU, whatever the others are.
- `"units"`: each block is three units of convolution, activation and batch normalization, and then the addition, with
  no activation behind it: every activation follows a convolution.
- `"joint"`: as `"paper"`, but an addition and the convolution in front of it form one neuron. The skip connection is
  one more input with weight 1: `u + skip` and `q + skip**2`.
- `"original"`: the example itself, with batch normalization in front of the activation. For ReLU alone.

Networks of one layout have the same weights, and start from the same values for the same seed.
"""

import functools
from typing import Any

import keras
from keras import layers, ops

import keras_shapley as ks
from keras_shapley.layers.activations import shapley_activation
from lab.activations import ACTIVATIONS, Activation, LayerMaker, hidden_layer

LAYOUTS = ("paper", "units", "joint", "original")
# Settings of the example, and so of the paper
STAGES = ((16, 64, 1), (64, 128, 2), (128, 256, 2))  # filters within a block and out of it, stride of its first 1x1
BLOCKS = 2  # in a stage
WEIGHT_DECAY = 1e-4  # L2, of every convolution's kernel
# of eq. (2) in heatmaps; the paper has a small one, with which relevance grew to 1e20 on its way to the input here
EPSILON = 0.3


def resnet20(activation: Activation = "relu", *, layout: str = "paper") -> keras.Model:
    """Images `(batch, 32, 32, 3)` to the probabilities of 10 classes.

    Args:
        activation: see `lab.activations.hidden_layer`.
        layout: a name in `LAYOUTS`.

    Raises:
        ValueError: if the activation has no place in the layout.
    """
    separate = activation == "relu"
    if layout == "original" and not separate:
        raise ValueError(f"layout 'original' has BN between convolution and activation: relu alone, not {activation!r}")
    joint = layout == "joint" and not separate
    prefix, joint_options = ACTIVATIONS.get(activation, ("", {})) if isinstance(activation, str) else ("", {})
    if joint and prefix != "SA":
        raise ValueError(f"layout 'joint' is for relu and for SA, not {activation!r}")

    def convolution(x: Any, filters: int, size: int, strides: int = 1, *, name: str, make: LayerMaker = layers.Conv2D):
        options = {"kernel_initializer": "he_normal", "kernel_regularizer": keras.regularizers.L2(WEIGHT_DECAY)}
        return make(filters, size, strides=strides, padding="same", name=name, **options)(x)

    def normalize(x: Any, name: str):
        return layers.BatchNormalization(momentum=0.99, epsilon=1e-3, name=f"{name}_bn")(x)

    def rectify(x: Any, name: str):
        relu = layers.ReLU(name=f"{name}_relu")
        return relu(normalize(x, name)) if layout == "original" else normalize(relu(x), name)

    def unit(x: Any, filters: int, size: int, strides: int = 1, *, name: str):
        if separate:
            return rectify(convolution(x, filters, size, strides, name=name), name)
        make = hidden_layer(activation, "Conv2D")
        return normalize(convolution(x, filters, size, strides, name=name, make=make), name)

    def end_of_block(y: Any, skip: Any, filters: int, name: str, following: str):
        """The inputs of the next skip connection and of the next convolution."""
        if joint:
            make = functools.partial(JointSAConv2D, **joint_options)
            x, y = convolution([y, skip], filters, 1, name=f"{name}_conv3", make=make)
            return x, normalize(y, following)
        last = unit if layout == "units" else convolution
        x = layers.Add(name=f"{name}_add")([skip, last(y, filters, 1, name=f"{name}_conv3")])
        return x, x if layout == "units" else rectify(x, following)

    inputs = keras.Input((32, 32, 3), name="image")
    # the first block gets its input normalized and rectified by the stem
    x = y = unit(inputs, 16, 3, name="stem")
    blocks = [(stage, block) for stage in range(1, len(STAGES) + 1) for block in range(1, BLOCKS + 1)]
    for (stage, block), following in zip(blocks, [*blocks[1:], None]):
        inner, outer, stride = STAGES[stage - 1]
        name, strides = f"stage{stage}_block{block}", stride if block == 1 else 1
        y = unit(y, inner, 1, strides, name=f"{name}_conv1")
        y = unit(y, inner, 3, name=f"{name}_conv2")
        skip = convolution(x, outer, 1, strides, name=f"{name}_skip") if block == 1 else x
        next_name = "stage{}_block{}_in".format(*following) if following else "head"
        x, y = end_of_block(y, skip, outer, name, next_name)
    x = layers.AveragePooling2D(8, name="head_pool")(y)
    x = layers.Flatten(name="head_flatten")(x)
    x = layers.Dense(10, activation="softmax", kernel_initializer="he_normal", name="head_classes")(x)
    return keras.Model(inputs, x, name="resnet20")


@keras.saving.register_keras_serializable(package="keras_shapley_reproduce")
class JointSAConv2D(ks.SAConv2D):
    """Convolution plus another tensor, as one neuron with SA; it returns both the sum and its activation.

    It is called with `[x, skip]`, where `skip` has the shape of the convolution's output, and returns
    `[u + skip + b, SA]`, each of that shape: SA by eq. (5) with `u + skip` and `q + skip**2`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # the parent takes a single input
        self.input_spec = None

    def build(self, input_shape: Any) -> None:
        super().build(input_shape[0])
        self.input_spec = None

    def call(self, inputs: Any) -> list:
        x, skip = inputs
        u, q, b, scale = self.gate_moments(x, gradient=self.moment_gradient)
        skip = ops.cast(skip, u.dtype)
        u, q = u + skip, q + ops.square(scale * (skip if self.moment_gradient else ops.stop_gradient(skip)))
        y = shapley_activation(u, q, b, scale)
        return [ops.cast(value, self.compute_dtype) for value in (u + b, y)]

    def compute_output_spec(self, inputs: Any) -> list[keras.KerasTensor]:
        return [keras.KerasTensor(inputs[1].shape, dtype=self.compute_dtype) for _ in range(2)]
