"""Checks a model folder before any library reads it: complete, safetensors only, nothing that asks to run code."""

from __future__ import annotations

import difflib
import json
import re
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import mlx_lm.models
from mlx_lm.utils import MODEL_REMAPPING

from mlx_engine.protocol import EngineError

_MAX_JSON_BYTES = 64 << 20  # tokenizer.json of a 250k vocabulary is 35 MB
_MAX_HEADER_BYTES = 100 << 20  # safetensors' own cap
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tiktoken.model")
_ASKS_FOR_CODE = ("auto_map", "model_file")
# https://github.com/huggingface/safetensors/blob/main/safetensors/src/tensor.rs, those that MLX reads
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E8M0": 8, "U16": 16, "I16": 16, "F16": 16, "BF16": 16,
    "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64, "C64": 64,
}  # fmt: skip


def check(path: Path, *, weights: bool = True) -> dict[str, Any]:
    """Returns config.json. Raises EngineError('invalid_model') naming the file and what is wrong with it. `weights`:
    whether they must be there."""
    if not path.is_dir():
        raise invalid(path, "no such folder")
    config = read_json(path / "config.json")
    for name, content in (("config.json", config), ("tokenizer_config.json", _optional(path, "tokenizer_config.json"))):
        for key in _ASKS_FOR_CODE:
            if content.get(key):
                raise invalid(path / name, f"asks to run code of its own ({key}), which is never done")
    check_model_type(path / "config.json", config.get("model_type"))
    if weights:
        _check_weights(path)
    if not any((path / name).is_file() for name in TOKENIZER_FILES):
        raise invalid(path, f"no tokenizer: one of {', '.join(TOKENIZER_FILES)} is needed")
    return config


def check_model_type(path: Path, model_type: object) -> None:
    """Raises unless mlx-lm has this architecture."""
    if not isinstance(model_type, str) or not model_type:
        raise invalid(path, "model_type is missing")
    known = model_types()
    if model_type not in known:
        close = difflib.get_close_matches(model_type, known, n=3)
        hint = f"closest: {', '.join(close)}" if close else f"{len(known)} are known, e.g. llama, mistral, qwen3"
        raise invalid(path, f"model_type {model_type[:80]!r} is not one that mlx-lm knows; {hint}")


@cache
def model_types() -> list[str]:
    """Names that config.json may give: mlx-lm's modules and its aliases. Its helper modules define no ModelArgs."""
    modules = [file for folder in mlx_lm.models.__path__ for file in Path(folder).glob("*.py")]
    return sorted({f.stem for f in modules if re.search(r"\bModelArgs\b", f.read_text("utf-8"))} | set(MODEL_REMAPPING))


def _check_weights(path: Path) -> None:
    files = sorted(path.glob("model*.safetensors"))
    if not files:
        others = sorted(f.name for f in path.iterdir() if f.suffix in (*_PICKLES, ".gguf", ".safetensors"))
        if any(name.endswith(_PICKLES) for name in others):
            raise invalid(path, f"only pickled weights ({others[0]}), which can run code: *.safetensors are needed")
        raise invalid(path, "no model*.safetensors" + (f", only {', '.join(others[:3])}" if others else ""))
    index = _optional(path, "model.safetensors.index.json").get("weight_map", {})
    missing = sorted({str(name) for name in index.values()} - {file.name for file in files})
    if missing:
        raise invalid(path, f"{len(missing)} of its weight files missing, first {missing[0]}")
    for file in files:
        check_safetensors(file)


def check_safetensors(path: Path) -> dict[str, Any]:
    """Checks header and extents without reading the data. Returns {tensor name: {dtype, shape, data_offsets}}."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _MAX_HEADER_BYTES):
            raise invalid(path, f"not a safetensors file, or cut short ({size} bytes)")
        try:
            header = json.loads(file.read(length))
            tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
            end = 8 + length + max((_extent(entry) for entry in tensors.values()), default=0)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise invalid(path, f"bad safetensors header: {error}") from error
    if end != size:
        raise invalid(path, f"{'cut short' if size < end else 'too long'}: {size} bytes where its header says {end}")
    return tensors


def _extent(entry: dict[str, Any]) -> int:
    """End of a tensor's data; ValueError when it isn't as long as dtype and shape say."""
    start, end = entry["data_offsets"]
    if entry["dtype"] not in _BITS:
        raise ValueError(f"unknown dtype {entry['dtype']!r}")
    if start < 0 or (end - start) * 8 != prod(entry["shape"]) * _BITS[entry["dtype"]]:
        raise ValueError("a tensor's length differs from its shape")
    return end


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a model or adapter folder, or EngineError('invalid_model')."""
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise invalid(path, f"larger than {_MAX_JSON_BYTES >> 20} MiB")
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise invalid(path.parent, f"no {path.name}") from None
    except (ValueError, RecursionError) as error:
        raise invalid(path, f"not JSON: {error}") from error
    if not isinstance(content, dict):
        raise invalid(path, "not a JSON object")
    return content


def _optional(path: Path, name: str) -> dict[str, Any]:
    return read_json(path / name) if (path / name).exists() else {}


def invalid(path: Path, message: str) -> EngineError:
    return EngineError("invalid_model", f"{path}: {message}")
