"""Work on a thread of its own, so that who decodes meanwhile isn't held up."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

Result = TypeVar("Result")


class Aside:
    """One thing at a time. What is no longer asked for is worked to its end all the same, before the next begins."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "aside")
        self._doing: tuple[object, Future[Any]] | None = None

    def result(self, of: object, work: Callable[[], Result], patience: float) -> Result | None:
        """What `work` returns or raises; it begins at the first call for this very object. None: not yet, although it
        was waited for `patience` seconds."""
        if self._doing is None or self._doing[0] is not of:
            self._doing = (of, self._thread.submit(work))
        future = self._doing[1]
        wait([future], patience)
        if not future.done():
            return None
        self._doing = None
        return future.result()

    def forget(self) -> None:
        """Nobody will ask for it again; nothing of it is kept."""
        self._doing = None
