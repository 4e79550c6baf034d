"""The colours of relevance: red is positive, blue is negative and white is zero."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.cm import ScalarMappable

# ColorBrewer's RdBu with a pure white in the middle, which an odd number of colours has
_COLOURS = "#053061 #2166ac #4393c3 #92c5de #d1e5f0 #ffffff #fddbc7 #f4a582 #d6604d #b2182b #67001f".split()
_N_COLOURS = 255


def relevance_colours() -> "ScalarMappable":
    """The colour of relevance in units of its limit, from -1 to 1.

    All plots draw in these units, so that Matplotlib does not see the subnormal numbers which a saturated softmax
    leaves.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    return ScalarMappable(Normalize(-1, 1), LinearSegmentedColormap.from_list("relevance", _COLOURS, _N_COLOURS))


def check_percentile(percentile: float) -> None:
    """Raises a `ValueError` unless 0 < percentile <= 100."""
    if not 0 < percentile <= 100:
        raise ValueError(f"`percentile` must be above 0 and at most 100. Received: percentile={percentile!r}")


def limits(values: Sequence[np.ndarray] | np.ndarray, percentile: float, shared: bool) -> list[float]:
    """Where the colour scale of each sample ends.

    Args:
        values: of each sample, arrays of any shapes.
        percentile: percentile of `|values|` at which the scale ends.
        shared: whether all samples have one scale.
    """
    sizes = [np.abs(sample).ravel() for sample in values]
    if shared:
        return [_limit(np.concatenate(sizes), percentile)] * len(sizes)
    return [_limit(sample, percentile) for sample in sizes]


def _limit(sizes: np.ndarray, percentile: float) -> float:
    """End of the colour scale: one of the sizes, and zero only if all of them are."""
    return float(np.percentile(sizes, percentile, method="higher") or sizes.max()) if sizes.size else 0.0
