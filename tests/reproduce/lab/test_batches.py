"""`lab/batches.py`: shifted and mirrored images, and the batches of an epoch."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import ndimage

from lab.batches import Batches, of_arrays, shifted


def test_shift_is_that_of_scipy(rng):
    """Bilinear, nearest pixel outside; the old Keras generator used `scipy.ndimage`."""
    images = rng.normal(size=(20, 9, 7, 3))
    shifts = np.concatenate([rng.uniform(-4, 4, (14, 2)), rng.integers(-3, 4, (4, 2)), [[0, 0], [30, -30]]])
    ours = shifted(images, shifts, np.zeros(20, bool))
    for image, (dy, dx), result in zip(images, shifts, ours, strict=True):
        theirs = ndimage.affine_transform(image, np.eye(3), (dy, dx, 0), order=1, mode="nearest")
        np.testing.assert_allclose(result, theirs, atol=1e-12)


def test_mirror_comes_after_the_shift(rng):
    images = rng.normal(size=(2, 5, 6, 3)).astype("float32")
    shifts = rng.uniform(-2, 2, (2, 2))
    plain = shifted(images, shifts, np.array([False, False]))
    mixed = shifted(images, shifts, np.array([True, False]))
    np.testing.assert_array_equal(mixed[0], plain[0, :, ::-1])
    np.testing.assert_array_equal(mixed[1], plain[1])
    assert mixed.dtype == "float32"


@pytest.fixture
def batches(rng):
    """Function that makes batches of 4 from ten images whose every pixel is ten times the label."""

    def batches(**changes):
        labels = np.arange(10, dtype="int32")
        images = np.broadcast_to(10 * labels.astype("uint8")[:, None, None, None], (10, 6, 6, 3))
        options = {"mean": np.zeros((6, 6, 3), "float32"), "batch_size": 4, "seed": 3, "shift": 0.1, **changes}
        return Batches(images, labels, **options)

    return batches


def test_an_epoch_has_every_image_once_with_its_label(batches):
    made = batches()
    assert made.steps == 3
    for epoch in range(3):
        images, labels = (np.concatenate(parts) for parts in zip(*(made[3 * epoch + i] for i in range(3)), strict=True))
        assert sorted(labels) == list(range(10))
        np.testing.assert_allclose(images, np.broadcast_to(labels[:, None, None, None] * 10 / 255, images.shape), 1e-6)
    assert [len(made[i][0]) for i in range(4)] == [4, 4, 2, 4]


def test_resumed_epochs_are_those_of_an_uninterrupted_run(rng):
    images, labels = rng.integers(0, 256, (10, 8, 8, 3), dtype="uint8"), np.arange(10, dtype="int32")

    def make(seed=5, first_epoch=0):
        mean = np.full((8, 8, 3), 0.5, "float32")
        return Batches(images, labels, mean, 4, seed, shift=0.1, first_epoch=first_epoch)

    whole, resumed = make(), make(first_epoch=2)
    for i in (4, 0, 2):  # in any order: prefetching may ask early
        for a, b in zip(whole[6 + i], resumed[i], strict=True):
            np.testing.assert_array_equal(a, b)
    assert list(whole[0][1]) != list(whole[3][1])  # other epoch
    assert list(whole[0][1]) != list(make(seed=6)[0][1])
    assert np.abs(whole[0][0] - make(seed=6)[0][0]).max() > 0.1


def test_mean_is_subtracted_before_the_shift(batches):
    """So an image that is its mean is zero wherever it goes."""
    ramp = np.broadcast_to(np.arange(6, dtype="float32")[:, None, None] / 255, (6, 6, 3))
    made = batches(mean=ramp)
    made.images = np.broadcast_to(np.arange(6, dtype="uint8")[:, None, None], (10, 6, 6, 3))
    np.testing.assert_allclose(made[0][0], 0, atol=1e-7)


def test_shifts_fill_their_range_and_half_the_images_are_mirrored():
    """Read off images with a ramp each way: the centre's value is the shift, the slope's sign the mirroring."""
    y, x = np.meshgrid(np.arange(40), np.arange(40), indexing="ij")
    images = np.repeat(np.stack([y, x, x], -1)[None].astype("uint8"), 2000, axis=0)
    made = Batches(images, np.zeros(2000, "int32"), np.zeros((40, 40, 3), "float32"), 2000, 0, shift=0.1)
    seen = made[0][0] * 255
    dy = seen[:, 20, 20, 0] - 20
    mirrored = seen[:, 20, 21, 1] < seen[:, 20, 20, 1]
    dx = np.where(mirrored, seen[:, 20, 19, 1], seen[:, 20, 20, 1]) - 20
    for shift in (dy, dx):
        assert -4 <= shift.min() < -3.98
        assert 3.98 < shift.max() <= 4.0001
        assert abs(shift.mean()) < 0.2  # 4 standard errors
    assert abs(np.corrcoef(dy, dx)[0, 1]) < 0.1
    assert abs(mirrored.mean() - 0.5) < 0.05


def test_fit_sees_the_batches_in_order(rng):
    """Whatever the backend's way of feeding: as if each batch had been trained on by hand."""
    images, labels = rng.integers(0, 256, (10, 6, 6, 3), dtype="uint8"), rng.integers(0, 3, 10).astype("int32")
    made = Batches(images, labels, np.zeros((6, 6, 3), "float32"), 4, 0, shift=0.1)

    def model():
        layers = [keras.Input((6, 6, 3)), keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")]
        model = keras.Sequential(layers)
        model.layers[-1].set_weights([np.linspace(-1, 1, 108 * 3).reshape(108, 3), np.zeros(3)])
        model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
        return model

    fitted, by_hand = model(), model()
    fitted.fit(made.endless(), steps_per_epoch=made.steps, epochs=2, shuffle=False, verbose=0)
    for i in range(2 * made.steps):
        by_hand.train_on_batch(*made[i])
    for a, b in zip(fitted.get_weights(), by_hand.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_an_epoch_of_arrays_has_every_image_once_in_a_new_order():
    x, y = np.arange(10, dtype="float32")[:, None], np.arange(10)
    seen = []

    class Watched(keras.Sequential):
        def train_step(self, *args):
            *_, (images, labels) = args
            seen.append((ops.convert_to_numpy(images).ravel(), ops.convert_to_numpy(labels)))
            return {"loss": 0.0} if keras.backend.backend() != "jax" else ({"loss": 0.0}, args[0])

    model = Watched([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)
    model.fit(**of_arrays(x, y, 4), epochs=2, verbose=0)
    images, labels = (np.concatenate(part) for part in zip(*seen))
    assert [len(part) for part, _ in seen] == [4, 4, 2] * 2
    assert np.array_equal(images, labels)
    orders = labels.reshape(2, 10)
    assert np.array_equal(np.sort(orders), [np.arange(10)] * 2)
    assert not np.array_equal(*orders) and not np.array_equal(orders[0], np.arange(10))
