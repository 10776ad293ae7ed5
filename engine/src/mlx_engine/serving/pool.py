"""Keys and values of answers that are decoded side by side, one token each a step.

A layer's lie in one array (slots, heads, positions, width) whose rows all end at the same position, as in mlx-lm's
BatchKVCache: what is left of a row's first token is never looked at. Other than there, an answer that joins is written
into a free slot and one that leaves frees it, so that nothing else is copied; an answer that is longer than those here
pushes them to the right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import KVCache

STEP = 256  # positions that are added at a time


@dataclass(frozen=True)
class RowMask:
    """For kernels.patches, which takes `starts` and `window`: one query a row, which sees what lies from its start."""

    starts: mx.array  # (rows, 1) int32
    window: int | None


class Pool:
    """The state that all layers share. `layers` is what the model takes for a cache."""

    def __init__(self, count: int, *, fused: bool) -> None:
        """`count`: layers. `fused`: attention is the kernel's, which takes a RowMask; else the mask is an array."""
        self.layers = [_Layer(self) for _ in range(count)]
        self.end = 0  # position after the last token of all rows
        self.starts: list[int] = []  # of each row; rows are the first slots
        self._fused = fused

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def slots(self) -> int:
        return self.layers[0].slots

    @property
    def capacity(self) -> int:
        return self.layers[0].capacity

    def join(self, row: Sequence[KVCache]) -> None:
        """A new last row, with what one sequence has in its cache."""
        length = row[0].offset
        if length > self.end:
            self._shift(length - self.end)
        for layer, cache in zip(self.layers, row, strict=True):
            layer.write(len(self), self.end - length, cache)
        self.starts.append(self.end - length)
        self._changed()

    def leave(self, row: int) -> None:
        """The last row takes the place of `row`."""
        last = len(self) - 1
        self._clear(row)
        start = self.starts.pop()
        if row != last:
            for layer in self.layers:
                layer.move(last, row, start, self.end)
            self.starts[row] = start
            self._clear(row, last)
        if not self.starts:
            self.end = 0
            self.layers = [_Layer(self) for _ in self.layers]
        self._changed()

    def _clear(self, row: int, slot: int | None = None) -> None:
        """Where the mask is an array, what it hides is multiplied by 0, which leaves of NaN and infinity NaN: a model
        with such weights would spoil who has the slot next."""
        if not self._fused:
            for layer in self.layers:
                layer.clear(row if slot is None else slot, self.starts[row], self.end)

    def extract(self, row: int) -> list[KVCache]:
        """A copy of what is there of a row."""
        return [layer.extract(row, self.starts[row], self.end) for layer in self.layers]

    def advance(self) -> None:
        """Before each step: one more position. Where the array is full, positions that no row uses any more go first,
        if they are as many as would be added, or as many as are left: so it never has more than STEP too many."""
        unused = min(self.starts)
        if self.end == self.capacity and (unused >= STEP or 2 * unused >= self.end):
            self._shift(-unused)
        self.end += 1
        self._changed()

    def _shift(self, by: int) -> None:
        for layer in self.layers:
            layer.shift(by, self.end)
        self.starts = [start + by for start in self.starts]
        self.end += by

    def _changed(self) -> None:
        for name in ("offsets", "_row_starts", "_dense"):
            self.__dict__.pop(name, None)

    @cached_property
    def offsets(self) -> mx.array:
        """(rows,) int32: the position of each row's new token in its own sequence."""
        return mx.array(self.end - 1 - np.array(self.starts, np.int32))

    @cached_property
    def _row_starts(self) -> mx.array:
        return mx.array(np.array(self.starts, np.int32)[:, None])

    @cached_property
    def _dense(self) -> mx.array:
        return (mx.arange(self.end) >= self._row_starts)[:, None, None]

    def mask(self, window: int | None) -> RowMask | mx.array:
        """Of a step's queries, after advance."""
        if self._fused:
            return RowMask(self._row_starts, window)
        if not window:
            return self._dense
        return self._dense & (mx.arange(self.end) >= self.end - window)


class _Layer:
    """As mlx-lm's models use a cache: offset, make_mask, update_and_fetch."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._keys: mx.array | None = None
        self._values: mx.array | None = None

    @property
    def slots(self) -> int:
        return 0 if self._keys is None else self._keys.shape[0]

    @property
    def capacity(self) -> int:
        return 0 if self._keys is None else self._keys.shape[2]

    @property
    def offset(self) -> mx.array:
        return self._pool.offsets

    def make_mask(self, length: int, return_array: bool = False, window_size: int | None = None) -> Any:
        if length != 1:
            raise ValueError("a pool takes one token a row")
        return self._pool.mask(window_size)

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        rows, end = keys.shape[0], self._pool.end
        self._reserve(rows, end, keys, values)
        self._keys[:rows, :, end - 1 : end] = keys
        self._values[:rows, :, end - 1 : end] = values
        return self._keys[:rows, :, :end], self._values[:rows, :, :end]

    def write(self, row: int, start: int, cache: KVCache) -> None:
        if cache.offset == 0:
            return
        keys, values = (array[..., : cache.offset, :] for array in (cache.keys, cache.values))
        self._reserve(row + 1, start + cache.offset, keys, values)
        self._keys[row : row + 1, :, start : start + cache.offset] = keys
        self._values[row : row + 1, :, start : start + cache.offset] = values
        mx.eval(self._keys, self._values)

    def move(self, source: int, target: int, start: int, end: int) -> None:
        if start == end:
            return  # a row that has nothing yet may have no slot either
        for array in (self._keys, self._values):
            array[target : target + 1, :, start:end] = array[source : source + 1, :, start:end]
            mx.eval(array)

    def clear(self, slot: int, start: int, end: int) -> None:
        if start == end or slot >= self.slots:
            return
        for array in (self._keys, self._values):
            array[slot, :, start:end] = 0
            mx.eval(array)

    def extract(self, row: int, start: int, end: int) -> KVCache:
        cache = KVCache()
        if self._keys is not None:
            cache.keys = mx.contiguous(self._keys[row : row + 1, :, start:end])
            cache.values = mx.contiguous(self._values[row : row + 1, :, start:end])
            cache.offset = end - start
            mx.eval(cache.keys, cache.values)
        return cache

    def shift(self, by: int, end: int) -> None:
        """What lies before `end` goes `by` positions to the right; by < 0 to the left, over what nobody uses."""
        if self._keys is not None:
            self._keys, self._values = (_shifted(array, by, end) for array in (self._keys, self._values))
            mx.eval(self._keys, self._values)

    def _reserve(self, rows: int, end: int, keys: mx.array, values: mx.array) -> None:
        slots, capacity = self.slots, self.capacity
        if rows <= slots and end <= capacity:
            return
        slots = max(slots, slots_for(rows))
        capacity = max(capacity, -(-end // STEP) * STEP)
        self._keys, self._values = (
            _grown(old, (slots, new.shape[1], capacity, new.shape[3]), new.dtype)
            for old, new in ((self._keys, keys), (self._values, values))
        )


def slots_for(rows: int) -> int:
    """A power of two, so that they are seldom added."""
    return 1 << (rows - 1).bit_length() if rows > 0 else 0


def _grown(old: mx.array | None, shape: tuple[int, ...], dtype: mx.Dtype) -> mx.array:
    if old is None:
        return mx.zeros(shape, dtype)
    return mx.pad(old, [(0, new - now) for now, new in zip(old.shape, shape, strict=True)])


def _shifted(array: mx.array, by: int, end: int) -> mx.array:
    if by < 0:
        return mx.pad(array[:, :, -by:], [(0, 0), (0, 0), (0, -by), (0, 0)])
    room = max(0, -(-(end + by) // STEP) * STEP - array.shape[2])
    wider = mx.pad(array, [(0, 0), (0, 0), (by, max(0, room - by)), (0, 0)])
    return wider[:, :, : array.shape[2] + room] if room < by else wider
