"""The kernels as Python calls them: the extension's operations, with a number of threads and tables of angles."""

from __future__ import annotations

import os
import threading
from types import ModuleType
from typing import NamedTuple

import mlx.core as mx
import numpy as np

NAMES = (
    "attention",
    "linear_cross_entropy",
    "packed_cross_entropy",
    "packed_linear",
    "silu",
    "gelu",
    "rms_norm",
    "rope",
    "linear_rows",
    "packed_linear_rows",
    "low_rank_rows",
)

# Of packed weights.
BITS, GROUPS = (4, 8), (32, 64, 128)

# Tables of cosines and sines are made for this many positions at a time, and only so many are kept: a model has one or
# two kinds.
_POSITIONS = 512
_TABLES = 8


class Packed(NamedTuple):
    """Weights (O, D) as mx.quantize packs them, in the kernels' terms."""

    words: mx.array  # (O, D · bits / 32) uint32
    scales: mx.array  # (O, D / group_size) float32
    biases: mx.array  # as scales
    group_size: int
    bits: int

    @classmethod
    def of(
        cls,
        words: mx.array,
        scales: mx.array,
        biases: mx.array | None,
        group_size: int | None,
        bits: int | None,
        mode: str = "affine",
    ) -> Packed | None:
        """None for what the kernels don't know: other widths and groups, other modes, stacked experts, scales in half
        precision."""
        known = mode == "affine" and biases is not None and bits in BITS and group_size in GROUPS
        if not known or words.ndim != 2 or scales.dtype != mx.float32 or biases.dtype != mx.float32:
            return None
        return cls(words, scales, biases, group_size, bits)


class Ops:
    """float32 on the CPU, with gradients unless said otherwise; ValueError for shapes and types that a kernel can't
    take.

    `decoding`: what is called now is for one token of each row, see patches.

    `threads`: how many a kernel may use, counted when it is called, not when it is evaluated. Set it to 1 when several
    threads evaluate graphs at once.
    """

    def __init__(self, extension: ModuleType) -> None:
        self.threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.decoding = False
        self._extension = extension
        self._tables: dict[tuple[bytes, float], tuple[mx.array, mx.array]] = {}
        self._lock = threading.Lock()
        self._picked_for: mx.array | None = None
        self._picked: dict[tuple[bytes, float], tuple[mx.array, mx.array]] = {}

    @property
    def instruction_set(self) -> str:
        """In use, for all of the process: 'avx512', 'avx2' or 'baseline'."""
        return self._extension.instruction_set()

    @property
    def instruction_sets(self) -> list[str]:
        """What this processor can run, best first."""
        return self._extension.instruction_sets()

    def use_instruction_set(self, name: str) -> None:
        """For tests and benchmarks. ValueError when the processor can't run it."""
        if not self._extension.use_instruction_set(name):
            raise ValueError(f"{name} is not one of {', '.join(self.instruction_sets)}")

    def silu(self, gate: mx.array, up: mx.array | None = None) -> mx.array:
        """silu(gate) · up; any shape, both alike."""
        return self._extension.silu(gate, up, threads=self.threads)

    def gelu(self, gate: mx.array, up: mx.array | None = None) -> mx.array:
        """gelu(gate) · up by the tanh approximation; any shape, both alike."""
        return self._extension.gelu(gate, up, threads=self.threads)

    def rms_norm(self, x: mx.array, weight: mx.array | None, eps: float) -> mx.array:
        """x (…, D), weight (D)"""
        return self._extension.rms_norm(x, weight, eps, threads=self.threads)

    def rope(
        self,
        x: mx.array,
        dims: int,
        *,
        traditional: bool,
        base: float | None,
        scale: float,
        offset: int,
        freqs: mx.array | None = None,
    ) -> mx.array:
        """x (B, H, T, D) or (B, T, D). As mx.fast.rope: the angle of position p is p · scale / freqs, or
        p · scale / base^(2j/dims). Angles are made in float64."""
        cosines, sines = self._table(_wavelengths(dims, base, freqs), scale, offset + x.shape[-2])
        return self._extension.rope(x, cosines, sines, offset, traditional=traditional, threads=self.threads)

    def rope_rows(
        self,
        x: mx.array,
        dims: int,
        *,
        traditional: bool,
        base: float | None,
        scale: float,
        offset: mx.array,
        freqs: mx.array | None = None,
    ) -> mx.array:
        """x (B, H, 1, D), the token of each row at a position of its own, offset (B,). The same numbers as rope's: the
        rows become positions of one sequence, whose angles are picked from the table. All layers of a model pick the
        same, so that the last picks are kept with the array of offsets that they were for."""
        wavelengths = _wavelengths(dims, base, freqs)
        key = (wavelengths.tobytes(), scale)
        if self._picked_for is not offset:
            self._picked_for, self._picked = offset, {}
        if key not in self._picked:
            table = self._table(wavelengths, scale, int(offset.max().item()) + 1)
            self._picked[key] = (table[0][offset], table[1][offset])
        cosines, sines = self._picked[key]
        if x.shape[0] == 1:
            return self._extension.rope(x, cosines, sines, 0, traditional=traditional, threads=self.threads)
        rows = x.transpose(2, 1, 0, 3)
        turned = self._extension.rope(rows, cosines, sines, 0, traditional=traditional, threads=self.threads)
        return turned.transpose(2, 1, 0, 3)

    def attention(
        self,
        q: mx.array,
        k: mx.array,
        v: mx.array,
        *,
        scale: float,
        causal: bool = True,
        window: int = 0,
        starts: mx.array | None = None,
        mask: mx.array | None = None,
    ) -> mx.array:
        """q (B, H, Q, D), k and v (B, H/G, K, D) → (B, H, Q, D).

        Causal: query i sees no key after i + K - Q. `window` > 0: at most so many keys, its own position included.
        `starts`, int32 (Q) or (B, Q): none before starts[i], the first position of its segment in a packed row.
        `mask`, not with causal, broadcast to (B, H, Q, K) and without a gradient: bool, what a query sees, or float32,
        which is added to the scores. As in stock MLX a query that sees nothing gets the mean of all values by the one
        and NaN by the other.
        """
        if mask is not None and mask.dtype == mx.bool_:
            mask = mx.where(mask, mx.array(0.0), mx.array(mx.finfo(mx.float32).min, mx.float32))
        options = {"scale": scale, "causal": causal, "window": window, "starts": starts, "mask": mask}
        return self._extension.attention(q, k, v, **options, threads=self.threads)

    def linear_cross_entropy(
        self,
        hidden: mx.array,
        weight: mx.array,
        targets: mx.array,
        *,
        soft_cap: float = 0.0,
        gradient: bool,
    ) -> tuple[mx.array, mx.array]:
        """hidden (R, D), weight (V, D), targets (R) int32 → loss (R), and correct (R): no logit beats the target's.

        A target outside of [0, V) has loss and gradient 0. `gradient`: hidden's is made in the same pass, which saves a
        third of the time if it will be asked for and costs as much as the loss itself if not; it can be had either way.
        """
        return self._extension.linear_cross_entropy(
            hidden, weight, targets, soft_cap=soft_cap, gradient=gradient, threads=self.threads
        )

    def packed_cross_entropy(
        self, hidden: mx.array, weight: Packed, targets: mx.array, *, soft_cap: float = 0.0, gradient: bool
    ) -> tuple[mx.array, mx.array]:
        """linear_cross_entropy over packed weights, which have no gradient."""
        *arrays, group_size, bits = weight
        options = {"group_size": group_size, "bits": bits, "threads": self.threads}
        return self._extension.packed_cross_entropy(
            hidden, *arrays, targets, soft_cap=soft_cap, gradient=gradient, **options
        )

    def packed_linear(self, x: mx.array, weight: Packed) -> mx.array:
        """x (…, D), weight (O, D) → (…, O), with a gradient for x alone."""
        *arrays, group_size, bits = weight
        return self._extension.packed_linear(x, *arrays, group_size=group_size, bits=bits, threads=self.threads)

    def packed_linear_rows(self, x: mx.array, weight: Packed) -> mx.array:
        """The same without a gradient, for few rows, none of whose bits depend on the others."""
        *arrays, group_size, bits = weight
        return self._extension.packed_linear_rows(x, *arrays, group_size=group_size, bits=bits, threads=self.threads)

    def linear_rows(self, x: mx.array, weight: mx.array) -> mx.array:
        """x (…, D), weight (O, D) → (…, O), without gradients. A row's bits don't depend on the other rows."""
        return self._extension.linear_rows(x, weight, threads=self.threads)

    def low_rank_rows(self, y: mx.array, x: mx.array, a: mx.array, b: mx.array, slots: mx.array) -> mx.array:
        """y (R, 1, O) + x (R, 1, D) A B with A from a (S, D, r) and B from b (S, r, O), by slots, uint32 (R); slot 0
        adds nothing. Without gradients; a row's bits don't depend on the other rows."""
        return self._extension.low_rank_rows(y, x, a, b, slots, threads=self.threads)

    def _table(self, wavelengths: np.ndarray, scale: float, positions: int) -> tuple[mx.array, mx.array]:
        key = (wavelengths.tobytes(), scale)
        with self._lock:
            table = self._tables.get(key)
            if table is None or table[0].shape[0] < positions:
                length = -(-positions // _POSITIONS) * _POSITIONS
                angles = (np.arange(length) * scale)[:, None] / wavelengths
                table = mx.array(np.cos(angles), mx.float32), mx.array(np.sin(angles), mx.float32)
                if len(self._tables) >= _TABLES:
                    del self._tables[next(iter(self._tables))]
                self._tables[key] = table
            return table


def _wavelengths(dims: int, base: float | None, freqs: mx.array | None) -> np.ndarray:
    return base ** (np.arange(dims // 2) * 2.0 / dims) if freqs is None else np.array(freqs, np.float64)
