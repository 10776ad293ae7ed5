"""Loads a model folder: config.json, *.safetensors, tokenizer files. Data only: nothing in it may run code."""

from __future__ import annotations

import contextlib
import glob
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map_with_path
from mlx_lm.models.switch_layers import SwitchLinear
from mlx_lm.tokenizer_utils import TokenizerWrapper
from mlx_lm.utils import dequantize_model, load_adapters
from mlx_lm.utils import load_model as load_mlx_model

from mlx_engine.models import folder
from mlx_engine.models.quantized import all_known
from mlx_engine.models.text import context_length, invalid, load_text

_WITHIN = threading.Lock()


@dataclass
class LoadedModel:
    model: nn.Module
    tokenizer: TokenizerWrapper
    config: dict[str, Any]  # with generation_config.json's eos_token_id; `quantization` as the weights now are
    path: Path

    @property
    def context_length(self) -> int | None:
        """Positions that the model was made for; None when its config does not say."""
        return context_length(self.config)


def load_model(
    path: str | Path,
    *,
    dtype: mx.Dtype,
    keep_quantized: bool = False,
    quantize_bits: int | None = None,
    adapter_path: str | Path | None = None,
    lazy: bool = False,
) -> LoadedModel:
    """Loads with floating-point parameters in `dtype` (Platform.dtype_for(config) says which).

    quantize_bits packs the linear layers of a model that is not packed yet (group size 64, or 32 where the width needs
    it); embeddings and the head stay as they are, as in QLoRA. Packed weights become plain ones of the same values when
    dtype is float32, as CPUs multiply packed ones at 5 GFLOP/s, unless keep_quantized. Who computes with the fused
    kernels in place may keep what those know: see stays_packed.
    Raises EngineError('invalid_model') with one line about what is wrong.
    """
    path = Path(path)
    folder.check(path)
    with invalid(path), _no_pattern(path) as named:
        model, config = load_mlx_model(named, lazy=True)
    cast = getattr(model, "cast_predicate", lambda _: True)
    model.update(tree_map_with_path(lambda name, p: _cast(p, dtype) if cast(name) else p, model.parameters()))
    if quantize_bits and "quantization" not in config:
        config = config | {"quantization": _quantize(model, quantize_bits)}
    if "quantization" in config and dtype == mx.float32 and not keep_quantized:
        model = dequantize_model(model)
        config = {k: v for k, v in config.items() if k not in ("quantization", "quantization_config")}
    if adapter_path is not None:
        with invalid(Path(adapter_path)):
            model = load_adapters(model, str(adapter_path))
    model.eval()
    if not lazy:
        mx.eval(model.parameters())
    return LoadedModel(model, load_text(path, config), config, path)


@contextlib.contextmanager
def _no_pattern(path: Path) -> Iterator[Path]:
    """The folder by a name that is no pattern: mlx-lm looks for weights with glob, to which one with brackets is. Then
    from within, one at a time, as the working folder is the process's."""
    if glob.escape(str(path)) == str(path):
        yield path
        return
    with _WITHIN, contextlib.chdir(path):
        yield Path()


def stays_packed(config: dict[str, Any], quantize_bits: int | None = None) -> bool:
    """Whether a model with this config.json (or that is packed when it is loaded) is best kept packed in float32 too:
    the fused kernels multiply it as fast as plain weights, single tokens faster, in a quarter of the memory."""
    if "quantization" not in config and quantize_bits:
        return all_known({"quantization": {"group_size": 64, "bits": quantize_bits}})
    return all_known(config)


def with_template(loaded: LoadedModel, template: str | None) -> LoadedModel:
    """The same model, its tokenizer with another chat template; None: with none."""
    tokenizer = load_text(loaded.path, loaded.config)
    tokenizer.chat_template = template
    tokenizer.has_chat_template = template is not None
    return replace(loaded, tokenizer=tokenizer)


def total_params(model: nn.Module) -> int:
    """Parameters as numbers: a packed weight counts its values, not its words; scales and biases of groups nothing."""
    packed = {name: m for name, m in model.named_modules() if "scales" in m and hasattr(m, "bits")}
    total = 0
    for name, array in tree_flatten(model.parameters()):
        owner, _, leaf = name.rpartition(".")
        if owner not in packed:
            total += array.size
        elif leaf == "weight":
            total += array.size * 32 // packed[owner].bits
        elif leaf not in ("scales", "biases"):
            total += array.size
    return total


def trainable_params(model: nn.Module) -> int:
    return sum(array.size for _, array in tree_flatten(model.trainable_parameters()))


def _cast(array: mx.array, dtype: mx.Dtype) -> mx.array:
    return array.astype(dtype) if mx.issubdtype(array.dtype, mx.floating) else array


def _quantize(model: nn.Module, bits: int) -> dict[str, Any]:
    """Packs in place; returns the config's `quantization` for it, with an entry for every layer that differs."""
    quantization: dict[str, Any] = {"group_size": 64, "bits": bits}

    def choose(name: str, module: nn.Module) -> bool | dict[str, int]:
        if not isinstance(module, nn.Linear | SwitchLinear) or name.endswith("lm_head"):
            return False
        size = next((size for size in (64, 32) if module.weight.shape[-1] % size == 0), None)
        if size == 32:
            quantization[name] = {"group_size": 32, "bits": bits}
        return False if size is None else {"group_size": size, "bits": bits}

    nn.quantize(model, group_size=64, bits=bits, class_predicate=choose)
    return quantization
