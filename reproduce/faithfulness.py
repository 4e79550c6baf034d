"""How near explanations of MNIST networks come to Shapley values, and whether networks with SA are explained better.

An MLP and a convolutional network; the players are the pixels, absent ones black. The rest is in study.py.
"""

import sys

import experiment
import figure3_mnist_mlp
import keras
from study import Study

TITLE = """\
# How near explanations come to Shapley values

Made by `python reproduce/faithfulness.py`. *Correlation*, *rank correlation* and *relative RMSE* against Shapley values
by random orders, over the pixels that are not black: means over training seeds, geometric ones of errors, with 95 %
intervals over seeds (Student's t) and images (resampled). Deletion (lower is better), insertion (higher is better) and
infidelity (lower is better): means over seeds. *Gradients*: the cost, counted in passes through the network of which a
gradient has three, without the paths of LRP's softmax and without what is elementwise: on small networks the times are
others.
The gradient of a network with ShapLU, plain or integrated, is the one that it trains with.
"""
EXAMPLES = """\
examples:
  python faithfulness.py                              24 networks: hours
  python faithfulness.py --only 'mlp/*/seed0'         a network of each kind
  python faithfulness.py --only 'conv/*' --epochs 1   networks trained for less, for a table beside the others
  python faithfulness.py --quick                      a first look, without much to learn from

The directory --out gets faithfulness.jsonl, a line for each network, faithfulness.md, faithfulness.png (nearness
against cost) and faithfulness_maps.png. What is killed goes on where it was by the same command. Environment:
KERAS_BACKEND; TFDS_DATA_DIR is where tfds.load looks for data.
"""


def mlp(dense, convolution):
    """The MLP of Fig. 3."""
    return figure3_mnist_mlp.mlp(dense)


def conv_net(dense, convolution):
    """Three convolutions and average pooling: images `(batch, 28, 28)` to the probabilities of 10 classes."""
    layers = [
        keras.Input((28, 28), name="image"),
        keras.layers.Reshape((28, 28, 1), name="channel"),
        convolution(8, 3, name="conv1"),
        keras.layers.AveragePooling2D(2, name="pool1"),
        convolution(16, 3, name="conv2"),
        keras.layers.AveragePooling2D(2, name="pool2"),
        convolution(16, 3, name="conv3"),
        keras.layers.Flatten(name="features"),
        keras.layers.Dense(10, "softmax", name="classes"),
    ]
    return keras.Sequential(layers)


STUDY = Study(
    title=TITLE,
    name="faithfulness",
    dataset="mnist",
    networks={"mlp": mlp, "conv": conv_net},
    images=(1000, 100, 200),
    few=(20, 3, 40),
)
FAITHFULNESS = STUDY.experiment(
    settings=(("Adam", 0.001),),
    activations=("relu", "gelu", "sa", "shaplu"),
    batch_size=128,
    epochs=5,
    seeds=3,
    quick={"seeds": 1, "epochs": 1, "limit": 6000, "only": "mlp/*"},
)

if __name__ == "__main__":
    sys.exit(experiment.main(FAITHFULNESS, __doc__, EXAMPLES))
