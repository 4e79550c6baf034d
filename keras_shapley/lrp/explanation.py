"""What an explanation holds, in NumPy."""

import dataclasses

import numpy as np


@dataclasses.dataclass
class ConservationGap:
    """What each call lost or made of the relevance that it dealt with, per image.

    The signed gaps of a walk add up to `head_total` less the sum of the input's relevance.

    Attributes:
        signed: by call, relevance of its output less that of its inputs, shape `(batch,)`.
        relative: by call, the absolute gap over the sum of the absolute relevance of its output, shape `(batch,)`; at
            the head over `|head_total|`.
    """

    signed: dict
    relative: dict

    @property
    def absolute(self):
        """By call, the absolute gap, shape `(batch,)`."""
        return {name: np.abs(gap) for name, gap in self.signed.items()}

    def summary(self):
        """By call, `(median, maximum)` of the absolute gap and of the relative one over the images."""
        return {
            name: tuple((float(np.median(gap)), float(np.max(gap))) for gap in (self.absolute[name], relative))
            for name, relative in self.relative.items()
        }


@dataclasses.dataclass
class Explanation:
    """Relevance of everything in a model for a batch, in NumPy.

    For several targets an image, what depends on the target has an axis for them after the batch.

    Attributes:
        input: relevance of the input, in its structure and shape.
        layers: by call, relevance of its output, in its shape; of the calls below the head's players.
        output: the model's output, shape `(batch, classes)`.
        probability: the same as probabilities: for a model that ends in logits their softmax (sigmoid for one unit).
        target: the explained class, shape `(batch,)`.
        versus: the class that it was compared with, shape `(batch,)`, or None.
        head: relevance of the head's players, in their shape.
        head_stderr: standard error of `head`; 0 where it is exact, NaN by quadrature.
        head_total: what was dealt out, shape `(batch,)`: for a softmax or sigmoid the target's probability less
            `head_baseline`; for a linear head the output; for a ReLU head what eq. (1) sums to.
        head_baseline: the target's probability with no player present, shape `(batch,)`; 0 for other heads.
        head_paths: number of random paths behind `head`, 0 where it is exact or by quadrature.
        conservation_gap: `ConservationGap` of every call.
        amplification: by call, the sum of the absolute relevance that its inputs got over that of its output, shape
            `(batch,)`. Above 1 where parts of either sign were dealt out: their product along a path is what eq. (2)
            can grow by, without bound where denominators come near zero.
    """

    input: object
    layers: dict
    output: np.ndarray
    probability: np.ndarray
    target: np.ndarray
    versus: np.ndarray | None
    head: np.ndarray
    head_stderr: np.ndarray
    head_total: np.ndarray
    head_baseline: np.ndarray
    head_paths: int
    conservation_gap: ConservationGap
    amplification: dict

    @property
    def overflow(self):
        """The first call on the way back that left the finite numbers though the model's output is finite, or None."""
        if np.all(np.isfinite(self.output)):
            for name, ratio in reversed(self.amplification.items()):
                if not np.all(np.isfinite(ratio)):
                    return name
        return None
