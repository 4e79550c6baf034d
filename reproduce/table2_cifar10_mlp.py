"""Table 2 and Fig. 4 of the paper: CIFAR-10 by an MLP with 12 settings of the optimizer, ReLU against SA.

The paper's network is 3072-1024-512-512-10, with dropout 0.2 after each hidden layer, batches of 128, and
glorot_uniform for kernels and biases. Accuracy is on the 10,000 test images, after the last epoch.

The paper does not say the number of epochs, how the images are scaled, or SGD's momentum. Chosen here: --epochs; images
divided by 255; no momentum, and 0.9 as RMSprop's rho.
"""

import sys

from lab.analysis import table2
from lab.experiment import Experiment, main
from lab.networks import cifar10_mlp

TABLE2 = Experiment(
    name="table2",
    dataset="cifar10",
    models={"mlp": cifar10_mlp},
    activations=table2.ACTIVATIONS,
    settings=tuple(table2.PAPER),
    batch_size=128,
    epochs=8,
    seeds=3,
    together=True,
    write=table2.write,
    quick={"epochs": 1, "seeds": 1, "limit": 1280, "only": "*/Adam_0.00?/*"},
)
EXAMPLES = """\
examples:
  python reproduce/table2_cifar10_mlp.py                                108 runs: hours
  python reproduce/table2_cifar10_mlp.py --only '*/Adam_0.001/seed0'    one run of each activation
  python reproduce/table2_cifar10_mlp.py --quick                        a first look, too short to show a difference

The directory --out gets table2.jsonl, with a line for each finished run, table2.md (the table) and figure4.png. After a
script was killed, the same command goes on where it was. Environment: KERAS_BACKEND chooses the backend; tfds.load
looks for the images, and puts them, in TFDS_DATA_DIR.
"""

if __name__ == "__main__":
    sys.exit(main(TABLE2, __doc__, EXAMPLES))
