"""Two explainers of shap, as functions of `(n, model, x, target, seed)`, absent pixels black.

They give attributions of the target's probability in the shape of `x`, and what an image cost: in evaluations of the
model, of which a gradient counts for three.
"""

import numpy as np
from keras import ops

GRADIENT = 3


def permutations(n, model, x, target, seed):
    """`PermutationExplainer` with `n` orders, half of them the reverse of the other half."""
    import shap

    def probability(flat, k):
        batch = flat.reshape(-1, *x.shape[1:]).astype("float32")
        return ops.convert_to_numpy(model(batch, training=False))[:, k]

    values, evaluations = [], 0
    for image, k in zip(x, target):
        flat, calls = image.reshape(1, -1), []

        def counted(batch):
            calls.append(len(batch))
            return probability(batch, k)

        explainer = shap.PermutationExplainer(counted, np.zeros((1, flat.shape[1])), seed=seed)
        active = int((flat != 0).sum())
        # a permutation there and back
        found = explainer(flat, max_evals=n // 2 * (2 * active + 1), silent=True)
        values.append(found.values.reshape(image.shape))
        evaluations += sum(calls)
    return np.stack(values), evaluations / len(x)


def gradients(n, model, x, target, seed):
    """`GradientExplainer` with `n` gradients; on PyTorch."""
    import shap
    import torch

    class Column(torch.nn.Module):
        """One output column, which is what the explainer takes."""

        def __init__(self, k):
            super().__init__()
            self.model, self.k = model, k

        def forward(self, batch):
            return self.model(batch, training=False)[:, self.k : self.k + 1]

    found = []
    for image, k in zip(x, target):
        explainer = shap.GradientExplainer(Column(k), [torch.zeros((1, *image.shape))])
        values = explainer.shap_values([torch.tensor(image[None])], nsamples=n, rseed=seed)
        found.append(np.asarray(values[0] if isinstance(values, list) else values).reshape(image.shape))
    return np.stack(found), GRADIENT * n
