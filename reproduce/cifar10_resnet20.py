"""Fig. 5 of the paper: ResNet-20 v2 on CIFAR-10, with ReLU, SA and others.

The protocol is that of the Keras example that the paper names: Adam, 200 epochs, batches of 32, random shifts and
flips. (The example also reduces the rate on a plateau, but its schedule overrides that.) As in the example, the 10,000
test images are the validation set. The network is in lab/resnet20.py; --models has other layouts, because the paper
does not say what SA replaces behind an addition. Initial values, order of the images, shifts and flips depend on the
seed.

--schedule short is ours, and not the paper's: 8 epochs, batches of 128, and one cycle of Adam's rate, which rises from
0 to 0.004 in the first quarter of the steps and falls to 0 as a cosine. Network, images, shifts and flips are the same.
"""

import dataclasses
import functools
import pathlib
import sys
from typing import Any

import keras
from keras.optimizers.schedules import CosineDecay, LearningRateSchedule, PiecewiseConstantDecay

import keras_shapley as ks
from lab import data, environment, rows
from lab.analysis import figure5
from lab.batches import Batches, centred, pixel_mean
from lab.checkpoint import Checkpoint
from lab.data import CIFAR10_CLASSES, Split
from lab.experiment import Experiment, main
from lab.resnet20 import EPSILON, LAYOUTS, resnet20
from lab.rows import Run

# Settings of the example, and so of the paper
RATES = ((0, 1e-3), (81, 1e-4), (121, 1e-5), (161, 1e-6), (181, 5e-7))  # Adam's, from that epoch on, counted from 0
SHIFT = 0.1  # of height and width, at most; half of the images are mirrored as well
# Ours: the short schedule
SHORT_EPOCHS, SHORT_BATCH = 8, 128
SHORT_RATE = 4e-3  # the example's first, times the ratio of the batches
WARM_UP = 0.25  # of the steps

HEATMAPS = 8  # test images
LAYOUT = {figure5.NETWORK if layout == "paper" else f"resnet20_{layout}": layout for layout in LAYOUTS}
MODELS = {name: functools.partial(resnet20, layout=layout) for name, layout in LAYOUT.items()}
MODEL = "model.keras"


def paper_rate(steps: int) -> LearningRateSchedule:
    """Adam's rate by step: 81 epochs at 1e-3, then 40 at 1e-4, and so on. `steps` are those of an epoch."""
    first_epochs, rates = zip(*RATES)
    return PiecewiseConstantDecay([epoch * steps - 1 for epoch in first_epochs[1:]], list(rates))


def short_rate(steps: int) -> LearningRateSchedule:
    """Adam's rate by step, one cycle: up from 0 in a line, down to 0 as a cosine. `steps` are those of all epochs."""
    rising = round(WARM_UP * steps)
    return CosineDecay(0.0, steps - rising, warmup_target=SHORT_RATE, warmup_steps=rising)


def train(
    model: keras.Model, images: tuple[Split, Split], checkpoint: Checkpoint, epochs: int, heatmaps: bool
) -> dict[str, list[Any]]:
    """Trains a model until it has had `epochs` epochs, onwards from its checkpoint if there is one.

    Args:
        model: a `resnet20`.
        images: `(x_train, y_train), (x_test, y_test)`.
        checkpoint: keeps the state and the history.
        epochs: in total.
        heatmaps: whether to draw the relevance of the first test images after every epoch.

    Returns:
        A number for each epoch, for each name in history.jsonl.
    """
    (x_train, y_train), (x_test, y_test) = images
    mean = pixel_mean(x_train)
    run, done = checkpoint.run, len(checkpoint.history)
    batches = Batches(x_train, y_train, mean, run["batch_size"], run["seed"], shift=SHIFT, first_epoch=done)
    rate = short_rate(epochs * batches.steps) if "schedule" in run else paper_rate(batches.steps)
    model.compile(
        optimizer=keras.optimizers.Adam(rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=environment.jit_compile(),
    )
    model.optimizer.build(model.trainable_variables)
    checkpoint.restore(model)

    callbacks: list[keras.callbacks.Callback] = []
    if heatmaps:
        x, y, shown = centred(x_test[:HEATMAPS], mean), y_test[:HEATMAPS], x_test[:HEATMAPS]
        explainer = ks.LRP(model, rules=ks.presets.paper(EPSILON))
        options = {"class_names": CIFAR10_CLASSES, "directory": checkpoint.directory / "heatmaps"}
        callbacks.append(ks.LRPHeatmaps(x, y, images=shown, explainer=explainer, **options))
    # the checkpoint comes last: the other callbacks have seen every epoch that it holds
    callbacks.append(checkpoint)

    if done < epochs:
        model.fit(
            batches.endless(),
            steps_per_epoch=batches.steps,
            initial_epoch=done,
            epochs=epochs,
            validation_data=(centred(x_test, mean), y_test),
            validation_batch_size=250,
            shuffle=False,
            callbacks=callbacks,
            verbose=1 if sys.stdout.isatty() else 2,
        )
    history = checkpoint.history[:epochs]
    return {name: [line[name] for line in history] for name in history[0]}


def perform(experiment: Experiment, file: str | None, out: pathlib.Path, runs: list[Run]) -> list[dict[str, Any]]:
    """Trains each run in a directory of its own; returns the result of each."""
    environment.make_deterministic()
    (x_train, y_train), test = data.load(experiment.dataset, file)
    source = data.source(experiment.dataset, file, x_train)
    results = []
    for run in runs:
        keras.utils.set_random_seed(run["seed"])
        model = experiment.build(run)
        # the paper's rate does not depend on the number of epochs, so that its runs can be trained on
        settings = {name: value for name, value in run.items() if name != "epochs" or "schedule" in run}
        settings |= {"backend": environment.BACKEND, "data": source}
        directory = out / "runs" / rows.name(run).replace("/", "_")
        checkpoint = Checkpoint(directory, settings)
        directory.mkdir(parents=True, exist_ok=True)
        images = (x_train[: run["limit"]], y_train[: run["limit"]]), test
        # LRP has no rule for a neuron that is a convolution and an addition
        heatmaps = LAYOUT[run["model"]] != "joint"
        results.append(train(model, images, checkpoint, run["epochs"], heatmaps))
        model.save(directory / MODEL)
        keras.backend.clear_session()
    return results


PAPER = Experiment(
    name="figure5",
    dataset="cifar10",
    models={figure5.NETWORK: MODELS[figure5.NETWORK]},
    more_models={name: build for name, build in MODELS.items() if name != figure5.NETWORK},
    activations=("relu", "sa", "sa_pooled"),
    settings=(("Adam", RATES[0][1]),),
    batch_size=32,
    epochs=figure5.PAPER_EPOCHS,
    seeds=8,
    perform=perform,
    write=figure5.write,
    quick={"epochs": 1, "seeds": 1, "limit": 640},
)
SHORT = dataclasses.replace(
    PAPER,
    schedule="short",
    activations=(*PAPER.activations, "gelu"),
    settings=(("Adam", SHORT_RATE),),
    batch_size=SHORT_BATCH,
    epochs=SHORT_EPOCHS,
    seeds=3,
)
FIGURE5 = dataclasses.replace(PAPER, schedules={SHORT.schedule: SHORT})
EXAMPLES = """\
examples:
  python reproduce/cifar10_resnet20.py --activations relu sa --seeds 1    200 epochs of each: minutes an epoch on a CPU
  python reproduce/cifar10_resnet20.py --schedule short                   8 epochs of ours: half a day on two cores
  python reproduce/cifar10_resnet20.py --seeds 1 --epochs 5               a first look
  python reproduce/cifar10_resnet20.py --models resnet20_joint --activations sa --seeds 1
  python reproduce/cifar10_resnet20.py --quick                            minutes

The directory --out gets figure5.jsonl, with a line for each finished run, figure5.md (the table) and figure5.png. Its
runs/ has a directory for each run: history.jsonl (a line for each epoch), model.keras, the checkpoint, and heatmaps of
the first test images after each epoch (not for resnet20_joint). After a script was killed, the same command goes on
after the last complete epoch, and ends with the weights of a run that was never stopped. With a larger --epochs, runs
of the paper's schedule are trained on; one of the short schedule is another run. Environment: KERAS_BACKEND chooses the
backend, of which tensorflow is the fastest on a CPU; tfds.load looks for the images, and puts them, in TFDS_DATA_DIR.
"""

if __name__ == "__main__":
    sys.exit(main(FIGURE5, __doc__, EXAMPLES))
