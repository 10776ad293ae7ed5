"""Reads the header of a GGUF file: key/values and the table of tensors. Bounded, so that a malformed file gives one
clear line; whatever passes is safe to hand to mx.load, whose C parser trusts the sizes in it.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from mlx_engine.models.folder import invalid
from mlx_engine.protocol import EngineError

_MAX_ENTRIES = 100_000  # keys, or tensors: the largest mixtures of experts have a few thousand
_MAX_ITEMS = 4_000_000  # of an array: vocabularies go to 300k tokens, their merges to a million
_MAX_TEXT = 4 << 20
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
# ggml_type: name, values of a block, bytes of a block
_TYPES = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 36), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
}  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    name: str
    type: str  # Q4_1, F32 …
    shape: tuple[int, ...]  # outermost first, as MLX has it; GGUF stores the innermost first
    offset: int  # of its data, from the start of the file
    size: int  # bytes


@dataclass(frozen=True)
class GGUFFile:
    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, Tensor]

    def require(self, key: str, kind: type = int) -> Any:
        """A value that a model can't do without. EngineError when it is missing or of another type."""
        value = self.metadata.get(key)
        if not isinstance(value, kind) or isinstance(value, bool) is not (kind is bool):
            raise invalid(self.path, f"{key} is {'missing' if value is None else 'of the wrong type'}")
        return value


def read(path: Path) -> GGUFFile:
    """EngineError('invalid_model') for anything that is not a complete GGUF file."""
    if not path.is_file():
        raise invalid(path, "no such file")
    if path.stat().st_size < 24:
        raise invalid(path, "not a GGUF file")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _Reader(path, data).file()


class _Reader:
    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self._path, self._data, self._at = path, data, 0

    def file(self) -> GGUFFile:
        if self._data[:4] != b"GGUF":
            raise invalid(self._path, "not a GGUF file")
        self._at = 4
        version = self._scalar("I")
        if version not in (2, 3):
            raise invalid(self._path, f"GGUF version {version}; 2 and 3 are read")
        tensor_count, key_count = self._scalar("Q"), self._scalar("Q")
        if max(tensor_count, key_count) > _MAX_ENTRIES:
            raise self._malformed(f"{tensor_count} tensors and {key_count} keys")
        metadata = {self._text(): self._value(self._scalar("I")) for _ in range(key_count)}
        infos = [self._info() for _ in range(tensor_count)]
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 8 <= alignment <= 1 << 16 or alignment % 8:
            raise self._malformed(f"general.alignment {alignment!r}")
        start = -(-self._at // alignment) * alignment
        tensors = [self._tensor(start, alignment, *info) for info in infos]
        if len({tensor.name for tensor in tensors}) != len(tensors):
            raise self._malformed("two tensors of one name")
        return GGUFFile(self._path, metadata, {tensor.name: tensor for tensor in tensors})

    def _info(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._text()
        dimensions = self._scalar("I")
        if not 1 <= dimensions <= 4:
            raise self._malformed(f"tensor {name[:80]!r} has {dimensions} dimensions")
        shape = tuple(self._scalar("Q") for _ in range(dimensions))[::-1]
        return name, shape, self._scalar("I"), self._scalar("Q")

    def _tensor(self, start: int, alignment: int, name: str, shape: tuple[int, ...], kind: int, offset: int) -> Tensor:
        if kind not in _TYPES:
            raise invalid(self._path, f"tensor {name[:80]!r} has a type that is not known ({kind})")
        type_name, values, size = _TYPES[kind]
        count = prod(shape)
        if count <= 0 or shape[-1] % values or offset % alignment:
            raise self._malformed(f"tensor {name[:80]!r} of shape {shape}")
        tensor = Tensor(name, type_name, shape, start + offset, count // values * size)
        if tensor.offset + tensor.size > len(self._data):
            end = tensor.offset + tensor.size
            raise invalid(self._path, f"cut short: tensor {name[:80]!r} ends at {end} of {len(self._data)} bytes")
        return tensor

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._text()
        if kind == _ARRAY:
            item, count = self._scalar("I"), self._scalar("Q")
            if count > _MAX_ITEMS:
                raise self._malformed(f"an array of {count} items")
            if item == _STRING:
                return [self._text() for _ in range(count)]
            return list(self._numbers(item, count))
        return self._numbers(kind, 1)[0]

    def _numbers(self, kind: int, count: int) -> tuple[Any, ...]:
        if kind not in _SCALARS:
            raise self._malformed(f"value type {kind}")
        layout = struct.Struct(f"<{count}{_SCALARS[kind]}")
        return layout.unpack(self._bytes(layout.size))

    def _scalar(self, code: str) -> int:
        layout = struct.Struct("<" + code)
        return layout.unpack(self._bytes(layout.size))[0]

    def _text(self) -> str:
        length = self._scalar("Q")
        if length > _MAX_TEXT:
            raise self._malformed(f"a text of {length} bytes")
        try:
            return self._bytes(length).decode("utf-8")
        except UnicodeDecodeError as error:
            raise self._malformed("a text that is not UTF-8") from error

    def _bytes(self, count: int) -> bytes:
        if self._at + count > len(self._data):
            raise invalid(self._path, f"cut short: {len(self._data)} bytes")
        self._at += count
        return self._data[self._at - count : self._at]

    def _malformed(self, what: str) -> EngineError:
        return invalid(self._path, f"malformed GGUF file: {what} (near byte {self._at})")
