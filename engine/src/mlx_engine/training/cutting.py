"""How the rows of a step are cut into the pieces that are computed at a time.

On a CPU all rows of a step are cut anew, into enough pieces for the lanes; on a GPU the micro-batches stay as they were
asked for, as it is used best by what just fits into its memory. Each memory level halves what is computed at a time,
down to one row; rows that are longer than even that are computed with layer checkpointing. The pieces' gradients are
added up, so that a level changes the result by rounding alone (and draws other random numbers for dropout).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlx_engine.data.batches import bins, evaluation_batches, pieces, up
from mlx_engine.platform import Platform

# Larger pieces are no faster on a CPU (SmolLM2-135M: 9.2 CPU seconds per 1,000 tokens with 1 row of 256, 9.8 with 4 in
# one piece) and take more memory. Rows longer than that are computed side by side up to so many tokens each.
_PIECE_TOKENS = 512
_LANE_TOKENS = 1024
_GPU_PACKED_TOKENS = 2048  # masks are dense there, so that attention costs the square of it
_EVALUATION_IS_SMALLER = 4  # times, as nothing is kept for a gradient
_CUDA_WIDTH = 128  # the backward pass of its fused attention needs it


def width_multiple(platform: Platform) -> int:
    """Positions that rows are padded to a multiple of."""
    return _CUDA_WIDTH if platform.device.startswith("cuda") else 1


@dataclass(frozen=True)
class Cut:
    parts: Sequence[np.ndarray]  # rows of each piece
    sizes: Sequence[int]  # positions of each, padding included
    at_once: float  # positions that may be in memory at a time; a single row may have more

    @property
    def finest(self) -> bool:
        """Whether a higher level would change nothing."""
        return self.at_once < min(self.sizes)


@dataclass(frozen=True)
class Cutting:
    on_cpu: bool
    packed: bool
    dense: bool  # attention looks at all pairs of positions in a packed row
    lanes: int
    multiple: int  # a step is to have a multiple of so many pieces
    batch_size: int  # of an evaluation on a GPU
    width_multiple: int  # rows are padded to a multiple of so many positions

    @classmethod
    def of(cls, platform: Platform, *, packed: bool, dense: bool, cores: int, batch_size: int) -> Cutting:
        """Of a single process, all of whose cores compute."""
        parts = cores if platform.on_cpu else 1
        return cls(platform.on_cpu, packed, dense, parts, parts, batch_size, width_multiple(platform))

    @property
    def usually_at_once(self) -> float:
        """Positions in memory, without a memory level."""
        return self.lanes * _LANE_TOKENS if self.on_cpu else math.inf

    def step(self, lengths: np.ndarray, micro_batches: Sequence[np.ndarray], level: int) -> Cut:
        """lengths (rows,): tokens of every row, of which the last is never computed."""
        if self.on_cpu:
            rows = np.concatenate(micro_batches)
            at_once = self.usually_at_once
            if level:
                at_once = max(1, min(self.lanes * _PIECE_TOKENS, int(lengths[rows].sum())) >> level)
            return self._cut(lengths, [rows], int(min(_PIECE_TOKENS, at_once)), at_once)
        tokens = max(self.positions(lengths[rows]) for rows in micro_batches)
        if self.packed:
            tokens = min(_GPU_PACKED_TOKENS, tokens)
        tokens = max(1, tokens >> level)
        at_once = tokens if level else math.inf
        if level or self.packed or len(micro_batches) % self.multiple:
            return self._cut(lengths, micro_batches, tokens if level or self.packed else sys.maxsize, at_once)
        return self._whole(lengths, micro_batches, at_once)

    def evaluation(self, lengths: np.ndarray, level: int) -> Cut:
        if self.on_cpu:
            at_once = _EVALUATION_IS_SMALLER * self.usually_at_once / 2**level
            tokens = max(1, int(min(_PIECE_TOKENS, at_once)))
            return self._cut(lengths, [np.arange(len(lengths))], tokens, at_once)
        batches = evaluation_batches(lengths, self.batch_size)
        if not level and not self.packed:
            return self._whole(lengths, batches, math.inf)
        widest = max(self.positions(lengths[rows]) for rows in batches)
        tokens = max(1, (min(_GPU_PACKED_TOKENS, widest) if self.packed else widest) >> level)
        return self._cut(lengths, batches, tokens, tokens if level else math.inf)

    def positions(self, lengths: np.ndarray) -> int:
        """That a piece of rows of these lengths takes."""
        widths = lengths - 1
        if self.packed:
            return up(int(widths.sum()), self.width_multiple)
        return len(widths) * up(int(widths.max()), self.width_multiple)

    def pairs(self, lengths: np.ndarray) -> int:
        """Of positions that attention looks at in such a piece."""
        if self.packed and not self.dense:
            return int(((lengths.astype(np.int64) - 1) ** 2).sum())
        rows = 1 if self.packed else len(lengths)
        return self.positions(lengths) ** 2 // rows

    def _cut(self, lengths: np.ndarray, batches: Sequence[np.ndarray], tokens: int, at_once: float) -> Cut:
        cut = bins if self.packed else pieces
        parts = [part for rows in batches for part in cut(rows, lengths, tokens=tokens, multiple=self.multiple)]
        return self._whole(lengths, parts, at_once)

    def _whole(self, lengths: np.ndarray, parts: Sequence[np.ndarray], at_once: float) -> Cut:
        return Cut(parts, [self.positions(lengths[part]) for part in parts], at_once)
