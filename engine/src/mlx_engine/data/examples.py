"""Tokenised rows in a file, so that memory does not grow with their number.

Little-endian, one after the other:
    records   of each example its tokens, int32, then its mask, one byte a token: 1 is to be predicted
    ends      int64 an example: tokens up to its end
    samples   int64 an example: its row number
    notes     JSON, whatever the writer wants to keep with them
    footer    8 bytes each: magic, number of examples, length of the notes; 32 bytes: SHA-256 of all before the hash

An example is read when it is asked for, with pread rather than from a memory map: the pages of a map that have been
looked at count as resident memory, 100 MB after an epoch over 100,000 Alpaca rows, and a read costs 3 µs.
"""

from __future__ import annotations

import hashlib
import os
import struct
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO, overload

import numpy as np

_MAGIC = b"MLXTOK\0\1"
_FOOTER = struct.Struct("<8sqq")
_TOKEN_BYTES = 5  # with its byte of the mask
_CHUNK = 1 << 20


class Damaged(Exception):
    """A file that is not what was written; says why."""


@dataclass(frozen=True, slots=True)
class Example:
    sample: int
    tokens: np.ndarray  # (length,) int32
    supervised: np.ndarray  # (length,) bool: the token at this position is one to be predicted; never the first

    @property
    def trained(self) -> int:
        return int(self.supervised.sum())


class Writer:
    """Appends examples to an empty file. `finish` makes it complete; the caller syncs and closes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._ends = array("q")
        self._samples = array("q")

    def add(self, example: Example) -> None:
        self._write(example.tokens.astype("<i4", copy=False).tobytes() + example.supervised.tobytes())
        self._ends.append(len(example.tokens) + (self._ends[-1] if self._ends else 0))
        self._samples.append(example.sample)

    def finish(self, notes: bytes) -> None:
        for numbers in (self._ends, self._samples):
            self._write(np.frombuffer(numbers, dtype=np.int64).astype("<i8", copy=False).tobytes())
        self._write(notes)
        self._write(_FOOTER.pack(_MAGIC, len(self._ends), len(notes)))
        self._file.write(self._digest.digest())
        self._file.flush()

    def _write(self, data: bytes) -> None:
        self._digest.update(data)
        self._file.write(data)


class Examples(Sequence[Example]):
    """Reads what Writer has written. Damaged when that is not what the file holds. Any thread may read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file  # stays open, and its data there, when the name is removed
        records, notes, digest = _layout(file)
        if _sha256(file) != digest:
            raise Damaged("it has changed since it was written")
        index = np.frombuffer(self._read(records.stop, notes.start - records.stop), dtype="<i8")
        index = index.reshape(2, len(index) // 2)
        self._ends, self.samples = index.astype(np.int64)  # samples (examples,): their row numbers
        self.lengths = np.diff(self._ends, prepend=0)  # (examples,) int64
        self.notes = self._read(notes.start, len(notes))

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"there are {len(self)} examples, not {index}")
        length = int(self.lengths[index])
        data = self._read(_TOKEN_BYTES * (int(self._ends[index]) - length), _TOKEN_BYTES * length)
        tokens = np.frombuffer(data, dtype="<i4", count=length)
        supervised = np.frombuffer(data, dtype=bool, offset=4 * length)
        return Example(int(self.samples[index]), tokens, supervised)

    def _read(self, start: int, size: int) -> bytes:
        data = os.pread(self._file.fileno(), size, start)
        if len(data) != size:
            raise Damaged("it has been cut off")
        return data


def _layout(file: BinaryIO) -> tuple[range, range, bytes]:
    """Where the records and the notes are, and the hash."""
    digest_bytes = hashlib.sha256().digest_size
    size = os.fstat(file.fileno()).st_size
    at = size - digest_bytes - _FOOTER.size
    tail = os.pread(file.fileno(), _FOOTER.size + digest_bytes, at) if at >= 0 else b""
    if not tail.startswith(_MAGIC):
        raise Damaged("it is no complete file of this version")
    _, examples, notes_bytes = _FOOTER.unpack(tail[: _FOOTER.size])
    notes = range(at - notes_bytes, at)
    records = range(notes.start - 16 * examples)
    if examples < 0 or notes_bytes < 0 or records.stop < 0:
        raise Damaged("its parts are longer than it is")
    return records, notes, tail[_FOOTER.size :]


def _sha256(file: BinaryIO) -> bytes:
    """Of all but the hash itself."""
    digest = hashlib.sha256()
    left = os.fstat(file.fileno()).st_size - digest.digest_size
    file.seek(0)
    while left > 0 and (chunk := file.read(min(_CHUNK, left))):
        digest.update(chunk)
        left -= len(chunk)
    return digest.digest()
