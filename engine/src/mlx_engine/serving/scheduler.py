"""Continuous batching: requests join and leave between steps. First come, first taken on, as far as there is room."""

from __future__ import annotations

import math
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from mlx_engine.kernels import Kernels
from mlx_engine.models.bases import Base, Bases, NoRoomYet, Served
from mlx_engine.process import error_frame
from mlx_engine.protocol import Choice, Done, EngineError, Error, Generate, Timing, Token
from mlx_engine.serving.answer import Answer, Piece
from mlx_engine.serving.aside import Aside, Result
from mlx_engine.serving.batch import Batch, Work, poolable
from mlx_engine.serving.chat import Prompt
from mlx_engine.serving.grammar import Constraint, Grammars, copies
from mlx_engine.serving.memory import bytes_of_position, refuse_if_never
from mlx_engine.serving.prefixes import Prefixes
from mlx_engine.serving.prompt import counted, prompt_of
from mlx_engine.serving.settings import Settings
from mlx_engine.serving.stack import Stack, stackable

_LONGEST_WAIT = 60.0  # seconds that a busy engine asks for
_PATIENCE = 0.05  # seconds that are waited for what is made aside when there is nothing else to do
_SHORT = 2000  # characters that are tokenised at once: 5 ms on a busy machine, 2.7 µs each


class _Served:
    """What is kept beside a base as long as it is loaded."""

    def __init__(self, base: Base, kernels: Kernels) -> None:
        self.stack = Stack(base.adapters.base, kernels)
        base.adapters.put([])
        self.position_bytes = bytes_of_position(base.loaded.model)
        self.poolable = poolable(base, kernels)


@dataclass
class _First:
    """What is known of a request that waits for room."""

    request: Generate
    served: Served
    prompt: Prompt
    counted: tuple[list[int], int] | None = None  # its tokens, and how many may follow
    constraint: Constraint | None = None


class Scheduler:
    def __init__(
        self,
        bases: Bases,
        settings: Settings,
        send: Callable[[Token | Done | Error], None],
        kernels: Kernels,
    ) -> None:
        """`kernels`: those that are in place (kernels.patched)."""
        self._bases = bases
        self._settings = settings
        self._send = send
        self._kernels = kernels
        self._waiting: deque[tuple[Generate, float]] = deque()
        self._first: _First | None = None  # of them, as far as it got
        self._batches: deque[Batch] = deque()
        self._served: dict[Base, _Served] = {}
        self._prefixes = Prefixes(settings.prompt_cache_bytes)
        self._grammars = Grammars()
        self._aside = Aside()
        self._seconds = 1.0  # that a request takes, of late

    @property
    def idle(self) -> bool:
        return not self._waiting and not self._batches

    def submit(self, request: Generate) -> None:
        if len(self._waiting) >= self._settings.queue:
            estimate = self._seconds * len(self._waiting) / self._settings.max_batch
            wait = math.ceil(min(_LONGEST_WAIT, max(1.0, estimate)))
            message = f"{len(self._waiting)} requests are waiting already. Try again in {wait} s"
            self._send(error_frame(EngineError("busy", message, wait), request.id))
        else:
            self._waiting.append((request, time.monotonic()))

    def cancel(self, id: str) -> None:
        for request, asked in [entry for entry in self._waiting if entry[0].id == id]:
            self._waiting.remove((request, asked))
            if self._first is not None and self._first.request is request:
                self._forget_first()
            choices = [Choice(text="", finish_reason="cancelled", completion_tokens=0)] * request.n
            timing = Timing(queue_seconds=time.monotonic() - asked, prefill_seconds=0.0, decode_seconds=0.0)
            self._send(_done(request.id, choices, timing))
        for batch in list(self._batches):
            for work in [work for work in batch.works if work.request.id == id]:
                batch.remove(work)
                for answer in work.unfinished:
                    if (piece := answer.finish("cancelled")) is not None:
                        self._tell(work, answer, piece)
                self._ended(work)
        self._forget_empty()

    def step(self) -> None:
        """Takes on what there is room for; then one step of the batch whose turn it is."""
        self._admit()
        if not self._batches:
            return
        batch = self._batches[0]
        self._batches.rotate(-1)
        try:
            batch.step(self._settings.prefill_tokens)
        except Exception as error:
            # Whose fault it is can't be told, and what the rows hold is not to be trusted.
            _log(error)
            for work in batch.works:
                self._send(error_frame(error, work.request.id))
            self._batches.remove(batch)
            self._bases.free_buffers()
        self._forget_empty()

    def unload_idle(self) -> None:
        """Bases that nobody has asked for in settings.idle_seconds."""
        self._bases.unload(self._settings.idle_seconds, self._in_use)
        self._forget_gone()

    # ---- taking on ----

    @property
    def _in_use(self) -> set[Base]:
        return {batch.base for batch in self._batches}

    def _admit(self) -> None:
        while self._waiting:
            request, asked = self._waiting[0]
            answering = sum(len(work.unfinished) for batch in self._batches for work in batch.works)
            if answering and answering + request.n > self._settings.max_batch:
                return
            try:
                work = self._take_on(request, asked)
                batch = self._batch_of(work)
                if not self._has_room(batch, work):
                    self._forget_empty()
                    return
                batch.add(work)
            except NoRoomYet:
                return  # nobody overtakes it, or its turn might never come
            except Exception as error:
                _log(error)
                self._send(error_frame(error, request.id))
                self._bases.free_buffers()
            self._waiting.popleft()
            self._forget_first()

    def _take_on(self, request: Generate, asked: float) -> Work:
        served = self._bases.find(request.model_path, request.adapter_path, self._in_use)
        self._forget_gone()
        first = self._first
        if first is None or first.request is not request or first.served != served:
            first = self._first = _First(request, served, prompt_of(served.loaded, request, served.system))
        if first.counted is None:
            first.counted = self._counted(first)
        if request.json_schema is not None and first.constraint is None:
            make = partial(self._grammars.constraint, served.loaded, served.ends, request.json_schema)
            first.constraint = self._made(make)
        (prompt, limit), constraints = first.counted, copies(first.constraint, request.n)
        answers = [
            Answer(served.loaded, served.ends, request, prompt, limit, i, constraint)
            for i, constraint in enumerate(constraints)
        ]
        return Work(request, served, prompt, answers, limit, asked, time.monotonic())

    def _counted(self, first: _First) -> tuple[list[int], int]:
        count = partial(counted, first.prompt, first.served.loaded, first.request.max_tokens)
        return count() if len(first.prompt.text) <= _SHORT else self._made(count)

    def _made(self, make: Callable[[], Result]) -> Result:
        """For the request that is taken on. NoRoomYet as long as it is being made; others decode meanwhile."""
        made = self._aside.result(self._first, make, 0.0 if self._batches else _PATIENCE)
        if made is None:
            raise NoRoomYet
        return made

    def _has_room(self, batch: Batch, work: Work) -> bool:
        """Whether keys and values of all that is at work then keep to their limit. EngineError when they never will."""
        kept, allowed = self._served[batch.base], self._settings.kv_bytes
        refuse_if_never(
            len(work.prompt),
            work.limit,
            len(work.answers),
            pooled=kept.poolable,
            position_bytes=kept.position_bytes,
            allowed=allowed,
        )
        needed = sum(
            self._served[other.base].position_bytes * other.positions(work if other is batch else None)
            for other in self._batches
        )
        return needed <= allowed

    def _batch_of(self, work: Work) -> Batch:
        base, adapter = work.served.base, work.served.adapter
        own = None if adapter is None or stackable(adapter) else adapter
        for batch in self._batches:
            if batch.base is base and batch.adapter is own:
                return batch
        if base not in self._served:
            self._served[base] = _Served(base, self._kernels)
        kept = self._served[base]
        batch = Batch(
            base, own, kept.stack, self._prefixes, kept.poolable, self._kernels, self._tell, self._ended, self._failed
        )
        self._batches.append(batch)
        return batch

    def _forget_first(self) -> None:
        """Or it would keep a base from being unloaded."""
        self._first = None
        self._aside.forget()

    def _forget_gone(self) -> None:
        """What belongs to bases that were unloaded."""
        loaded = self._bases.loaded
        for base in [base for base in self._served if base not in loaded]:
            del self._served[base]
            self._prefixes.forget(base.version)

    def _forget_empty(self) -> None:
        for batch in [batch for batch in self._batches if not batch.works]:
            self._batches.remove(batch)

    # ---- telling ----

    def _tell(self, work: Work, answer: Answer, piece: Piece) -> None:
        self._send(Token(id=work.request.id, text=piece.text, index=answer.index, logprobs=piece.logprobs))

    def _failed(self, work: Work, error: Exception) -> None:
        _log(error)
        self._send(error_frame(error, work.request.id))

    def _ended(self, work: Work) -> None:
        now = time.monotonic()
        decoding = work.decoding or now
        timing = Timing(
            queue_seconds=work.started - work.asked,
            prefill_seconds=decoding - work.started,
            decode_seconds=now - decoding,
        )
        self._seconds += 0.1 * (now - work.started - self._seconds)
        choices = [answer.choice for answer in work.answers]
        self._send(_done(work.request.id, choices, timing, len(work.prompt), work.cached))


def _done(id: str, choices: list[Choice], timing: Timing, prompt_tokens: int = 0, cached_tokens: int = 0) -> Done:
    return Done(
        id=id,
        text=choices[0].text,
        finish_reason=choices[0].finish_reason,
        prompt_tokens=prompt_tokens,
        completion_tokens=sum(choice.completion_tokens for choice in choices),
        cached_tokens=cached_tokens,
        choices=choices,
        timing=timing,
    )


def _log(error: Exception) -> None:
    if not isinstance(error, EngineError):
        traceback.print_exception(error)
