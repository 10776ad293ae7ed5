"""Writes safetensors from evaluated arrays, hashing on the way.

Not mx.save_safetensors: it must work on a thread that does no MLX work, tell a full disk as OSError, end on the disk
(fsync) and give the hash without reading gigabytes back. Format: github.com/huggingface/safetensors, one JSON header
with its length before it as 8 bytes little-endian, then the arrays.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import mlx.core as mx

from mlx_engine.failpoints import failpoint

_TYPES = {
    mx.float32: "F32",
    mx.float16: "F16",
    mx.bfloat16: "BF16",
    mx.uint32: "U32",
    mx.int32: "I32",
    mx.uint64: "U64",
    mx.int64: "I64",
    mx.uint8: "U8",
    mx.int8: "I8",
    mx.bool_: "BOOL",
}


def write_safetensors(path: Path, arrays: Mapping[str, mx.array]) -> str:
    """Writes and fsyncs a new file; returns its SHA-256. The arrays must be evaluated; their order does not matter."""
    # As the reference library does it: wide types first, so that every array is aligned.
    arrays = dict(sorted(arrays.items(), key=lambda item: (-item[1].dtype.size, item[0])))
    header: dict[str, object] = {"__metadata__": {"format": "mlx"}}
    offset = 0
    for name, array in arrays.items():
        end = offset + array.nbytes
        header[name] = {"dtype": _TYPES[array.dtype], "shape": array.shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with open(path, "xb") as file:
        for part in (len(text).to_bytes(8, "little"), text):
            digest.update(part)
            file.write(part)
        failpoint("tensors.write")
        for array in arrays.values():
            view = memoryview(array)
            part = view.cast("B") if view.c_contiguous and view.nbytes else view.tobytes()
            digest.update(part)
            file.write(part)
        file.flush()
        failpoint("tensors.flushed")
        os.fsync(file.fileno())
    failpoint("tensors.synced")
    return digest.hexdigest()


def write_bytes(path: Path, data: bytes) -> str:
    """Writes and fsyncs a new file; returns its SHA-256."""
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        failpoint("file.flushed")
        os.fsync(file.fileno())
    return hashlib.sha256(data).hexdigest()


def sync(path: Path) -> None:
    """fsyncs a file, or a folder, which makes renames in it last."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
