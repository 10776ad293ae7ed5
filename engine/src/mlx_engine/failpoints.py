"""Failpoints: places where tests make this process die, stop or find the disk full.

    MLX_TRAINING_FAILPOINTS="checkpoint.renamed@3=kill,checkpoint.write=enospc~/tmp/once"

is a list of NAME[@N]=ACTION[~MARKER]: at the N-th pass (1 when left out) of NAME do ACTION; with a MARKER only if that
file is not there, which is made, so that of several processes one does it. The server's twin reads the same variable
(packages/server/src/files/failpoints.ts). Without the variable `failpoint` returns at its first comparison.

    kill    SIGKILL to this process                  enospc  OSError, No space left on device
    stop    SIGSTOP: everything stands still          skip    what the place is there for is left out
    hang    this thread goes no further
"""

from __future__ import annotations

import errno
import os
import re
import signal
import time
from collections import Counter
from dataclasses import dataclass

VARIABLE = "MLX_TRAINING_FAILPOINTS"
_SPEC = re.compile(r"(?P<name>[\w.-]+)(@(?P<at>\d+))?=(?P<action>kill|stop|hang|enospc|skip)(~(?P<marker>.+))?")


@dataclass(frozen=True)
class _Armed:
    at: int
    action: str
    marker: str | None


def _parse(text: str) -> dict[str, _Armed]:
    armed = {}
    for spec in filter(None, text.split(",")):
        if (found := _SPEC.fullmatch(spec)) is None:
            raise ValueError(f"{VARIABLE}: {spec!r} is not NAME[@N]=ACTION[~MARKER]")
        armed[found["name"]] = _Armed(int(found["at"] or 1), found["action"], found["marker"])
    return armed


_armed = _parse(os.environ.get(VARIABLE, ""))
_passes: Counter[str] = Counter()


def failpoint(name: str) -> bool:
    """Whether what follows is to be left out. OSError, or the end, where a test wants it."""
    if not _armed or (armed := _armed.get(name)) is None:
        return False
    _passes[name] += 1
    if _passes[name] != armed.at or not _first(armed.marker):
        return False
    match armed.action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "hang":
            while True:
                time.sleep(60)
        case "enospc":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), f"failpoint {name}")
    return armed.action == "skip"


def _first(marker: str | None) -> bool:
    if marker is None:
        return True
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return False
    return True
