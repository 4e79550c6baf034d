"""What relevance propagation costs: the time of LRP over the time of the plain input gradient of the same model.

On ResNet-20 (as in resnet20.py, with ReLU) and ResNet50 of keras.applications, with random weights: biases,
`gamma` and `beta` of the normalisations are random too, their moving statistics those of a random batch. Everything is
compiled as the backend does it (`tf.function` without XLA, `jax.jit` with the weights as arguments, PyTorch eagerly)
and explains the logit of a given class, so that the relevance at the head is given. The head's own game, the Shapley
values of the softmax by 1,000 paths, is timed on a model that has only the head.

After the warm-up every round times each candidate once, in random order, until the result is there. A ratio is one of
medians over the rounds; its 95 % interval comes from drawing rounds with replacement.

On PyTorch, zennit and captum do the rules of the preset `epsilon` on a `torch.nn` twin with the same weights, where
they are installed. Their time is over the input gradient of that twin, and their attributions are compared with ours.
"""

import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import sys

import environment
import files
import keras
import numpy as np
import resnet20
import timing
from arguments import add_results, at_least, command_line, errors_in_one_line, parsed
from keras import ops

import keras_shapley as ks

BACKEND = keras.backend.backend()
NETWORKS = {"resnet20": "ResNet-20", "resnet50": "ResNet50"}
# of every rule that is compared with a peer's: with 1e-6 the largest relevance hangs on the last bit of a denominator
EPSILON = 0.1
PEERS = ("zennit", "captum")
WARM_UP = 2  # calls of each candidate behind the first
QUICK = {"model": ["resnet20"], "batch_size": 2, "repeats": 3, "out": files.RUNS / "lrp_cost"}
SETTINGS = ("batch_size", "repeats", "threads", "image_size", "classes", "seed")
RESNET50_ONLY = ("image_size", "classes")
COLUMNS = ("", "median, ms", "quartiles, ms", "over input gradient", "95 % interval", "over ours", "head alone, ms")
COLUMNS += ("largest relevance", "agreement")

NOT_FINITE = "not finite"
INTRODUCTION = """\
# The cost of relevance propagation

Made by `python reproduce/lrp_cost.py`, once for each backend.

Medians over rounds in which everything has its turn. *Over input gradient*: of the same model in the same run (for
zennit and captum, of the `torch.nn` twin), with a 95 % interval from resampled rounds. *Over ours*: over the row with
which the attribution is compared, preset `epsilon` or the input gradient of the Keras model. *Head alone*: the Shapley
values of the softmax, which `head="auto"` needs beside the walk; the rows themselves are given the relevance there.

*Largest relevance*: over the largest explained logit. The weights are random, and rule `Shapley` with its small
stabiliser can grow beyond float32. *Agreement*: of each image the largest difference over the largest value, and the
correlation; of the median image, and of the worst in brackets. Rounding can turn the sign of a denominator, or open a
ReLU, on one side alone, and then an image differs by more than rounding.
"""

EXAMPLES = """\
examples:
  KERAS_BACKEND=jax python lrp_cost.py                       both networks; minutes to an hour on a CPU
  KERAS_BACKEND=torch python lrp_cost.py --image-size 96     ResNet50 on smaller images
  KERAS_BACKEND=torch python lrp_cost.py --quick             a first look

The directory --out gets lrp_cost_BACKEND.json, where a network measured again replaces its old numbers, and
lrp_cost.md, a table of all such files there.
"""


@dataclasses.dataclass
class Candidate:
    """Something to time.

    Attributes:
        call: function without arguments.
        base: name of the candidate whose time its own is divided by.
        to_keras: turns an attribution that it returns into a channels-last array; None where it returns none.
        relevance: whether what it returns is relevance.
        like: name of the candidate whose attribution it should equal, if any.
        note: for the table.
    """

    call: object
    base: str
    to_keras: object = None
    relevance: bool = False
    like: str | None = None
    note: str = ""


def images(n, size, rng):
    """Random images with a coarse structure and a fine one: a deep network tells white noise hardly apart."""
    found = np.zeros((n, size, size, 3))
    for cells in (1, 4, 16, size):
        cell = np.arange(size) * cells // size
        found += rng.standard_normal((n, cells, cells, 3))[:, cell][:, :, cell]
    return (found / 2).astype("float32")


def network(name, image_size, classes, rng):
    """A model that ends in a softmax, with the same random weights on every backend."""
    if name == "resnet20":
        model = resnet20.resnet20("relu")
    else:
        model = keras.applications.ResNet50(weights=None, input_shape=(image_size, image_size, 3), classes=classes)
    normalisations = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in model.layers:
        if layer in normalisations:
            # as in trained networks, and with 1 rounding errors grow from block to block
            gamma = 0.3 if layer.name.endswith("_3_bn") else 1.0
            layer.gamma.assign(gamma + 0.1 * rng.standard_normal(layer.gamma.shape))
            layer.beta.assign(0.2 * rng.standard_normal(layer.beta.shape))
        elif layer.weights:
            gain = 1 if isinstance(layer, keras.layers.Dense) else 2
            spread = np.sqrt(gain / np.prod(layer.kernel.shape[:-1]))
            kernel = spread * rng.standard_normal(layer.kernel.shape)
            # without what all inputs of a ReLU network have in common, which would hide how images differ
            layer.kernel.assign(kernel - kernel.mean(axis=tuple(range(kernel.ndim - 1))))
            layer.bias.assign(0.1 * rng.standard_normal(layer.bias.shape))

    # without momentum the moving statistics are those of this batch, so that activations stay of order 1
    momenta = [layer.momentum for layer in normalisations]
    for layer in normalisations:
        layer.momentum = 0.0
    model(images(16, model.input_shape[1], rng), training=True)
    for layer, momentum in zip(normalisations, momenta):
        layer.momentum = momentum
    return model


def below_softmax(model):
    """The model that ends in the logits, sharing all other layers, and the head, as a model of the features."""
    dense = model.layers[-1]
    logits = keras.layers.Dense(dense.units, name="logits")
    linear = keras.Model(model.input, logits(dense.input))
    logits.set_weights(dense.get_weights())
    head = keras.Sequential([keras.Input(dense.input.shape[1:]), keras.layers.Dense(dense.units, "softmax")])
    head.set_weights(dense.get_weights())
    return linear, head


def compiled(model):
    """`(forward, gradient)` of a model: functions of images and of the logits' weights in the sum that is derived."""
    if BACKEND == "jax":
        import jax

        def apply(x, variables):
            return model.stateless_call(*variables, x, training=False)[0]

        def variables():
            groups = model.trainable_variables, model.non_trainable_variables
            return tuple([variable.value for variable in group] for group in groups)

        jit_forward = jax.jit(apply)
        jit_gradient = jax.jit(jax.grad(lambda x, chosen, variables: ops.sum(chosen * apply(x, variables))))
        return lambda x: jit_forward(x, variables()), lambda x, chosen: jit_gradient(x, chosen, variables())

    if BACKEND == "tensorflow":
        import tensorflow as tf

        @tf.function(autograph=False, jit_compile=False)
        def gradient(x, chosen):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(x)
                total = ops.sum(chosen * model(x, training=False))
            return tape.gradient(total, x)

        return tf.function(lambda x: model(x, training=False), autograph=False, jit_compile=False), gradient

    import torch

    return torch.no_grad()(lambda x: model(x, training=False)), lambda x, chosen: torch_gradient(model, x, chosen)


def torch_gradient(model, x, chosen):
    import torch

    x = x.detach().requires_grad_()
    return torch.autograd.grad((chosen * model(x)).sum(), x)[0]


def candidates(model, x, target):
    """What is timed on a model, by name, and how many paths the game at its head takes."""
    linear, head = below_softmax(model)
    forward, gradient = compiled(linear)
    chosen = ops.one_hot(target, model.output_shape[-1])
    features = ops.convert_to_tensor(keras.Model(model.input, model.layers[-1].input).predict_on_batch(x))
    game = ks.LRP(head)
    presets = {
        "LRP, rule Shapley": None,
        "LRP, preset epsilon": ks.presets.epsilon(EPSILON),
        "LRP, preset epsilon_plus": ks.presets.epsilon_plus(EPSILON),
    }
    explainers = {name: ks.LRP(model, rules=rules, head="linear") for name, rules in presets.items()}

    base = "input gradient"
    found = {base: Candidate(lambda: gradient(x, chosen), base, ops.convert_to_numpy)}
    found["forward pass"] = Candidate(lambda: forward(x), base)
    for name, explainer in explainers.items():
        call = lambda explainer=explainer: explainer(x, target)  # noqa: E731
        found[name] = Candidate(call, base, ops.convert_to_numpy, relevance=True)
    found["LRP, rule Shapley"].note = "with its default stabiliser"
    for name in ("LRP, preset epsilon", "LRP, preset epsilon_plus"):
        found[name].note = f"epsilon = {EPSILON}"
    found["explain, rule Shapley"] = Candidate(
        lambda: explainers["LRP, rule Shapley"].explain(x, target),
        base,
        lambda explanation: explanation.input,
        relevance=True,
        note="the relevance of every layer and all gaps, in NumPy",
    )
    if BACKEND == "torch":
        found |= peers(linear, x, target, chosen)
    found["head"] = Candidate(lambda: game(features, target), base)
    return found, game.explain(features, target).head_paths


def peers(model, x, target, chosen):
    """On PyTorch: the input gradient of a `torch.nn` twin, and zennit and captum on twins of their own."""
    import torch
    import torch_peers

    x = torch.permute(x, (0, 3, 1, 2)).contiguous()
    plain, base = torch_peers.twin(model, torch.add), "input gradient, torch.nn twin"
    options = {"base": base, "to_keras": lambda y: ops.convert_to_numpy(y.detach()).transpose(0, 2, 3, 1)}
    found = {base: Candidate(lambda: torch_gradient(plain, x, chosen), like="input gradient", **options)}
    options |= {"relevance": True, "like": "LRP, preset epsilon"}
    if importlib.util.find_spec("zennit"):
        note = f"Epsilon({EPSILON}); Norm({EPSILON}) on sums and average pooling; Pass on ReLU and BatchNorm"
        found["zennit, the same rules"] = Candidate(torch_peers.zennit(model, x, chosen, EPSILON), note=note, **options)
    if importlib.util.find_spec("captum"):
        note = (
            f"EpsilonRule({EPSILON}) on linear layers, sums and average pooling; IdentityRule on BatchNorm, amended to "
            "reach a ReLU below; EpsilonRule(1e-9) on a copy between a forked tensor and its ReLU"
        )
        found["captum, the same rules"] = Candidate(torch_peers.captum(model, x, target, EPSILON), note=note, **options)
    return found


def measured(name, settings):
    """What the JSON file holds of a network."""
    rng = np.random.default_rng(settings["seed"])
    model = network(name, settings["image_size"], settings["classes"], rng)
    x = ops.convert_to_tensor(images(settings["batch_size"], model.input_shape[1], rng))
    target = rng.integers(model.output_shape[-1], size=settings["batch_size"]).astype("int32")
    logits = ops.convert_to_numpy(below_softmax(model)[0](x))
    scale = float(np.abs(logits[np.arange(len(target)), target]).max())

    timed, head_paths = candidates(model, x, target)
    attributions = {key: warm(candidate) for key, candidate in timed.items()}
    seconds = timing.in_turns({key: candidate.call for key, candidate in timed.items()}, settings["repeats"], rng)

    rows = {}
    for key, candidate in timed.items():
        rows[key] = row = {
            "note": candidate.note,
            "seconds": seconds[key].tolist(),
            "median_seconds": float(np.median(seconds[key])),
            "quartiles_seconds": np.quantile(seconds[key], (0.25, 0.75)).tolist(),
            "base": candidate.base,
            "over_base": timing.ratio(seconds[key], seconds[candidate.base], rng),
        }
        if candidate.relevance:
            largest = float(np.abs(attributions[key]).max()) / scale
            row["largest_relevance"] = largest if np.isfinite(largest) else None
        if candidate.like:
            row["like"] = candidate.like
            row["over_like"] = timing.ratio(seconds[key], seconds[candidate.like], rng)
            row["agreement"] = agreement(attributions[key], attributions[candidate.like])
    head = rows.pop("head") | {"paths": head_paths}
    return {"run": describe(model, name, settings), "rows": rows, "head": head}


def warm(candidate):
    """The attribution of the first call, which compiles, if it is one; and the warm-up."""
    result = candidate.call()
    attribution = candidate.to_keras(result) if candidate.to_keras else None
    for _ in range(WARM_UP):
        timing.wait(candidate.call())
    return attribution


def agreement(theirs, ours):
    """How near two attributions are: of each image the largest difference over the largest value, and the correlation.

    Of the median image and of the worst one, which may have a neuron on the edge between two signs.
    """
    if not (np.isfinite(theirs).all() and np.isfinite(ours).all()):
        return None
    theirs, ours = (part.reshape(len(part), -1).astype("float64") for part in (theirs, ours))
    differences = np.abs(theirs - ours).max(axis=1) / np.abs(ours).max(axis=1)
    correlations = [np.corrcoef(pair)[0, 1] for pair in zip(theirs, ours)]
    return {
        "difference": {"median": float(np.median(differences)), "worst": float(differences.max())},
        "correlation": {"median": float(np.median(correlations)), "worst": float(min(correlations))},
    }


def describe(model, name, settings):
    """What a measurement is, for its record."""
    compared = [peer for peer in PEERS if BACKEND == "torch" and importlib.util.find_spec(peer)]
    options = {key: value for key, value in settings.items() if name == "resnet50" or key not in RESNET50_ONLY}
    words = " ".join(f"--{key.replace('_', '-')} {value}" for key, value in options.items())
    return {
        "command": f"KERAS_BACKEND={BACKEND} python reproduce/lrp_cost.py --model {name} {words}",
        "settings": settings,
        "backend": BACKEND,
        "images": list(model.input_shape[1:]),
        "classes": model.output_shape[-1],
        "parameters": model.count_params(),
        "versions": environment.versions() | {peer: importlib.metadata.version(peer) for peer in compared},
        "device": environment.device(),
        "cpu": environment.cpu(),
        "cores": os.cpu_count(),
    }


def table(records):
    """Markdown of all measurements, network by network."""
    sections = [
        section(title, record[name]) for name, title in NETWORKS.items() for record in records if name in record
    ]
    return "\n".join([INTRODUCTION, *sections])


def section(title, measurement):
    """Markdown of one network on one backend: its table, and what it was measured with."""
    run, rows, head = measurement["run"], measurement["rows"], measurement["head"]
    settings, images = run["settings"], " x ".join(map(str, run["images"]))
    versions = ", ".join(f"{package} {version}" for package, version in run["versions"].items())
    lines = [f"## {title}, {run['backend']}", "", f"    {run['command']}", ""]
    lines += [f"| {' | '.join(COLUMNS)} |", "|" + " --- |" * len(COLUMNS)]
    lines += [f"| {' | '.join(cells(key, row, head))} |" for key, row in rows.items()]
    lines += [
        "",
        f"- Batches of {settings['batch_size']}, images {images}, {run['classes']} classes, {run['parameters']:,} "
        f"parameters, seed {settings['seed']}, {settings['repeats']} rounds; the head by {head['paths']} paths.",
        f"- {versions}; {run['device']}, threads: {settings['threads']}, cores: {run['cores']} of {run['cpu']}.",
        *(f"- {key}: {row['note']}." for key, row in rows.items() if row["note"]),
    ]
    return "\n".join(lines) + "\n"


def cells(name, row, head):
    """The cells of a row, in the order of COLUMNS."""
    low, high = row["over_base"]["interval"]
    agreement, largest = row.get("agreement", ""), row.get("largest_relevance", "")
    if agreement:
        difference, correlation = agreement["difference"], agreement["correlation"]
        agreement = (
            f"{difference['median']:.0e} ({difference['worst']:.0e}), "
            f"r = {correlation['median']:.6f} ({correlation['worst']:.6f})"
        )
    return [
        name,
        f"{1e3 * row['median_seconds']:.1f}",
        " to ".join(f"{1e3 * value:.1f}" for value in row["quartiles_seconds"]),
        f"{row['over_base']['ratio']:.2f}",
        f"{low:.2f} to {high:.2f}",
        f"{row['over_like']['ratio']:.2f}" if "over_like" in row else "",
        f"{1e3 * head['median_seconds']:.1f}" if name.startswith("LRP") else "",
        f"{largest:.1e}" if largest else NOT_FINITE if largest is None else "",
        NOT_FINITE if agreement is None else agreement,
    ]


def main(argv=None):
    """Runs the script; gives its exit code."""
    parser = command_line(__doc__, EXAMPLES)
    add = parser.add_argument
    add("--model", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="(default: both)")
    add("--batch-size", type=at_least(1), default=16, metavar="N", help="(default: 16)")
    add("--repeats", type=at_least(2), default=20, metavar="N", help="timed rounds (default: 20)")
    timing.add_threads(parser)
    add("--image-size", type=at_least(32), default=224, metavar="N", help="of ResNet50 (default: 224)")
    add(
        "--classes",
        type=at_least(2),
        default=10,
        metavar="N",
        help="of ResNet50; with 1000 a head takes minutes (default: 10)",
    )
    add("--seed", type=at_least(0), default=0, metavar="N", help="of weights, images and the order (default: 0)")
    add_results(parser)
    args = parsed(parser, QUICK, argv)

    path = args.out / f"lrp_cost_{BACKEND}.json"
    with errors_in_one_line(parser):
        args.out.mkdir(parents=True, exist_ok=True)
        record = files.read_json(path) if path.exists() else {}
        timing.fix_threads(args.threads)

    settings = {name: getattr(args, name) for name in SETTINGS}
    if BACKEND == "torch":
        for peer in PEERS:
            if not importlib.util.find_spec(peer):
                print(f"{peer} is not installed: its row is left out.")
    for name in dict.fromkeys(args.model):
        record[name] = measured(name, settings)
        files.write(path, json.dumps(record, indent=1, allow_nan=False) + "\n")
        files.write(
            args.out / "lrp_cost.md",
            table([files.read_json(file) for file in sorted(args.out.glob("lrp_cost_*.json"))]),
        )
        print(section(NETWORKS[name], record[name]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
