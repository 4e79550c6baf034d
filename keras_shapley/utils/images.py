"""Image files as 8-bit pixels, as viewers show them."""

import pathlib
import warnings
from typing import Any

import numpy as np

# formats that Pillow has another program execute
_PROGRAMS = ("EPS",)
# the largest 16-bit pixel
_LARGEST = 65535


def read_image(path: pathlib.Path, height: int, width: int, *, has_colour: bool) -> tuple[np.ndarray, list[str]]:
    """Pixels of a file, and what was done to them that is worth telling.

    A camera's orientation is applied, transparent pixels lie on white, and pixels of 16 bits and floats from 0 to 1 are
    scaled to 8 bits.

    Args:
        path: of the file.
        height: to which the image is resized.
        width: to which the image is resized.
        has_colour: whether it becomes RGB; else grey.

    Returns:
        uint8 of shape `(height, width, 3)` or `(height, width)`, and a few words for each change.

    Raises:
        ValueError: if the file cannot be read as an image, or its pixels have an unknown range.
    """
    # installed with Matplotlib
    from PIL import ExifTags, Image, ImageOps

    said = []
    try:
        with warnings.catch_warnings():
            # Pillow's own words on large or odd files
            warnings.simplefilter("ignore")
            with Image.open(path) as file:
                if file.format in _PROGRAMS:
                    raise ValueError(f"{file.format} files hold a program, and none is run")
                image = ImageOps.exif_transpose(file)
                if file.getexif().get(ExifTags.Base.Orientation, 1) != 1:
                    said.append("turned as its EXIF orientation says")
                if image.mode in ("F", "I") or image.mode.startswith("I;"):
                    image = Image.fromarray(_eight_bits(np.asarray(image)))
                if image.has_transparency_data:
                    image = image.convert("RGBA")
                    if np.asarray(image.getchannel("A")).min() < 255:
                        said.append("transparent pixels are white")
                    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
                image = image.convert("RGB" if has_colour else "L")
                return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), "uint8"), said
    except Image.DecompressionBombError as error:
        raise ValueError(f"it has too many pixels: {error}") from error
    except Exception as error:
        # Pillow's readers of broken files may raise anything
        raise ValueError(str(error) or type(error).__name__) from error


def _eight_bits(pixels: Any) -> np.ndarray:
    """Grey pixels of 16 bits, or floats from 0 to 1 or 0 to 255, as uint8."""
    low, high = pixels.min(), pixels.max()
    is_float = np.issubdtype(pixels.dtype, np.floating)
    largest = (1.0 if high <= 1 else 255.0) if is_float else _LARGEST
    if not (low >= 0 and high <= largest):
        raise ValueError(
            f"its pixels are {pixels.dtype} from {low:g} to {high:g}, and may be 8 or 16 bits, or floats from 0 to 1 "
            "or from 0 to 255"
        )
    return np.round(pixels / largest * 255).astype("uint8")
