"""The base models that stay loaded: those asked for last, as many as memory has room for. What was trained over them
is served as it was trained: over the same weights, with the same template, up to the same end tokens.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from mlx_engine.models import folder, record
from mlx_engine.models.adapters import Adapter, Adapters
from mlx_engine.models.load import LoadedModel, load_model, stays_packed, with_template
from mlx_engine.models.record import Record, template_sha256, tokenizer_sha256
from mlx_engine.platform import Platform, memory_bytes
from mlx_engine.serving.chat import end_tokens

_SHARE_OF_MEMORY = 1 / 2


@dataclass(frozen=True)
class Served:
    """A model ready to answer, once its adapter is in place."""

    base: Base
    adapter: Adapter | None
    loaded: LoadedModel
    ends: set[int]  # tokens that end an answer
    system: str | None = None  # what training began every conversation with

    @property
    def version(self) -> tuple[Any, ...]:
        """Changes when a file of the base or of the adapter does."""
        return (self.base.version, self.adapter and self.adapter.version)


@dataclass(eq=False)
class Base:
    version: tuple[Any, ...]
    loaded: LoadedModel
    adapters: Adapters
    nbytes: int
    used: float = field(default_factory=time.monotonic)  # when it was last asked for
    _voices: dict[str | None, tuple[LoadedModel, set[int]]] = field(default_factory=dict)

    @cached_property
    def tokenizer_sha256(self) -> str | None:
        return tokenizer_sha256(self.loaded.path)

    def voice(self, template: Any) -> tuple[LoadedModel, set[int]]:
        """The base with this chat template, None: without one; and the tokens that end an answer."""
        key = template_sha256(template)
        if key not in self._voices:
            own = template_sha256(self.loaded.tokenizer.chat_template)
            loaded = self.loaded if key == own else with_template(self.loaded, template)
            self._voices[key] = (loaded, end_tokens(loaded.tokenizer))
        return self._voices[key]


class NoRoomYet(Exception):
    """Bases that are in use have to go first."""


class Bases:
    def __init__(
        self,
        platform: Platform,
        on_load: Callable[[str, float], None],
        budget: int | None = None,
        adapters_bytes: int | None = None,
    ) -> None:
        """`on_load` is told path and seconds of every load. `budget`: bytes of weights, of all bases; the one in use
        may take more. `adapters_bytes`: of the adapters that each keeps."""
        self._platform = platform
        self._on_load = on_load
        self._bases: OrderedDict[tuple[Any, ...], Base] = OrderedDict()
        self._budget = _SHARE_OF_MEMORY * memory_bytes() if budget is None else budget
        self._adapters_bytes = adapters_bytes

    @property
    def loaded(self) -> Collection[Base]:
        return self._bases.values()

    def serve(self, model_path: str, adapter_path: str | None) -> Served:
        """As `find`, with the adapter in place."""
        served = self.find(model_path, adapter_path)
        served.base.adapters.put(served.adapter.modules if served.adapter else [])
        return served

    def find(self, model_path: str, adapter_path: str | None, in_use: Collection[Base] = ()) -> Served:
        """The base, and the adapter if one is named, which is not in place yet. EngineError('invalid_model'), also for
        what was trained with another tokenizer or template than can be had now. NoRoomYet as `get`."""
        trained_in = Path(adapter_path or model_path)
        trained = record.read(trained_in)
        base = self.get(model_path, trained.base_quantize_bits, in_use)
        adapter = None if adapter_path is None else base.adapters.load(adapter_path)
        if trained.tokenizer_sha256 not in (None, base.tokenizer_sha256):
            raise folder.invalid(
                trained_in,
                f"was trained with another tokenizer than {model_path} has now, in which its tokens mean something "
                "else: put the old one back, or train anew",
            )
        loaded, ends = base.voice(_template(trained_in, trained, base.loaded))
        ends = ends | {token.id for token in trained.stop_tokens}
        return Served(base, adapter, loaded, ends, trained.system_prompt)

    def get(self, path: str, quantize_bits: int | None = None, in_use: Collection[Base] = ()) -> Base:
        """Loaded already, or now; with `quantize_bits` packed to so many, unless it is already, as QLoRA does.
        EngineError('invalid_model'). NoRoomYet when only those `in_use` could make room for it."""
        key = _signature(Path(path), quantize_bits)
        if key not in self._bases:
            config = folder.check(Path(path))
            self._make_room(self.needed_bytes(path, config), key, in_use)
            start = time.monotonic()
            self._bases[key] = self._load(path, quantize_bits, config, key)
            self._on_load(path, time.monotonic() - start)
        self._bases.move_to_end(key)
        self._bases[key].used = time.monotonic()
        return self._bases[key]

    def unload(self, idle_seconds: float, in_use: Collection[Base]) -> None:
        """Those that nobody has asked for in that time."""
        before = time.monotonic() - idle_seconds
        idle = [key for key, base in self._bases.items() if base.used <= before and base not in in_use]
        for key in idle:
            del self._bases[key]
        if idle:
            self.free_buffers()

    def _load(self, path: str, quantize_bits: int | None, config: dict[str, Any], key: tuple[Any, ...]) -> Base:
        loaded = load_model(
            path,
            dtype=self._platform.dtype_for(config),
            quantize_bits=quantize_bits,
            keep_quantized=stays_packed(config, quantize_bits),
        )
        nbytes = sum(array.nbytes for _, array in tree_flatten(loaded.model.parameters()))
        kept = {} if self._adapters_bytes is None else {"kept_bytes": self._adapters_bytes}
        return Base(key, loaded, Adapters(loaded.model, **kept), nbytes)

    def _make_room(self, needed: int, key: tuple[Any, ...], in_use: Collection[Base]) -> None:
        for old in [old for old in self._bases if old[:2] == key[:2]]:
            del self._bases[old]  # its files have changed since
        room = self._budget - needed - sum(base.nbytes for base in in_use)
        if room < 0 and in_use:
            raise NoRoomYet
        for old, base in list(self._bases.items()):
            if sum(b.nbytes for b in self._bases.values() if b not in in_use) <= room:
                break
            if base not in in_use:
                del self._bases[old]
        self.free_buffers()

    def needed_bytes(self, path: str, config: dict[str, Any]) -> int:
        """What a model takes once loaded: half precision grows twofold to float32, files of 4 bits eightfold unless
        they stay packed."""
        dtype = self._platform.dtype_for(config)
        unpacked = dtype == mx.float32 and not stays_packed(config)
        per_word = 32 // config.get("quantization", {}).get("bits", 32) if unpacked else 1
        total = 0
        for file in Path(path).glob("model*.safetensors"):
            for tensor in folder.check_safetensors(file).values():
                values = prod(tensor["shape"]) * (per_word if tensor["dtype"] == "U32" else 1)
                total += values * (4 if tensor["dtype"] == "U32" else dtype.size)
        return total

    @staticmethod
    def free_buffers() -> None:
        """Gives back what MLX keeps for reuse: after a model went, or a request failed for lack of memory."""
        mx.clear_cache()


def _signature(path: Path, quantize_bits: int | None) -> tuple[Any, ...]:
    """The folder and how it is loaded, and what changes when its files are replaced."""
    files = sorted([*path.glob("*.safetensors"), *path.glob("*.json"), *path.glob("*.jinja")])
    facts = ((f.name, stat.st_mtime_ns, stat.st_ino, stat.st_size) for f in files for stat in (f.stat(),))
    return (path, quantize_bits, *facts)


def _template(trained_in: Path, trained: Record, base: LoadedModel) -> Any:
    """The chat template that training used: the base's own, or the adapter's copy of it when that has changed since."""
    template = base.tokenizer.chat_template
    if trained.prompt_format is None or trained.chat_template_sha256 == template_sha256(template):
        return template
    if trained.prompt_format != "chat_template":
        return None
    copy = trained_in / record.TEMPLATE_FILE
    text = copy.read_text("utf-8") if copy.is_file() else None
    if text is None or template_sha256(text) != trained.chat_template_sha256:
        raise folder.invalid(
            trained_in,
            f"was trained with another chat template than {base.path} has now: put the old one back, or train anew",
        )
    return text
