"""Ends a process whose work has stopped moving while its heart still beats: a GPU driver, a file system or a lock that
never comes back. The heartbeat's thread looks, and what ends or begins says `moved`.

It counts beats and not the clock's seconds, so that nothing is counted while the machine sleeps, while the process is
stopped, or while the server does not read its frames (a full disk makes it wait): the heartbeat stands still then, too.
A hang that holds Python's lock stops the heartbeat itself, which the server notices.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import traceback
from types import FrameType

VARIABLE = "MLX_TRAINING_HANG_SECONDS"


class Watch:
    """`moved` may be called by any thread, `beat` by one."""

    def __init__(self) -> None:
        self.limit = math.inf  # seconds
        self._moves = self._seen = 0
        self._still = 0.0

    def begin(self) -> None:
        """Watches from now on, if the server has set a limit."""
        self.limit = float(os.environ.get(VARIABLE) or math.inf)
        self.moved()

    def moved(self) -> None:
        self._moves += 1

    def beat(self, seconds: float) -> str | None:
        """`seconds` after the beat before. Once nothing has moved for the limit: what to tell the user."""
        if self._moves != self._seen:
            self._seen, self._still = self._moves, 0.0
            return None
        self._still += seconds
        if self._still < self.limit:
            return None
        return (
            f"The engine made no progress for {self.limit:g} s, {_place()}, and ended itself. If a single piece of "
            f"work may take so long here, raise {VARIABLE}"
        )


WATCH = Watch()


def print_stacks() -> None:
    """Of all threads, the main one last, to stderr."""
    frames = sys._current_frames()
    for thread in sorted(threading.enumerate(), key=lambda thread: thread is threading.main_thread()):
        if thread.ident in frames and thread is not threading.current_thread():
            print(f"{thread.name}:", file=sys.stderr)
            traceback.print_stack(frames[thread.ident], limit=8)


def _place() -> str:
    """Where in this package the main thread is."""
    frame: FrameType | None = sys._current_frames().get(threading.main_thread().ident)
    while frame is not None and __package__ not in frame.f_code.co_filename:
        frame = frame.f_back
    if frame is None:
        return "outside of its own code"
    path = frame.f_code.co_filename.rpartition(__package__ + os.sep)[2]
    return f"in {path}, line {frame.f_lineno} ({frame.f_code.co_name})"
