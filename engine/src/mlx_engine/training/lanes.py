"""Lanes: threads that compute the pieces of a step side by side, with results in the pieces' order.

MLX runs all but matrix products on one thread of a CPU, and its streams belong to threads: so two threads, each with a
BLAS of one thread, do twice the work of one (SmolLM2-135M, LoRA r 8, 2 pieces of 1024 tokens, two cores: 278 tokens/s
against 151 with one thread, and against 196 with one lane whose BLAS has two). Which lane takes which piece depends on
the clock; what comes out does not, as a piece's result is a function of the piece and results are handed back in order.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

from mlx_engine.hang import WATCH

_LOOK_SECONDS = 0.2
Worker = TypeVar("Worker")
Result = TypeVar("Result")


class Lanes(Generic[Worker]):
    """One thread for each of `workers`. With a single one that is `inline`, the calling thread."""

    def __init__(
        self,
        workers: Sequence[Worker],
        *,
        inline: bool = False,
        holds: Callable[[float], bool] = lambda patience: False,
    ) -> None:
        """`holds`: asked before each piece whether it is not to be begun yet, and how long to wait for an answer."""
        self.workers = workers
        self._holds = holds
        self._free = list(workers)
        self._lock = threading.Lock()
        self._threads = None if inline else ThreadPoolExecutor(len(workers), "lane")
        self._left: list[Future] = []  # running when the last `map` was broken off

    def map(
        self,
        work: Callable[[Worker, int], Result],
        count: int,
        *,
        side_by_side: int,
        ahead: int,
        look: Callable[[], None],
    ) -> Iterator[Result]:
        """work(worker, i) for i from 0 to count - 1, in this order. At most `side_by_side` run at a time, and none that
        is `ahead` or more of the one whose result is due, as results wait in memory.

        Calls `look` every now and then, and between results. What it raises, or `work`, ends the work: no new piece is
        begun, and those being computed are left to end by themselves; the next `map` waits for them.
        """
        if self._threads is None:
            for i in range(count):
                look()
                while self._holds(_LOOK_SECONDS):
                    look()
                WATCH.moved()
                yield work(self.workers[0], i)
            return
        self.settle()
        running: dict[Future, int] = {}
        done: dict[int, Result] = {}
        begun = due = 0
        try:
            while due < count:
                while (
                    begun < min(count, due + ahead)
                    and len(running) < side_by_side
                    and not self._holds(0.0 if running else _LOOK_SECONDS)
                ):
                    running[self._threads.submit(self._with_a_worker, work, begun)] = begun
                    begun += 1
                look()
                if due in done:
                    yield done.pop(due)
                    due += 1
                elif running:
                    _collect(running, done)
        finally:
            self._left = list(running)

    def settle(self) -> None:
        """Waits for pieces that were being computed when a `map` was broken off."""
        wait(self._left)
        self._left = []

    def _with_a_worker(self, work: Callable[[Worker, int], Result], i: int) -> Result:
        with self._lock:
            worker = self._free.pop()
        try:
            WATCH.moved()
            return work(worker, i)
        finally:
            with self._lock:
                self._free.append(worker)


def _collect(running: dict[Future, int], done: dict[int, Result]) -> None:
    """A function of its own, so that no variable keeps a result, which may be as large as the model."""
    for future in wait(running, _LOOK_SECONDS, FIRST_COMPLETED).done:
        done[running[future]] = future.result()
        del running[future]
