"""Reads a data set snapshot: JSONL of the contract's SnapshotRow."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from mlx_engine.protocol import ChatMessage, EngineError


class Alpaca(msgspec.Struct, kw_only=True):
    instruction: str
    input: str


class Row(msgspec.Struct, kw_only=True):
    sample: int  # row number in the user's file, from 0
    messages: list[ChatMessage]
    tools: list[Any] | None = None
    alpaca: Alpaca | None = None


_decoder = msgspec.json.Decoder(Row)


def read_rows(path: str, sha256: str | None) -> list[Row]:
    """EngineError('invalid_dataset') for a file that is missing, hasn't the hash `sha256`, or holds a line that is no
    row."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise EngineError("invalid_dataset", f"cannot read the data set snapshot {path}: {error.strerror}") from error
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise EngineError("invalid_dataset", f"the data set snapshot {path} has changed: its SHA-256 is not {sha256}")
    rows = []
    for number, line in enumerate(data.splitlines(), 1):
        try:
            rows.append(_decoder.decode(line))
        except msgspec.MsgspecError as error:
            raise EngineError("invalid_dataset", f"{path}, line {number}: {error}") from error
    return rows
