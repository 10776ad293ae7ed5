"""Low-rank adapters over a base that stays loaded: each one is a set of mlx-lm's LoRA modules around the base's own
layers, put in place and taken out in milliseconds. Without one, the model is the base itself, module for module.
LoRA, rsLoRA (its scale says all) and DoRA, in all layers or some: what the adapter has weights for is adapted.

Format: mlx-lm's (adapter_config.json, adapters.safetensors), see mlx_lm/tuner/utils.py.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchLinear
from mlx_lm.tuner.dora import DoRAEmbedding, DoRALinear
from mlx_lm.tuner.lora import LoRAEmbedding, LoRALinear, LoRASwitchLinear

from mlx_engine.models.folder import check_safetensors, invalid, read_json
from mlx_engine.models.low_rank import cheapen, settle

_FILES = ("adapter_config.json", "adapters.safetensors")
_KEPT_BYTES = 512 * 10**6  # of adapters, a few megabytes each
_PARAMETER = re.compile(r"(?P<module>.+)\.(?P<leaf>lora_a|lora_b|m)")
_LEAVES = ("lora_a", "lora_b", "m")
_Modules = list[tuple[str, nn.Module]]


@dataclass(frozen=True, eq=False)
class Adapter:
    version: tuple[Any, ...]  # the folder, and what changes when its files are replaced
    modules: _Modules

    @cached_property
    def nbytes(self) -> int:
        return sum(module[leaf].nbytes for _, module in self.modules for leaf in _LEAVES if leaf in module)


class Adapters:
    """The adapters of one base. Not for several threads."""

    def __init__(self, model: nn.Module, kept_bytes: int = _KEPT_BYTES) -> None:
        self.base = dict(model.named_modules())
        self._model = model
        self._kept_bytes = kept_bytes
        self._cache: OrderedDict[tuple[Any, ...], Adapter] = OrderedDict()
        self._active: _Modules = []

    def use(self, path: str | None) -> None:
        """Puts the adapter of that folder in place; None: the base alone. EngineError('invalid_model') naming the
        folder when it is no adapter of this base; what was in place before is then gone."""
        self.put([])
        if path is not None:
            self.put(self.load(path).modules)

    def put(self, modules: _Modules) -> None:
        """Puts these in the places of the base's own, and back what was there of it before."""
        if modules is self._active:
            return
        self._replace([(name, self.base[name]) for name, _ in self._active])
        self._replace(modules)
        self._active = modules

    def load(self, path: str) -> Adapter:
        """The adapter of that folder, kept from the last time unless its files have changed. EngineError as `use`."""
        version = (path, *(_signature(Path(path, name)) for name in _FILES))
        if version not in self._cache:
            self._cache[version] = Adapter(version, _load(Path(path), self.base))
            while sum(adapter.nbytes for adapter in self._cache.values()) > self._kept_bytes and len(self._cache) > 1:
                self._cache.popitem(last=False)
        self._cache.move_to_end(version)
        return self._cache[version]

    def _replace(self, modules: _Modules) -> None:
        if modules:
            self._model.update_modules(tree_unflatten(modules))


def _signature(path: Path) -> tuple[int, int, int]:
    """Changes when the file is replaced or written. EngineError when it is not there."""
    try:
        stat = path.stat()
    except OSError:
        raise invalid(path.parent, f"no adapter: {path.name} is missing") from None
    return stat.st_mtime_ns, stat.st_ino, stat.st_size


def _load(path: Path, base: dict[str, nn.Module]) -> _Modules:
    config = read_json(path / "adapter_config.json")
    kind = config.get("fine_tune_type", "lora")
    if kind not in ("lora", "dora"):
        raise invalid(path, f"fine_tune_type {kind!r} is no adapter: name the folder as the model instead")
    scale = (config.get("lora_parameters") or {}).get("scale")
    if not isinstance(scale, int | float):
        raise invalid(path, "adapter_config.json has no lora_parameters.scale")
    check_safetensors(path / "adapters.safetensors")
    parts: dict[str, dict[str, mx.array]] = {}
    for name, array in mx.load(str(path / "adapters.safetensors")).items():
        match = _PARAMETER.fullmatch(name)
        if match is None or match["module"] not in base:
            raise invalid(path, f"does not fit this base model: it has no place for {name}")
        parts.setdefault(match["module"], {})[match["leaf"]] = array
    if not parts:
        raise invalid(path, "the adapter has no weights")
    modules = [(name, _wrap(path, name, base[name], part, kind, float(scale))) for name, part in parts.items()]
    mx.eval([module for _, module in modules])
    return modules


def _wrap(path: Path, name: str, layer: nn.Module, part: dict[str, mx.array], kind: str, scale: float) -> nn.Module:
    if (wrapper := _wrapper(layer, kind)) is None:
        raise invalid(path, f"does not fit this base model: {name} is a {type(layer).__name__}")
    needed = {"lora_a", "lora_b"} | ({"m"} if kind == "dora" else set())
    if set(part) != needed:
        raise invalid(path, f"{name} has {', '.join(sorted(part))} where {', '.join(sorted(needed))} are needed")
    rank = part["lora_b"].shape[-1 if wrapper is LoRASwitchLinear else 0] if part["lora_b"].ndim else 0
    wrapped = wrapper.from_base(layer, r=max(rank, 1), dropout=0.0, scale=scale)
    cheapen(wrapped)
    for leaf, array in part.items():
        if array.shape != wrapped[leaf].shape:
            shapes = f"{leaf} has shape {tuple(array.shape)}, {tuple(wrapped[leaf].shape)} is needed"
            raise invalid(path, f"does not fit this base model: {name}.{shapes}")
        wrapped[leaf] = array.astype(mx.float32)
    settle(wrapped, _activation_type(layer))
    wrapped.eval()
    return wrapped


def _wrapper(layer: nn.Module, kind: str) -> type | None:
    match layer:
        case nn.Linear() | nn.QuantizedLinear():
            return DoRALinear if kind == "dora" else LoRALinear
        case nn.Embedding() | nn.QuantizedEmbedding():
            return DoRAEmbedding if kind == "dora" else LoRAEmbedding
        case SwitchLinear() | QuantizedSwitchLinear():
            return None if kind == "dora" else LoRASwitchLinear
    return None


def _activation_type(layer: nn.Module) -> mx.Dtype:
    floating = [a.dtype for _, a in tree_flatten(layer.parameters()) if mx.issubdtype(a.dtype, mx.floating)]
    return floating[0] if floating else mx.float32
