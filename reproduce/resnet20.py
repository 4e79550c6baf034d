"""ResNet-20 v2 of the old Keras example that the paper names, cifar10_resnet.py with n = 2 and version = 2.

19 activations, of which 13 stand right behind a convolution. 6 stand behind the addition that ends a block, where no
single linear layer is in front, and the paper does not say what became of them under SA. So there are layouts:

- `"paper"`: batch normalisation behind the activation. The 6 stay ReLU, in every arm.
- `"units"`: the blocks laid anew as convolution, activation, BN, three times, then the addition, with no activation
  behind it: every activation has a convolution in front.
- `"joint"`: as `"paper"`, but an addition and the convolution before it are one neuron, to which what comes by the skip
  is one more input of weight 1: `u + skip` and `q + skip**2`.
- `"original"`: the example itself, batch normalisation in front of the activation. For ReLU alone.

Arms of a layout have the same weights, and start from the same values for the same seed.
"""

import functools

import keras
from keras import layers, ops
from neurons import KINDS, neurons

import keras_shapley as ks
from keras_shapley.layers import activations

LAYOUTS = ("paper", "units", "joint", "original")
# Settings of the example, and so of the paper
STAGES = ((16, 64, 1), (64, 128, 2), (128, 256, 2))  # filters within a block and out of it, stride of its first 1x1
BLOCKS = 2  # in a stage
WEIGHT_DECAY = 1e-4  # L2, of every convolution's kernel


def resnet20(activation="relu", *, layout="paper"):
    """Images `(batch, 32, 32, 3)` to the probabilities of 10 classes.

    Args:
        activation: a name in `neurons.KINDS`, or what makes convolutions with their activation, called as `Conv2D` is.
        layout: a name in `LAYOUTS`.

    Raises:
        ValueError: on an activation that has no place in the layout.
    """
    separate = activation == "relu"
    if layout == "original" and not separate:
        raise ValueError(f"layout 'original' has BN between convolution and activation: relu alone, not {activation!r}")
    if layout == "joint" and not separate and KINDS.get(activation, ("",))[0] != "SA":
        raise ValueError(f"layout 'joint' is for relu and for SA, not {activation!r}")

    def convolution(x, filters, size, strides=1, *, name, cls=layers.Conv2D):
        options = {"kernel_initializer": "he_normal", "kernel_regularizer": keras.regularizers.L2(WEIGHT_DECAY)}
        return cls(filters, size, strides=strides, padding="same", name=name, **options)(x)

    def normalise(x, name):
        return layers.BatchNormalization(momentum=0.99, epsilon=1e-3, name=f"{name}_bn")(x)

    def rectify(x, name):
        relu = layers.ReLU(name=f"{name}_relu")
        return relu(normalise(x, name)) if layout == "original" else normalise(relu(x), name)

    def unit(x, filters, size, strides=1, *, name):
        if separate:
            return rectify(convolution(x, filters, size, strides, name=name), name)
        cls = neurons(activation, "Conv2D") if isinstance(activation, str) else activation
        return normalise(convolution(x, filters, size, strides, name=name, cls=cls), name)

    def junction(y, skip, filters, name, following):
        """What the next skip takes, and what the next convolution takes, from the end of a block."""
        if layout == "joint" and not separate:
            cls = functools.partial(JointSAConv2D, **KINDS[activation][1])
            x, y = convolution([y, skip], filters, 1, name=f"{name}_conv3", cls=cls)
            return x, normalise(y, following)
        end = unit if layout == "units" else convolution
        x = layers.Add(name=f"{name}_add")([skip, end(y, filters, 1, name=f"{name}_conv3")])
        return x, x if layout == "units" else rectify(x, following)

    inputs = keras.Input((32, 32, 3), name="image")
    # what enters the first block comes normalised and rectified from the stem
    x = y = unit(inputs, 16, 3, name="stem")
    blocks = [(stage, block) for stage in range(1, len(STAGES) + 1) for block in range(1, BLOCKS + 1)]
    for (stage, block), following in zip(blocks, [*blocks[1:], None]):
        inner, outer, stride = STAGES[stage - 1]
        name, strides = f"stage{stage}_block{block}", stride if block == 1 else 1
        y = unit(y, inner, 1, strides, name=f"{name}_conv1")
        y = unit(y, inner, 3, name=f"{name}_conv2")
        skip = convolution(x, outer, 1, strides, name=f"{name}_skip") if block == 1 else x
        x, y = junction(y, skip, outer, name, "stage{}_block{}_in".format(*following) if following else "head")
    x = layers.AveragePooling2D(8, name="head_pool")(y)
    x = layers.Flatten(name="head_flatten")(x)
    x = layers.Dense(10, activation="softmax", kernel_initializer="he_normal", name="head_classes")(x)
    return keras.Model(inputs, x, name="resnet20")


@keras.saving.register_keras_serializable(package="keras_shapley_reproduce")
class JointSAConv2D(ks.SAConv2D):
    """Convolution of one tensor plus another one, as a neuron with SA: both their sum and its activation.

    Called with `[x, skip]`, `skip` in the shape of the convolution's output; gives `[u + skip + b, SA]`, each of that
    shape, SA by eq. (5) with `u + skip` and `q + skip**2`.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        # the parent takes a single input
        self.input_spec = None

    def build(self, input_shape):
        super().build(input_shape[0])
        self.input_spec = None

    def call(self, inputs):
        x, skip = inputs
        u, q, b = self.gate_moments(x, gradient=self.moment_gradient)
        skip = ops.cast(skip, u.dtype)
        u, q = u + skip, q + ops.square(skip if self.moment_gradient else ops.stop_gradient(skip))
        y = activations.shapley_activation(u, q, b)
        return [ops.cast(value, self.compute_dtype) for value in (u + b, y)]

    def compute_output_spec(self, inputs):
        return [keras.KerasTensor(inputs[1].shape, dtype=self.compute_dtype) for _ in range(2)]
