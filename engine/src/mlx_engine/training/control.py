"""Stop and suspend: heard at once, obeyed within seconds, whatever the main thread is in.

The main thread looks between micro-batches (`check`). One of those can take a minute on a CPU, so when it has not
looked for GRACE_SECONDS, the thread that hears the commands ends the run itself. That is safe because the state to be
saved is made of evaluated arrays, which nothing changes: the main thread holds `lock` while it replaces them, and
mx.eval lets other threads run. The step in the works is lost, and done again after a resume.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Literal

from mlx_engine.process import Engine, error_frame
from mlx_engine.protocol import Answering, EngineError, Stop, Suspend

GRACE_SECONDS = 2.5
Outcome = Literal["completed", "stopped", "suspended"]


class Ended(Exception):
    """The run was asked to end."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.outcome: Outcome = outcome


class Control:
    """`finish` saves and tells what the run has come to; it is called once, under `lock`, on either thread.
    `answering` is called with what the server tells of generation, on the thread that hears the commands."""

    def __init__(
        self,
        engine: Engine,
        finish: Callable[[Outcome], None],
        grace: float = GRACE_SECONDS,
        answering: Callable[[bool], None] = lambda answering: None,
    ) -> None:
        self.lock = threading.Lock()
        self._engine = engine
        self._finish = finish
        self._grace = grace
        self._answering = answering
        self._asked: Outcome | None = None
        self.saved = threading.Event()  # set by the main thread when the result is; it then gets as long again
        self._done = threading.Event()
        threading.Thread(target=self._listen, daemon=True, name="control").start()

    def check(self) -> None:
        """Raises Ended if the run is to end."""
        if self._asked is not None:
            raise Ended(self._asked)

    def end(self, outcome: Outcome) -> None:
        """For the main thread, when it is through. Does not return while the other thread ends the process."""
        with self.lock:
            self._done.set()
            self._finish(outcome)

    def _listen(self) -> None:
        while self._asked is None:
            match self._engine.commands.get():
                case Stop():
                    self._asked = "stopped"
                case Suspend():
                    self._asked = "suspended"
                case Answering(active=active):
                    self._answering(active)
                case other:
                    kind = type(other).__name__.lower()
                    self._engine.channel.send(error_frame(EngineError("protocol", f"unexpected command {kind}")))
        if not self._done.wait(self._grace) and not (self.saved.is_set() and self._done.wait(self._grace)):
            self._take_over(self._asked)

    def _take_over(self, outcome: Outcome) -> None:
        with self.lock:
            if self._done.is_set():
                return
            status = 1
            try:
                self._finish(outcome)
                status = 0
            except BaseException as error:
                self._engine.channel.send(error_frame(error))
            finally:
                os._exit(status)
