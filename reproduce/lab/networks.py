"""The networks of the experiments, except ResNet-20: functions of the activation of the hidden layers.

Each returns a model from images to the probabilities of 10 classes. An activation is what `hidden_layer` takes.
`without_softmax` is for all classifiers.
"""

import keras
from keras import layers

from lab.activations import Activation, hidden_layer


def mnist_mlp(activation: Activation) -> keras.Model:
    """The paper's MLP for MNIST (Figs. 3, 6 and 7), 784-100-50-10."""
    dense = hidden_layer(activation, "Dense")
    model = keras.Sequential([keras.Input((28, 28), name="image"), layers.Flatten(name="pixels")])
    for index, units in enumerate((100, 50), 1):
        model.add(dense(units, name=f"hidden{index}"))
    model.add(layers.Dense(10, "softmax", name="classes"))
    return model


def mnist_conv_net(activation: Activation) -> keras.Model:
    """Three convolutions and average pooling, for MNIST."""
    convolution = hidden_layer(activation, "Conv2D")
    return keras.Sequential(
        [
            keras.Input((28, 28), name="image"),
            layers.Reshape((28, 28, 1), name="channel"),
            convolution(8, 3, name="conv1"),
            layers.AveragePooling2D(2, name="pool1"),
            convolution(16, 3, name="conv2"),
            layers.AveragePooling2D(2, name="pool2"),
            convolution(16, 3, name="conv3"),
            layers.Flatten(name="features"),
            layers.Dense(10, "softmax", name="classes"),
        ]
    )


def deep_mlp(activation: Activation, depth: int, width: int, norm: bool = False) -> keras.Model:
    """An MLP for MNIST with `depth` hidden layers of `width` neurons, without skips.

    Args:
        activation: see above.
        depth: number of hidden layers.
        width: their number of neurons.
        norm: whether each hidden layer has a BatchNormalization behind it, where the activation still sees the layer's
            own sum.
    """
    dense = hidden_layer(activation, "Dense")
    model = keras.Sequential([keras.Input((28, 28)), layers.Flatten()])
    for _ in range(depth):
        model.add(dense(width))
        if norm:
            model.add(layers.BatchNormalization(momentum=0.9))
    model.add(layers.Dense(10, "softmax"))
    return model


def cifar10_mlp(activation: Activation) -> keras.Model:
    """The paper's MLP for CIFAR-10 (Table 2, Fig. 4): 3072-1024-512-512-10, dropout 0.2, biases by Glorot as well."""
    dense = hidden_layer(activation, "Dense")
    model = keras.Sequential([keras.Input((32, 32, 3), name="image"), layers.Flatten(name="pixels")])
    for index, units in enumerate((1024, 512, 512), 1):
        model.add(dense(units, bias_initializer="glorot_uniform", name=f"hidden{index}"))
        model.add(layers.Dropout(0.2, name=f"dropout{index}"))
    model.add(layers.Dense(10, "softmax", bias_initializer="glorot_uniform", name="classes"))
    return model


def cifar10_conv_net(activation: Activation) -> keras.Model:
    """Five convolutions, for CIFAR-10; half of the images are mirrored in training.

    BatchNormalization stands in front of a convolution, not behind it, so that the activation sees the layer's own sum.
    """
    convolution = hidden_layer(activation, "Conv2D")
    image = keras.Input((32, 32, 3), name="image")
    x = layers.RandomFlip("horizontal", name="flip")(image)
    for index, (filters, strides) in enumerate(((32, 1), (64, 2), (64, 1), (128, 2), (128, 1)), 1):
        if index > 1:
            x = layers.BatchNormalization(momentum=0.9, name=f"norm{index}")(x)
        x = convolution(filters, 3, strides, padding="same", name=f"conv{index}")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(layers.BatchNormalization(momentum=0.9, name="norm6")(x))
    x = layers.Dropout(0.1, name="dropout")(x)
    return keras.Model(image, layers.Dense(10, "softmax", name="classes")(x))


def digits_mlp(activation: Activation) -> keras.Model:
    """A small MLP for scikit-learn's digits."""
    dense = hidden_layer(activation, "Dense")
    return keras.Sequential([keras.Input((8, 8)), layers.Flatten(), dense(64), dense(32), layers.Dense(10, "softmax")])


def digits_conv_net(activation: Activation) -> keras.Model:
    """A small convolutional network for scikit-learn's digits."""
    dense, convolution = (hidden_layer(activation, parent) for parent in ("Dense", "Conv2D"))
    return keras.Sequential(
        [
            keras.Input((8, 8)),
            layers.Reshape((8, 8, 1)),
            convolution(16, 3, padding="same"),
            layers.MaxPooling2D(2),
            convolution(32, 3, padding="same"),
            layers.Flatten(),
            dense(32),
            layers.Dense(10, "softmax"),
        ]
    )


# by the names in the scripts' tables
DIGITS = {"mlp": digits_mlp, "convnet": digits_conv_net}


def without_softmax(model: keras.Model) -> keras.Model:
    """The model of the logits, which shares all layers but the last, a Dense layer, and has one input."""
    last = model.layers[-1]
    dense = layers.Dense(last.units, name="logits")
    logits = keras.Model(model.inputs[0], dense(last.input))
    dense.set_weights(last.get_weights())
    return logits
