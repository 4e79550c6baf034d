"""The cost of SA and ShapLU: time and memory of a training step over those of the same model with ReLU.

The models are the paper's MLP for CIFAR-10 and ResNet-20 (lab/networks.py and lab/resnet20.py, in the paper's layout);
only the activations behind a layer with weights differ from row to row. A step is Keras's `train_on_batch` with Adam on
random images: forward, backward, update. The row GELU is the cost of any smooth activation.

After the warm-up, every round gives each row one step, in random order. A ratio is one of medians over the rounds; its
95 % interval comes from rounds drawn with replacement.

--floor asks how low the cost of the pooled second moment can go with a backend's own kernels: the row "GELU and moment"
computes the moment and its gradient, with the cheapest smooth activation in place of SA's.
"""

import dataclasses
import functools
import json
import math
import os
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # where lab is

import keras
import numpy as np
from keras import layers, ops

import keras_shapley as ks
from lab import environment, files, measuring, step_costs
from lab.activations import LayerMaker, hidden_layer
from lab.analysis import training_cost
from lab.analysis.training_cost import MODELS
from lab.arguments import add_results, add_seed, add_threads, at_least, command_line, errors_in_one_line, parsed
from lab.networks import cifar10_mlp
from lab.resnet20 import resnet20
from lab.statistics import ratio_of_medians

BACKENDS = ("jax", "tensorflow", "torch")
NETWORKS = {"mlp": cifar10_mlp, "resnet20": resnet20}
BATCH_SIZES = {"mlp": [128], "resnet20": [32, 128]}
REPEATS = {"mlp": 40, "resnet20": 12}
WARM_UP = 2  # steps of each row
MEMORY_SAMPLES = 3
QUICK = {"model": ["mlp"], "repeats": 2, "out": files.RUNS / "training_cost"}
EXAMPLES = """\
examples:
  python reproduce/benchmarks/training_cost.py --backend jax                   both models: half an hour on two cores
  python reproduce/benchmarks/training_cost.py --model mlp --backend torch     minutes
  python reproduce/benchmarks/training_cost.py --backend tensorflow --xla on   with a slower way to compile
  python reproduce/benchmarks/training_cost.py --model resnet20 --floor        the floor of the pooled second moment
  python reproduce/benchmarks/training_cost.py --quick                         a first look

The directory --out gets training_cost_BACKEND.json, where a model that is measured again replaces its old numbers, and
training_cost.md, a table of all such files there. --json prints the rows as the last line.
"""


class NaiveSA:
    """Eq. (5) written down directly: nothing shared, and the normal distribution function by `erf` alone."""

    def call(self, x):
        u = self.linear(x, self.kernel)
        q = self.linear(ops.square(x), ops.square(self.kernel))
        sigma = ops.sqrt(q / 6 + ops.square(u) / 12 + keras.backend.epsilon())
        z = (u / 2 + self.bias) / sigma
        return 0.5 * (1 + ops.erf(z / math.sqrt(2))) * (u + self.bias)


class NaiveSADense(NaiveSA, layers.Dense):
    def linear(self, x, kernel):
        return ops.matmul(x, kernel)


class NaiveSAConv2D(NaiveSA, layers.Conv2D):
    def linear(self, x, kernel):
        return self.convolution_op(x, kernel)


class GELUAndMoment:
    """Mixin over SA: GELU, plus a share of the second moment that is too small to change it."""

    def call(self, x):
        u, q, b, _ = self.gate_moments(x)
        return ops.gelu(u + b + 1e-30 * q, approximate=False)


class GELUAndMomentDense(GELUAndMoment, ks.SADense):
    pass


class GELUAndMomentConv2D(GELUAndMoment, ks.SAConv2D):
    pass


# layers of rows that are no activations of `lab.activations`
OWN_LAYERS = {
    "naive": {"Dense": NaiveSADense, "Conv2D": NaiveSAConv2D},
    "floor": {
        "Dense": functools.partial(GELUAndMomentDense, second_moment="pooled"),
        "Conv2D": functools.partial(GELUAndMomentConv2D, second_moment="pooled"),
    },
}


@dataclasses.dataclass(frozen=True)
class Row:
    """A way to build the hidden layers.

    Attributes:
        layer: name of the activation.
        kind: name in `lab.activations.ACTIVATIONS` or in OWN_LAYERS.
        second_moment: its option; None if it has none.
        moment_gradient: its option; None if it has none.
        gradient: its option; None if it has none.
    """

    layer: str
    kind: str
    second_moment: str | None = None
    moment_gradient: bool | None = None
    gradient: str | None = None

    @property
    def name(self) -> str:
        words = [self.layer, self.second_moment, self.gradient]
        words += ["without moment gradient"] * (self.moment_gradient is False)
        return ", ".join(word for word in words if word)

    def hidden_layer(self, parent: str) -> LayerMaker:
        """A function that makes hidden layers, called as the Keras layer `parent` is."""
        return OWN_LAYERS[self.kind][parent] if self.kind in OWN_LAYERS else hidden_layer(self.kind, parent)


ROWS = (
    Row("ReLU", "relu"),
    Row("GELU", "gelu"),
    Row("SA", "sa", "exact", True),
    Row("SA", "sa_no_moment_gradient", "exact", False),
    Row("SA", "sa_pooled", "pooled", True),
    Row("SA", "sa_pooled_no_moment_gradient", "pooled", False),
    Row("ShapLU", "shaplu", "exact", gradient="simplified"),
    Row("ShapLU", "shaplu_full", "exact", gradient="full"),
    Row("naive SA", "naive", "exact", True),
)
FLOOR = (*(row for row in ROWS if row.kind in ("relu", "gelu", "sa_pooled")), Row("GELU and moment", "floor", "pooled"))


def network(name: str, row: Row, jit_compile: bool) -> keras.Model:
    """The model with the row's layers, compiled for training; the weights are the same in every row."""
    keras.utils.set_random_seed(0)
    model = NETWORKS[name](row.hidden_layer)
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", jit_compile=jit_compile)
    return model


def measured(name: str, batch_size: int, settings: dict[str, Any]) -> dict[str, Any]:
    """The measurement of a model at a batch size, for the file of results."""
    rows = FLOOR if settings["floor"] else ROWS
    rng = np.random.default_rng(settings["seed"])
    x = rng.standard_normal((batch_size, 32, 32, 3)).astype("float32")
    y = rng.integers(10, size=batch_size).astype("int32")
    # as `fit` hands batches on: torch.compile does not trace arrays of NumPy
    tensors = ops.convert_to_tensor(x), ops.convert_to_tensor(y)
    if environment.BACKEND == "torch" and settings["jit_compile"]:
        import torch._dynamo

        # the models share Keras's code, of which torch.compile by default keeps eight versions
        torch._dynamo.config.recompile_limit = 8 * len(rows)
    models = {row.name: network(name, row, settings["jit_compile"]) for row in rows}
    steps = {key: functools.partial(model.train_on_batch, *tensors) for key, model in models.items()}
    for key, step in steps.items():
        print(f"{MODELS[name]}, batches of {batch_size}: {key}", file=sys.stderr, flush=True)
        for _ in range(WARM_UP):
            step()

    seconds = measuring.in_turns(steps, settings["repeats"], rng)
    costs = {key: step_costs.count(model, *tensors) for key, model in models.items()}
    memory = {key: step_costs.memory(model, *tensors, steps[key], MEMORY_SAMPLES) for key, model in models.items()}
    return {
        "run": describe(models["ReLU"], name, batch_size, settings),
        "rows": [compared(row, seconds, costs, memory, rng) for row in rows],
    }


def compared(
    row: Row,
    seconds: dict[str, np.ndarray],
    costs: dict[str, tuple[int, int]],
    memory: dict[str, float | None],
    rng: np.random.Generator,
) -> dict[str, Any]:
    """A row of the results: its options, its time, and ratios to the rows ReLU and GELU."""
    own = seconds[row.name]
    over_relu, over_gelu = (ratio_of_medians(own, seconds[base], rng) for base in ("ReLU", "GELU"))
    count, multiply_adds = (cost / base for cost, base in zip(costs[row.name], costs["ReLU"]))
    bytes_of_row = memory[row.name]
    return dataclasses.asdict(row) | {
        "name": row.name,
        "median_seconds": float(np.median(own)),
        "ratio": over_relu["ratio"],
        "interval": over_relu["interval"],
        "ratio_gelu": over_gelu["ratio"],
        "interval_gelu": over_gelu["interval"],
        "count_ratio": count,
        "multiply_add_ratio": multiply_adds,
        "memory_bytes": bytes_of_row,
        "memory_ratio": bytes_of_row and bytes_of_row / memory["ReLU"],
    }


def describe(model: keras.Model, name: str, batch_size: int, settings: dict[str, Any]) -> dict[str, Any]:
    """The part of a measurement that says what was measured, and on what."""
    return {
        "model": name,
        "batch_size": batch_size,
        "settings": settings,
        "backend": environment.BACKEND,
        "parameters": model.count_params(),
        "versions": environment.versions(),
        "commit": environment.commit(),
        "device": environment.device(),
        "cpu": environment.cpu(),
        "cores": os.cpu_count(),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns its exit code."""
    parser = command_line(__doc__, EXAMPLES)
    add = parser.add_argument
    add("--model", nargs="+", choices=MODELS, default=list(MODELS), help="(default: both)")
    add("--backend", choices=BACKENDS, default=environment.BACKEND, help="(default: KERAS_BACKEND, or Keras's own)")
    add("--batch-size", nargs="+", type=at_least(1), metavar="N", help="(default: 128; ResNet-20: 32 and 128)")
    add("--repeats", type=at_least(2), metavar="N", help="timed rounds (default: 40; ResNet-20: 12)")
    add_threads(parser)
    xla = "whether to compile with XLA, or torch.compile (default: the fastest way; PyTorch eagerly)"
    add("--xla", choices=("on", "off"), help=xla)
    add("--floor", action="store_true", help="only the rows on the floor of the pooled second moment")
    add_seed(parser, "of images, labels and the order")
    add_results(parser)
    add("--json", action="store_true", help='print {"rows": [...]} as the last line')
    argv = sys.argv[1:] if argv is None else argv
    args = parsed(parser, QUICK, argv)
    if args.backend != environment.BACKEND:
        # Keras has one backend in a process
        variables = os.environ | {"KERAS_BACKEND": args.backend}
        return subprocess.run([sys.executable, os.path.abspath(__file__), *argv], env=variables).returncode

    path = args.out / training_cost.file(args.backend)
    with errors_in_one_line(parser):
        args.out.mkdir(parents=True, exist_ok=True)
        record = files.read_json(path) if path.exists() else {}
        measuring.fix_threads(args.threads)

    jit_compile = environment.jit_compile() if args.xla is None else args.xla == "on"
    settings = {"threads": args.threads, "seed": args.seed, "jit_compile": jit_compile, "floor": args.floor}
    rows = []
    for name in dict.fromkeys(args.model):
        settings = settings | {"repeats": args.repeats or REPEATS[name]}
        for batch_size in args.batch_size or BATCH_SIZES[name]:
            measurement = measured(name, batch_size, settings)
            key = [name, str(batch_size)] + ([f"xla {args.xla}"] if args.xla else []) + ["floor"] * args.floor
            record[" ".join(key)] = measurement
            files.write_json(path, record, allow_nan=False)
            training_cost.write(args.out)
            print(training_cost.section(measurement), flush=True)
            shared = {"model": name, "batch_size": batch_size, "backend": args.backend}
            rows += [shared | row for row in measurement["rows"]]
    if args.json:
        print(json.dumps({"rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
