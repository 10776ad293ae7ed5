"""The base models that stay loaded: the last two asked for, when memory has room for both."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from mlx_engine.models import folder
from mlx_engine.models.adapters import Adapters
from mlx_engine.models.load import LoadedModel, load_model
from mlx_engine.platform import Platform, memory_bytes
from mlx_engine.serving.chat import end_tokens

_KEPT = 2
_SHARE_OF_MEMORY = 1 / 2


@dataclass
class Base:
    loaded: LoadedModel
    adapters: Adapters
    ends: set[int]  # tokens that end an answer
    nbytes: int


class Bases:
    def __init__(self, platform: Platform, on_load: Callable[[str, float], None]) -> None:
        """`on_load` is told path and seconds of every load."""
        self._platform = platform
        self._on_load = on_load
        self._bases: OrderedDict[tuple[Any, ...], Base] = OrderedDict()
        self._budget = _SHARE_OF_MEMORY * memory_bytes()

    def get(self, path: str) -> Base:
        """Loaded already, or now. EngineError('invalid_model')."""
        key = _signature(Path(path))
        if key not in self._bases:
            config = folder.check(Path(path))
            self._make_room(path, key, config)
            start = time.monotonic()
            self._bases[key] = self._load(path, config)
            self._on_load(path, time.monotonic() - start)
        self._bases.move_to_end(key)
        return self._bases[key]

    def _load(self, path: str, config: dict[str, Any]) -> Base:
        loaded = load_model(path, dtype=self._platform.dtype_for(config))
        nbytes = sum(array.nbytes for _, array in tree_flatten(loaded.model.parameters()))
        return Base(loaded, Adapters(loaded.model), end_tokens(loaded.tokenizer), nbytes)

    def _make_room(self, path: str, key: tuple[Any, ...], config: dict[str, Any]) -> None:
        for old in [old for old in self._bases if old[0] == key[0]]:
            del self._bases[old]  # its files have changed since
        # A file may grow as it loads: 4-bit weights eightfold and half precision twofold, to float32.
        growth = (8 if "quantization" in config else 2) if self._platform.on_cpu else 1
        needed = growth * sum(file.stat().st_size for file in Path(path).glob("model*.safetensors"))
        while self._bases and (
            len(self._bases) >= _KEPT or needed + sum(base.nbytes for base in self._bases.values()) > self._budget
        ):
            self._bases.popitem(last=False)
        self.free_buffers()

    @staticmethod
    def free_buffers() -> None:
        """Gives back what MLX keeps for reuse: after a model went, or a request failed for lack of memory."""
        mx.clear_cache()


def _signature(path: Path) -> tuple[Any, ...]:
    """The folder, and what changes when its files are replaced."""
    files = sorted([*path.glob("*.safetensors"), *path.glob("*.json")])
    return (path, *((f.name, stat.st_mtime_ns, stat.st_ino, stat.st_size) for f in files for stat in (f.stat(),)))
