"""`keras-shapley explain`: the explanations of a saved model for images or rows, as files."""

import argparse
import contextlib
import pathlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import tree

# importing them registers the layers, which a saved model may have
import keras_shapley.layers  # noqa: F401
from keras_shapley.callbacks.subject import Subject, rules_in_words
from keras_shapley.cli.flags import in_flags
from keras_shapley.cli.inputs import Images, Table, read_inputs
from keras_shapley.cli.options import MEAN
from keras_shapley.cli.results import Attributions, write_images, write_table
from keras_shapley.lrp.diagnosis import Remedies, diagnosis
from keras_shapley.lrp.explainer import LRP
from keras_shapley.lrp.explanation import Explanation
from keras_shapley.models import saved_models
from keras_shapley.models.evaluation import inference
from keras_shapley.models.outputs import ModelOutput, model_output, output_index, percent
from keras_shapley.shapley.result import ShapleyValues
from keras_shapley.shapley.values import shapley_values
from keras_shapley.utils.command_lines import CommandLineError, check_file, one_line, printable, warn
from keras_shapley.utils.files import check_writable
from keras_shapley.utils.quiet import quiet
from keras_shapley.utils.wording import count

# patches along each side of an image that are players, unless --players says others
_PATCHES = 7
# how an option that helps is written here
_REMEDIES = Remedies(auto="--rules auto", baseline="--baseline")


def explain(args: argparse.Namespace) -> int:
    """Explains the inputs. Nothing is written, and nothing said of them, before all have been read and explained.

    Returns:
        The number of files that were skipped.
    """
    names = None if args.classes is None else _read_class_names(args.classes)
    model = _load_model(args.model)
    with _model_errors(args.model):
        output = model_output(model, _output_index(model, args.output))
        if names is not None:
            _check_names(names, output, str(args.classes))
        target = None if args.target is None else _target(args.target, output, names)
        inputs = read_inputs(model, args)
        check_writable("--out", args.out)
        attribute = _relevance if args.method == "relevance" else _values
        found = attribute(model, output, inputs, target, args)
    for note in inputs.notes:
        print(printable(note))
    subject = Subject(output, names=names)
    titles = subject.titles(found)
    if isinstance(inputs, Images):
        write_images(inputs, found, titles, args)
    else:
        write_table(inputs, found, titles, args)
    print(f"{_count(inputs)}: {found.summary}")
    return inputs.n_skipped


def _relevance(
    model: keras.Model, output: ModelOutput, inputs: Images | Table, target: int | None, args: argparse.Namespace
) -> Attributions:
    """Relevance of the inputs."""
    baseline = _baseline(inputs.x, args.baseline)
    explainer = LRP(
        model, rules=args.rules, baseline=baseline, output=output.index, merge_batch_norm=args.merge_batch_norm
    )
    # `_check` says it on the command line
    with quiet():
        explanations = list(explainer.explain_batches(inputs.x, target, batch_size=args.batch_size))
    n_warnings = _check(explanations, explainer, inputs)
    relevance = tree.map_structure(lambda *parts: np.concatenate(parts), *[part.input for part in explanations])
    arrived = np.concatenate([part.arrived for part in explanations])
    rules = rules_in_words(explainer)
    words = f"relevance, {rules}{_from(explainer.baseline, args.baseline)}"
    return Attributions(
        values=relevance,
        stderr=None,
        target=np.concatenate([part.target for part in explanations]),
        output=np.concatenate([part.output for part in explanations]),
        probability=_joined([part.probability for part in explanations]),
        total=np.concatenate([part.head_total for part in explanations]),
        heading=words[0].upper() + words[1:],
        summary=f"{words}; {_share(arrived)}; {_warnings(n_warnings)}",
        players=None,
    )


def _share(arrived: np.ndarray) -> str:
    """How much of the relevance arrived, in words."""
    if np.isnan(arrived).all():
        return "what speaks for the output and against it nearly cancels"
    low, high = percent(np.nanmin(arrived) + 0.0), percent(np.nanmax(arrived) + 0.0)
    return f"{low if low == high else f'{low} to {high}'} of the relevance arrived"


def _values(
    model: keras.Model, output: ModelOutput, inputs: Images | Table, target: int | None, args: argparse.Namespace
) -> Attributions:
    """Shapley values of the inputs."""
    method = "auto" if args.method == "shapley" else args.method
    baseline = _baseline(inputs.x, args.baseline)
    baseline = 0.0 if baseline is None else baseline
    players = args.players if args.players is None or not args.players.isdecimal() else int(args.players)
    if players is None and args.method == "shapley" and isinstance(inputs, Images):
        players = _PATCHES
    options = {"budget": args.budget, "seed": args.seed, "batch_size": args.batch_size}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = shapley_values(
            model, inputs.x, target, players=players, baseline=baseline, output=output.index, method=method, **options
        )
    messages = {in_flags(str(w.message)) for w in caught if issubclass(w.category, (UserWarning, RuntimeWarning))}
    for message in messages:
        warn(message)
    outputs = _outputs(model, output.index, inputs.x, args.batch_size)
    start = "the mean" if args.baseline == MEAN else f"{baseline:g}"
    words = f"Shapley values ({found.method}), baseline {start}"
    return Attributions(
        values=_shown(found),
        stderr=found.stderr,
        target=np.asarray(found.target),
        output=outputs,
        probability=outputs if output.is_probability else None,
        total=found.total,
        heading=words,
        summary=f"{words}; {_certainty(found)}; {count(found.n_evaluations, 'evaluation')}; {_warnings(len(messages))}",
        players=found.values,
    )


def _shown(found: ShapleyValues) -> Any:
    """The values of all elements; of a patch of an image the pixels have the patch's value, not their share of it."""
    players = found.players
    axis = 0 if keras.config.image_data_format() == "channels_first" else -1
    if isinstance(players, np.ndarray) and players.ndim in (2, 3):
        pixels = players if players.ndim == 2 else players.take(0, axis)
        same = players.ndim == 2 or (players == np.expand_dims(pixels, axis)).all()
        if same and len(np.unique(pixels)) < pixels.size:
            return found.values[:, pixels]
    return found.heatmap


def _certainty(found: ShapleyValues) -> str:
    if found.stderr is None:
        return f"largest residual {np.abs(found.residual).max():.2g}"
    return f"largest standard error {np.nanmax(found.stderr, initial=0.0):.2g}"


def _outputs(model: keras.Model, index: int, x: Any, batch_size: int) -> np.ndarray:
    """The explained output for all inputs."""
    predict = inference(model, index)
    starts = range(0, len(tree.flatten(x)[0]), batch_size)
    parts = [tree.map_structure(lambda a, i=i: a[i : i + batch_size], x) for i in starts]
    return np.concatenate([keras.ops.convert_to_numpy(predict(part)) for part in parts])


def _baseline(x: Any, given: float | str | None) -> Any:
    """The baseline, as explainers take it."""
    if given == MEAN and len(tree.flatten(x)[0]) < 2:
        raise CommandLineError("--baseline mean needs two inputs or more: one alone is its own mean")
    return tree.map_structure(lambda a: a.mean(axis=0), x) if given == MEAN else given


def _from(baseline: Any, given: float | str | None) -> str:
    """The baseline in words; empty if there is none."""
    if baseline is None:
        return ""
    return ", from the mean of the inputs" if given == MEAN else f", from a baseline of {baseline:g}"


def _joined(parts: Sequence[Any]) -> np.ndarray | None:
    return None if parts[0] is None else np.concatenate(parts)


def _warnings(n: int) -> str:
    return "no warning" if n == 0 else count(n, "warning")


def _count(inputs: Images | Table) -> str:
    done = count(len(tree.flatten(inputs.x)[0]), "image" if isinstance(inputs, Images) else "row")
    return f"{done}, {inputs.n_skipped} skipped" if inputs.n_skipped else done


def _load_model(path: pathlib.Path) -> keras.Model:
    try:
        return saved_models.load(path)
    except ValueError as error:
        raise CommandLineError(f"{path} cannot be loaded as a Keras model: {one_line(error)}") from error


@contextlib.contextmanager
def _model_errors(path: pathlib.Path) -> Iterator[None]:
    """Names the file of a model whose layers raise what the command does not expect."""
    try:
        yield
    except (CommandLineError, OSError, ValueError):
        raise
    except Exception as error:
        raise CommandLineError(f"{path} cannot be explained: {in_flags(one_line(error))}") from error


def _read_class_names(path: pathlib.Path) -> list[str]:
    check_file(path)
    try:
        return [line.strip() for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise CommandLineError(f"{path} cannot be read as names of classes: {one_line(error)}") from error


def _output_index(model: keras.Model, text: str | None) -> int:
    try:
        return output_index(model, int(text) if text is not None and text.isdecimal() else text)
    except ValueError as error:
        raise CommandLineError(in_flags(str(error))) from error


def _check_names(names: list[str], output: ModelOutput, path: str) -> None:
    if len(output.shape) != 1:
        raise CommandLineError(f"--classes is for outputs of one axis, and the model's has the shape {output.shape}")
    said = count(len(names), "name")
    if output.n_classes is None and len(names) != 1:
        raise CommandLineError(f"{path} has {said}, and the model has 1 unit, which is no probability")
    if output.n_classes is not None and len(names) != output.n_classes:
        raise CommandLineError(f"{path} has {said}, and the model has {output.n_classes} classes")


def _target(text: str, output: ModelOutput, names: list[str] | None) -> int:
    """The unit to explain, from the number or the name of a class."""
    is_single_probability = output.n_units == 1 and output.n_classes == 2
    if names is not None and text in names:
        label = names.index(text)
        if is_single_probability and label == 0:
            raise CommandLineError(
                f"--target {text} has no map of its own: the model's only output is the probability of {names[1]}, and "
                f"the blue pixels of its map speak for {names[0]}. Leave --target out"
            )
        return output.unit(label)
    # the number 0 of a single probability is the unit, and 1 its class
    n_targets = 2 if is_single_probability else output.n_units
    if not text.isdecimal() or (n_targets is not None and int(text) >= n_targets):
        number = "a number" if n_targets is None else f"a number below {n_targets}"
        allowed = ("0" if n_targets == 1 else number) + (" or a name in --classes" if names else "")
        raise CommandLineError(f"--target must be {allowed}, and is {text}")
    return output.unit(int(text))


def _check(explanations: Sequence[Explanation], explainer: LRP, inputs: Images | Table) -> int:
    """Raises a `CommandLineError` if outputs or relevance are not finite; prints what else is wrong, each kind once."""
    faults: dict[str, str] = {}
    for explanation in reversed(explanations):
        faults.update(diagnosis(explanation, explainer.model, explainer.preset, _REMEDIES))
    bad = [
        not np.isfinite(output).all() or not all(np.isfinite(each[i]).all() for each in tree.flatten(explanation.input))
        for explanation in explanations
        for i, output in enumerate(explanation.output)
    ]
    if any(bad):
        paths = inputs.paths if isinstance(inputs, Images) else [f"row {i}" for i in range(1, len(bad) + 1)]
        names = ", ".join(str(path) for path, is_bad in zip(paths, bad) if is_bad)
        raise CommandLineError(f"{names}: {faults.get('finite', 'the relevance is not finite')}")
    for fault in faults.values():
        warn(fault)
    return len(faults)
