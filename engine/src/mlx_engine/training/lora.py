"""LoRA layers in a model, in mlx-lm's naming, so that mlx-lm loads what is trained here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchLinear
from mlx_lm.tuner.lora import LoRALinear
from mlx_lm.tuner.utils import linear_to_lora_layers

from mlx_engine.protocol import EngineError, LoraSpec

ALL_LINEAR = "all-linear"
_LINEARS = (nn.Linear, nn.QuantizedLinear, SwitchLinear, QuantizedSwitchLinear)


class TrainedLoRALinear(LoRALinear):
    """mlx-lm's layer, computed cheaper: A and B are float32 masters used in the activations' type (mlx-lm's float32
    ones turn bfloat16 activations into float32), and the scale goes over the rank-sized product, not the output."""

    def __call__(self, x: mx.array) -> mx.array:
        low = (self.dropout(x) @ self.lora_a.astype(x.dtype)) * self.scale
        return self.linear(x) + low @ self.lora_b.astype(x.dtype)


def apply_lora(model: nn.Module, spec: LoraSpec, seed: int) -> dict[str, Any]:
    """Freezes the model and gives all its layers the LoRA modules that `spec` asks for; A is drawn from `seed`.

    Returns mlx-lm's `lora_parameters`: rank, scale, dropout, keys. EngineError('invalid_parameters') for a target
    that no linear layer is named after; it lists the names there are.
    """
    keys = target_keys(model, spec.target_modules)
    parameters = {"rank": spec.rank, "scale": spec.alpha / spec.rank, "dropout": spec.dropout, "keys": keys}
    model.freeze()
    mx.random.seed(seed)
    linear_to_lora_layers(model, len(model.layers), parameters)
    for module in model.modules():
        if type(module) is LoRALinear:
            module.__class__ = TrainedLoRALinear
    return parameters


def target_keys(model: nn.Module, targets: Iterable[str]) -> list[str]:
    """The names of the modules to adapt as mlx-lm's `keys`: relative to their layer, or whole outside the layers.

    A target is the last part of a name ("q_proj") or more of its end ("self_attn.q_proj"); "all-linear" is every
    linear in the layers, so not the head.
    """
    inside = {name for layer in model.layers for name, module in layer.named_modules() if isinstance(module, _LINEARS)}
    layers = {id(module) for layer in model.layers for module in layer.modules()}
    outside = {
        name for name, module in model.named_modules() if isinstance(module, _LINEARS) and id(module) not in layers
    }
    keys: set[str] = set()
    for target in targets:
        if target == ALL_LINEAR:
            keys |= inside
            continue
        found = {name for name in inside | outside if name == target or name.endswith("." + target)}
        if not found:
            names = ", ".join(sorted({name.rsplit(".", 1)[-1] for name in inside | outside}))
            raise EngineError(
                "invalid_parameters",
                f'no layer of this model is named "{target}" (lora_target_modules); there are: {names}, '
                f'or "{ALL_LINEAR}" for every one of them but the head',
            )
        keys |= found
    return sorted(keys)
