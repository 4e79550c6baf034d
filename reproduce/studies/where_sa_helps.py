"""Where does a gate that does not vanish help?

The paper's reason for SA is dormant units. This study compares ReLU, leaky ReLU (slope 0.2, Keras's default), GELU,
SiLU and SA (exact) where units may fall dormant, or where training is hard for other reasons. It was written down
before it was run.

Networks are MLPs for MNIST with 3 hidden layers of 32 neurons, without and with BatchNormalization. That stands behind
the activation, where each activation sees its layer's own sum. A run has 10 epochs of 1,000 images in batches of 32. A
seed draws its own 1,000 of the 60,000 images, its first weights and its order of images; these are the same for all
activations. Accuracy is that of 10,000 test images. The settings:

- depth10, depth20, depth40: so many hidden layers.
- rates: a ladder of learning rates by factors of 2 (SGD) and 4 (Adam). A rate fails if most seeds end below an accuracy
  of 0.2, where chance is 0.1.
- images50, images200: an epoch repeats so many images. `rates` has all 1,000.
- sparse: 90 % of the pixels are 0, others in each image.
- spikes: 1 % of the pixels are ten times as bright as white, and say nothing (heavy tails that disturb).
- exceptions: 40 standard normal features, one of them set to 6 or -6; its tenth is the class (an exception to notice).
- noise20, noise40: so many per cent of the training labels are wrong.
- converted, converted_turned: a network of ReLU is trained with Adam, converted by `to_shapley` and trained as long
  again, on 1,000 other images, upright or on their side, beside the same network with its ReLU.

Each activation starts from kernels that keep the mean square of a standard normal signal: `he_normal` for ReLU,
`SANormal` for SA, and the same rule for the others. Their users mostly take `he_normal`, so the deep networks without
normalization have `gelu_he` and `silu_he` as well. Inputs are scaled to a mean square of 1, as GELU and SiLU need.

All activations have the same ladder of Adam's rates, and in `rates` of SGD's. The accuracy of a seed is that of the
rate with the best mean over the other seeds, so that no seed chooses its own rate.

A unit is silent if its sum, with the bias, is 0 or less for all training images of the run: there, ReLU never fires.
That is the same definition for all activations. It is measured after the first and the last epoch. `GateMonitor`
measures the shares of closed gates of ReLU, GELU and SA in `rates`; it has no gate for leaky ReLU and SiLU.
"""

import dataclasses
import functools
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # where lab is

from lab import hard_training
from lab.analysis import where_sa_helps
from lab.experiment import Experiment, main
from lab.hard_training import Setting
from lab.rows import Run

PLAIN = {
    "rates": Setting(monitored=True),
    "images50": Setting(different=50),
    "images200": Setting(different=200),
    "sparse": Setting(change=hard_training.sparse),
    "spikes": Setting(change=hard_training.spikes),
    "exceptions": Setting(change=hard_training.exceptions),
    "noise20": Setting(change=functools.partial(hard_training.wrong_labels, 0.2), clean_test=True),
    "noise40": Setting(change=functools.partial(hard_training.wrong_labels, 0.4), clean_test=True),
    "depth10": Setting(depth=10),
    "depth20": Setting(depth=20),
    "depth40": Setting(depth=40),
}
SETTINGS = {
    **PLAIN,
    "converted": Setting(converted=True),
    "converted_turned": Setting(converted=True, change=hard_training.turned),
    **{f"{name}_norm": dataclasses.replace(setting, norm=True) for name, setting in PLAIN.items()},
}
ACTIVATIONS = ("relu_he", "leaky_relu_normal", "gelu_normal", "silu_normal", "sa_normal")
FROM_HE = ("gelu_he", "silu_he")
CONVERTED = ("relu_he", "shaplu", "sa")


def planned(run: Run) -> bool:
    """Whether a combination of model, activation and rate is part of the study."""
    setting = SETTINGS[run["model"]]
    rates = where_sa_helps.SGD + where_sa_helps.ADAM if setting.monitored else where_sa_helps.USUAL
    deep = setting.depth > Setting.depth and not setting.norm
    activations = CONVERTED if setting.converted else ACTIVATIONS + FROM_HE * deep
    return run["activation"] in activations and (run["optimizer"], run["learning_rate"]) in rates


WHERE_SA_HELPS = Experiment(
    name="where_sa_helps",
    dataset="mnist",
    limit=1000,
    models={name: setting.network for name, setting in SETTINGS.items()},
    activations=tuple(dict.fromkeys(ACTIVATIONS + FROM_HE + CONVERTED)),
    settings=where_sa_helps.SGD + where_sa_helps.ADAM,
    batch_size=32,
    epochs=10,
    seeds=5,
    planned=planned,
    together=True,
    differ=("seed", "learning_rate"),
    perform=functools.partial(hard_training.train_settings, SETTINGS),
    write=where_sa_helps.write,
    quick={"seeds": 2, "epochs": 1, "only": "exceptions/*/Adam_0.002/*"},
)
EXAMPLES = """\
examples:
  python reproduce/studies/where_sa_helps.py --together 50    (KERAS_BACKEND=jax) seeds and rates of a setting at once
  python reproduce/studies/where_sa_helps.py --quick          a first look in a minute

The directory --out gets where_sa_helps.jsonl, with a line for each finished run, where_sa_helps.md (the tables) and
where_sa_helps.png. After a script was killed, the same command goes on where it was. Environment: KERAS_BACKEND chooses
the backend; tfds.load looks for the images, and puts them, in TFDS_DATA_DIR.
"""

if __name__ == "__main__":
    sys.exit(main(WHERE_SA_HELPS, __doc__, EXAMPLES))
