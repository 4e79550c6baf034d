"""How near explanations of CIFAR-10 networks come to Shapley values, and whether networks with SA are explained better.

A convolutional network. The players of the truth are 64 patches of 4x4 pixels, absent ones grey; attributions of pixels
are summed over these. The rest is in study.py.
"""

import sys

import experiment
import keras
from keras import layers
from study import Study

TITLE = """\
# How near explanations come to Shapley values, on CIFAR-10

Made by `python reproduce/faithfulness_cifar10.py`. *Correlation*, *rank correlation* and *relative RMSE* against the
Shapley values of 64 patches by random orders: means over training seeds, geometric ones of errors, with 95 % intervals
over seeds (Student's t) and images (resampled); attributions are summed over the patches. Deletion (lower is better),
insertion (higher is better) and infidelity (lower is better) are of pixels: means over seeds. *Gradients*: the cost,
counted in passes through the network of which a gradient has three, without the paths of LRP's softmax and without what
is elementwise. The gradient of a network with ShapLU, plain or integrated, is the one that it trains with. LRP merges
BatchNormalization into the layer behind. Moments and masks estimate what pixels add that come one by one, and *moments
of patches* what patches add, as the truth does. Rows of masks before commit 0a92bb2, which mixes masks with a little of
their expected value, are of unmixed ones; on MNIST conv nets had 0.001 to 0.012 less by these, of 32 and 64.
"""
EXAMPLES = """\
examples:
  python faithfulness_cifar10.py                          12 networks: hours
  python faithfulness_cifar10.py --only '*/relu/*/seed0'  one
  python faithfulness_cifar10.py --quick                  a first look, without much to learn from

The directory --out gets faithfulness_cifar10.jsonl, a line for each network, faithfulness_cifar10.md,
faithfulness_cifar10.png (nearness against cost) and faithfulness_cifar10_maps.png. What is killed goes on where it was
by the same command. Environment: KERAS_BACKEND; TFDS_DATA_DIR is where tfds.load looks for data.
"""


def conv_net(dense, convolution):
    """Five convolutions: images `(batch, 32, 32, 3)` to the probabilities of 10 classes; half are mirrored in training.

    BatchNormalization stands before a convolution, not behind it, so that the activation sees what its layer sums.
    """
    image = keras.Input((32, 32, 3), name="image")
    x = layers.RandomFlip("horizontal", name="flip")(image)
    for index, (filters, strides) in enumerate(((32, 1), (64, 2), (64, 1), (128, 2), (128, 1)), 1):
        if index > 1:
            x = layers.BatchNormalization(momentum=0.9, name=f"norm{index}")(x)
        x = convolution(filters, 3, strides, padding="same", name=f"conv{index}")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(layers.BatchNormalization(momentum=0.9, name="norm6")(x))
    x = layers.Dropout(0.1, name="dropout")(x)
    return keras.Model(image, layers.Dense(10, "softmax", name="classes")(x))


STUDY = Study(
    title=TITLE,
    name="faithfulness_cifar10",
    dataset="cifar10",
    networks={"conv": conv_net},
    images=(300, 50, 120),
    few=(4, 2, 16),
    patch=4,
    absent=0.5,
    decay=True,
)
FAITHFULNESS_CIFAR10 = STUDY.experiment(
    settings=(("Adam", 0.004),),
    activations=("relu", "gelu", "sa", "shaplu"),
    batch_size=128,
    epochs=9,
    seeds=3,
    quick={"seeds": 1, "epochs": 1, "limit": 500, "activations": ("relu", "sa")},
)

if __name__ == "__main__":
    sys.exit(experiment.main(FAITHFULNESS_CIFAR10, __doc__, EXAMPLES))
