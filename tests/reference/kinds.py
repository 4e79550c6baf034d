"""What every kind of model is checked for: relevance and Shapley values of a trained model, against enumeration."""

import keras
import numpy as np
from keras import tree

import keras_shapley as ks
from keras_shapley.models.evaluation import batch_function
from keras_shapley.utils.structures import leaves

# XLA takes longer to compile a tiny model than to train it
JIT = "auto" if keras.backend.backend() != "tensorflow" else False


def trained(model, x, y, loss, epochs=20, **options):
    """The model after a short training, as a user would do it."""
    model.compile(keras.optimizers.Adam(0.02), loss, jit_compile=JIT)
    losses = model.fit(x, y, epochs=epochs, batch_size=32, verbose=0, **options).history["loss"]
    # a network that has learnt nothing has explanations that nothing can be said of
    assert losses[-1] < 0.7 * losses[0], losses
    return model


def by_subsets(model, x, numbers, target, output=None, baseline=0.0):
    """Shapley values of groups of elements by their definition, `(batch, players)`, from all subsets.

    Args:
        model: the model.
        x: the inputs, as the model takes them.
        numbers: number of the group of each element, in the structure of one input.
        target: index of the output, flat.
        output: of the model.
        baseline: value of absent elements.
    """
    n = 1 + max(int(part.max()) for part in leaves(numbers))
    fn = batch_function(model, output)
    subsets = (np.arange(2**n)[:, None] >> np.arange(n)) & 1 == 1
    sizes = subsets.sum(axis=1)
    outputs = []
    for subset in subsets:
        absent = tree.map_structure(lambda a, k: np.where(subset[k], a, np.asarray(baseline, a.dtype)), x, numbers)
        result = np.asarray(keras.ops.convert_to_numpy(fn(absent)), "float64")
        outputs.append(result.reshape(len(result), -1)[:, target])
    outputs = np.stack(outputs)
    factorial = np.cumprod([1, *range(1, n + 1)]).astype("float64")
    values = []
    for k in range(n):
        without = np.flatnonzero(~subsets[:, k])
        weights = factorial[sizes[without]] * factorial[n - sizes[without] - 1] / factorial[n]
        values.append(weights @ (outputs[without + 2**k] - outputs[without]))
    return np.stack(values, axis=1)


def sums_by_player(relevance, numbers):
    """Relevance of elements summed up by their groups, `(batch, players)`."""
    parts = zip(leaves(relevance), leaves(numbers))
    n = 1 + max(int(part.max()) for part in leaves(numbers))
    total = 0
    for values, part in parts:
        one_hot = part.ravel()[:, None] == np.arange(n)
        values = np.asarray(values, "float64")
        total = total + values.reshape(len(values), -1) @ one_hot
    return total


def check_relevance(model, x, numbers, target, *, output=None, baseline=0.0, least=0.9, rules="auto"):
    """Relevance sums to what the input adds, and groups of elements have nearly their Shapley values."""
    truth = by_subsets(model, x, numbers, target, output, baseline)
    explanation = ks.LRP(model, output=output, rules=rules, baseline=baseline).explain(x, target)
    found = sums_by_player(explanation.input, numbers)
    np.testing.assert_allclose(found.sum(axis=1), truth.sum(axis=1), rtol=1e-3, atol=1e-4)
    correlation = np.corrcoef(found.ravel(), truth.ravel())[0, 1]
    assert correlation > least, correlation
    return explanation


def check_values(model, x, numbers, target, *, output=None, baseline=0.0, players=None):
    """The front door, asked for all subsets, has the Shapley values."""
    truth = by_subsets(model, x, numbers, target, output, baseline)
    result = ks.shapley_values(
        model,
        x,
        target,
        players=numbers if players is None else players,
        output=output,
        baseline=baseline,
        method="exact",
    )
    np.testing.assert_allclose(result.values, truth, rtol=1e-3, atol=1e-4)
    return result


def check_gates(model, x, y, *, kernels, gates, monitor=None):
    """GateMonitor logs the gradients of so many kernels, which training changes, and the gates of so many layers."""
    logs = model.fit(x, y, verbose=0, callbacks=[monitor or ks.GateMonitor(x, y)]).history
    norms = [value for key, (value,) in logs.items() if key.endswith("/gradient_norm")]
    assert len(norms) == kernels and all(0 < norm < np.inf for norm in norms)
    closed = [(value, logs[key.replace("closed", "open")][0]) for key, (value,) in logs.items() if "/closed" in key]
    assert len(closed) == gates
    assert all(0 <= min(pair) and 0 < sum(pair) <= 1.000001 for pair in closed)


def check_heatmaps(relevance, images):
    """Each sample is drawn beside its relevance, which is summed over the channels."""
    figure = ks.plot_heatmaps(relevance, images, percentile=100)
    drawn = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    maps = [np.asarray(values) for values in (relevance.values() if isinstance(relevance, dict) else [relevance])]
    assert len(drawn) == len(images) * (1 + len(maps))
    for i in range(len(images)):
        for heat, values in zip(drawn[i * (1 + len(maps)) + 1 :], maps):
            summed = values[i].sum(axis=-1)
            np.testing.assert_allclose(heat, summed / np.abs(summed).max(), atol=1e-6)
