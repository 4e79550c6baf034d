"""Training of small classifiers for the grids: one after the other, or all seeds of a setting together on JAX."""

import functools

import environment
import keras
import numpy as np
from keras import ops

VALIDATION_BATCH = 1000


def train(runs, build, data, points=1):
    """What came out of runs that differ in nothing but their seed: loss and accuracy over time.

    The seed decides the initial weights, the order of the images and the dropout, whether a run is alone or not.

    Args:
        runs: dicts with seed, optimizer, learning_rate, batch_size and epochs. Several at once on JAX alone.
        build: function of a run that gives its model, classifier of integer labels.
        data: `((x_train, y_train), (x_test, y_test))`.
        points: parts of an epoch over which loss and accuracy in training are averaged.

    Returns:
        A dict for each run: loss and accuracy, one number a part, and val_loss and val_accuracy, one an epoch; None
        for what has left float32.
    """
    models = [compiled(build, run) for run in runs]
    if len(models) == 1:
        histories = [_alone(models[0], runs[0], data, points)]
    else:
        histories = _together(models, runs, data, points)
    keras.backend.clear_session()
    return [{key: [_number(value) for value in values] for key, values in history.items()} for history in histories]


def compiled(build, run):
    """The model of a run, from its seed, ready to train."""
    keras.utils.set_random_seed(run["seed"])
    model = build(run)
    model.compile(
        getattr(keras.optimizers, run["optimizer"])(run["learning_rate"]),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=environment.jit_compile(),
    )
    return model


def _number(value):
    return float(f"{value:.6g}") if np.isfinite(value) else None


def _parts(run, epoch, n, points):
    """Indices of the images in the order in which they come, an array for each part of an epoch."""
    order = np.random.default_rng([run["seed"], epoch]).permutation(n)
    steps = -(-n // run["batch_size"])
    size = run["batch_size"] * -(-steps // points)
    return [order[start : start + size] for start in range(0, n, size)]


def _alone(model, run, data, points):
    (x, y), validation = data
    history = {}
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


def _together(models, runs, data, points):
    """As `_alone` of each, computed at once: every tensor of the models gets an axis of members."""
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

    histories = [{"loss": [], "accuracy": [], "val_loss": [], "val_accuracy": []} for _ in runs]
    for epoch in range(runs[0]["epochs"]):
        for parts in zip(*(_parts(run, epoch, len(x), points) for run in runs)):
            indices = np.stack(parts)
            whole = indices.shape[1] // batch_size * batch_size
            sums = 0
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


def _append(histories, keys, scores):
    for history, values in zip(histories, scores):
        for key, value in zip(keys, values):
            history[key].append(float(value))
