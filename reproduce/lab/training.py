"""Training of small classifiers: one run after the other, or on JAX all seeds of a setting together."""

import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from lab import environment
from lab.data import Split
from lab.rows import Run

VALIDATION_BATCH = 1000

History = dict[str, list[Any]]
# function of a model and of the position of its run; returns anything
Observe = Callable[[keras.Model, int], Any]


def train(
    runs: Sequence[Run],
    build: Callable[[Run], keras.Model],
    data: tuple[Split, Split],
    points: int = 1,
    *,
    apart: bool = False,
    after: Collection[int] | None = None,
    observe: Observe | None = None,
) -> list[History]:
    """Loss and accuracy over time, of runs that differ in their seed and learning rate alone.

    The seed decides the initial weights, the order of the images and the dropout, whether a run is alone or not.

    Args:
        runs: with seed, optimizer, learning_rate, batch_size and epochs. Several at once need JAX.
        build: function of a run that returns its model, a classifier of integer labels.
        data: `((x_train, y_train), (x_test, y_test))`.
        points: parts of an epoch over which loss and accuracy in training are averaged.
        apart: whether the training images are those of the first run, then as many of the second, and so on; else all
            runs have the same.
        after: the epochs after which models are validated and observed, from 1; None for all.
        observe: of a model and the position of its run in `runs`; None for nothing.

    Returns:
        A dict for each run: loss and accuracy, a number for each part; val_loss and val_accuracy, a number for each
        epoch in `after`; and, if there is `observe`, observed, what it returned after each of them. None stands for a
        number that has left float32.
    """
    models: dict[int, keras.Model] = {}
    for run in runs:
        if run["seed"] not in models:
            models[run["seed"]] = compiled(build, run)
    after = range(1, runs[0]["epochs"] + 1) if after is None else after
    (x, y), validation = data
    own = len(x) // len(runs) if apart else len(x)
    starts = [own * index * apart for index in range(len(runs))]
    orders = [functools.partial(_parts, run, start, own, points) for run, start in zip(runs, starts)]
    way = _train_alone if len(runs) == 1 else _train_together
    histories = way(models, runs, orders, ((x, y), validation), after, observe)
    keras.backend.clear_session()
    return [
        {key: values if key == "observed" else [_number(value) for value in values] for key, values in history.items()}
        for history in histories
    ]


def compiled(build: Callable[[Run], keras.Model], run: Run) -> keras.Model:
    """The model of a run, initialized from its seed and ready to train."""
    keras.utils.set_random_seed(run["seed"])
    model = build(run)
    model.compile(
        getattr(keras.optimizers, run["optimizer"])(run["learning_rate"]),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=environment.jit_compile(),
    )
    return model


def _number(value: float) -> float | None:
    return float(f"{value:.6g}") if np.isfinite(value) else None


def _parts(run: Run, start: int, n: int, points: int, epoch: int) -> list[np.ndarray]:
    """Indices of the `n` images from `start` on in their order, an array for each part of an epoch."""
    order = start + np.random.default_rng([run["seed"], epoch]).permutation(n)
    steps = -(-n // run["batch_size"])
    size = run["batch_size"] * -(-steps // points)
    return [order[first : first + size] for first in range(0, n, size)]


def _train_alone(
    models: dict[int, keras.Model],
    runs: Sequence[Run],
    orders: Sequence[Callable[[int], list[np.ndarray]]],
    data: tuple[Split, Split],
    after: Collection[int],
    observe: Observe | None,
) -> list[History]:
    """The history of a single run, in a list.

    Args:
        models: one, by its seed.
        runs: one.
        orders: a function of the epoch for each run, which returns what `_parts` returns.
        data: as of `train`.
        after: as of `train`.
        observe: as of `train`.
    """
    (run,), (parts,) = runs, orders
    model = models[run["seed"]]
    (x, y), validation = data
    history: History = {}
    for epoch in range(run["epochs"]):
        logs = [
            model.fit(x[part], y[part], run["batch_size"], shuffle=False, verbose=0).history for part in parts(epoch)
        ]
        logs = [{key: values[0] for key, values in log.items()} for log in logs]
        if epoch + 1 in after:
            scores = model.evaluate(*validation, batch_size=VALIDATION_BATCH, verbose=0, return_dict=True)
            logs.append({f"val_{key}": value for key, value in scores.items()})
            logs += [{"observed": observe(model, 0)}] if observe else []
        for log in logs:
            for key, value in log.items():
                history.setdefault(key, []).append(value)
    return [history]


def _train_together(
    models: dict[int, keras.Model],
    runs: Sequence[Run],
    orders: Sequence[Callable[[int], list[np.ndarray]]],
    data: tuple[Split, Split],
    after: Collection[int],
    observe: Observe | None,
) -> list[History]:
    """As `_train_alone` of each model, computed at once: every tensor gets an axis of models."""
    import jax

    (x, y), (x_validation, y_validation) = data
    model, batch_size = models[runs[0]["seed"]], runs[0]["batch_size"]

    def score(weights, rest, x, y, training):
        predictions, rest, losses = model.stateless_call(weights, rest, x, training=training, return_losses=True)
        loss = ops.mean(keras.losses.sparse_categorical_crossentropy(y, predictions)) + sum(losses)
        hits = ops.cast(ops.argmax(predictions, axis=-1) == y, "float32")
        return loss, (rest, ops.stack([loss, ops.mean(hits)]))

    def step(state, chosen, x, y):
        weights, rest, slots = state
        gradient = jax.grad(score, has_aux=True)
        gradients, (rest, scores) = gradient(weights, rest, x[chosen], y[chosen], True)
        weights, slots = model.optimizer.stateless_apply(slots, gradients, weights)
        return (weights, rest, slots), scores

    @functools.partial(jax.jit, donate_argnums=0)
    @functools.partial(jax.vmap, in_axes=(0, 0, None, None))
    def steps(state, batches, x, y):
        return jax.lax.scan(lambda state, chosen: step(state, chosen, x, y), state, batches)

    @jax.jit
    def validate(weights, rest, x, y):
        return jax.vmap(lambda weights, rest: score(weights, rest, x, y, False)[1][1])(weights, rest)

    x, y = ops.convert_to_tensor(x), ops.convert_to_tensor(y)
    states = []
    for run in runs:
        member = models[run["seed"]]
        member.optimizer.build(member.trainable_variables)
        member.optimizer.learning_rate = run["learning_rate"]
        groups = member.trainable_variables, member.non_trainable_variables, member.optimizer.variables
        states.append(tuple([variable.value for variable in group] for group in groups))
    state = jax.tree.map(lambda *values: ops.stack(values), *states)

    histories: list[History] = [{"loss": [], "accuracy": [], "val_loss": [], "val_accuracy": []} for _ in runs]
    for epoch in range(runs[0]["epochs"]):
        for parts in zip(*(order(epoch) for order in orders)):
            indices = np.stack(parts)
            whole = indices.shape[1] // batch_size * batch_size
            sums: Any = 0
            # the last batch has the rest
            for batches in (indices[:, :whole].reshape(len(runs), -1, batch_size), indices[:, None, whole:]):
                if batches.size:
                    state, scores = steps(state, batches, x, y)
                    sums = sums + np.sum(scores, axis=1) * batches.shape[2]
            _append(histories, ("loss", "accuracy"), sums / indices.shape[1])
        if epoch + 1 not in after:
            continue
        sums = 0
        for start in range(0, len(x_validation), VALIDATION_BATCH):
            chosen = slice(start, start + VALIDATION_BATCH)
            scores = validate(*state[:2], x_validation[chosen], y_validation[chosen])
            sums = sums + np.asarray(scores) * len(x_validation[chosen])
        _append(histories, ("val_loss", "val_accuracy"), sums / len(x_validation))
        for index, history in enumerate(histories if observe else []):
            # always in the same model, so that what is compiled for it serves all
            for variables, values in zip((model.trainable_variables, model.non_trainable_variables), state):
                for variable, value in zip(variables, values):
                    variable.assign(value[index])
            history.setdefault("observed", []).append(observe(model, index))
    return histories


def _append(histories: list[History], keys: tuple[str, ...], scores: np.ndarray) -> None:
    for history, values in zip(histories, scores):
        for key, value in zip(keys, values):
            history[key].append(float(value))
