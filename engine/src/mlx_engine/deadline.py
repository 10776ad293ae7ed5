"""A time limit for code that other people wrote, such as the Jinja templates of models.

transformers renders those in an immutable sandbox, which bounds what they can reach but not how long they take. A
timer signal raises in the main thread between two bytecodes; Python's own long operations (powers of big integers)
check for signals too, and a template has no way to catch an exception.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class DeadlineExceeded(Exception):
    pass


class _Expired(BaseException):
    """Not an Exception: Jinja's constant folding swallows those, and would compute the same again later."""


@contextmanager
def deadline(seconds: float, what: str) -> Iterator[None]:
    """Raises DeadlineExceeded('… took longer than …') from the block. For the main thread, and not to be nested."""

    def expire(_signal: int, _frame: object) -> None:
        raise _Expired

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except _Expired:
        raise DeadlineExceeded(f"{what} took longer than {seconds:g} s") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
