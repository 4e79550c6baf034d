"""Training on two devices, and explaining what was trained there, against one device."""

import os
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers
from reference.paths import ROOT

import keras_shapley as ks

# two devices have to be asked for before the backend starts
SHARED = """
import keras
import numpy as np
import keras_shapley as ks

def trained():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6, 2)),
            ks.SAConv1D(4, 3, name="conv"),
            ks.ShapLUDense(4, gradient="full", name="hidden"),
            keras.layers.Flatten(),
            ks.SADense(4, second_moment="pooled", name="pooled"),
            keras.layers.Dense(2, name="out"),
        ]
    )
    model.compile(keras.optimizers.SGD(0.05), "mse", jit_compile=False)
    model.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0)
    return model

def compare(model, expected):
    for a, b in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    for explain in (lambda m: ks.LRP(m)(x[:4], 0), lambda m: ks.fast_shapley_values(m, x[:4], 0).values):
        a, b = (keras.ops.convert_to_numpy(explain(m)) for m in (model, expected))
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)

rng = np.random.default_rng(0)
x = rng.normal(size=(16, 6, 2)).astype("float32")
y = x.mean(1)
"""
MIRRORED = """
import tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
with strategy.scope():
    model = trained()
compare(model, trained())
"""
PARALLEL = """
import jax
assert len(jax.devices()) == 2
from keras import distribution as d
expected = trained()
d.set_distribution(d.DataParallel(devices=d.list_devices()))
compare(trained(), expected)
mesh = d.DeviceMesh((1, 2), ("batch", "model"), d.list_devices())
layout = d.LayoutMap(mesh)
layout["conv.*kernel"] = (None, None, "model")
layout["(hidden|pooled).*kernel"] = (None, "model")
layout["(conv|hidden|pooled).*bias"] = ("model",)
d.set_distribution(d.ModelParallel(layout_map=layout, batch_dim_name="batch"))
model = trained()
assert len(model.get_layer("conv").kernel.value.sharding.device_set) == 2
assert not model.get_layer("conv").kernel.value.sharding.is_fully_replicated
compare(model, expected)
"""
SCRIPTS = {"tensorflow": MIRRORED, "jax": PARALLEL}


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() not in SCRIPTS, reason="Keras has no distribution here")
def test_two_devices_train_the_weights_of_one_and_explain_alike(backend):
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", SHARED + SCRIPTS[backend]],
        cwd=ROOT,
        env={**os.environ, **flags, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "torch", reason="the recipe is for PyTorch")
def test_two_processes_of_pytorch_train_the_weights_of_one(rng, tmp_path):
    """The script of docs/many_machines.md, against Keras's `fit` in this process."""
    page = (ROOT / "docs" / "many_machines.md").read_text()
    (script,) = re.findall(r'^```python title="train.py"\n(.*?)^```', page, re.MULTILINE | re.DOTALL)
    (tmp_path / "train.py").write_text(script)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*launcher, "train.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]

    x = np.random.default_rng(0).normal(size=(32, 6, 2)).astype("float32")
    y = x.mean(axis=1)
    keras.utils.set_random_seed(0)
    stack = [keras.Input((6, 2)), ks.SAConv1D(4, 3), layers.Flatten(), ks.SADense(4), layers.Dense(2)]
    model = keras.Sequential(stack)
    before = model.get_weights()
    model.compile(keras.optimizers.SGD(0.05), "mse")
    model.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0)
    trained = keras.models.load_model(tmp_path / "trained.keras")
    for start, one, two in zip(before, model.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-5)
        assert np.abs(one - start).max() > 1e-3
    np.testing.assert_allclose(*(ks.LRP(each).explain(x[:4], 0).input for each in (trained, model)), atol=1e-5)
