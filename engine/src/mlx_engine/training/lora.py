"""LoRA and DoRA layers in a model, in mlx-lm's naming, so that mlx-lm loads what is trained here."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchLinear
from mlx_lm.tuner.utils import linear_to_lora_layers

from mlx_engine.models.low_rank import cheapen
from mlx_engine.protocol import EngineError, LoraSpec

ALL_LINEAR = "all-linear"
_EXPERTS = (SwitchLinear, QuantizedSwitchLinear)
_LINEARS = (nn.Linear, nn.QuantizedLinear, *_EXPERTS)


def apply_lora(model: nn.Module, spec: LoraSpec, seed: int) -> dict[str, Any]:
    """Freezes the model and gives its layers the modules that `spec` asks for; A is drawn from `seed`, B is zero.

    Returns what mlx-lm's adapter_config.json says of them: fine_tune_type, num_layers, and lora_parameters with rank,
    scale, dropout and keys. EngineError('invalid_parameters') for a target that no linear layer is named after (it
    lists the names there are), for more layers than there are, and for DoRA of stacked experts.
    """
    layers = _last(model, spec.layers)
    keys = target_keys(model, spec.target_modules, spec.layers)
    if spec.use_dora:
        _refuse_experts(model, layers, keys)
    # rsLoRA (arXiv 2312.03732): with alpha / r, the step that a high rank makes shrinks as it grows.
    scale = spec.alpha / (math.sqrt(spec.rank) if spec.use_rslora else spec.rank)
    parameters = {"rank": spec.rank, "scale": scale, "dropout": spec.dropout, "keys": keys}
    model.freeze()
    mx.random.seed(seed)
    linear_to_lora_layers(model, len(layers), parameters, use_dora=spec.use_dora)
    for module in model.modules():
        cheapen(module)
    kind = "dora" if spec.use_dora else "lora"
    return {"fine_tune_type": kind, "num_layers": len(layers), "lora_parameters": parameters}


def target_keys(model: nn.Module, targets: Iterable[str], layers: int | None = None) -> list[str]:
    """The names of the modules to adapt as mlx-lm's `keys`: relative to their layer, or whole outside the layers.

    A target is the last part of a name ("q_proj") or more of its end ("self_attn.q_proj"); "all-linear" is every
    linear in the layers, so not the head. `layers`: look in the last so many.
    """
    inside = {
        name for layer in _last(model, layers) for name, module in layer.named_modules() if isinstance(module, _LINEARS)
    }
    outside = {name for name, _ in _outside(model)}
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


def _last(model: nn.Module, count: int | None) -> list[nn.Module]:
    if count is not None and count > len(model.layers):
        raise EngineError(
            "invalid_parameters", f"lora_layers is {count}, but this model has {len(model.layers)} layers"
        )
    return list(model.layers if count is None else model.layers[-count:])


def _outside(model: nn.Module) -> list[tuple[str, nn.Module]]:
    layers = {id(module) for layer in model.layers for module in layer.modules()}
    return [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, _LINEARS) and id(module) not in layers
    ]


def _refuse_experts(model: nn.Module, layers: list[nn.Module], keys: list[str]) -> None:
    named = [pair for layer in layers for pair in layer.named_modules()]
    experts = {name.rsplit(".", 1)[-1] for name, module in named if name in keys and isinstance(module, _EXPERTS)}
    if experts:
        raise EngineError(
            "invalid_parameters",
            f"use_dora is for plain linear layers, but {', '.join(sorted(experts))} are this model's stacked experts: "
            "leave them out of lora_target_modules, or train with LoRA (use_dora: false)",
        )
