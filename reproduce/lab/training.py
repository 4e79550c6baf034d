"""Training of small classifiers: one run after the other, or on JAX all seeds of a setting together."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from lab import environment
from lab.data import Split
from lab.rows import Run

VALIDATION_BATCH = 1000

History = dict[str, list[float]]


def train(
    runs: Sequence[Run], build: Callable[[Run], keras.Model], data: tuple[Split, Split], points: int = 1
) -> list[dict[str, list[float | None]]]:
    """Loss and accuracy over time, of runs that differ in their seed alone.

    The seed decides the initial weights, the order of the images and the dropout, whether a run is alone or not.

    Args:
        runs: with seed, optimizer, learning_rate, batch_size and epochs. Several at once need JAX.
        build: function of a run that returns its model, a classifier of integer labels.
        data: `((x_train, y_train), (x_test, y_test))`.
        points: parts of an epoch over which loss and accuracy in training are averaged.

    Returns:
        A dict for each run: loss and accuracy, a number for each part, and val_loss and val_accuracy, a number for each
        epoch. None stands for a number that has left float32.
    """
    models = [compiled(build, run) for run in runs]
    if len(models) == 1:
        histories = [_train_alone(models[0], runs[0], data, points)]
    else:
        histories = _train_together(models, runs, data, points)
    keras.backend.clear_session()
    return [{key: [_number(value) for value in values] for key, values in history.items()} for history in histories]


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


def _parts(run: Run, epoch: int, n: int, points: int) -> list[np.ndarray]:
    """Indices of the images in their order, an array for each part of an epoch."""
    order = np.random.default_rng([run["seed"], epoch]).permutation(n)
    steps = -(-n // run["batch_size"])
    size = run["batch_size"] * -(-steps // points)
    return [order[start : start + size] for start in range(0, n, size)]


def _train_alone(model: keras.Model, run: Run, data: tuple[Split, Split], points: int) -> History:
    (x, y), validation = data
    history: History = {}
    for epoch in range(run["epochs"]):
        logs = [
            model.fit(x[part], y[part], run["batch_size"], shuffle=False, verbose=0).history
            for part in _parts(run, epoch, len(x), points)
        ]
        logs = [{key: values[0] for key, values in log.items()} for log in logs]
        scores = model.evaluate(*validation, batch_size=VALIDATION_BATCH, verbose=0, return_dict=True)
        for log in (*logs, {f"val_{key}": value for key, value in scores.items()}):
            for key, value in log.items():
                history.setdefault(key, []).append(value)
    return history


def _train_together(
    models: list[keras.Model], runs: Sequence[Run], data: tuple[Split, Split], points: int
) -> list[History]:
    """As `_train_alone` of each model, computed at once: every tensor gets an axis of models."""
    import jax

    (x, y), (x_validation, y_validation) = data
    model, batch_size = models[0], runs[0]["batch_size"]

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
    for member in models:
        member.optimizer.build(member.trainable_variables)
        groups = member.trainable_variables, member.non_trainable_variables, member.optimizer.variables
        states.append(tuple([variable.value for variable in group] for group in groups))
    state = jax.tree.map(lambda *values: ops.stack(values), *states)

    histories: list[History] = [{"loss": [], "accuracy": [], "val_loss": [], "val_accuracy": []} for _ in runs]
    for epoch in range(runs[0]["epochs"]):
        for parts in zip(*(_parts(run, epoch, len(x), points) for run in runs)):
            indices = np.stack(parts)
            whole = indices.shape[1] // batch_size * batch_size
            sums: Any = 0
            # the last batch has the rest
            for batches in (indices[:, :whole].reshape(len(runs), -1, batch_size), indices[:, None, whole:]):
                if batches.size:
                    state, scores = steps(state, batches, x, y)
                    sums = sums + np.sum(scores, axis=1) * batches.shape[2]
            _append(histories, ("loss", "accuracy"), sums / indices.shape[1])
        sums = 0
        for start in range(0, len(x_validation), VALIDATION_BATCH):
            chosen = slice(start, start + VALIDATION_BATCH)
            scores = validate(*state[:2], x_validation[chosen], y_validation[chosen])
            sums = sums + np.asarray(scores) * len(x_validation[chosen])
        _append(histories, ("val_loss", "val_accuracy"), sums / len(x_validation))
    return histories


def _append(histories: list[History], keys: tuple[str, ...], scores: np.ndarray) -> None:
    for history, values in zip(histories, scores):
        for key, value in zip(keys, values):
            history[key].append(float(value))
