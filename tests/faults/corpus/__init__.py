"""Hostile and broken files: models, images and results, made from a few that are whole.

Whoever plants code in a file plants the making of a file `CANARY`, which must never appear.
"""

import numpy as np

from faults.corpus.archives import broken_archives, no_models, odd_archives
from faults.corpus.base import CANARY, Base, Case, Evil, image_bytes, plain_model
from faults.corpus.configs import broken_configs, gadgets
from faults.corpus.images import broken_images, odd_images
from faults.corpus.results import class_names, results
from faults.corpus.weights import broken_weights, huge_models, legacy_files

__all__ = ["CANARY", "Case", "Evil", "cases", "image_bytes", "plain_model"]


def cases(seed: int = 0) -> list[Case]:
    """All of them, the same for the same seed."""
    rng = np.random.default_rng(seed)
    base = Base()
    return [
        *broken_archives(base, rng),
        *odd_archives(base),
        *broken_configs(base, rng),
        *gadgets(base),
        *broken_weights(base, rng),
        *huge_models(base),
        *legacy_files(base, rng),
        *no_models(base),
        *broken_images(rng),
        *odd_images(rng),
        *class_names(),
        *results(rng, "ShapleyValues"),
        *results(rng, "Explanation"),
    ]
