"""The base models that stay loaded: the last two asked for, when memory has room for both. What was trained over them
is put in place as it was trained: over the same weights, with the same template, up to the same end tokens.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from mlx_engine.models import folder, record
from mlx_engine.models.adapters import Adapters
from mlx_engine.models.load import LoadedModel, load_model, with_template
from mlx_engine.models.record import Record, template_sha256, tokenizer_sha256
from mlx_engine.platform import Platform, memory_bytes
from mlx_engine.serving.chat import end_tokens

_KEPT = 2
_SHARE_OF_MEMORY = 1 / 2


@dataclass(frozen=True)
class Served:
    """A model ready to answer."""

    loaded: LoadedModel
    ends: set[int]  # tokens that end an answer
    system: str | None = None  # what training began every conversation with


@dataclass
class Base:
    loaded: LoadedModel
    adapters: Adapters
    nbytes: int
    _voices: dict[str | None, Served] = field(default_factory=dict)

    @cached_property
    def tokenizer_sha256(self) -> str | None:
        return tokenizer_sha256(self.loaded.path)

    def voice(self, template: Any) -> Served:
        """The base with this chat template; None: without one."""
        key = template_sha256(template)
        if key not in self._voices:
            own = template_sha256(self.loaded.tokenizer.chat_template)
            loaded = self.loaded if key == own else with_template(self.loaded, template)
            self._voices[key] = Served(loaded, end_tokens(loaded.tokenizer))
        return self._voices[key]


class Bases:
    def __init__(self, platform: Platform, on_load: Callable[[str, float], None]) -> None:
        """`on_load` is told path and seconds of every load."""
        self._platform = platform
        self._on_load = on_load
        self._bases: OrderedDict[tuple[Any, ...], Base] = OrderedDict()
        self._budget = _SHARE_OF_MEMORY * memory_bytes()

    def serve(self, model_path: str, adapter_path: str | None) -> Served:
        """The base, with the adapter in place if one is named. EngineError('invalid_model'), also for what was
        trained with another tokenizer or template than can be had now."""
        trained_in = Path(adapter_path or model_path)
        trained = record.read(trained_in)
        base = self.get(model_path, trained.base_quantize_bits)
        base.adapters.use(adapter_path)
        if trained.tokenizer_sha256 not in (None, base.tokenizer_sha256):
            raise folder.invalid(
                trained_in,
                f"was trained with another tokenizer than {model_path} has now, in which its tokens mean something "
                "else: put the old one back, or train anew",
            )
        voice = base.voice(_template(trained_in, trained, base.loaded))
        return replace(
            voice, ends=voice.ends | {token.id for token in trained.stop_tokens}, system=trained.system_prompt
        )

    def get(self, path: str, quantize_bits: int | None = None) -> Base:
        """Loaded already, or now; with `quantize_bits` packed to so many, unless it is already, as QLoRA does.
        EngineError('invalid_model')."""
        key = _signature(Path(path), quantize_bits)
        if key not in self._bases:
            config = folder.check(Path(path))
            self._make_room(path, key, config)
            start = time.monotonic()
            self._bases[key] = self._load(path, quantize_bits, config)
            self._on_load(path, time.monotonic() - start)
        self._bases.move_to_end(key)
        return self._bases[key]

    def _load(self, path: str, quantize_bits: int | None, config: dict[str, Any]) -> Base:
        loaded = load_model(path, dtype=self._platform.dtype_for(config), quantize_bits=quantize_bits)
        nbytes = sum(array.nbytes for _, array in tree_flatten(loaded.model.parameters()))
        return Base(loaded, Adapters(loaded.model), nbytes)

    def _make_room(self, path: str, key: tuple[Any, ...], config: dict[str, Any]) -> None:
        for old in [old for old in self._bases if old[:2] == key[:2]]:
            del self._bases[old]  # its files have changed since
        needed = self.needed_bytes(path, config)
        while self._bases and (
            len(self._bases) >= _KEPT or needed + sum(base.nbytes for base in self._bases.values()) > self._budget
        ):
            self._bases.popitem(last=False)
        self.free_buffers()

    def needed_bytes(self, path: str, config: dict[str, Any]) -> int:
        """What a model takes once loaded: files of 4 bits grow eightfold to float32, of half precision twofold."""
        dtype = self._platform.dtype_for(config)
        per_word = 32 // config.get("quantization", {}).get("bits", 32) if dtype == mx.float32 else 1
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
