"""Measured speed, and what may be done about it."""

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


class Pace:
    """When something is due that is to take no more than a share of the time: checkpoints, when nobody says."""

    def __init__(self, now: float, *, pause: float, share: float, estimate: float) -> None:
        """Not more often than every `pause` seconds; `estimate`: the least seconds that it is expected to take."""
        self._started = self._last = now
        self._pause = pause
        self._share = share
        self._cost = self._estimate = estimate
        self._spent = 0.0

    def due(self, now: float) -> bool:
        affordable = self._spent + self._cost <= self._share * (now - self._started)
        return affordable and now - self._last >= self._pause

    def done(self, now: float, seconds: float) -> None:
        """It has just been done, due or not, and took so long."""
        self._last = now
        self._spent += seconds
        self._cost = max(seconds, self._estimate)
