"""Rows that something has happened to, for telling about them: all are counted, the first are kept by number."""

from __future__ import annotations

import msgspec

_KEPT = 10


class Affected(msgspec.Struct):
    count: int = 0
    samples: list[int] = []  # row numbers in the user's file
    last: int = -1

    def add(self, sample: int) -> None:
        """A row that is added twice in a row counts once."""
        if sample == self.last:
            return
        self.last = sample
        self.count += 1
        if len(self.samples) < _KEPT:
            self.samples.append(sample)

    def __len__(self) -> int:
        return self.count

    def __str__(self) -> str:
        """`3 rows (samples 4, 8, 15)`"""
        shown = ", ".join(map(str, self.samples))
        more = ", …" if self.count > len(self.samples) else ""
        rows, numbers = ("row", "sample") if self.count == 1 else ("rows", "samples")
        return f"{self.count} {rows} ({numbers} {shown}{more})"
