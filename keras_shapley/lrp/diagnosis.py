"""Whether an explanation can be relied on: what arrived at the input, how much it grew, and what to say about it."""

from collections.abc import Mapping
from typing import NamedTuple

import keras
import numpy as np

from keras_shapley.lrp.explanation import Explanation
from keras_shapley.models.evaluation import layers_with_bad_weights
from keras_shapley.models.outputs import percent

# times that relevance may grow, and the share of it that has to arrive: half, but for rounding
MAX_AMPLIFIED = 100.0
MIN_ARRIVED = 0.499
# what Shapley propagation, which conserves relevance, may lose or create by rounding
MAX_GAP = 0.1
# a larger share is not written out
_LARGEST_SHARE = 10.0


class Remedies(NamedTuple):
    """How a user says what helps.

    Attributes:
        auto: Shapley propagation.
        baseline: the baseline.
    """

    auto: str
    baseline: str


IN_PYTHON = Remedies("rules='auto'", "`baseline`")


def fault(amplified: np.ndarray, arrived: np.ndarray, preset: str | None) -> str | None:
    """The kind of fault that `diagnosis` puts in words: `"finite"`, `"amplified"` or `"arrived"`; None for no fault.

    Shapley propagation does not divide by sums near zero. Where its relevance is large, large contributions cancel in
    the model.

    Args:
        amplified: as in an `Explanation`.
        arrived: as in an `Explanation`; NaN counts as arrived.
        preset: the rules of the explainer, None if they are not known.
    """
    if not np.all(np.isfinite(amplified)):
        return "finite"
    if preset != "auto" and np.any(amplified > MAX_AMPLIFIED):
        return "amplified"
    return "arrived" if np.any(_are_off(arrived, preset)) else None


def diagnosis(
    explanation: Explanation, model: keras.Model, preset: str | None, remedies: Remedies = IN_PYTHON
) -> dict[str, str]:
    """What is wrong with an explanation, in words, by the kind of fault; empty if nothing is.

    Args:
        explanation: the explanation.
        model: the model that it explains.
        preset: the rules of the explainer, None if they are not known.
        remedies: how a user says what helps.

    Returns:
        `"finite"`: the model's output or the relevance is not finite. `"amplified"`: the relevance grew more than 100
        times. `"arrived"`: less than half of it arrived at the input, or by Shapley propagation another part than
        nearly all. An earlier one explains a later one, which is then left out.
    """
    if not np.all(np.isfinite(explanation.output)):
        bad = layers_with_bad_weights(model)
        cause = f", as are weights of it: {', '.join(bad)}" if bad else ""
        return {"finite": f"The output of model '{model.name}' is NaN or infinite{cause}."}
    remedy = (
        f"Choose another {remedies.baseline}."
        if preset == "auto"
        else f"Shapley propagation, {remedies.auto}, conserves relevance and does not divide by sums near zero."
    )
    if explanation.overflow is not None:
        if not np.all(np.isfinite(explanation.head_baseline)):
            remedy = f"The model's output at the baseline is not finite: choose another {remedies.baseline}."
        what = "it, or a value of the network at the baseline," if preset == "auto" else "it"
        left = f"{what} left the range of {explanation.head_total.dtype}"
        return {"finite": f"The relevance is not finite at {explanation.overflow!r}: {left}. {remedy}"}
    kind = fault(explanation.amplified, explanation.arrived, preset)
    if kind == "amplified":
        large = explanation.amplified > MAX_AMPLIFIED
        grew = f"The relevance grew {_times(explanation.amplified.max())} on its way to the input"
        return {"amplified": f"{grew}{_of(large)}, most at {_largest(explanation.amplification, large)}. {remedy}"}
    if kind == "arrived":
        off = _are_off(explanation.arrived, preset)
        low, high = _percent(explanation.arrived[off].min()), _percent(explanation.arrived[off].max())
        share = low if low == high else f"{low} to {high}"
        gaps = explanation.conservation_gap.absolute
        where = "the largest part is created" if explanation.arrived[off].min() > 1 else "most of the rest is lost"
        lost = f"{share} arrives at the input{_of(off)}; {where} at"
        return {"arrived": f"Of the relevance {lost} {_largest(gaps, off, with_value=False)}. {remedy}"}
    return {}


def _are_off(arrived: np.ndarray, preset: str | None) -> np.ndarray:
    """Where another share of the relevance arrives than the rules promise."""
    return np.abs(arrived - 1) > MAX_GAP if preset == "auto" else arrived < MIN_ARRIVED


def _of(mask: np.ndarray) -> str:
    """How many of the explained outputs are meant, unless it is all."""
    return "" if mask.all() else f" for {int(mask.sum())} of {mask.size} explained outputs"


def _largest(by_call: Mapping[str, np.ndarray], mask: np.ndarray, *, with_value: bool = True) -> str:
    """The call with the largest value among some explained outputs."""
    value, name = max((float(values[mask].max()), name) for name, values in by_call.items())
    return f"{name!r} ({_times(value)})" if with_value else repr(name)


def _times(factor: float) -> str:
    if factor < 10:
        return f"{factor:.2g} times"
    return f"{factor:,.0f} times" if factor < 1e6 else f"{factor:.0e} times"


def _percent(share: float) -> str:
    if abs(share) > _LARGEST_SHARE:
        return f"{'more than ' if share > 0 else 'less than -'}{percent(_LARGEST_SHARE)}"
    # without the sign of a zero
    return percent(round(float(share), 2) + 0.0)
