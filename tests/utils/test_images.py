"""Image files of all kinds, as viewers show them."""

import numpy as np
import pytest
from PIL import Image

from keras_shapley.utils.images import read_image


@pytest.fixture
def grey(rng):
    return rng.integers(0, 256, size=(4, 6)).astype("uint8")


def read(path, has_colour=False):
    return read_image(path, 4, 6, has_colour=has_colour)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled(suffix, grey, tmp_path):
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(grey.astype("uint16") * 257).save(path)
    pixels, said = read(path)
    np.testing.assert_array_equal(pixels, grey)
    assert not said
    np.testing.assert_array_equal(read(path, has_colour=True)[0], np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("largest", [1.0, 255.0])
def test_floats_are_scaled(largest, grey, tmp_path):
    path = tmp_path / "image.tif"
    Image.fromarray((grey / 255 * largest).astype("float32")).save(path)
    np.testing.assert_array_equal(read(path)[0], grey)


@pytest.mark.parametrize("pixels", [np.full((4, 6), -1.0, "float32"), np.full((4, 6), 1e6, "float32")])
def test_floats_of_another_range_are_named(pixels, tmp_path):
    path = tmp_path / "image.tif"
    Image.fromarray(pixels).save(path)
    with pytest.raises(ValueError, match="its pixels are float32 from .* and may be"):
        read(path)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_white(mode, grey, tmp_path):
    path = tmp_path / "image.png"
    alpha = np.full(grey.shape, 255, "uint8")
    alpha[0] = 0
    rgba = np.stack([grey, grey, grey, alpha], axis=2)
    image = Image.fromarray(rgba)
    if mode == "P":
        image = Image.fromarray(grey % 4).convert("P")
        image.save(path, transparency=3)
        expected = np.where(grey % 4 == 3, 255, grey % 4)
    else:
        image.convert(mode).save(path)
        expected = np.where(alpha == 0, 255, grey)
    pixels, said = read(path)
    np.testing.assert_allclose(pixels.astype(int), expected, atol=1)
    assert said == ["transparent pixels are white"]


def test_the_orientation_of_a_camera_is_applied(grey, tmp_path):
    path = tmp_path / "image.png"
    image = Image.fromarray(grey.T.copy())
    exif = image.getexif()
    # the first row is the left side
    exif[0x0112] = 5
    image.save(path, exif=exif)
    pixels, said = read(path)
    np.testing.assert_array_equal(pixels, grey)
    assert said == ["turned as its EXIF orientation says"]


def test_an_image_beyond_the_limit_of_pillow_is_an_error(grey, tmp_path, monkeypatch):
    path = tmp_path / "image.png"
    Image.fromarray(grey).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4)
    with pytest.raises(ValueError, match="it has too many pixels"):
        read(path)


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_is_an_error(content, tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(content)
    with pytest.raises(ValueError):
        read(path)
