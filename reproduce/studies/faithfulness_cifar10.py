"""How near explanations of CIFAR-10 networks come to Shapley values, and whether networks with SA are explained better.

A convolutional network is trained with several activations. Then every method in lab/explanations.py explains the
probability of the predicted class. The truth is Shapley values by random orders; its players are 64 patches of 4x4
pixels, and absent patches are grey. Attributions of pixels are summed over the patches. Deletion, insertion and
infidelity are measured as well.
"""

import functools
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # where lab is

from lab.analysis import faithfulness
from lab.experiment import main
from lab.faithfulness import Amounts, Study
from lab.networks import cifar10_conv_net

FAITHFULNESS_CIFAR10 = Study(
    name="faithfulness_cifar10",
    dataset="cifar10",
    models={"conv": cifar10_conv_net},
    activations=("relu", "gelu", "sa", "shaplu"),
    settings=(("Adam", 0.004),),
    decay=True,
    batch_size=128,
    epochs=5,
    seeds=3,
    patch=4,
    absent=0.5,
    amounts=Amounts(images=50, truth=50, orders=120),
    few=Amounts(images=4, truth=2, orders=16),
    write=functools.partial(faithfulness.write, "faithfulness_cifar10"),
    quick={"seeds": 1, "epochs": 1, "limit": 500, "activations": ("relu", "sa")},
)
EXAMPLES = """\
examples:
  python reproduce/studies/faithfulness_cifar10.py                          12 networks: hours
  python reproduce/studies/faithfulness_cifar10.py --only '*/relu/*/seed0'  one of them
  python reproduce/studies/faithfulness_cifar10.py --quick                  a first look, too small to show a difference

The directory --out gets faithfulness_cifar10.jsonl, with a line for each network, faithfulness_cifar10.md (the tables),
faithfulness_cifar10.png (nearness against cost) and faithfulness_cifar10_maps.png. After a script was killed, the same
command goes on where it was. Environment: KERAS_BACKEND chooses the backend; tfds.load looks for the images, and puts
them, in TFDS_DATA_DIR.
"""

if __name__ == "__main__":
    sys.exit(main(FAITHFULNESS_CIFAR10, __doc__, EXAMPLES))
