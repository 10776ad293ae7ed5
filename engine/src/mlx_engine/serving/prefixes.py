"""Keys and values of prompts and conversations that were computed before, by what computed them and their tokens: a
shared system prompt or a growing chat is not computed again.

Arrays of MLX are values, so that entries and the requests that go on from them share memory until one writes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import KVCache

Version = tuple[Hashable, Hashable]
_LEAST = 16  # tokens worth keeping
_WASTE = 1.25  # positions that are held for each that is known, at most


@dataclass(frozen=True, eq=False)
class _Entry:
    tokens: np.ndarray  # int32
    layers: list[KVCache]
    nbytes: int


def _entry(tokens: np.ndarray, layers: Sequence[KVCache]) -> _Entry:
    """A slice keeps the whole array, which caches enlarge by 256 positions at a time: for 20 tokens, 13 times what they
    take. Where that is much, what is kept is copied; 1,000 tokens of SmolLM2 would take 40 ms of a processor for it."""
    kept = cut(layers, tokens.size)
    if any(layer.keys is not None and layer.keys.shape[2] > _WASTE * tokens.size for layer in layers):
        for layer in kept:
            layer.keys, layer.values = mx.contiguous(layer.keys), mx.contiguous(layer.values)
        mx.eval([layer.state for layer in kept])
        layers = kept
    held = sum(array.nbytes for layer in layers for array in (layer.keys, layer.values) if array is not None)
    return _Entry(tokens, kept, tokens.nbytes + held)


class Prefixes:
    """Least recently used first out. A version says which weights computed: (the base's, the adapter's or None)."""

    def __init__(self, limit: int) -> None:
        """Bytes."""
        self._limit = limit
        self._entries: OrderedDict[int, tuple[Version, _Entry]] = OrderedDict()
        self._count = 0
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, version: Version, tokens: Sequence[int]) -> tuple[int, list[KVCache]]:
        """How many of the first tokens are known, 0 when too few, and a cache of those that the caller may write to."""
        wanted = np.asarray(tokens, np.int32)
        best, length = None, _LEAST - 1
        for number, (of, entry) in self._entries.items():
            if of == version and (common := _common(entry.tokens, wanted)) > length:
                best, length = number, common
        if best is None:
            return 0, []
        self._entries.move_to_end(best)
        return length, cut(self._entries[best][1].layers, length)

    def add(self, version: Version, tokens: Sequence[int], layers: Sequence[KVCache]) -> None:
        """What `layers` hold, one position for each token. Entries that it continues are no longer needed."""
        if len(tokens) < _LEAST:
            return
        known = np.asarray(tokens, np.int32)
        for number, (of, entry) in list(self._entries.items()):
            if of != version:
                continue
            common = _common(entry.tokens, known)
            if common == known.size:
                self._entries.move_to_end(number)
                return
            if common == entry.tokens.size:
                self._drop(number)
        entry = _entry(known, layers)
        self._count += 1
        self._entries[self._count] = (version, entry)
        self.nbytes += entry.nbytes
        self.shrink(self._limit)

    def forget(self, base: Hashable) -> None:
        """What was computed with weights that are gone; a version begins with its base's."""
        for number in [number for number, (version, _) in self._entries.items() if version[0] == base]:
            self._drop(number)

    def shrink(self, limit: int) -> None:
        while self.nbytes > limit:
            self._drop(next(iter(self._entries)))

    def _drop(self, number: int) -> None:
        self.nbytes -= self._entries.pop(number)[1].nbytes


def cut(layers: Sequence[KVCache], length: int) -> list[KVCache]:
    """The first `length` positions, in arrays of their own, so that a write to one side doesn't reach the other."""
    copies = []
    for layer in layers:
        copy = KVCache()
        if layer.keys is not None:
            copy.keys, copy.values = layer.keys[..., :length, :], layer.values[..., :length, :]
            copy.offset = length
        copies.append(copy)
    return copies


def _common(a: np.ndarray, b: np.ndarray) -> int:
    size = min(a.size, b.size)
    differs = a[:size] != b[:size]
    return int(differs.argmax()) if differs.any() else size
