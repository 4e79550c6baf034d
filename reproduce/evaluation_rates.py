"""How many coalitions a second random orders evaluate, in steps of one player and by naive masking.

Along an order each coalition has one player more than the one before. Where a network begins with a Dense layer, a row
of its kernel is added to the sums of that layer; naive masking puts the whole input through the network each time. Both
are `sampled_shapley_values` of the MLP of Fig. 3 with as many orders, once as it is and once behind a Permute that
permutes nothing, where the first layer is not seen to be Dense. They run in turns in one process, on one thread, each
time with what it compiles, and the ratio is theirs.
"""

import functools
import json
import sys

import environment
import experiment
import figure3_mnist_mlp
import files
import keras
import numpy as np
import timing
from arguments import add_results, at_least, command_line, errors_in_one_line
from neurons import KINDS, neurons

import keras_shapley as ks

PATHS, REPEATS, BATCH = 100, 7, 2048
INTRODUCTION = f"""\
# Evaluations a second along random orders

Made by `python reproduce/evaluation_rates.py`: MLP of Fig. 3, an image of 784 players, {PATHS} orders, batches of
{BATCH:,}, one thread. *Ratio*: of the median times, with its 95 % interval over {REPEATS} rounds in which both had
their turn. Rates are of a shared machine.
"""


def measure(activation, seed):
    """Evaluations a second in both ways and the ratio, a dict."""
    keras.utils.set_random_seed(seed)
    model = figure3_mnist_mlp.mlp(neurons(activation, "Dense"))
    rng = np.random.default_rng(seed)
    x = rng.uniform(0.1, 1, size=(1, 28, 28)).astype("float32")
    behind = keras.Sequential([keras.Input((28, 28)), keras.layers.Permute((1, 2)), model])
    calls = {
        name: functools.partial(ks.sampled_shapley_values, each, x, n_paths=PATHS, seed=seed, batch_size=BATCH)
        for name, each in (("rows", model), ("naive", behind))
    }
    # they must agree
    found = {name: call() for name, call in calls.items()}
    np.testing.assert_allclose(found["rows"].values, found["naive"].values, atol=1e-5)
    seconds = timing.in_turns(calls, REPEATS, rng)
    evaluations = found["rows"].n_evaluations
    rates = {name: round(evaluations / float(np.median(times))) for name, times in seconds.items()}
    return {"activation": activation, "rates": rates, **timing.ratio(seconds["naive"], seconds["rows"], rng)}


def table(records):
    """Markdown of the records of all backends."""
    lines = [INTRODUCTION, *experiment.markdown("backend", "", "one row a step", "naive masking", "ratio")]
    for backend, record in sorted(records.items()):
        for row in record["rows"]:
            low, high = row["interval"]
            rates = [f"{row['rates'][name]:,}" for name in ("rows", "naive")]
            ratio = f"{row['ratio']:.2f} ({low:.2f} to {high:.2f})"
            lines.append(f"| {' | '.join([backend, row['activation'], *rates, ratio])} |")
    lines.append("")
    for backend, record in sorted(records.items()):
        versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
        lines.append(f"- {backend}: seed {record['seed']}; {record['cpu']}; {versions}; commit {record['commit']}.")
    return "\n".join(lines) + "\n"


def main(argv=None):
    """Runs the script; gives its exit code."""
    parser = command_line(__doc__)
    add = parser.add_argument
    add("--seed", type=at_least(0), default=0, metavar="N", help="of weights, image and orders (default: 0)")
    add("--activations", nargs="+", choices=KINDS, default=["relu", "sa"], metavar="NAME", help="(default: relu sa)")
    add_results(parser)
    add("--table", action="store_true", help="write the table from the results, measure nothing")
    args = parser.parse_args(argv)
    path = args.out / "evaluation_rates.json"
    with errors_in_one_line(parser):
        records = files.read_json(path) if path.exists() else {}
        if not args.table:
            timing.fix_threads(1)
            rows = [measure(activation, args.seed) for activation in args.activations]
            where = {"versions": environment.versions(), "commit": environment.commit(), "cpu": environment.cpu()}
            records[environment.BACKEND] = {"seed": args.seed, "rows": rows, **where}
            args.out.mkdir(parents=True, exist_ok=True)
            files.write(path, json.dumps(records, indent=1) + "\n")
        if not records:
            raise ValueError(f"{path} holds no measurement")
        text = table(records)
        files.write(args.out / "evaluation_rates.md", text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
