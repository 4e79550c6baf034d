"""How near explanations of MNIST networks come to Shapley values, and whether networks with SA are explained better.

An MLP and a convolutional network are trained with several activations. Then every method in lab/explanations.py
explains the probability of the predicted class. The truth is Shapley values by random orders; its players are the
pixels, and absent pixels are black. Deletion, insertion and infidelity are measured as well.
"""

import functools
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # where lab is

from lab.analysis import faithfulness
from lab.experiment import main
from lab.faithfulness import Amounts, Study
from lab.networks import mnist_conv_net, mnist_mlp

FAITHFULNESS = Study(
    name="faithfulness",
    dataset="mnist",
    models={"mlp": mnist_mlp, "conv": mnist_conv_net},
    activations=("relu", "gelu", "sa", "shaplu"),
    settings=(("Adam", 0.001),),
    batch_size=128,
    epochs=5,
    seeds=3,
    amounts=Amounts(images=1000, truth=100, orders=200),
    few=Amounts(images=20, truth=3, orders=40),
    write=functools.partial(faithfulness.write, "faithfulness"),
    quick={"seeds": 1, "epochs": 1, "limit": 6000, "only": "mlp/*"},
)
EXAMPLES = """\
examples:
  python reproduce/studies/faithfulness.py                              24 networks: hours
  python reproduce/studies/faithfulness.py --only 'mlp/*/seed0'         one network of each activation
  python reproduce/studies/faithfulness.py --only 'conv/*' --epochs 1   networks with less training, in a further table
  python reproduce/studies/faithfulness.py --quick                      a first look, too small to show a difference

The directory --out gets faithfulness.jsonl, with a line for each network, faithfulness.md (the tables),
faithfulness.png (nearness against cost) and faithfulness_maps.png. After a script was killed, the same command goes on
where it was. Environment: KERAS_BACKEND chooses the backend; tfds.load looks for the images, and puts them, in
TFDS_DATA_DIR.
"""

if __name__ == "__main__":
    sys.exit(main(FAITHFULNESS, __doc__, EXAMPLES))
