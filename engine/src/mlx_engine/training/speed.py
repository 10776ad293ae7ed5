"""Measured speed."""

from __future__ import annotations

from collections import deque

_WINDOW = 20  # steps


class Meter:
    """Seconds per token over the last steps. The first one, which warms up, counts only while it is alone."""

    def __init__(self) -> None:
        self._steps: deque[tuple[int, float]] = deque(maxlen=_WINDOW)
        self._first = True

    def add(self, tokens: int, seconds: float) -> None:
        if len(self._steps) == 1 and self._first:
            self._steps.clear()
            self._first = False
        self._steps.append((tokens, seconds))

    def remaining(self, tokens: float) -> float | None:
        """Seconds for so many more tokens."""
        measured = sum(tokens for tokens, _ in self._steps)
        return tokens * sum(seconds for _, seconds in self._steps) / measured if measured else None
