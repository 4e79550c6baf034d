"""What SA and ShapLU cost: the time and memory of a training step over those of the same model with ReLU.

The models are the paper's MLP for CIFAR-10 (table2_cifar10_mlp.py) and ResNet-20 (resnet20.py, in the paper's
order), where only the activations behind a convolution differ from row to row. A step is Keras's `train_on_batch` with
Adam on random images: forward, backward, update. GELU is what any smooth activation pays.

`--floor` asks how low the pooled second moment can go with a backend's own kernels: a row "GELU and moment" has
the moment and its gradient, and the cheapest smooth activation in the place of SA's.

After the warm-up every round gives each row one step, in random order. A ratio is one of medians over the rounds; its
95 % interval comes from drawing rounds with replacement.
"""

import dataclasses
import functools
import json
import math
import os
import subprocess
import sys

import environment
import files
import keras
import numpy as np
import resnet20
import step_costs
import table2_cifar10_mlp
import timing
from arguments import add_results, at_least, command_line, errors_in_one_line, parsed
from keras import layers, ops
from neurons import neurons

import keras_shapley as ks

BACKENDS = ("jax", "tensorflow", "torch")
MODELS = {"mlp": "MLP", "resnet20": "ResNet-20"}
BATCH_SIZES = {"mlp": [128], "resnet20": [32, 128]}
REPEATS = {"mlp": 40, "resnet20": 12}
WARM_UP = 2  # steps of each row
MEMORY_SAMPLES = 3
QUICK = {"model": ["mlp"], "repeats": 2, "out": files.RUNS / "training_cost"}
COLUMNS = ("", "median, ms", "over ReLU", "95 % interval", "over GELU", "products and convolutions", "multiply-adds")
COLUMNS += ("memory",)

# by backend and `jit_compile`
COMPILED = {"torch": ("eagerly", "by torch.compile")} | dict.fromkeys(BACKENDS[:2], ("without XLA", "with XLA"))

INTRODUCTION = """\
# The cost of a training step

Made by `python reproduce/training_cost.py --backend NAME`, once for each backend.

Medians over rounds in which every row has its turn, and ratios of medians to the row ReLU (and GELU) of the same run,
with a 95 % interval from resampled rounds. *Products and convolutions*, *multiply-adds*: of the gradient, as it is
handed to the backend, over ReLU's. *Memory*: peak of a step above what is held between steps, over ReLU's; on JAX, what
XLA plans for the gradient, elsewhere the median of a few steps of what the process holds, which is a rough figure.
"""

EXAMPLES = """\
examples:
  python training_cost.py --backend jax                   both models; half an hour on two cores
  python training_cost.py --model mlp --backend torch     minutes
  python training_cost.py --backend tensorflow --xla on   compiled otherwise than is best
  python training_cost.py --model resnet20 --floor        how low the pooled second moment can go
  python training_cost.py --quick                         a first look

The directory --out gets training_cost_BACKEND.json, where a model measured again replaces its old numbers, and
training_cost.md, a table of all such files there. --json prints the rows in one last line.
"""


class NaiveSA:
    """Eq. (5) as one writes it down at first: nothing shared, the normal distribution function by `erf` alone."""

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
    """Mixin over SA: GELU, with a share of the second moment too small to be seen."""

    def call(self, x):
        u, q, b = self.gate_moments(x)
        return ops.gelu(u + b + 1e-30 * q, approximate=False)


class GELUAndMomentDense(GELUAndMoment, ks.SADense):
    pass


class GELUAndMomentConv2D(GELUAndMoment, ks.SAConv2D):
    pass


# rows that are no `neurons.KINDS`
OWN = {"naive": (NaiveSADense, NaiveSAConv2D)}
OWN["floor"] = tuple(functools.partial(c, second_moment="pooled") for c in (GELUAndMomentDense, GELUAndMomentConv2D))


@dataclasses.dataclass(frozen=True)
class Row:
    """A way to build the hidden layers.

    Attributes:
        layer: name of the activation.
        second_moment, moment_gradient, gradient: its options, None where it has no such one.
        kind: name in `neurons.KINDS` or in OWN.
    """

    layer: str
    kind: str
    second_moment: str | None = None
    moment_gradient: bool | None = None
    gradient: str | None = None

    @property
    def name(self):
        words = [self.layer, self.second_moment, self.gradient]
        words += ["without moment gradient"] * (self.moment_gradient is False)
        return ", ".join(word for word in words if word)

    def makes(self, parent):
        """Function that makes a hidden layer, called as the Keras layer `parent` is."""
        return OWN[self.kind][parent == "Conv2D"] if self.kind in OWN else neurons(self.kind, parent)


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


def network(name, row, jit_compile):
    """The model with the row's layers, compiled for training; the weights are the same in every row."""
    keras.utils.set_random_seed(0)
    if name == "mlp":
        model = table2_cifar10_mlp.mlp(row.makes("Dense"))
    else:
        model = resnet20.resnet20(row.makes("Conv2D"))
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", jit_compile=jit_compile)
    return model


def measured(name, batch_size, settings):
    """What the JSON file holds of a model at a batch size."""
    rows = FLOOR if settings["floor"] else ROWS
    rng = np.random.default_rng(settings["seed"])
    x = rng.standard_normal((batch_size, 32, 32, 3)).astype("float32")
    y = rng.integers(10, size=batch_size).astype("int32")
    models = {row.name: network(name, row, settings["jit_compile"]) for row in rows}
    steps = {key: functools.partial(model.train_on_batch, x, y) for key, model in models.items()}
    for key, step in steps.items():
        print(f"{MODELS[name]}, batches of {batch_size}: {key}", file=sys.stderr, flush=True)
        for _ in range(WARM_UP):
            step()

    seconds = timing.in_turns(steps, settings["repeats"], rng)
    tensors = ops.convert_to_tensor(x), ops.convert_to_tensor(y)
    costs = {key: step_costs.count(model, *tensors) for key, model in models.items()}
    memory = {key: step_costs.memory(model, *tensors, steps[key], MEMORY_SAMPLES) for key, model in models.items()}
    return {
        "run": describe(models["ReLU"], name, batch_size, settings),
        "rows": [compared(row, seconds, costs, memory, rng) for row in rows],
    }


def compared(row, seconds, costs, memory, rng):
    """A row of the results: its options, its time, and ratios to the rows ReLU and GELU."""
    own, relu, gelu = seconds[row.name], seconds["ReLU"], seconds["GELU"]
    over_relu, over_gelu = timing.ratio(own, relu, rng), timing.ratio(own, gelu, rng)
    n, multiply_adds = (theirs / base for theirs, base in zip(costs[row.name], costs["ReLU"]))
    found = dataclasses.asdict(row) | {"name": row.name, "median_seconds": float(np.median(own))}
    found |= {"ratio": over_relu["ratio"], "interval": over_relu["interval"]}
    found |= {"ratio_gelu": over_gelu["ratio"], "interval_gelu": over_gelu["interval"]}
    found |= {"count_ratio": n, "multiply_add_ratio": multiply_adds, "memory_bytes": memory[row.name]}
    return found | {"memory_ratio": memory[row.name] and memory[row.name] / memory["ReLU"]}


def describe(model, name, batch_size, settings):
    """What a measurement is, for its record."""
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


def table(records):
    """Markdown of all measurements, model by model."""
    measurements = [measurement for record in records for measurement in record.values()]
    order = sorted(measurements, key=lambda m: (list(MODELS).index(m["run"]["model"]), m["run"]["batch_size"]))
    return "\n".join([INTRODUCTION, *map(section, order)])


def section(measurement):
    """Markdown of one model on one backend: its table, and what it was measured with."""
    run = measurement["run"]
    settings = run["settings"]
    compiled = COMPILED[run["backend"]][settings["jit_compile"]]
    versions = ", ".join(f"{package} {version}" for package, version in run["versions"].items())
    floor = ": how low the pooled moment can go" * settings.get("floor", False)
    lines = [f"## {MODELS[run['model']]}, batches of {run['batch_size']}, {run['backend']}{floor}", ""]
    lines += [f"| {' | '.join(COLUMNS)} |", "|" + " --- |" * len(COLUMNS)]
    lines += [f"| {' | '.join(cells(row))} |" for row in measurement["rows"]]
    lines += [
        "",
        f"- {settings['repeats']} rounds, {compiled}; {run['parameters']:,} parameters, seed {settings['seed']}.",
        f"- {versions}; {run['device']}, threads: {settings['threads']}, cores: {run['cores']} of {run['cpu']}; "
        f"commit {run['commit']}.",
    ]
    return "\n".join(lines) + "\n"


def cells(row):
    """The cells of a row, in the order of COLUMNS."""
    low, high = row["interval"]
    return [
        row["name"],
        f"{1e3 * row['median_seconds']:.1f}",
        f"{row['ratio']:.2f}",
        f"{low:.2f} to {high:.2f}",
        f"{row['ratio_gelu']:.2f}",
        f"{row['count_ratio']:.2f}",
        f"{row['multiply_add_ratio']:.2f}",
        f"{row['memory_ratio']:.2f}" if row["memory_ratio"] else "",
    ]


def main(argv=None):
    """Runs the script; gives its exit code."""
    parser = command_line(__doc__, EXAMPLES)
    add = parser.add_argument
    add("--model", nargs="+", choices=MODELS, default=list(MODELS), help="(default: both)")
    add("--backend", choices=BACKENDS, default=environment.BACKEND, help="(default: KERAS_BACKEND, or Keras's own)")
    add("--batch-size", nargs="+", type=at_least(1), metavar="N", help="(default: 128; ResNet-20: 32 and 128)")
    add("--repeats", type=at_least(2), metavar="N", help="timed rounds (default: 40; ResNet-20: 12)")
    timing.add_threads(parser)
    xla = "whether to compile with XLA, or torch.compile (default: what is fastest; PyTorch eagerly)"
    add("--xla", choices=("on", "off"), help=xla)
    add("--floor", action="store_true", help="only the rows that tell how low the pooled second moment can go")
    add("--seed", type=at_least(0), default=0, metavar="N", help="of images, labels and the order (default: 0)")
    add_results(parser)
    add("--json", action="store_true", help='print {"rows": [...]} as the last line')
    argv = sys.argv[1:] if argv is None else argv
    args = parsed(parser, QUICK, argv)
    if args.backend != environment.BACKEND:
        # Keras has one backend a process
        variables = os.environ | {"KERAS_BACKEND": args.backend}
        return subprocess.run([sys.executable, os.path.abspath(__file__), *argv], env=variables).returncode

    path = args.out / f"training_cost_{args.backend}.json"
    with errors_in_one_line(parser):
        args.out.mkdir(parents=True, exist_ok=True)
        record = files.read_json(path) if path.exists() else {}
        timing.fix_threads(args.threads)

    jit_compile = environment.jit_compile() if args.xla is None else args.xla == "on"
    settings = {"threads": args.threads, "seed": args.seed, "jit_compile": jit_compile, "floor": args.floor}
    rows = []
    for name in dict.fromkeys(args.model):
        settings = settings | {"repeats": args.repeats or REPEATS[name]}
        for batch_size in args.batch_size or BATCH_SIZES[name]:
            measurement = measured(name, batch_size, settings)
            key = [name, str(batch_size)] + ([f"xla {args.xla}"] if args.xla else []) + ["floor"] * args.floor
            record[" ".join(key)] = measurement
            files.write(path, json.dumps(record, indent=1, allow_nan=False) + "\n")
            every = [files.read_json(file) for file in sorted(args.out.glob("training_cost_*.json"))]
            files.write(args.out / "training_cost.md", table(every))
            print(section(measurement), flush=True)
            shared = {"model": name, "batch_size": batch_size, "backend": args.backend}
            rows += [shared | row for row in measurement["rows"]]
    if args.json:
        print(json.dumps({"rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
