"""Fig. 3 of the paper: how fast an MLP learns 1,000 images of MNIST with ReLU, ShapLU and SA.

The paper's network is 784-100-50-10, with batches of 10, 4 epochs, and 10 repetitions with other initial weights and
another order of the images. Accuracy in training is that of the batches before their step, averaged over 10 batches.
Validation is on the 10,000 test images, where the paper ends at about 0.86.

The paper does not say how images are scaled, how weights are initialized, or which rates of SGD it tried. Chosen here:
images divided by 255; Keras's glorot_uniform, with biases at 0; the rates 0.5 to 0.01. Between epochs the images are
shuffled, where the paper reorders whole batches.
"""

import sys

from lab.analysis import figure3
from lab.experiment import Experiment, main
from lab.networks import mnist_mlp

FIGURE3 = Experiment(
    name="figure3",
    dataset="mnist",
    limit=1000,
    models={"mnist_mlp": mnist_mlp},
    activations=figure3.ACTIVATIONS,
    settings=figure3.SETTINGS,
    batch_size=10,
    epochs=4,
    seeds=10,
    points=10,
    together=True,
    write=figure3.write,
    quick={"seeds": 2, "epochs": 2, "only": "*/*0.1/*"},
)
EXAMPLES = """\
examples:
  python reproduce/figure3_mnist_mlp.py --together 10      (KERAS_BACKEND=jax) the seeds of a setting at once: minutes
  python reproduce/figure3_mnist_mlp.py --only '*/Adam*'   one panel
  python reproduce/figure3_mnist_mlp.py --quick            a first look in a minute

The directory --out gets figure3.jsonl, with a line for each finished run, figure3.md (the table) and figure3.png. After
a script was killed, the same command goes on where it was. Environment: KERAS_BACKEND chooses the backend; tfds.load
looks for the images, and puts them, in TFDS_DATA_DIR.
"""

if __name__ == "__main__":
    sys.exit(main(FIGURE3, __doc__, EXAMPLES))
