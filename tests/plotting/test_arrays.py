"""Images and relevance as they are drawn: ranges, layouts and data formats."""

import keras
import numpy as np

from keras_shapley.plotting.arrays import display_images, relevance_maps, with_patches


def test_images_are_shown_in_the_range_that_they_have(rng):
    bytes_ = np.array([[[0, 255], [51, 102]]], "uint8")
    np.testing.assert_allclose(display_images(bytes_)[0], [[0, 1], [0.2, 0.4]])
    unit = rng.random((2, 3, 3))
    np.testing.assert_array_equal(display_images(unit), unit)
    wide = display_images(rng.normal(size=(2, 3, 3, 3)))
    assert wide.min() == 0 and wide.max() == 1


def test_flat_relevance_takes_the_layout_of_the_images(rng):
    flat, images = rng.normal(size=(2, 12)), rng.random((2, 3, 4))
    np.testing.assert_array_equal(relevance_maps(flat, images)[0].values, flat.reshape(2, 3, 4))
    np.testing.assert_array_equal(relevance_maps(flat, rng.random((2, 3, 4, 3)))[0].values, flat.reshape(2, 3, 4))


def test_channels_first_is_understood(rng):
    keras.config.set_image_data_format("channels_first")
    try:
        relevance = rng.normal(size=(2, 3, 5, 4))
        np.testing.assert_allclose(relevance_maps(relevance)[0].values, relevance.sum(axis=1))
        assert display_images(rng.random((2, 3, 5, 4))).shape == (2, 5, 4, 3)
    finally:
        keras.config.set_image_data_format("channels_last")


def test_patches_have_the_sum_of_their_pixels_also_at_the_border(rng):
    values = rng.normal(size=(2, 7, 5))
    pixels, patched = with_patches(relevance_maps(values), 3)
    assert (pixels.label, patched.label) == ("pixels", "patches")
    np.testing.assert_array_equal(pixels.values, values)
    for image, patches in zip(values, patched.values):
        for y in range(7):
            for x in range(5):
                rows, columns = slice(y // 3 * 3, y // 3 * 3 + 3), slice(x // 3 * 3, x // 3 * 3 + 3)
                np.testing.assert_allclose(patches[y, x], image[rows, columns].sum())
    # one of each patch
    np.testing.assert_allclose(patched.values[:, ::3, ::3].sum(axis=(1, 2)), values.sum(axis=(1, 2)))
