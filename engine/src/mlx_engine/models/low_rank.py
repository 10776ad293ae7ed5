"""LoRA and DoRA layers around a model's own linears: mlx-lm's, computed cheaper. Parameters have mlx-lm's names, shapes
and meaning (lora_a (in, r), lora_b (r, out), m (out,); of stacked experts lora_a (E, r, in), lora_b (E, out, r)), so
that each side loads what the other wrote.

A and B may be float32 masters over a half-precision base: they are used in the activations' type, where mlx-lm's turn
bfloat16 activations into float32. The scale goes over the rank-sized product instead of the output.
"""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.tuner import dora, lora

from mlx_engine.models.quantized import product, with_product


class LoRALinear(lora.LoRALinear):
    def __call__(self, x: mx.array) -> mx.array:
        return self.linear(x) + _update(self, x)


class LoRASwitchLinear(lora.LoRASwitchLinear):
    """Of the stacked experts of a mixture; `indices` says which of them each row of x goes to."""

    def __call__(self, x: mx.array, indices: mx.array, sorted_indices: bool = False) -> mx.array:
        def of_expert(x: mx.array, weights: mx.array) -> mx.array:
            weights = weights.astype(x.dtype).swapaxes(-1, -2)
            return mx.gather_mm(x, weights, rhs_indices=indices, sorted_indices=sorted_indices)

        y = self.linear(x, indices, sorted_indices=sorted_indices)
        return y + of_expert(_scaled(of_expert(self.dropout(x), self.lora_a), self.scale), self.lora_b)


class DoRALinear(dora.DoRALinear):
    """m ⊙ (W + s·BA) / ‖W + s·BA‖, the norms taken over each output's weights and, for the gradient, as constants
    (DoRA, arXiv 2402.09353, section 4.3; PEFT and mlx-lm do the same). Dropout is before A alone, as in mlx-lm; PEFT
    drops parts of what the base sees as well.

    mlx-lm makes W + s·BA in every forward pass to take the norms, and unpacks W for it. They follow from rank-sized
    products: ‖w + s·Δ‖² = ‖w‖² + 2s·w·Δ + s²‖Δ‖², with w·Δ from W·A and ‖Δ‖² from AᵀA; ‖w‖² never changes. In half
    precision only W·A is rounded, and it weighs in the norm what the update weighs beside W.
    On two x86 cores, 512 tokens through 576 by 1536 and back: 14.0 CPU ms for 16.4; at one token, as in generation, 0.2
    (settled) for 1.3. Packed weights stay packed: 1.27 GB at the peak of 512 tokens of SmolLM2-135M for 1.69.
    """

    def __call__(self, x: mx.array) -> mx.array:
        if "_gain" in self:
            y, gain = self.linear(x), self._gain
        else:
            y, projected = with_product(self.linear, x, mx.stop_gradient(self.lora_a.T))
            gain = self.m / mx.stop_gradient(self.norms(projected))
        gain = gain.astype(x.dtype)
        y = (y + _update(self, x)) * gain
        # The bias is in y already and isn't scaled.
        return y + (1 - gain) * self.linear.bias if "bias" in self.linear else y

    def norms(self, projected: mx.array | None = None) -> mx.array:
        """‖W + s·BA‖ for each output: (out,) float32. `projected`: Aᵀ·Wᵀ (r, out), where it is at hand."""
        if projected is None:
            projected = product(self.linear, self.lora_a.T)
        a, b = (matrix.astype(mx.float32) for matrix in (self.lora_a, self.lora_b * self.scale))
        cross = (projected.astype(mx.float32) * b).sum(axis=0)
        square = ((a.T @ a) @ b * b).sum(axis=0)
        return mx.sqrt(mx.maximum(self._squares + 2 * cross + square, 1e-30))


def cheapen(module: nn.Module) -> None:
    """Makes a layer that mlx-lm has just put around a base's layer one of these, in place; others stay as they are."""
    if type(module) is lora.LoRALinear:
        module.__class__ = LoRALinear
    elif type(module) is lora.LoRASwitchLinear:
        module.__class__ = LoRASwitchLinear
    elif type(module) is dora.DoRALinear:
        module.__class__ = DoRALinear
        module._squares = mx.square(module.m)  # m begins as ‖W‖


def settle(module: nn.Module, dtype: mx.Dtype) -> None:
    """For a layer whose weights won't change any more: what can be computed once is, and they are kept in `dtype`, the
    activations' (float32 ones would lift those of a half-precision base). Also for mlx-lm's layers of embeddings."""
    if isinstance(module, DoRALinear):
        module._gain = (module.m / module.norms()).astype(dtype)
    module.lora_b = module.lora_b * module.scale
    module.scale = 1.0
    module.update({leaf: module[leaf].astype(dtype) for leaf in ("lora_a", "lora_b", "m") if leaf in module})


def _update(layer: nn.Module, x: mx.array) -> mx.array:
    low = _scaled(layer.dropout(x) @ layer.lora_a.astype(x.dtype), layer.scale)
    return low @ layer.lora_b.astype(x.dtype)


def _scaled(x: mx.array, scale: float) -> mx.array:
    return x if scale == 1 else x * scale
