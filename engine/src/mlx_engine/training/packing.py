"""Packing: rows laid end to end in one, (1, T), of which no token sees another row's.

No model is changed for it. mlx-lm's models ask their caches for the attention mask and for the keys and values to
attend to: stand-in caches answer with a mask that keeps to the segments, and with the keys and values as they come.
Positions run on from row to row, which makes no difference where they count relative to each other (RoPE). Whether a
model is made like that is tried on it, with numbers, before it is relied on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm.models.base import create_causal_mask
from mlx_lm.models.cache import make_prompt_cache

from mlx_engine.training.loss import Loss

_TRIED = (5, 9, 2, 6)  # lengths of the rows that a model is tried on


@dataclass(frozen=True)
class Segments:
    """A mask: causal attention inside of each segment, over `window` keys at most, unless None or 0."""

    lengths: tuple[int, ...]
    window: int | None = None

    @cached_property
    def starts(self) -> mx.array:
        """(T,) int32, the first position of each token's segment."""
        ends = np.cumsum(self.lengths)
        return mx.array(np.repeat(ends - self.lengths, self.lengths).astype(np.int32))

    def array(self) -> mx.array:
        """(T, T) bool"""
        starts = self.starts
        return create_causal_mask(starts.size, window_size=self.window or None) & (starts[:, None] == starts)


class _Cache:
    """What one layer takes for a cache of the keys and values before these, of which there are none."""

    offset = 0

    def __init__(self, packing: Packing, lengths: tuple[int, ...]) -> None:
        self._packing = packing
        self._lengths = lengths

    def make_mask(self, length: int, return_array: bool = False, window_size: int | None = None) -> Any:
        if length != sum(self._lengths):
            raise ValueError(f"a mask for {length} positions, of {sum(self._lengths)}")
        segments = Segments(self._lengths, window_size)
        if return_array:
            self._packing.dense = True
        return segments.array() if self._packing.dense else segments

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        return keys, values


class Packing:
    """Caches for a model that rows are packed for. `dense`: masks are arrays, (T, T), and attention costs the square of
    the row, as on GPUs; it becomes true for a model that attends by code of its own and asks for arrays."""

    def __init__(self, loss: Loss, *, dense: bool) -> None:
        self.dense = dense
        self._layers = len(make_prompt_cache(loss.model))
        if not dense:
            _attend_in_segments()

    def caches(self, lengths: Sequence[int]) -> list[_Cache]:
        """For one row of segments of these lengths, to be given to the model with it."""
        return [_Cache(self, tuple(lengths))] * self._layers

    def fault(self, loss: Loss) -> str | None:
        """Why rows must not be packed for the model; None: it gives the same logits either way, up to rounding."""
        vocabulary = loss.logits(mx.array([[0]])).shape[-1]
        tokens = mx.linspace(0, vocabulary - 1, sum(_TRIED)).astype(mx.int32)[None]
        training = loss.model.training
        loss.model.eval()
        try:
            rows = mx.split(tokens, np.cumsum(_TRIED)[:-1].tolist(), axis=1)
            expected = mx.concatenate([loss.logits(row) for row in rows], axis=1).astype(mx.float32)
            found = loss.logits(tokens, self.caches(_TRIED))
            # As for the head, see loss.py.
            tolerance = 1e-5 if found.dtype == mx.float32 else 1e-2
            error = (mx.abs(found.astype(mx.float32) - expected).max() / mx.abs(expected).max()).item()
        except Exception as failure:  # of any architecture's code, at what it doesn't know
            return f"{type(failure).__name__}: {failure}"
        finally:
            loss.model.train(training)
        return None if error <= tolerance else f"its logits differ by {error:.1g} of the largest"


def _attend_in_segments() -> None:
    """Teaches MLX's attention the mask, for good, unless something faster has: one product for each segment, which
    costs what the segments cost alone. A dense mask would cost the square of the whole row."""
    try:
        one = mx.zeros((1, 1, 1, 8))
        mx.fast.scaled_dot_product_attention(one, one, one, scale=1.0, mask=Segments((1,)))
        return
    except TypeError:
        pass
    original = mx.fast.scaled_dot_product_attention

    def scaled_dot_product_attention(
        q: mx.array, k: mx.array, v: mx.array, *, scale: float, mask: Any = None, **more: Any
    ) -> mx.array:
        if not isinstance(mask, Segments):
            return original(q, k, v, scale=scale, mask=mask, **more)
        found = []
        end = 0
        for length in mask.lengths:
            part = slice(end, end := end + length)
            inside: Any = "causal"
            if mask.window and mask.window < length:
                inside = create_causal_mask(length, window_size=mask.window)
            found.append(original(q[:, :, part], k[:, :, part], v[:, :, part], scale=scale, mask=inside, **more))
        return mx.concatenate(found, axis=2)

    mx.fast.scaled_dot_product_attention = scaled_dot_product_attention
