"""Muon: momentum made orthogonal, for the matrices between a model's hidden states.

Jordan et al. 2024 (kellerjordan.github.io/posts/muon), with the decoupled decay and the step size of Moonlight
(arXiv 2502.16982), as in torch.optim.Muon's `match_rms_adamw`: a step changes a weight as much as AdamW's does in a
long run, so that one learning rate serves both, and the parameters that Muon is not for go by AdamW beside it. In a
short run AdamW's steps are larger: after 15 of LoRA on SmolLM2-135M, Muon at 2e-3 was where AdamW at 5e-4 was.

Not mlx.optimizers.Muon: it adds weight decay to the gradient, whose length is then thrown away; it scales by
√(rows / columns) of weights that lie (out, in), where mlx-lm's A and B lie the other way; and it takes the stacked
experts of a mixture for one matrix.
"""

from __future__ import annotations

import math

import mlx.core as mx
import mlx.optimizers as optim

_MOMENTUM = 0.95
_STEPS = 5
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan's quintic: singular values come to between 0.7 and 1.2
_RMS = 0.2  # of AdamW's updates, by Moonlight's measurements


class Muon(optim.Optimizer):
    """For parameters of two or more dimensions; all but the last two count matrices."""

    def __init__(self, weight_decay: float = 0.0) -> None:
        super().__init__()
        self.learning_rate = 0.0
        self.weight_decay = weight_decay

    def init_single(self, parameter: mx.array, state: dict[str, mx.array]) -> None:
        state["v"] = mx.zeros_like(parameter)

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: dict[str, mx.array]) -> mx.array:
        momentum = _MOMENTUM * state["v"] + (1 - _MOMENTUM) * gradient
        state["v"] = momentum
        update = orthogonal(_MOMENTUM * momentum + (1 - _MOMENTUM) * gradient)  # Nesterov's
        # An orthogonal (m, n) matrix has a root mean square of 1 / √max(m, n).
        size = _RMS * math.sqrt(max(parameter.shape[-2:]))
        return parameter * (1 - self.learning_rate * self.weight_decay) - self.learning_rate * size * update


def orthogonal(matrices: mx.array) -> mx.array:
    """UVᵀ of each (…, m, n) matrix UΣVᵀ, about: by Newton and Schulz's iteration. Zero stays zero."""
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.swapaxes(-1, -2) if tall else matrices
    x = x / (mx.linalg.norm(x, axis=(-2, -1), keepdims=True) + 1e-7)
    for _ in range(_STEPS):
        square = x @ x.swapaxes(-1, -2)
        x = a * x + (b * square + c * (square @ square)) @ x
    return x.swapaxes(-1, -2) if tall else x
