"""Reads a data set snapshot: JSONL of the contract's SnapshotRow."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator
from typing import Any

import msgspec

from mlx_engine.protocol import ChatMessage, EngineError

_CHUNK = 1 << 20


class Turn(ChatMessage, kw_only=True):
    train: bool = True  # of an assistant turn: False is shown but not learned


class Alpaca(msgspec.Struct, kw_only=True):
    instruction: str
    input: str


class Raw(msgspec.Struct, kw_only=True):
    """Text to continue as it stands, without a template."""

    prompt: str
    completion: str


class Row(msgspec.Struct, kw_only=True):
    sample: int  # row number in the user's file, from 0
    messages: list[Turn]
    tools: list[Any] | None = None
    alpaca: Alpaca | None = None
    raw: Raw | None = None  # there are no messages then


_decoder = msgspec.json.Decoder(Row)


class _Number(msgspec.Struct):
    sample: int


_number_decoder = msgspec.json.Decoder(_Number)


class Snapshot:
    """The rows of a file, each read when its turn comes.

    EngineError('invalid_dataset') for a file that is missing or hasn't the hash `sha256`, and when iteration comes to a
    line that is no row.
    """

    def __init__(self, path: str, sha256: str | None = None) -> None:
        self._path = path
        digest = hashlib.sha256()
        self._rows = 0
        last = b"\n"
        try:
            with open(path, "rb") as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
                    self._rows += chunk.count(b"\n")
                    last = chunk[-1:]
        except OSError as error:
            raise EngineError(
                "invalid_dataset", f"cannot read the data set snapshot {path}: {error.strerror}"
            ) from error
        self._rows += last != b"\n"
        self.sha256 = digest.hexdigest()
        if sha256 not in (None, self.sha256):
            raise EngineError(
                "invalid_dataset", f"the data set snapshot {path} has changed: its SHA-256 is not {sha256}"
            )

    def __len__(self) -> int:
        return self._rows

    def __iter__(self) -> Iterator[Row]:
        with open(self._path, "rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield _decoder.decode(line)
                except msgspec.MsgspecError as error:
                    raise EngineError("invalid_dataset", f"{self._path}, line {number}: {error}") from error


def pick(path: str, samples: Collection[int], progress: Callable[[int], None] = lambda done: None) -> dict[int, Row]:
    """The rows of these numbers, those that there are. `progress` is called before each row that is looked at, and may
    raise. EngineError('invalid_dataset') for a snapshot that can't be read."""
    found: dict[int, Row] = {}
    last = max(samples, default=-1)
    try:
        with open(path, "rb") as file:
            for done, line in enumerate(file):
                progress(done)
                sample = _number_decoder.decode(line).sample
                if sample in samples:
                    found[sample] = _decoder.decode(line)
                if sample >= last:
                    break
    except OSError as error:
        raise EngineError("invalid_dataset", f"cannot read the data set snapshot {path}: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise EngineError("invalid_dataset", f"{path}: {error}") from error
    return found
