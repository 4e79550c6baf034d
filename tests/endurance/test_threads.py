"""Eight threads at once have the results of one, and leave nothing behind."""

import concurrent.futures
import threading
import time
import warnings

import keras
import numpy as np
import pytest
import threadpoolctl
from keras import layers, ops
from reference.calls import BIAS
from reference.marks import slow_on_jax

import keras_shapley as ks
from keras_shapley.models.kept import kept
from keras_shapley.utils.quiet import quiet
from keras_shapley.utils.threads import on_one_thread

N_THREADS = 8


def mlp():
    dense = layers.Dense(5, "relu", bias_initializer=BIAS)
    return keras.Sequential([keras.Input((4,)), dense, layers.Dense(3, "softmax", bias_initializer=BIAS)])


@pytest.fixture
def x(rng):
    return rng.normal(size=(N_THREADS, 3, 4)).astype("float32")


def at_once(function):
    """`function(k)` for the number of each thread; all threads begin together."""
    barrier = threading.Barrier(N_THREADS)

    def run(k):
        barrier.wait()
        return function(k)

    with concurrent.futures.ThreadPoolExecutor(N_THREADS) as pool:
        return list(pool.map(run, range(N_THREADS)))


USES = {
    "explainer": lambda explainer, x, k: explainer(x, k % 3),
    "weights": lambda explainer, x, k: explainer.explain(x, np.arange(3.0) + k + 0.5).input,
    "new explainers": lambda explainer, x, k: ks.LRP(explainer.model, rules="paper")(x[: 1 + k % 3], k % 3),
    "moments": lambda explainer, x, k: ks.fast_shapley_values(explainer.model, x, k % 3, normalize=True).values,
    "masks": lambda explainer, x, k: ks.fast_shapley_values(explainer.model, x, k % 3, method="masks").values,
    "values": lambda explainer, x, k: ks.shapley_values(explainer.model, x, k % 3, seed=k).values,
    "sampled": lambda explainer, x, k: ks.sampled_shapley_values(explainer.model, x, k % 3, n_paths=10, seed=k).values,
    "interactions": lambda explainer, x, k: ks.shapley_interactions(explainer.model, x, k % 3).values,
    "infidelity": lambda explainer, x, k: ks.metrics.infidelity(explainer.model, x, x, k % 3, n=8),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("use", ["values", *(slow_on_jax(use) for use in USES if use != "values")])
def test_each_thread_has_its_own_result(use, x, numpy):
    """The first call of all threads compiles, so that they meet there too."""
    explainer = ks.LRP(mlp())
    filters = list(warnings.filters)
    found = at_once(lambda k: [numpy(USES[use](explainer, x[k], k)) for _ in range(3)])
    assert warnings.filters == filters
    for k, results in enumerate(found):
        alone = numpy(USES[use](explainer, x[k], k))
        for result in results:
            np.testing.assert_allclose(result, alone, rtol=1e-5, atol=1e-6)


def test_what_is_kept_is_made_once():
    model, made = mlp(), []

    def make():
        time.sleep(0.01)
        made.append(1)
        return object()

    assert len(set(at_once(lambda k: kept(model, "key", make)))) == 1 == len(made)


def test_threads_that_are_quiet_leave_the_filters_and_each_other_alone():
    """`warnings.catch_warnings` would restore what another thread had set, and silence all of them."""
    filters = list(warnings.filters)
    model = mlp()
    model.set_weights([1e30 * weights for weights in model.get_weights()])
    explainers = [ks.LRP(model, rules="paper") for _ in range(N_THREADS)]
    heard = []

    def explain(k):
        for _ in range(5):
            if k % 2:
                with quiet():
                    explainers[k].explain(np.ones((1, 4)), 0)
                continue
            try:
                explainers[k].explain(np.ones((1, 4)), 0)
            except RuntimeWarning:
                heard.append(k)

    at_once(explain)
    assert warnings.filters == filters
    assert sorted(set(heard)) == [0, 2, 4, 6]


def test_linear_algebra_has_its_threads_back():
    """Whoever leaves last restores them; each by itself would restore the limit of another."""

    def blas():
        return sorted((each["filepath"], each["num_threads"]) for each in threadpoolctl.threadpool_info())

    def limited(k):
        inside = on_one_thread(lambda: (time.sleep(0.002 * (k + 1)), blas())[1])()
        return {n for path, n in inside if "blas" in path}

    before = blas()
    for _ in range(3):
        assert all(found <= {1} for found in at_once(limited))
    assert blas() == before


def test_explaining_while_another_thread_trains(x, backend, rng):
    """On JAX the weights are in the training step, which is said; elsewhere they are read as they are."""
    model = mlp()
    model.compile("adam", "mse", jit_compile=False)
    explainer = ks.LRP(model, rules="epsilon", head="linear")
    explainer(x[0], 1)
    data = rng.normal(size=(512, 4)).astype("float32"), rng.uniform(size=(512, 3)).astype("float32")
    found, errors, is_done = [], [], threading.Event()

    def explain():
        while not is_done.is_set():
            try:
                found.append(ops.convert_to_numpy(explainer(x[0], 1)))
            except RuntimeError as error:
                errors.append(str(error))
                time.sleep(0.01)

    thread = threading.Thread(target=explain)
    thread.start()
    try:
        model.fit(*data, epochs=2, verbose=0)
    finally:
        is_done.set()
        thread.join()
    assert all(np.isfinite(relevance).all() for relevance in found)
    if backend == "jax":
        # an array may also be deleted just when it was read
        assert all("no weights of its own while `fit` runs" in error or "deleted" in error for error in errors)
    else:
        assert found and not errors
