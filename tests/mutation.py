"""Mutation runs: does a test fail when a formula is wrong?

    KERAS_BACKEND=torch OMP_NUM_THREADS=1 python tests/mutation.py shapley/exact shapley/orders --sample 40

Of each module that is named, or of all in `TESTS`, changes are drawn at random. Each is made in memory, in a process of
its own, in which the module's tests run until the first fails. No file is written.
"""

import argparse
import ast
import gc
import importlib.abc
import importlib.machinery
import importlib.util
import os
import pathlib
import random
import signal
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]

# a module, and the tests that have to notice; behind `-k` the words of which a test's name has one
TESTS = {
    "layers/activations": "layers/test_activations.py layers/test_layers.py",
    "layers/base": "layers/test_layers.py layers/test_keras_contract.py layers/test_saving.py shapley/test_masks.py",
    "layers/linear_map": "layers/test_linear_maps.py lrp/rules/test_linear.py models/test_batch_norm.py",
    "layers/linear_maps": "layers/test_linear_maps.py layers/test_layers.py lrp/rules/test_linear.py",
    "layers/normal": "layers/test_activations.py -k normal_cdf",
    "layers/scaling": "layers/test_activations.py layers/test_layers.py layers/test_properties.py",
    "lrp/rules/base": "lrp/rules/test_linear.py lrp/rules/test_sums.py lrp/rules/test_own_rules.py",
    "lrp/rules/linear": "lrp/rules/test_linear.py lrp/rules/test_own_rules.py lrp/rules/test_vouched.py",
    "lrp/rules/normalization": "lrp/rules/test_normalization.py",
    "lrp/rules/pooling": "lrp/rules/test_pooling.py",
    "lrp/rules/sums": "lrp/rules/test_sums.py",
    "models/mean_slope": "shapley/test_neuron.py lrp/propagation/test_neurons.py",
    "shapley/coalitions": "shapley/test_coalitions.py",
    "shapley/exact": "shapley/test_exact.py utils/test_progress.py",
    "shapley/interaction_index": "shapley/test_interactions.py -k coalitions|definition|diagonal|axioms",
    "shapley/last_sums": "shapley/test_last_sums.py",
    "shapley/moment_rules": "shapley/test_moment_rules.py shapley/test_moments_of_operations.py shapley/test_fast.py",
    "shapley/moments": "shapley/test_moment_rules.py shapley/test_fast.py",
    "shapley/neuron": "shapley/test_neuron.py",
    "shapley/normal_moments": "shapley/test_moment_rules.py",
    "shapley/orders": "shapley/test_orders.py",
    "shapley/pair_regression": "shapley/test_interactions.py -k the_regression|know_their_error",
    "shapley/regression": "shapley/test_regression.py",
    "shapley/sampled": "utils/test_progress.py shapley/test_sampled.py",
    "shapley/surrogate": "shapley/test_last_sums.py shapley/test_interactions.py shapley/test_values.py",
}

OPERATORS = {
    ast.Add: [ast.Sub], ast.Sub: [ast.Add], ast.Mult: [ast.Div], ast.Div: [ast.Mult], ast.Pow: [ast.Mult],
    ast.FloorDiv: [ast.Mult], ast.Mod: [ast.Mult], ast.MatMult: [ast.Mult],
    ast.BitAnd: [ast.BitOr], ast.BitOr: [ast.BitAnd],
    ast.Lt: [ast.LtE, ast.GtE], ast.LtE: [ast.Lt, ast.Gt], ast.Gt: [ast.GtE, ast.LtE], ast.GtE: [ast.Gt, ast.Lt],
    ast.Eq: [ast.NotEq], ast.NotEq: [ast.Eq], ast.Is: [ast.IsNot], ast.IsNot: [ast.Is], ast.In: [ast.NotIn],
    ast.NotIn: [ast.In], ast.And: [ast.Or], ast.Or: [ast.And],
}  # fmt: skip
_PAIRS = ("sum mean", "max min", "maximum minimum", "any all", "zeros ones", "zeros_like ones_like", "sqrt square",
          "floor ceil", "argmax argmin", "exp log", "triu tril", "abs negative")  # fmt: skip
NAMES = {a: b for pair in map(str.split, _PAIRS) for a, b in (pair, pair[::-1])}


def changes(node: ast.AST):
    """Functions that each change the node in one way, or give the one to put in its place."""
    if isinstance(node, ast.BinOp | ast.AugAssign | ast.BoolOp):
        for other in OPERATORS.get(type(node.op), []):
            yield lambda other=other: setattr(node, "op", other())
    elif isinstance(node, ast.Compare):
        for other in OPERATORS.get(type(node.ops[0]), []):
            yield lambda other=other: node.ops.__setitem__(0, other())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not | ast.Invert):
        yield lambda: node.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        value = node.value
        new = not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else 2 * value or 1.0
        yield lambda: setattr(node, "value", new)
    elif isinstance(node, ast.Attribute) and node.attr in NAMES:
        yield lambda: setattr(node, "attr", NAMES[node.attr])
    elif isinstance(node, ast.Name) and node.id in ("max", "min", "any", "all"):
        yield lambda: setattr(node, "id", NAMES[node.id])
    if isinstance(node, ast.If | ast.IfExp | ast.While) and not isinstance(node.test, ast.Compare | ast.UnaryOp):
        yield lambda: setattr(node, "test", ast.UnaryOp(ast.Not(), node.test))
    is_statement = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    if is_statement or isinstance(node, ast.AugAssign):
        yield lambda: ast.Pass()


def sites(node: ast.AST, parent: ast.AST | None = None, field: str = "", index: int | None = None):
    """Every change below a node, with where it is: not in annotations, nor in what is raised."""
    for change in changes(node):
        yield change, node, parent, field, index
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list") or isinstance(value, ast.Raise):
            continue
        for i, child in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(child, ast.AST) and not isinstance(child, ast.Raise):
                yield from sites(child, node, name, i if isinstance(value, list) else None)


def mutant(source: str, number: int) -> tuple[ast.Module, str]:
    """The module with the change of a number, and the change as a line of text."""
    tree = ast.parse(source)
    change, node, parent, field, index = list(sites(tree))[number]
    before, new = ast.unparse(node), change()
    if new is not None:
        setattr(parent, field, new) if index is None else getattr(parent, field).__setitem__(index, new)
    text = f"{node.lineno}: {before.splitlines()[0]}  ->  {ast.unparse(new or node).splitlines()[0]}"
    return ast.fix_missing_locations(tree), text


def run(module: str, tree: ast.Module | None, limit: float) -> tuple[str, float]:
    """What the module's tests say of it when its code is `tree`: survived, killed, or timeout; and the seconds."""
    start = time.time()
    child = os.fork()
    if not child:
        os.setsid()
        sink = os.open(os.environ.get("MUTATION_LOG", os.devnull), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(sink, 1), os.dup2(sink, 2)
        if tree:
            sys.meta_path.insert(0, Finder("keras_shapley." + module.replace("/", "."), tree))
        os.chdir(ROOT / "tests")
        files, _, names = TESTS[module].partition(" -k ")
        chosen = ["-k", names.replace("|", " or ")] if names else []
        os._exit(pytest.main(["-q", "-x", "--assert=plain", "-p", "no:cacheprovider", *files.split(), *chosen]))
    while time.time() < start + limit:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return "killed" if status else "survived", time.time() - start
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "timeout", limit


class Finder(importlib.abc.MetaPathFinder):
    """Finds one module, whose code is a tree."""

    def __init__(self, name: str, tree: ast.Module) -> None:
        self.name, self.tree = name, tree

    def find_spec(self, fullname, path, target=None):
        if fullname != self.name:
            return None
        file = str(ROOT / (fullname.replace(".", "/") + ".py"))
        loader = importlib.machinery.SourceFileLoader(fullname, file)
        loader.get_code = lambda _: compile(self.tree, file, "exec")
        return importlib.util.spec_from_file_location(fullname, file, loader=loader)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("modules", nargs="*", default=list(TESTS), help="as in TESTS; by default all")
    parser.add_argument("--sample", type=int, default=40, help="changes of each module (40)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (0)")
    parser.add_argument("--numbers", type=int, nargs="+", help="only the changes of these numbers")
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    os.chdir(ROOT)
    backend = ["torch"] if os.environ.get("KERAS_BACKEND") == "torch" else []
    for name in (*backend, "keras", "hypothesis.extra.numpy", "matplotlib.pyplot", "scipy.stats"):
        importlib.import_module(name)
    # the processes share its memory
    gc.collect()
    gc.freeze()

    for module in args.modules:
        source = (ROOT / "keras_shapley" / f"{module}.py").read_text()
        n = len(list(sites(ast.parse(source))))
        numbers = args.numbers or sorted(random.Random(args.seed).sample(range(n), min(args.sample, n)))
        verdict, seconds = run(module, None, 600)
        if verdict != "survived":
            sys.exit(f"{module}: its tests fail without a change.")
        counts = dict.fromkeys(("killed", "timeout", "survived"), 0)
        for number in numbers:
            tree, text = mutant(source, number)
            verdict, _ = run(module, tree, 60 + 4 * seconds)
            counts[verdict] += 1
            if verdict != "killed":
                print(f"  {verdict} #{number}, line {text}", flush=True)
        print(f"{module}: {n} changes, {len(numbers)} tried in runs of {seconds:.0f} s, {counts}", flush=True)


if __name__ == "__main__":
    main()
