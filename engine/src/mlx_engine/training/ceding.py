"""Training gives way to answers: while the server says that some are being generated, no piece of a step is begun.

What that may cost is a token bucket: full, it holds `longest` seconds of standing still; they run out while training
gives way, and while it does not they come back, so that over T seconds it stands still for longest + share · T at
most. No number that training computes depends on it: it only decides when a piece begins.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from mlx_engine.hang import WATCH

_PREFIX = "MLX_TRAINING_GENERATION_YIELD_"


class Ceding:
    """`told` on any thread, `holds` on the one that begins pieces."""

    def __init__(self, share: float, longest: float, now: Callable[[], float] = time.monotonic) -> None:
        """`share`: of the time, below 1; 0 never gives way. `longest`: seconds at a stretch."""
        self.seconds = 0.0  # ceded in all
        self._rate = share / (1 - share)
        self._full = self._left = longest if share > 0 else 0.0
        self._now = now
        self._at = now()
        self._holding = False
        self._answering = False
        self._changed = threading.Condition()

    @staticmethod
    def of_environment() -> Ceding:
        """The server has checked them; by hand, a value that is no whole number is a ValueError."""
        percent = int(os.environ.get(f"{_PREFIX}PERCENT") or 50)
        longest = int(os.environ.get(f"{_PREFIX}MS") or 10_000)
        return Ceding(percent / 100, longest / 1000)

    def told(self, answering: bool) -> None:
        with self._changed:
            self._answering = answering
            self._changed.notify_all()

    def holds(self, patience: float) -> bool:
        """Whether a piece that could be begun is not to be; waits up to `patience` seconds for leave to begin it.

        The time until the next call counts as ceded then, although other pieces may still be computed meanwhile.
        """
        until = self._now() + patience
        with self._changed:
            while True:
                self._settle()
                self._holding = self._answering and self._left > 0
                wait = until - self._at
                WATCH.moved()
                if not self._holding or wait <= 0:
                    return self._holding
                self._changed.wait(min(wait, self._left))

    def _settle(self) -> None:
        now = self._now()
        passed, self._at = now - self._at, now
        if self._holding:
            self.seconds += passed
            self._left -= passed
        else:
            self._left = min(self._full, self._left + self._rate * passed)
