"""The answers that one model works on at a time: prompts part by part, then one token each a step.

One batch serves a base and all adapters that can be stacked over it (stack.py); any other adapter has one of its own.
Where a model's layers keep something else than keys and values, or its answer to two rows of different lengths isn't
what it is to each alone, answers are decoded one after the other, with a cache each.
"""

from __future__ import annotations

import copy
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import KVCache, make_prompt_cache

from mlx_engine.kernels import Kernels
from mlx_engine.models.adapters import Adapter
from mlx_engine.models.bases import Base, Served
from mlx_engine.protocol import Generate
from mlx_engine.serving.answer import Answer, Piece
from mlx_engine.serving.generate import last_logits
from mlx_engine.serving.memory import pooled_positions
from mlx_engine.serving.pool import Pool
from mlx_engine.serving.prefixes import Prefixes, cut
from mlx_engine.serving.stack import Stack


@dataclass(eq=False)
class Work:
    """A request that has been taken on."""

    request: Generate
    served: Served
    prompt: list[int]
    answers: list[Answer]
    limit: int  # tokens of each at most
    asked: float  # monotonic seconds, as the next ones
    started: float
    decoding: float | None = None  # since when
    cached: int = 0  # tokens of the prompt that were known
    cache: list[Any] | None = None  # of the prompt, while it is computed
    done: int = 0  # tokens of the prompt that are in it

    @property
    def longest(self) -> int:
        """Positions that an answer may come to, its prompt included."""
        return len(self.prompt) + self.limit

    @property
    def unfinished(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.finish_reason is None]


@dataclass(eq=False)
class _Row:
    work: Work
    answer: Answer
    next: int  # the token to be computed
    cache: list[Any] | None = None  # where there is no pool


@dataclass
class Batch:
    base: Base
    adapter: Adapter | None  # all requests' when it can't be stacked
    stack: Stack
    prefixes: Prefixes
    poolable: bool
    kernels: Kernels
    tell: Callable[[Work, Answer, Piece], None]
    ended: Callable[[Work], None]
    failed: Callable[[Work, Exception], None]
    _prompts: deque[Work] = field(default_factory=deque)
    _rows: list[_Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._model = self.base.loaded.model
        self._pool = Pool(len(self._model.layers), fused="attention" in self.kernels) if self.poolable else None

    @property
    def works(self) -> list[Work]:
        return list(dict.fromkeys([*self._prompts, *(row.work for row in self._rows)]))

    def positions(self, more: Work | None = None) -> int:
        """Of keys and values that its works may come to take, `more` among them: the prompt that is computed, and what
        is decoded."""
        works = [*self.works, more] if more else self.works
        if not works:
            return 0
        prompts = [len(work.prompt) for work in (*self._prompts, *([more] if more else []))]
        if self._pool is None:
            answers = sum(len(work.unfinished) * work.longest for work in works)
        else:
            rows = sum(len(work.unfinished) for work in works)
            longest = max(work.longest for work in works)
            answers = pooled_positions(rows, longest, self._pool.slots, self._pool.capacity)
        return max(prompts, default=0) + answers

    def add(self, work: Work) -> None:
        self._prompts.append(work)

    def remove(self, work: Work) -> None:
        """It is cancelled, or has failed: what it held is free at once."""
        if work in self._prompts:
            self._prompts.remove(work)
        for row in [row for row in self._rows if row.work is work]:
            self._leave(row)

    def step(self, prefill_tokens: int) -> None:
        """One token for each answer, then up to `prefill_tokens` of the prompts that wait, more when nobody decodes."""
        if self._rows:
            self._decode()
        budget = prefill_tokens if self._rows else 4 * prefill_tokens
        while self._prompts and budget > 0:
            budget -= self._prefill(self._prompts[0], budget)

    # ---- prompts ----

    def _prefill(self, work: Work, budget: int) -> int:
        """All but the prompt's last token, which is the first to be decoded. How many were computed, at least 1."""
        known = work.prompt[:-1]
        if work.cache is None:
            found, cache = self.prefixes.find(work.served.version, known) if self._pool is not None else (0, [])
            work.cached = work.done = found
            work.cache = cache if found else make_prompt_cache(self._model)
        part = known[work.done : work.done + budget]
        if part:
            self._route([work])
            self._model(mx.array([part]), cache=work.cache)
            mx.eval([layer.state for layer in work.cache])
            work.done += len(part)
        if work.done == len(known):
            self._prompts.popleft()
            self._start(work)
        return max(1, len(part))

    def _start(self, work: Work) -> None:
        work.decoding = time.monotonic()
        cache, work.cache = work.cache, None
        if self._pool is not None:
            self.prefixes.add(work.served.version, work.prompt[:-1], cache)
        for answer in work.answers:
            if self._pool is None:
                row = _Row(work, answer, work.prompt[-1], cache if len(work.answers) == 1 else copy.deepcopy(cache))
            else:
                row = _Row(work, answer, work.prompt[-1])
                self._pool.join(cache)
            self._rows.append(row)

    # ---- answers ----

    def _decode(self) -> None:
        if self._pool is None:
            for row in list(self._rows):
                if row not in self._rows:
                    continue
                self._route([row.work])
                self._advance(row, _decoded(self.kernels, self._model, [row.next], row.cache)[0])
            return
        rows = list(self._rows)
        self._route([row.work for row in rows], each=True)
        self._pool.advance()
        logits = _decoded(self.kernels, self._model, [row.next for row in rows], self._pool.layers)
        for row, row_logits in zip(rows, logits, strict=True):
            if row in self._rows:  # and did not fail with another answer to its request
                self._advance(row, row_logits)

    def _advance(self, row: _Row, logits: np.ndarray) -> None:
        try:
            piece = row.answer.add(logits)
        except Exception as error:  # of this answer alone
            self.remove(row.work)
            self.failed(row.work, error)
            return
        row.next = row.answer.tokens[-1]
        if piece is not None:
            self.tell(row.work, row.answer, piece)
        if row.answer.finish_reason is not None:
            if self._pool is not None:
                known = [*row.work.prompt, *row.answer.tokens[:-1]]
                self.prefixes.add(row.work.served.version, known, self._pool.extract(self._rows.index(row)))
            self._leave(row)
            if not row.work.unfinished:
                self.ended(row.work)

    def _leave(self, row: _Row) -> None:
        """The pool's last row takes its place, and so here."""
        place = self._rows.index(row)
        last = self._rows.pop()
        if last is not row:
            self._rows[place] = last
        if self._pool is not None:
            self._pool.leave(place)

    def _route(self, works: list[Work], *, each: bool = False) -> None:
        """Puts the adapters of what is computed next in place: a row of one token for each, or one row of all."""
        if self.adapter is not None:
            self.base.adapters.put(self.adapter.modules)
            return
        slots = self.stack.place([work.served.adapter for work in works])
        self.base.adapters.put(self.stack.modules)
        if each:
            self.stack.route_rows(slots)
        else:
            self.stack.route(slots[0])


def _decoded(kernels: Kernels, model: Callable[..., mx.array], tokens: list[int], cache: list[Any]) -> np.ndarray:
    """last_logits, with the kernels for rows of one token."""
    if kernels.ops is None:
        return last_logits(model, tokens, cache)
    kernels.ops.decoding = True
    try:
        return last_logits(model, tokens, cache)
    finally:
        kernels.ops.decoding = False


def poolable(base: Base, kernels: Kernels) -> bool:
    """Whether the base computes two rows of different lengths side by side as it does each alone."""
    model = base.loaded.model
    rows = [[1, 2, 3, 4, 5], [3, 1]]
    caches = [make_prompt_cache(model) for _ in rows]
    if not all(type(layer) is KVCache for layer in caches[0]):
        return False
    base.adapters.put([])
    try:
        for row, cache in zip(rows, caches, strict=True):
            model(mx.array([row[:-1]]), cache=cache)
            mx.eval([layer.state for layer in cache])
        pool = Pool(len(caches[0]), fused="attention" in kernels)
        for cache in caches:
            pool.join(cut(cache, cache[0].offset))
        pool.advance()
        together = _decoded(kernels, model, [row[-1] for row in rows], pool.layers)
        alone = np.concatenate([last_logits(model, [r[-1]], c) for r, c in zip(rows, caches, strict=True)])
    except (TypeError, ValueError, AttributeError, IndexError):
        return False
    return bool(np.abs(together - alone).max() <= 0.02 * np.abs(alone).max())
