"""The layers inside what compiles and transforms functions, and in training loops that a user writes."""

import shutil

import keras
import numpy as np
import pytest
from keras import layers, ops
from reference.layer_cases import MODES, close

import keras_shapley as ks

BACKEND = keras.backend.backend()
on_jax, on_tensorflow, on_torch = (
    pytest.mark.skipif(backend != BACKEND, reason=f"of {backend}") for backend in ("jax", "tensorflow", "torch")
)
# between them every derivative that is written out
NETWORKS = ["SA", "SA, pooled", "ShapLU", "ShapLU, full"]


def network(mode, rng):
    prefix, options, *_ = MODES[mode]
    model = keras.Sequential(
        [
            keras.Input((6, 2)),
            getattr(ks, prefix + "Conv1D")(3, 3, strides=2, padding="same", **options),
            layers.Flatten(),
            getattr(ks, prefix + "Dense")(4, **options),
            layers.Dense(1),
        ]
    )
    model.set_weights([rng.normal(size=w.shape) / 2 for w in model.get_weights()])
    return model


@pytest.fixture
def x(rng):
    return rng.normal(size=(6, 6, 2)).astype("float32")


@pytest.fixture
def y(x):
    return x.mean((1, 2))[:, None] * 3


def same(actual, expected, rtol=1e-5):
    actual, expected = (keras.tree.map_structure(ops.convert_to_numpy, each) for each in (actual, expected))
    assert len(actual) == len(expected)
    for each, other in zip(actual, expected, strict=True):
        assert np.any(other != 0)
        close(each, other, rtol)


def loss_of(model, y):
    """The loss as a function of weights and inputs, in Keras alone."""

    def loss(weights, x):
        outputs, _ = model.stateless_call(weights, [], x)
        return ops.mean(ops.square(outputs - y))

    return loss


@on_jax
@pytest.mark.parametrize("mode", NETWORKS)
def test_jit_and_vmap_of_gradients(mode, x, y, rng):
    """Against the gradient without compilation; of each sample, against that of a batch of one."""
    import jax

    model = network(mode, rng)
    weights = [w.value for w in model.weights]
    gradient = jax.value_and_grad(loss_of(model, y), argnums=(0, 1))
    value, slopes = gradient(weights, x)
    compiled_value, compiled_slopes = jax.jit(gradient)(weights, x)
    same([compiled_value, *jax.tree.leaves(compiled_slopes)], [value, *jax.tree.leaves(slopes)])

    def of_one(weights, x, y):
        return loss_of(model, y)(weights, x[None])

    by_sample = jax.jit(jax.vmap(jax.grad(of_one), in_axes=(None, 0, 0)))(weights, x, y)
    same([each.mean(0) for each in by_sample], slopes[0])


@on_jax
def test_an_ensemble_is_a_vmap_over_weights(x, y, rng):
    import jax

    models = [network("SA", rng) for _ in range(3)]
    stacked = [np.stack(arrays) for arrays in zip(*(model.get_weights() for model in models), strict=True)]
    outputs = jax.vmap(lambda weights: models[0].stateless_call(weights, [], x)[0])(stacked)
    same(list(outputs), [model(x) for model in models])


@on_jax
@pytest.mark.parametrize("mode", ["SA", "SA, pooled"])
def test_hessian_on_jax(mode, rng):
    """Forward over reverse against reverse over forward, and against finite differences of the gradient."""
    import jax

    of_input, x = hessian_case(mode, rng)
    check_hessian(jax.hessian(of_input)(x), jax.jacrev(jax.jacfwd(of_input))(x), jax.grad(of_input), x)


@on_torch
@pytest.mark.parametrize("mode", ["SA", "SA, pooled"])
def test_hessian_on_pytorch(mode, rng):
    import torch

    of_input, x = hessian_case(mode, rng)
    gradient, x = torch.func.grad(of_input), torch.from_numpy(x)
    check_hessian(torch.func.hessian(of_input)(x), torch.func.jacrev(gradient)(x), gradient, x)


def hessian_case(mode, rng):
    """A network's output as a function of one input of 5 numbers."""
    prefix, options, *_ = MODES[mode]
    model = keras.Sequential([keras.Input((5,)), ks.SADense(4, **options), ks.SADense(1, **options)])
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    return lambda x: model(x[None])[0, 0], rng.normal(size=5).astype("float32")


def check_hessian(hessian, other, gradient, x, step=1e-3):
    same([hessian], [other], 1e-4)
    ahead, behind = ([gradient(x + sign * step * row) for row in ops.eye(5)] for sign in (1, -1))
    differences = [
        (ops.convert_to_numpy(a) - ops.convert_to_numpy(b)) / (2 * step) for a, b in zip(ahead, behind, strict=True)
    ]
    # of gradients in float32
    same([hessian], [np.stack(differences)], 2e-3)


# of Keras's functions that keep their results, and of what it reads of tensors
@pytest.mark.filterwarnings("ignore")
@on_torch
@pytest.mark.parametrize("compiler", ["eager", "aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
@pytest.mark.parametrize("mode", NETWORKS)
def test_torch_compile(mode, compiler, x, y, rng):
    import torch

    if compiler == "inductor" and not shutil.which("g++"):
        pytest.skip("needs a C++ compiler")
    model = network(mode, rng)
    x, y = torch.from_numpy(x).requires_grad_(), torch.from_numpy(y)

    def step(model):
        outputs = model(x)
        loss = torch.mean((outputs - y) ** 2)
        return [outputs, *torch.autograd.grad(loss, [x, *model.parameters()])]

    expected = step(model)
    torch._dynamo.reset()
    compiled = torch.compile(model, backend=compiler, fullgraph=True)
    same([each.detach() for each in step(compiled)], [each.detach() for each in expected])


@on_torch
@pytest.mark.parametrize("mode", NETWORKS)
def test_torch_func(mode, x, y, rng):
    """`grad`, `vmap` over samples, `jacrev` and `jacfwd`, against `autograd` and batches of one.

    Of weights by `stateless_call`: `torch.func.functional_call` does not reach the variables of Keras.
    """
    import torch

    model = network(mode, rng)
    x, y, weights = torch.from_numpy(x), torch.from_numpy(y), [w.value for w in model.weights]
    expected = torch.autograd.grad(loss_of(model, y)(weights, x), weights)
    weights = [weight.detach() for weight in weights]
    same(torch.func.grad(loss_of(model, y))(weights, x), expected)

    def of_one(weights, x, y):
        return loss_of(model, y)(weights, x[None])

    by_sample = torch.func.vmap(torch.func.grad(of_one), in_dims=(None, 0, 0))(weights, x, y)
    same([each.mean(0) for each in by_sample], expected)

    def outputs(x):
        return model.stateless_call(weights, [], x)[0][:, 0]

    jacobian = torch.func.jacrev(outputs)(x)
    same([torch.func.jacfwd(outputs)(x)], [jacobian])
    # samples do not meet
    same([jacobian.sum(1)], [torch.func.grad(lambda x: outputs(x).sum())(x)])


@on_tensorflow
@pytest.mark.parametrize("mode", NETWORKS)
def test_tf_function_with_xla(mode, x, y, rng):
    import tensorflow as tf

    model = network(mode, rng)

    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = model(x)
            loss = tf.reduce_mean(tf.square(outputs - y))
        return [outputs, *tape.gradient(loss, [x, *[w.value for w in model.trainable_variables]])]

    x = tf.constant(x)
    same(tf.function(step, jit_compile=True)(x), step(x))


def by_stateless_call(model, batches):
    """As in Keras's guide to custom loops on JAX."""
    import jax

    optimizer = keras.optimizers.SGD(0.05)
    optimizer.build(model.trainable_variables)

    @jax.jit
    def step(weights, state, x, y):
        value, slopes = jax.value_and_grad(lambda weights: loss_of(model, y)(weights, x))(weights)
        return value, *optimizer.stateless_apply(state, slopes, weights)

    weights, state = [v.value for v in model.trainable_variables], [v.value for v in optimizer.variables]
    losses = []
    for x, y in batches:
        value, weights, state = step(weights, state, x, y)
        losses.append(float(value))
    for variable, value in zip(model.trainable_variables, weights, strict=True):
        variable.assign(value)
    return losses


def by_gradient_tape(model, batches):
    import tensorflow as tf

    optimizer = keras.optimizers.SGD(0.05)

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            value = tf.reduce_mean(tf.square(model(x, training=True) - y))
        optimizer.apply_gradients(
            zip(tape.gradient(value, model.trainable_weights), model.trainable_weights, strict=True)
        )
        return value

    return [float(step(tf.constant(x), tf.constant(y))) for x, y in batches]


def by_torch_optimizer(model, batches):
    import torch

    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    losses = []
    for x, y in batches:
        value = torch.nn.functional.mse_loss(model(torch.from_numpy(x)), torch.from_numpy(y))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses


LOOP = {"jax": by_stateless_call, "tensorflow": by_gradient_tape, "torch": by_torch_optimizer}


@pytest.mark.parametrize("mode", ["SA", "ShapLU, full"])
def test_a_loop_of_the_users_own_is_the_step_of_fit(mode, x, y, rng, backend):
    model, other = network(mode, rng), network(mode, rng)
    other.set_weights(model.get_weights())
    n_epochs = 10
    batches = [(x[:3], y[:3]), (x[3:], y[3:])] * n_epochs
    losses = LOOP[backend](model, batches)
    assert sum(losses[-2:]) < 0.5 * sum(losses[:2])
    other.compile(keras.optimizers.SGD(0.05), "mse", jit_compile=False)
    other.fit(x, y, batch_size=3, epochs=n_epochs, shuffle=False, verbose=0)
    for weight, expected in zip(model.get_weights(), other.get_weights(), strict=True):
        close(weight, expected, 1e-4)
