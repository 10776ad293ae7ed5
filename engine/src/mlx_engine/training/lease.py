"""The right to write into a run's output folder: one attempt's at a time, told by a token in output_dir/.lease.

The server writes a fresh token there before each attempt and removes it after. A process that was stopped for longer
than the server waits, or whose server has died, finds another token or none when it wakes, and writes nothing any
more. No clock decides.

Between looking and renaming a process can be stopped, too. So it holds the folder's shared lock (flock) meanwhile, and
a new attempt takes the exclusive one once before its first write: whoever found the old token is through by then.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlx_engine.failpoints import failpoint
from mlx_engine.protocol import EngineError

FILE = ".lease"
_WAIT_SECONDS = 10.0  # for a write of an earlier attempt, which is a rename
_POLL_SECONDS = 0.05


class Lease:
    """Of `folder`, which must be there. `token`: None for a run that nobody supervises, which may always write."""

    def __init__(self, folder: Path, token: str | None) -> None:
        self._folder = folder
        self._token = token

    def begin(self) -> None:
        """Waits until nobody can write under an earlier lease. EngineError('lease_lost') when somebody doesn't end."""
        if self._token is None:
            return
        deadline = time.monotonic() + _WAIT_SECONDS
        while not self._try_alone():
            if time.monotonic() > deadline:
                raise EngineError(
                    "lease_lost",
                    f"An earlier process still writes to {self._folder} and does not end: end it, then resume",
                )
            time.sleep(_POLL_SECONDS)
        self._check()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Around what changes the folder for others: a rename, a removal. EngineError('lease_lost') before it."""
        if self._token is None:
            yield
            return
        with _locked(self._folder, fcntl.LOCK_SH):
            self._check()
            failpoint("lease.checked")
            yield

    def _try_alone(self) -> bool:
        try:
            with _locked(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
                return True
        except BlockingIOError:
            return False

    def _check(self) -> None:
        try:
            found = (self._folder / FILE).read_text()
        except FileNotFoundError:
            found = None
        if found != self._token:
            raise EngineError(
                "lease_lost",
                f"This process has lost its lease of {self._folder} and wrote nothing more: "
                + ("the folder or its .lease file was removed" if found is None else "another one writes there now"),
            )


UNSUPERVISED = Lease(Path(), None)


@contextmanager
def _locked(folder: Path, mode: int) -> Iterator[None]:
    """Some network file systems have no locks for folders: then looking at the token must do."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        yield  # whose token is gone as well
        return
    try:
        try:
            fcntl.flock(descriptor, mode)
        except BlockingIOError:
            raise
        except OSError:
            pass
        yield
    finally:
        os.close(descriptor)
