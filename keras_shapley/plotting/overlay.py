"""Relevance over a photograph: the photograph without its colours, and how much relevance covers it."""

import numpy as np

# weights of red, green and blue in the brightness of a pixel (ITU-R BT.601)
_BRIGHTNESS = np.array([0.299, 0.587, 0.114])
# the range of a faded photograph
_DARKEST, _BRIGHTEST = 0.5, 1.0
_MOST_OPAQUE = 0.85


def faded(pixels: np.ndarray) -> np.ndarray:
    """The photograph in light grey, on which both the dark and the pale colours of relevance are seen.

    Args:
        pixels: numbers in [0, 1], shape `(h, w)` or `(h, w, 3)`.

    Returns:
        Shape `(h, w)`.
    """
    grey = pixels @ _BRIGHTNESS if pixels.ndim == 3 else pixels
    return _DARKEST + (_BRIGHTEST - _DARKEST) * grey


def opacity(values: np.ndarray) -> np.ndarray:
    """How much a colour covers the photograph: not at all at zero, and nearly all of it at the limits -1 and 1."""
    return _MOST_OPAQUE * np.sqrt(np.clip(np.abs(values), 0, 1))
