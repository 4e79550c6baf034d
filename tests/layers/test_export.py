"""Every layer in the formats that Keras exports, run by the format's own runtime, against the model's predictions."""

import itertools
import math

import keras
import numpy as np
import pytest
from keras import layers
from reference.layer_cases import CASES, MODES, close

import keras_shapley as ks

# exporters warn of their own ends: constants of a graph, what will be removed from themselves
pytestmark = pytest.mark.filterwarnings("ignore")

# a map of every kind, both activations, both second moments, both gradients
FEW = [
    ("Dense", "SA"),
    ("Conv1D, causal, dilated", "ShapLU"),
    ("Conv2D, same, strided", "SA, pooled"),
    ("DepthwiseConv2D", "ShapLU, pooled"),
    ("SeparableConv2D", "SA"),
    ("Conv2DTranspose, same, strided", "ShapLU, full"),
    ("EinsumDense, heads", "SA, pooled"),
]


def by_onnx(model, x, folder, signature=None):
    import onnxruntime

    model.export(folder / "model.onnx", format="onnx", verbose=False, input_signature=signature)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    return session.run(None, {entry.name: x})[0]


def by_onnx_of_fixed_shapes(model, x, folder):
    """PyTorch has another exporter for them."""
    return by_onnx(model, x, folder, signature_of(x))


def by_saved_model(model, x, folder):
    import tensorflow as tf

    model.export(folder / "model", format="tf_saved_model", verbose=False)
    exported = tf.saved_model.load(folder / "model")
    return exported.serve(x).numpy()


def by_litert(model, x, folder):
    from ai_edge_litert.interpreter import Interpreter

    path = folder / "model.tflite"
    model.export(path, format="litert", verbose=False, input_signature=signature_of(x))
    run = Interpreter(str(path), num_threads=1).get_signature_runner()
    (entry,) = run.get_input_details()
    (output,) = run(**{entry: x}).values()
    return output


def by_torch(model, x, folder):
    import torch

    model.export(folder / "model.pt2", format="torch", verbose=False, input_signature=signature_of(x))
    return torch.export.load(folder / "model.pt2").module()(torch.from_numpy(x)).detach().numpy()


def by_torch_directly(model, x, folder):
    """With a batch of any size."""
    import torch

    shapes = [({0: torch.export.Dim("batch", min=2, max=64)},)]
    program = torch.export.export(model, (torch.from_numpy(x[:2]),), dynamic_shapes=shapes)
    return program.module()(torch.from_numpy(x)).detach().numpy()


def signature_of(x):
    return [keras.InputSpec(shape=x.shape, dtype="float32")]


# format: how to run it, and what that needs on each backend that has it
FORMATS = {
    "onnx": (
        by_onnx,
        {
            "jax": ["jax2onnx", "onnxruntime"],
            "tensorflow": ["tf2onnx", "onnxruntime"],
            "torch": ["onnx", "onnxruntime"],
        },
    ),
    "onnx of fixed shapes": (by_onnx_of_fixed_shapes, {"torch": ["onnxscript", "onnxruntime"]}),
    "tf_saved_model": (by_saved_model, {"jax": ["tensorflow"], "tensorflow": ["tensorflow"]}),
    "litert": (by_litert, {"tensorflow": ["ai_edge_litert"], "torch": ["litert_torch", "ai_edge_litert"]}),
    "torch": (by_torch, {"torch": ["torch"]}),
    "torch.export": (by_torch_directly, {"torch": ["torch"]}),
}


@pytest.fixture(params=FORMATS)
def run(request, backend, tmp_path):
    """Function `(model, x)`: the output of the exported model."""
    run, needs = FORMATS[request.param]
    if backend not in needs:
        pytest.skip(f"Keras has no such export on {backend}")
    for module in needs[backend]:
        pytest.importorskip(module)
    folders = iter(range(10**6))

    def exported(model, x):
        folder = tmp_path / str(next(folders))
        folder.mkdir()
        return run(model, x, folder)

    return exported


def layer_of(case, mode):
    """The layer of a pair; that of Keras with ReLU where `mode` is None."""
    parent, arguments, _ = CASES[case]
    if mode is None:
        return getattr(layers, parent)(**arguments, activation="relu")
    prefix, options, *_ = MODES[mode]
    return getattr(ks, prefix + parent)(**arguments, **options)


def network(pairs, rng):
    """A model of layers side by side, and which columns of its output are whose."""
    shapes = [CASES[case][2][1:] for case, _ in pairs]
    entry = keras.Input((sum(map(math.prod, shapes)),))
    outputs, first = [], 0
    for pair, shape in zip(pairs, shapes, strict=True):
        layer, last = layer_of(*pair), first + math.prod(shape)
        size = math.prod(layer(np.zeros((1, *shape), "float32")).shape)
        outputs.append(layers.Reshape((size,))(layer(layers.Reshape(shape)(entry[:, first:last]))))
        first = last
    model = keras.Model(entry, layers.Concatenate()(outputs) if len(outputs) > 1 else outputs[0])
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    ends = np.cumsum([0, *(output.shape[1] for output in outputs)])
    return model, [slice(*pair) for pair in itertools.pairwise(ends)]


def values(pairs, run, rng):
    """The output of the exported model and of the model itself, by layer."""
    model, columns = network(pairs, rng)
    # in the second sample the bias is most of what a neuron has, in the third all
    x = rng.normal(size=(3, model.input_shape[1])).astype("float32") * np.array([[1], [0.1], [0]], "float32")
    expected = model.predict(x, verbose=0)
    outputs = run(model, x)
    assert outputs.shape == expected.shape
    return {pair: (outputs[:, own], expected[:, own]) for pair, own in zip(pairs, columns, strict=True)}


def error_of(pairs, run, rng):
    try:
        values(pairs, run, rng)
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:300]}"


def check(pairs, run, rng):
    try:
        results = values(pairs, run, rng)
    except Exception:
        # which of them it was
        assert not {pair: error for pair in pairs if (error := error_of([pair], run, rng))}
        raise
    for pair, (actual, expected) in results.items():
        close(actual, expected, 1e-5, f"{pair}")


def test_layers_of_every_kind_give_their_predictions(run, rng):
    check(FEW, run, rng)


@pytest.mark.parametrize(
    "case, modes",
    [
        ("Conv2D, groups, no bias", ["SA", "SA, pooled"]),
        *(pytest.param(case, MODES, marks=pytest.mark.slow, id=case) for case in CASES),
    ],
)
def test_where_keras_exports_the_parent_every_layer_is_exported(case, modes, run, rng):
    if error := error_of([(case, None)], run, rng):
        pytest.skip(f"the parent itself: {error}")
    check([(case, mode) for mode in modes], run, rng)
