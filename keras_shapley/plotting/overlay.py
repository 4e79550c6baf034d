"""Relevance over a photograph: the photograph without its colours, and how much relevance covers it."""

import numpy as np

# weights of red, green and blue in the brightness of a pixel (ITU-R BT.601)
_BRIGHTNESS = np.array([0.299, 0.587, 0.114])
# the range of a faded photograph
_DARKEST, _BRIGHTEST = 0.5, 1.0
# percentiles of brightness between which a photograph is shown, and the smallest range that is stretched to all of it
_ENDS = (1, 99)
_LEAST_RANGE = 0.1
_MOST_OPAQUE = 0.85


def faded(pixels: np.ndarray) -> np.ndarray:
    """The photograph in light grey, on which both the dark and the pale colours of relevance are seen.

    Its brightness is stretched, so that a photograph that is dark or pale is seen under them, too. One without contrast
    is white.

    Args:
        pixels: numbers in [0, 1], shape `(h, w)` or `(h, w, 3)`.

    Returns:
        Shape `(h, w)`.
    """
    grey = pixels @ _BRIGHTNESS if pixels.ndim == 3 else pixels
    low, high = np.percentile(grey, _ENDS)
    if high - low < _LEAST_RANGE:
        # a small object on a plain ground
        low, high = grey.min(), grey.max()
    grey = np.clip(1 - (high - grey) / max(high - low, _LEAST_RANGE), 0, 1)
    return _DARKEST + (_BRIGHTEST - _DARKEST) * grey


def opacity(values: np.ndarray) -> np.ndarray:
    """How much a colour covers the photograph: not at all at zero, and nearly all of it at the limits -1 and 1."""
    return _MOST_OPAQUE * np.sqrt(np.clip(np.abs(values), 0, 1))
