"""Writes small GGUF files for tests, and decodes their blocks with numpy, independently of the importer.

Layouts: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md and ggml-common.h (block_q4_0 …).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 8, "Q4_K": 12, "BF16": 30}
_BLOCKS = {"Q4_0": (32, 18), "Q4_1": (32, 20), "Q8_0": (32, 34), "Q4_K": (256, 144)}


@dataclass
class Data:
    type: str
    shape: tuple[int, ...]
    raw: bytes

    def values(self) -> np.ndarray:
        return decode(self.type, self.raw, self.shape)


def random_data(type: str, shape: tuple[int, ...], random: np.random.Generator) -> Data:
    """Random bits of that type, but for scales, which are small finite numbers, subnormal ones among them."""
    if type == "F32":
        raw = random.standard_normal(shape).astype(np.float32).tobytes()
    elif type == "F16":
        raw = random.standard_normal(shape).astype(np.float16).tobytes()
    elif type == "BF16":
        raw = (random.standard_normal(shape).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16).tobytes()
    else:
        values, size = _BLOCKS[type]
        blocks = random.integers(0, 256, (int(np.prod(shape)) // values, size), dtype=np.uint8)
        scales = (random.standard_normal((len(blocks), 2)) * random.choice([1e-6, 0.01, 1.0], (len(blocks), 1))).astype(
            np.float16
        )
        count = 2 if type == "Q4_1" else 1
        blocks[:, : 2 * count] = scales[:, :count].copy().view(np.uint8)
        raw = blocks.tobytes()
    return Data(type, shape, raw)


def decode(type: str, raw: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """(shape) float32."""
    if type == "F32":
        return np.frombuffer(raw, np.float32).reshape(shape)
    if type == "F16":
        return np.frombuffer(raw, np.float16).astype(np.float32).reshape(shape)
    if type == "BF16":
        return (np.frombuffer(raw, np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(shape)
    blocks = np.frombuffer(raw, np.uint8).reshape(-1, _BLOCKS[type][1])
    scale = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    if type == "Q8_0":
        return (scale * blocks[:, 2:].copy().view(np.int8).astype(np.float32)).reshape(shape)
    packed = blocks[:, 2:] if type == "Q4_0" else blocks[:, 4:]
    quants = np.concatenate([packed & 15, packed >> 4], axis=1).astype(np.float32)
    if type == "Q4_0":
        return (scale * (quants - 8)).reshape(shape)
    least = blocks[:, 2:4].copy().view(np.float16).astype(np.float32)
    return (scale * quants + least).reshape(shape)


def write_gguf(path: Path, metadata: dict[str, Any], tensors: dict[str, Data], alignment: int = 32) -> Path:
    """`metadata` values: str, bool, int (uint32), float (float32), lists of str, int (int32) or float."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    for key, value in metadata.items():
        head += _text(key) + _value(value)
    offset = 0
    body = b""
    for name, data in tensors.items():
        head += _text(name) + struct.pack("<I", len(data.shape))
        head += struct.pack(f"<{len(data.shape)}Q", *data.shape[::-1]) + struct.pack("<IQ", TYPES[data.type], offset)
        body += data.raw + b"\0" * (-len(data.raw) % alignment)
        offset = len(body)
    path.write_bytes(head + b"\0" * (-len(head) % alignment) + body)
    return path


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _value(value: Any) -> bytes:
    match value:
        case bool():
            return struct.pack("<I?", 7, value)
        case str():
            return struct.pack("<I", 8) + _text(value)
        case int():
            return struct.pack("<II", 4, value)
        case float():
            return struct.pack("<If", 6, value)
    match value[0]:
        case str():
            return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(_text, value))
        case int():
            return struct.pack(f"<IIQ{len(value)}i", 9, 5, len(value), *value)
    return struct.pack(f"<IIQ{len(value)}f", 9, 6, len(value), *value)
