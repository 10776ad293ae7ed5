"""Drives an engine process as the server does: commands to stdin, frames from file descriptor 3."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

_SOURCES = Path(__file__).parents[1] / "src"
_PATIENCE = 60.0  # seconds without a frame, heartbeats apart: a hang, whatever the machine


class EngineProcess:
    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", 'exec "$@" 3>&1 1>&2', "sh", sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(_SOURCES)},
        )
        self.pid = self._process.pid
        self.alive_frames = 0
        self.log = ""
        self._frames: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._read, self._read_log)]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> EngineProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        for thread in self._threads:
            thread.join()

    def send(self, type: str, **fields: Any) -> None:
        self.send_line(json.dumps({"type": type, **fields}))

    def send_line(self, line: str) -> None:
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def close_stdin(self) -> None:
        self._process.stdin.close()

    def interrupt(self, number: int) -> None:
        self._process.send_signal(number)

    def frame(self) -> dict[str, Any] | None:
        """The next frame that is no heartbeat; None when the process has ended."""
        try:
            return self._frames.get(timeout=_PATIENCE)
        except Empty:
            raise AssertionError(f"no frame for {_PATIENCE} s; log:\n{self.log}") from None

    def frames(self) -> Iterator[dict[str, Any]]:
        while (frame := self.frame()) is not None:
            yield frame

    def until(self, type: str, **fields: Any) -> list[dict[str, Any]]:
        """Frames up to and with the first of that type and those fields."""
        found = []
        for frame in self.frames():
            found.append(frame)
            if frame["type"] == type and fields.items() <= frame.items():
                return found
        raise AssertionError(f"ended without a {type} frame: {found}; log:\n{self.log}")

    def wait(self) -> int:
        """Exit status, negative for a signal."""
        return self._process.wait(timeout=_PATIENCE)

    def _read(self) -> None:
        for line in self._process.stdout:
            frame = json.loads(line)
            if frame["type"] == "alive":
                self.alive_frames += 1
            else:
                self._frames.put(frame)
        self._frames.put(None)
        self._process.stdout.close()

    def _read_log(self) -> None:
        for line in self._process.stderr:
            self.log += line.decode(errors="replace")
        self._process.stderr.close()
