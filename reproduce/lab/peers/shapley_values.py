"""Shapley values by shap and captum, as functions of `(n, model, x, target, seed)`; absent pixels are black.

Each returns attributions of the target's probability in the shape of `x`, and the cost of an image in evaluations of
the model. A gradient counts as three evaluations.
"""

import keras
import numpy as np
from keras import ops

GRADIENT = 3

Estimate = tuple[np.ndarray, float]


def shap_permutations(n: int, model: keras.Model, x: np.ndarray, target: np.ndarray, seed: int) -> Estimate:
    """shap's `PermutationExplainer` with `n` orders, half of them the reverse of the other half."""
    import shap

    def probability(flat: np.ndarray, k: int) -> np.ndarray:
        batch = flat.reshape(-1, *x.shape[1:]).astype("float32")
        return ops.convert_to_numpy(model(batch, training=False))[:, k]

    values, evaluations = [], 0
    for image, k in zip(x, target):
        flat, calls = image.reshape(1, -1), []

        def counted(batch, k=k, calls=calls):
            calls.append(len(batch))
            return probability(batch, k)

        explainer = shap.PermutationExplainer(counted, np.zeros((1, flat.shape[1])), seed=seed)
        present = int((flat != 0).sum())
        # an order and its reverse
        explanation = explainer(flat, max_evals=n // 2 * (2 * present + 1), silent=True)
        values.append(explanation.values.reshape(image.shape))
        evaluations += sum(calls)
    return np.stack(values), evaluations / len(x)


def shap_gradients(n: int, model: keras.Model, x: np.ndarray, target: np.ndarray, seed: int) -> Estimate:
    """shap's `GradientExplainer` with `n` gradients; on PyTorch alone."""
    import shap
    import torch

    class Column(torch.nn.Module):
        """One output, because the explainer takes models with one output."""

        def __init__(self, k: int) -> None:
            super().__init__()
            self.model, self.k = model, k

        def forward(self, batch):
            return self.model(batch, training=False)[:, self.k : self.k + 1]

    attributions = []
    for image, k in zip(x, target):
        explainer = shap.GradientExplainer(Column(k), [torch.zeros((1, *image.shape))])
        values = explainer.shap_values([torch.tensor(image[None])], nsamples=n, rseed=seed)
        attributions.append(np.asarray(values[0] if isinstance(values, list) else values).reshape(image.shape))
    return np.stack(attributions), GRADIENT * n


def captum_sampling(n: int, model: keras.Model, x: np.ndarray, target: np.ndarray, seed: int) -> Estimate:
    """captum's `ShapleyValueSampling` with `n` orders; on PyTorch alone. All black pixels are one player."""
    import captum.attr
    import torch

    torch.manual_seed(seed)
    method = captum.attr.ShapleyValueSampling(lambda batch: model(batch, training=False))
    values, evaluations = [], 0
    for image, k in zip(x, target):
        present = image != 0
        players = torch.tensor(np.where(present, np.cumsum(present).reshape(image.shape), 0))[None]
        with torch.no_grad():
            attribution = method.attribute(
                torch.tensor(image[None]), target=int(k), feature_mask=players, n_samples=n, perturbations_per_eval=64
            )
        values.append(attribution[0].cpu().numpy() * present)
        evaluations += n * (1 + present.sum()) + 1
    return np.stack(values), float(evaluations / len(x))
