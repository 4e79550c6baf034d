"""Whether the initializer `SANormal` helps deep networks with SA to train.

`SANormal` keeps the mean square of SA's inputs the same from layer to layer. The networks are MLPs of 10, 30 and 50
hidden layers of 64 neurons, without normalization or skip connections; data and batches are those of Fig. 3. SA starts
from Keras's default kernels (glorot_uniform), from He's, which are made for ReLU, and from its own; ReLU starts from
He's.
"""

import functools
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # where lab is

from lab.analysis import initialisation
from lab.experiment import Experiment, main
from lab.networks import deep_mlp

INITIALISATION = Experiment(
    name="initialisation",
    dataset="mnist",
    limit=1000,
    models={
        name: functools.partial(deep_mlp, depth=depth, width=initialisation.WIDTH)
        for name, depth in initialisation.DEPTHS.items()
    },
    activations=("sa", "sa_he", "sa_normal", "relu_he"),
    settings=initialisation.SETTINGS,
    batch_size=10,
    epochs=4,
    seeds=10,
    together=True,
    write=initialisation.write,
    quick={"seeds": 2, "epochs": 1, "only": "depth10/*/SGD_0.01/*"},
)
EXAMPLES = """\
examples:
  python reproduce/studies/initialisation.py --together 10    (KERAS_BACKEND=jax) the seeds of a setting at once
  python reproduce/studies/initialisation.py --quick          a first look in a minute

The directory --out gets initialisation.jsonl, with a line for each finished run, and initialisation.md (the table).
After a script was killed, the same command goes on where it was. Environment: KERAS_BACKEND chooses the backend;
tfds.load looks for the images, and puts them, in TFDS_DATA_DIR.
"""

if __name__ == "__main__":
    sys.exit(main(INITIALISATION, __doc__, EXAMPLES))
