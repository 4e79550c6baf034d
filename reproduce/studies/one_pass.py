"""Whether the default of `ks.LRP` is the nearest to Shapley values of the methods that take one pass.

Networks for a table of numbers, for MNIST and for CIFAR-10 are trained. Every method explains the logit and the
probability of the predicted class. The truth is Shapley values by random orders. Its players are single features, or
square patches of an image; absent players have the values of the baseline. The baseline is the mean of the training
data, which is subtracted from all inputs, so that it is zero; networks whose name ends in "black" keep their pixels in
[0, 1], where zero is a black image.
"""

import argparse
import functools
import json
import pathlib
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # where lab is

import keras
import numpy as np
from keras import layers, ops

import keras_shapley as ks
from lab import data, faithfulness, files, networks, rows, runs, training
from lab.analysis import one_pass
from lab.analysis.one_pass import DEFAULT, NAME
from lab.arguments import add_results, add_table, at_least, command_line, measure_and_write, parsed
from lab.checkpoint import CHECKPOINT
from lab.explanations import NEURONS, STEPS, gradient_times_input, integrated_gradients
from lab.resnet20 import resnet20
from lab.rows import Run
from lab.statistics import number, relative_noise

OPTIMIZER, RATE = "Adam", 1e-3  # the rate falls to zero, in equal steps from epoch to epoch
GATES = 8  # masked passes
HEADS = {"logit": "linear", "probability": "auto"}
# presets for every network, and those that are `epsilon` without convolutions
GENERAL = ("epsilon", "epsilon_plus_flat")
CONVOLUTIONAL = ("epsilon_plus", "epsilon_gamma_box", "epsilon_alpha2_beta1")


def breast_cancer_mlp() -> keras.Model:
    """30 features to the probabilities of 2 classes."""
    hidden = [layers.Dense(units, "relu", name=f"hidden{index}") for index, units in enumerate((64, 32), 1)]
    return keras.Sequential([keras.Input((30,)), *hidden, layers.Dense(2, "softmax", name="classes")])


def mnist_max_pool_net() -> keras.Model:
    """The convolutional network of the Keras example mnist_convnet.py."""
    model = keras.Sequential([keras.Input((28, 28), name="image"), layers.Reshape((28, 28, 1), name="channel")])
    for index, filters in enumerate((32, 64), 1):
        model.add(layers.Conv2D(filters, 3, activation="relu", name=f"conv{index}"))
        model.add(layers.MaxPooling2D(2, name=f"pool{index}"))
    for layer in (layers.Flatten(), layers.Dropout(0.5), layers.Dense(10, "softmax", name="classes")):
        model.add(layer)
    return model


def cifar10_max_pool_net() -> keras.Model:
    """Three convolutions with BatchNormalization in front of the ReLU, and max pooling between them."""
    model = keras.Sequential([keras.Input((32, 32, 3), name="image"), layers.RandomFlip("horizontal", name="flip")])
    for index, filters in enumerate((32, 64, 128), 1):
        if index > 1:
            model.add(layers.MaxPooling2D(2, name=f"pool{index}"))
        model.add(layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"conv{index}"))
        model.add(layers.BatchNormalization(momentum=0.9, name=f"norm{index}"))
        model.add(layers.ReLU(name=f"relu{index}"))
    model.add(layers.GlobalAveragePooling2D(name="pool"))
    model.add(layers.Dense(10, "softmax", name="classes"))
    return model


class Network(NamedTuple):
    """A network that is trained and explained.

    Attributes:
        dataset: `"breast_cancer"`, `"mnist"` or `"cifar10"`.
        build: function without arguments that returns the model.
        epochs: of its training; 0 if it was trained by another script.
        seeds: number of repetitions.
        images: number of test images.
        orders: random orders of the truth, a multiple of 8.
        patch: side of the squares that are the players; None for single elements.
        batch_size: of the training.
        is_centred: whether the mean of the training data is subtracted.
    """

    dataset: str
    build: Callable[[], keras.Model]
    epochs: int
    seeds: int
    images: int
    orders: int
    patch: int | None = 4
    batch_size: int = 128
    is_centred: bool = True


MLP, CONV = (functools.partial(build, "relu") for build in (networks.mnist_mlp, networks.mnist_conv_net))
NETWORKS = {
    "breast_cancer_mlp": Network("breast_cancer", breast_cancer_mlp, 20, 3, 100, 800, patch=None, batch_size=16),
    "mnist_mlp": Network("mnist", MLP, 5, 3, 100, 400),
    "mnist_conv": Network("mnist", CONV, 5, 3, 100, 400),
    "mnist_max_pool": Network("mnist", mnist_max_pool_net, 3, 3, 50, 240),
    "mnist_mlp_black": Network("mnist", MLP, 5, 3, 100, 400, is_centred=False),
    "mnist_max_pool_black": Network("mnist", mnist_max_pool_net, 3, 3, 50, 240, is_centred=False),
    "cifar10_max_pool": Network("cifar10", cifar10_max_pool_net, 4, 2, 32, 320),
    "cifar10_conv": Network("cifar10", functools.partial(networks.cifar10_conv_net, "relu"), 3, 2, 32, 96),
    "resnet20": Network("cifar10", resnet20, 0, 1, 32, 96),
}
TRAINED_HERE = [name for name, network in NETWORKS.items() if network.epochs]
QUICK = {"networks": ["breast_cancer_mlp", "mnist_mlp"], "seeds": 1, "epochs": 1, "limit": 2000}
QUICK |= {"images": 8, "orders": 80, "out": files.RUNS / NAME}
EXAMPLES = f"""\
examples:
  python reproduce/studies/{NAME}.py                                         every network but ResNet-20: two hours
  python reproduce/studies/{NAME}.py --networks mnist_mlp --seeds 1          a minute
  python reproduce/studies/{NAME}.py --networks resnet20 --resnet20 DIR/runs/resnet20_relu_Adam_0.004_short_8_seed0
  python reproduce/studies/{NAME}.py --quick                                 a first look
  python reproduce/studies/{NAME}.py --table                                 table and picture again

ResNet-20 is trained by: python reproduce/cifar10_resnet20.py --schedule short --activations relu --seeds 1 --out DIR
The directory --out gets {NAME}.jsonl, with a line for each network, {NAME}.md (the table) and {NAME}.png. After a
script was killed, the same command goes on where it was. Environment: KERAS_BACKEND chooses the backend, of which
tensorflow is the fastest on a CPU; tfds.load looks for the images, and puts them, in TFDS_DATA_DIR.
"""


def load(dataset: str, args: argparse.Namespace) -> data.Data:
    return data.breast_cancer() if dataset == "breast_cancer" else data.load_scaled(dataset, getattr(args, dataset))


def methods(model: keras.Model, players: np.ndarray, low: np.ndarray, high: np.ndarray) -> dict[str, dict[str, Any]]:
    """Options of `ks.LRP` by the name of the method.

    Args:
        players: the player of each element of an input.
        low: smallest value of each element, in the shape of an input.
        high: largest value, likewise.
    """
    options: dict[str, dict[str, Any]] = {
        DEFAULT: {},
        "first order": {"rules": [(NEURONS, ks.rules.FirstOrder())]},
        "rescale": {"rules": [(NEURONS, ks.rules.Rescale())]},
    }
    tables: dict[str, Any] = {"eq. (2)": "paper", **{name: name for name in GENERAL}}
    convolution = next((layer for layer in model.layers if isinstance(layer, layers.Conv2D)), None)
    if convolution is not None:
        tables |= {name: name for name in CONVOLUTIONAL}
        bounds = (np.reshape(bound, convolution.input.shape[1:]) for bound in (low, high))
        tables["epsilon_gamma_box"] = ks.presets.epsilon_gamma_box(*bounds)
    for name, table in tables.items():
        options[name] = {"rules": table, "merge_batch_norm": True}
        options[f"{name}, from the baseline"] = {"rules": table, "baseline": 0.0}
    return options | {one_pass.GATES: {"gates": GATES, "players": players}}


def attributions(
    model: keras.Model, logits: keras.Model, quantity: str, x: np.ndarray, target: np.ndarray, options: dict[str, Any]
) -> dict[str, np.ndarray]:
    """By the name of each method its attribution of a quantity, of the shape of `x`."""
    with warnings.catch_warnings():
        # the table shows relevance that is amplified or lost
        warnings.simplefilter("ignore", RuntimeWarning)
        found = {
            name: ops.convert_to_numpy(ks.LRP(model, head=HEADS[quantity], **arguments)(x, target))
            for name, arguments in options.items()
        }
    differentiated = logits if quantity == "logit" else model
    found["gradient x input"] = gradient_times_input(differentiated, x, target)
    return found | {one_pass.INTEGRATED.format(STEPS): integrated_gradients(differentiated, x, target)}


def with_logits(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Models of the logits, and of the logits and then the probabilities, side by side."""
    logits = networks.without_softmax(model)
    probabilities = layers.Activation(model.layers[-1].activation)(logits.output)
    return logits, keras.Model(model.inputs[0], layers.Concatenate()([logits.output, probabilities]))


def explained(args: argparse.Namespace, run: Run) -> dict[str, Any]:
    """The result of a run: accuracy, the truth's own error, and the measures of every method for each image."""
    network = NETWORKS[run["model"]]
    (x_train, y_train), (x_test, y_test), _ = load(network.dataset, args)
    mean = x_train.mean(axis=0, dtype="float64").astype("float32") * network.is_centred
    x_train, x_test = x_train - mean, x_test - mean
    model = training.compiled(lambda _: network.build(), run)
    if network.epochs:
        limited, rates = slice(run["limit"]), functools.partial(faithfulness.decayed, run)
        fit = functools.partial(model.fit, callbacks=[keras.callbacks.LearningRateScheduler(rates)], verbose=0)
        fit(x_train[limited], y_train[limited], run["batch_size"], run["epochs"])
    else:
        restore(model, args.resnet20)
    accuracy = model.evaluate(x_test, y_test, verbose=0, return_dict=True)["accuracy"]

    x = x_test[: run["images"]]
    target = model.predict(x, verbose=0).argmax(axis=1)
    players = faithfulness.patches(network.patch, x.shape[1:]) if network.patch else np.arange(x[0].size)
    logits, both = with_logits(model)
    # small batches, so that the outputs of a layer stay in a processor's last cache
    sampling = {"n_paths": run["orders"], "orders": "stratified", "batch_size": max(1, 2**18 // x[0].size)}
    targets = np.stack([target, target + logits.output_shape[-1]], axis=1)
    truth = ks.sampled_shapley_values(both, x, targets, players=players, progress=False, **sampling)
    present = faithfulness.by_player(players, np.abs(x)) > 0
    options = methods(model, players, x_train.min(axis=0), x_train.max(axis=0))
    result: dict[str, Any] = {"accuracy": accuracy, "noise": {}, "methods": {}}
    for index, quantity in enumerate(HEADS):
        values, stderr = truth.values[..., index], truth.stderr[..., index]
        result["noise"][quantity] = [number(error) for error in relative_noise(stderr, values)]
        result["methods"][quantity] = {
            name: one_pass.measured(faithfulness.by_player(players, attribution), values, present)
            for name, attribution in attributions(model, logits, quantity, x, target, options).items()
        }
    keras.backend.clear_session()
    return result


def restore(model: keras.Model, directory: pathlib.Path) -> None:
    """Gives a model the weights in the checkpoint of a run of cifar10_resnet20.py."""
    with np.load(directory / CHECKPOINT) as file:
        for index, variable in enumerate(model.variables):
            variable.assign(file[f"variable_{index}"])


def settings(name: str, seed: int, args: argparse.Namespace) -> Run:
    """The run of a network."""
    network = NETWORKS[name]
    if network.epochs:
        run = {"model": name, "activation": "relu", "optimizer": OPTIMIZER, "learning_rate": RATE, "seed": seed}
        run |= {"epochs": args.epochs or network.epochs, "batch_size": network.batch_size, "limit": args.limit}
    else:
        with np.load(args.resnet20 / CHECKPOINT) as file:
            record = json.loads(str(file["record"]))
        run = {key: value for key, value in record["run"].items() if key not in ("backend", "data")}
        run["epochs"] = len(record["history"])
    return run | {"images": args.images or network.images, "orders": args.orders or network.orders}


def measure(args: argparse.Namespace) -> None:
    """Carries out the runs that the results lack, data set by data set and seed by seed."""
    for dataset in dict.fromkeys(NETWORKS[name].dataset for name in args.networks):
        members = [name for name in args.networks if NETWORKS[name].dataset == dataset]
        wanted = [
            settings(name, seed, args)
            for seed in range(max(NETWORKS[name].seeds for name in members))
            for name in members
            if seed < min(args.seeds or NETWORKS[name].seeds, NETWORKS[name].seeds)
        ]
        record = runs.record(load(dataset, args).source)
        runs.carry_out(
            wanted, lambda group: [explained(args, run) for run in group], args.out / f"{NAME}.jsonl", record
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns its exit code."""
    parser = command_line(__doc__, EXAMPLES)
    add, count = parser.add_argument, at_least(1)
    add("--networks", nargs="+", choices=NETWORKS, metavar="NAME", help=f"(default: {' '.join(TRAINED_HERE)})")
    add("--resnet20", type=pathlib.Path, metavar="DIR", help="a run of cifar10_resnet20.py, for the network resnet20")
    add("--seeds", type=count, metavar="N", help="repetitions, at most (default: see the script's table)")
    add("--epochs", type=count, metavar="N", help="of the training (default: see the script's table)")
    add("--limit", type=count, metavar="N", help="train on the first N images (default: all)")
    add("--images", type=count, metavar="N", help="test images (default: see the script's table)")
    add("--orders", type=at_least(16), metavar="N", help="random orders of the truth, even (default: likewise)")
    for dataset in data.IMAGE_SHAPES:
        add(f"--{dataset}", metavar="FILE", help=f"read {dataset} from this .npz file, not from tfds")
    add_results(parser)
    add_table(parser)
    args = parsed(parser, QUICK, argv)
    args.networks = args.networks or TRAINED_HERE
    if "resnet20" in args.networks and args.resnet20 is None and not args.table:
        parser.error("--networks resnet20 needs --resnet20 DIR")
    return measure_and_write(parser, args, measure, lambda out: one_pass.write(rows.read(out / f"{NAME}.jsonl"), out))


if __name__ == "__main__":
    sys.exit(main())
