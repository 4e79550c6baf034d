"""The cost of relevance propagation: the time of LRP over the time of the plain input gradient of the same model.

The models are ResNet-20 (lab/resnet20.py, with ReLU), ResNet50 of keras.applications and EfficientNet-Lite0. They have
random weights: biases, `gamma` and `beta` of the normalizations are random too, and their moving statistics are those
of a random batch. Everything is compiled as the backend does it (`tf.function` without XLA, `jax.jit` with the weights
as arguments, PyTorch eagerly).

The logit of a given class is explained, so that the relevance at the head is given; or those of several classes in one
call, which share the forward pass. The Shapley values of the softmax, from which eq. (2) may start, are timed on a
model of the head alone, by 1,000 sampled paths.

After the warm-up, every round times each candidate once, in random order, until the result is there. A ratio is one of
medians over the rounds; its 95 % interval comes from rounds drawn with replacement.

On PyTorch, zennit and captum apply the rules of the preset `epsilon` to a `torch.nn` twin with the same weights, if
they are installed. Their time is over the input gradient of that twin, and their attributions are compared with ours.
"""

import dataclasses
import importlib.metadata
import importlib.util
import os
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # where lab is

import keras
import numpy as np
from keras import ops

import keras_shapley as ks
from lab import environment, files, measuring
from lab.analysis import lrp_cost
from lab.analysis.lrp_cost import NETWORKS
from lab.arguments import add_results, add_seed, add_threads, at_least, command_line, errors_in_one_line, parsed
from lab.environment import BACKEND
from lab.imagenet import efficientnet_lite0
from lab.networks import without_softmax
from lab.resnet20 import resnet20
from lab.statistics import ratio_of_medians

# of every rule that is compared with a peer's: with 1e-6 the largest relevance depends on the last bit of a denominator
EPSILON = 0.1
PEERS = ("zennit", "captum")
DEFAULT, EQ2 = "LRP, Shapley propagation", "LRP, eq. (2)"
TARGETS = 5  # that are explained in one call
SEVERAL = f"{DEFAULT}, {TARGETS} targets"
WARM_UP = 2  # calls of each candidate after the first
QUICK = {"model": ["resnet20"], "batch_size": 2, "repeats": 3, "out": files.RUNS / "lrp_cost"}
SETTINGS = ("batch_size", "repeats", "threads", "image_size", "classes", "seed")
EXAMPLES = """\
examples:
  KERAS_BACKEND=jax python reproduce/benchmarks/lrp_cost.py                     all three networks: an hour
  KERAS_BACKEND=torch python reproduce/benchmarks/lrp_cost.py --image-size 96   all but ResNet-20 on smaller images
  KERAS_BACKEND=torch python reproduce/benchmarks/lrp_cost.py --quick           a first look

The directory --out gets lrp_cost_BACKEND.json, where a network that is measured again replaces its old numbers, and
lrp_cost.md, a table of all such files there.
"""


@dataclasses.dataclass
class Candidate:
    """Something to time.

    Attributes:
        call: function without arguments.
        base: name of the candidate whose time is the denominator.
        to_keras: turns the attribution that `call` returns into a channels-last array; None if it returns none.
        relevance: whether `call` returns relevance.
        like: name of the candidate whose attribution should be the same, if any.
        note: for the table.
    """

    call: Callable[[], Any]
    base: str
    to_keras: Callable[[Any], np.ndarray] | None = None
    relevance: bool = False
    like: str | None = None
    note: str = ""


def images(n: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Random images with coarse and fine structure, because a deep network hardly tells white noise apart."""
    sums = np.zeros((n, size, size, 3))
    for cells in (1, 4, 16, size):
        cell = np.arange(size) * cells // size
        sums += rng.standard_normal((n, cells, cells, 3))[:, cell][:, :, cell]
    return (sums / 2).astype("float32")


def network(name: str, image_size: int, classes: int, rng: np.random.Generator) -> keras.Model:
    """A model that ends in a softmax, with the same random weights on every backend."""
    if name == "resnet20":
        model = resnet20("relu")
    elif name == "lite0":
        model = efficientnet_lite0(image_size, classes)
    else:
        model = keras.applications.ResNet50(weights=None, input_shape=(image_size, image_size, 3), classes=classes)
    normalizations = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in model.layers:
        if layer in normalizations:
            # small at the end of a block, as in trained networks; with 1, rounding errors grow from block to block
            gamma = 0.3 if layer.name.endswith(("_3_bn", "_bn2")) else 1.0
            layer.gamma.assign(gamma + 0.1 * rng.standard_normal(layer.gamma.shape))
            layer.beta.assign(0.2 * rng.standard_normal(layer.beta.shape))
        elif layer.weights:
            gain = 1 if isinstance(layer, keras.layers.Dense) else 2
            # a depthwise kernel sums over its places alone
            n_summed = layer.kernel.shape[: 2 if isinstance(layer, keras.layers.DepthwiseConv2D) else -1]
            spread = np.sqrt(gain / np.prod(n_summed))
            kernel = spread * rng.standard_normal(layer.kernel.shape)
            # without the mean that all inputs of a ReLU network share, which would hide how images differ
            layer.kernel.assign(kernel - kernel.mean(axis=tuple(range(kernel.ndim - 1))))
            if layer.use_bias:
                layer.bias.assign(0.1 * rng.standard_normal(layer.bias.shape))

    # without momentum the moving statistics are those of this batch, so that activations stay of order 1
    momenta = [layer.momentum for layer in normalizations]
    for layer in normalizations:
        layer.momentum = 0.0
    model(images(16, model.input_shape[1], rng), training=True)
    for layer, momentum in zip(normalizations, momenta):
        layer.momentum = momentum
    return model


def below_softmax(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """The model that ends in the logits, sharing all other layers, and the head, as a model of the features."""
    dense = model.layers[-1]
    head = keras.Sequential([keras.Input(dense.input.shape[1:]), keras.layers.Dense(dense.units, "softmax")])
    head.set_weights(dense.get_weights())
    return without_softmax(model), head


def compiled(model: keras.Model) -> tuple[Callable, Callable]:
    """`(forward, gradient)` of a model: functions of images, and of images and the logits' weights in a sum."""
    if BACKEND == "jax":
        import jax

        def apply(x, variables):
            return model.stateless_call(*variables, x, training=False)[0]

        def variables():
            groups = model.trainable_variables, model.non_trainable_variables
            return tuple([variable.value for variable in group] for group in groups)

        jit_forward = jax.jit(apply)
        jit_gradient = jax.jit(jax.grad(lambda x, weights, variables: ops.sum(weights * apply(x, variables))))
        return lambda x: jit_forward(x, variables()), lambda x, weights: jit_gradient(x, weights, variables())

    if BACKEND == "tensorflow":
        import tensorflow as tf

        @tf.function(autograph=False, jit_compile=False)
        def gradient(x, weights):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(x)
                total = ops.sum(weights * model(x, training=False))
            return tape.gradient(total, x)

        return tf.function(lambda x: model(x, training=False), autograph=False, jit_compile=False), gradient

    import torch

    return torch.no_grad()(lambda x: model(x, training=False)), lambda x, weights: torch_gradient(model, x, weights)


def torch_gradient(model: Callable, x: Any, weights: Any) -> Any:
    """Gradient of the weighted sum of the outputs with respect to the input, on PyTorch."""
    import torch

    x = x.detach().requires_grad_()
    return torch.autograd.grad((weights * model(x)).sum(), x)[0]


def candidates(model: keras.Model, x: Any, target: np.ndarray) -> tuple[dict[str, Candidate], int]:
    """The candidates of a model by name, and the number of paths at its head."""
    linear, head = below_softmax(model)
    forward, gradient = compiled(linear)
    weights = ops.one_hot(target, model.output_shape[-1])
    features = ops.convert_to_tensor(keras.Model(model.input, model.layers[-1].input).predict_on_batch(x))
    softmax = ks.LRP(head, rules="paper", head_method="sampled")
    presets = {
        DEFAULT: "auto",
        EQ2: "paper",
        "LRP, preset epsilon": ks.presets.epsilon(EPSILON),
        "LRP, preset epsilon_plus": ks.presets.epsilon_plus(EPSILON),
    }
    explainers = {name: ks.LRP(model, rules=rules, head="linear") for name, rules in presets.items()}

    base = "input gradient"
    timed = {base: Candidate(lambda: gradient(x, weights), base, ops.convert_to_numpy)}
    timed["forward pass"] = Candidate(lambda: forward(x), base)
    for name, explainer in explainers.items():
        call = lambda explainer=explainer: explainer(x, target)  # noqa: E731
        timed[name] = Candidate(call, base, ops.convert_to_numpy, relevance=True)
    several = (target[:, None] + np.arange(TARGETS, dtype="int32")) % model.output_shape[-1]
    timed[SEVERAL] = Candidate(
        lambda: explainers[DEFAULT](x, several),
        base,
        lambda relevance: ops.convert_to_numpy(relevance)[:, 0],
        relevance=True,
        like=DEFAULT,
        note=f"agreement is that of the first; {TARGETS} calls would take {TARGETS} times as long as one",
    )
    timed[EQ2].note = "with its default stabilizer"
    for name in ("LRP, preset epsilon", "LRP, preset epsilon_plus"):
        timed[name].note = f"epsilon = {EPSILON}"
    timed["explain, Shapley propagation"] = Candidate(
        lambda: explainers[DEFAULT].explain(x, target),
        base,
        lambda explanation: explanation.input,
        relevance=True,
        note="the relevance of every layer and all gaps, in NumPy",
    )
    if BACKEND == "torch":
        timed |= peers(linear, x, target, weights)
    timed["head"] = Candidate(lambda: softmax(features, target), base)
    return timed, softmax.explain(features, target).head_paths


def peers(model: keras.Model, x: Any, target: np.ndarray, weights: Any) -> dict[str, Candidate]:
    """On PyTorch: the input gradient of a `torch.nn` twin, and zennit and captum on twins of their own."""
    import torch

    from lab.peers import relevance

    x = torch.permute(x, (0, 3, 1, 2)).contiguous()
    plain, base = relevance.twin(model, torch.add), "input gradient, torch.nn twin"
    options = {"base": base, "to_keras": lambda y: ops.convert_to_numpy(y.detach()).transpose(0, 2, 3, 1)}
    timed = {base: Candidate(lambda: torch_gradient(plain, x, weights), like="input gradient", **options)}
    options |= {"relevance": True, "like": "LRP, preset epsilon"}
    if importlib.util.find_spec("zennit"):
        note = f"Epsilon({EPSILON}); Norm({EPSILON}) on sums and average pooling; Pass on ReLU and BatchNorm"
        timed["zennit, the same rules"] = Candidate(relevance.zennit(model, x, weights, EPSILON), note=note, **options)
    if importlib.util.find_spec("captum"):
        note = (
            f"EpsilonRule({EPSILON}) on linear layers, sums and average pooling; IdentityRule on BatchNorm and ReLU6, "
            "amended to reach a ReLU below; EpsilonRule(1e-9) on a copy between a forked tensor and its ReLU"
        )
        timed["captum, the same rules"] = Candidate(relevance.captum(model, x, target, EPSILON), note=note, **options)
    return timed


def measured(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The measurement of a network, for the file of results."""
    rng = np.random.default_rng(settings["seed"])
    model = network(name, settings["image_size"], settings["classes"], rng)
    x = ops.convert_to_tensor(images(settings["batch_size"], model.input_shape[1], rng))
    target = rng.integers(model.output_shape[-1], size=settings["batch_size"]).astype("int32")
    logits = ops.convert_to_numpy(below_softmax(model)[0](x))
    scale = float(np.abs(logits[np.arange(len(target)), target]).max())

    timed, head_paths = candidates(model, x, target)
    attributions = {key: warm_up(candidate) for key, candidate in timed.items()}
    seconds = measuring.in_turns({key: candidate.call for key, candidate in timed.items()}, settings["repeats"], rng)

    rows = {}
    for key, candidate in timed.items():
        rows[key] = row = {
            "note": candidate.note,
            "seconds": seconds[key].tolist(),
            "median_seconds": float(np.median(seconds[key])),
            "quartiles_seconds": np.quantile(seconds[key], (0.25, 0.75)).tolist(),
            "base": candidate.base,
            "over_base": ratio_of_medians(seconds[key], seconds[candidate.base], rng),
        }
        if candidate.relevance:
            largest = float(np.abs(attributions[key]).max()) / scale
            row["largest_relevance"] = largest if np.isfinite(largest) else None
        if candidate.like:
            row["like"] = candidate.like
            row["over_like"] = ratio_of_medians(seconds[key], seconds[candidate.like], rng)
            row["agreement"] = agreement(attributions[key], attributions[candidate.like])
    head = rows.pop("head") | {"paths": head_paths}
    return {"run": describe(model, name, settings), "rows": rows, "head": head}


def warm_up(candidate: Candidate) -> np.ndarray | None:
    """Calls a candidate, which compiles it; returns the attribution of its first call, if it has any."""
    result = candidate.call()
    attribution = candidate.to_keras(result) if candidate.to_keras else None
    for _ in range(WARM_UP):
        measuring.wait(candidate.call())
    return attribution


def agreement(theirs: np.ndarray, ours: np.ndarray) -> dict[str, dict[str, float]] | None:
    """How near two attributions are: the largest difference over the largest value, and the correlation.

    Both are given for the median image and for the worst one, which may have a neuron on the edge between two signs.
    None if an attribution is not finite.
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


def describe(model: keras.Model, name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The part of a measurement that says what was measured, and on what."""
    compared = [peer for peer in PEERS if BACKEND == "torch" and importlib.util.find_spec(peer)]
    return {
        "command": lrp_cost.command(BACKEND, name, settings),
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


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns its exit code."""
    parser = command_line(__doc__, EXAMPLES)
    add = parser.add_argument
    add("--model", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="(default: all)")
    add("--batch-size", type=at_least(1), default=16, metavar="N", help="(default: 16)")
    add("--repeats", type=at_least(2), default=20, metavar="N", help="timed rounds (default: 20)")
    add_threads(parser)
    add("--image-size", type=at_least(32), default=224, metavar="N", help="of ResNet50 and Lite0 (default: 224)")
    classes = "of ResNet50 and Lite0; with 1000, a head takes minutes (default: 10)"
    add("--classes", type=at_least(2), default=10, metavar="N", help=classes)
    add_seed(parser, "of weights, images and the order")
    add_results(parser)
    args = parsed(parser, QUICK, argv)

    path = args.out / lrp_cost.file(BACKEND)
    with errors_in_one_line(parser):
        args.out.mkdir(parents=True, exist_ok=True)
        record = files.read_json(path) if path.exists() else {}
        measuring.fix_threads(args.threads)

    settings = {name: getattr(args, name) for name in SETTINGS}
    if BACKEND == "torch":
        for peer in PEERS:
            if not importlib.util.find_spec(peer):
                print(f"{peer} is not installed: its row is left out.")
    for name in dict.fromkeys(args.model):
        record[name] = measured(name, settings)
        files.write_json(path, record, allow_nan=False)
        lrp_cost.write(args.out)
        print(lrp_cost.section(name, record[name]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
