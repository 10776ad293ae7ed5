"""Holds out a share of the rows for validation, by a hash of what each says.

So a row stays on its side when others are added, removed or moved, whatever the seed, and the same row twice is on one
side: nothing is validated on that was trained on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import compress

import msgspec
import numpy as np

from mlx_engine.data.rows import Row
from mlx_engine.protocol import EngineError


@dataclass(frozen=True)
class Part:
    """Some of the rows, in their order."""

    rows: Collection[Row]
    taken: np.ndarray  # (rows,) bool

    def __len__(self) -> int:
        return int(self.taken.sum())

    def __iter__(self) -> Iterator[Row]:
        return compress(self.rows, self.taken)


def hold_out(rows: Collection[Row], share: float) -> tuple[Part, Part]:
    """Rows to train on and rows to hold out, about `share` of them and at least one on each side.

    Of few rows the hash may pick none: then it is the one that is next to be picked, which another may come to be when
    rows are added. EngineError('invalid_parameters') for fewer than two different rows.
    """
    places = np.fromiter(map(_place, rows), dtype=np.float64, count=len(rows))
    held = places < share
    if len(places) and not held.any():
        held = places == places.min()
    if held.all() and len(places):
        held = places < places.max()
    if not held.any():
        same = f"{len(places)} rows are all the same" if len(places) > 1 else f"data set has {len(places)}"
        raise EngineError(
            "invalid_parameters",
            f"dataset.validation_split needs at least 2 different rows, one of them to hold out; the {same}",
        )
    return Part(rows, ~held), Part(rows, held)


def _place(row: Row) -> float:
    """From 0 up to 1, evenly over all that rows can say. The row's number and which turns are learned don't count."""
    if row.raw is not None:
        said: object = (row.raw.prompt, row.raw.completion)
    else:
        said = ([(message.role, message.content) for message in row.messages], row.tools or None)
    digest = hashlib.blake2b(msgspec.json.encode(said, order="deterministic"), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) / 2**53
