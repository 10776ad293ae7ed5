"""What every engine process does besides its work: hello, heartbeat, commands, errors, and ending with its parent.

    def main(engine: Engine) -> None:
        command = engine.expect(Train)            # blocks for the first command
        ...
        match engine.poll(): case Stop(): ...     # later ones, whenever it suits: never blocks

    if __name__ == "__main__":
        run(main)

`main` runs on the main thread, the only one that may touch MLX (its streams are thread-local). A side thread reads
commands into `engine.commands`, another sends Alive. Heavy imports belong inside `main`: hello goes out before them.
"""

from __future__ import annotations

import ctypes
import errno
import faulthandler
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn, TypeVar

from mlx_engine import platform
from mlx_engine.failpoints import failpoint
from mlx_engine.hang import WATCH, print_stacks
from mlx_engine.protocol import (
    FRAME_FD,
    Alive,
    Channel,
    Command,
    EngineError,
    Error,
    ErrorKind,
    Hello,
    Stage,
    Warning,
    read_commands,
)

ALIVE_SECONDS = 2.0
_TRACEBACK_LINES = 12
_PR_SET_PDEATHSIG = 1
_C = TypeVar("_C", bound=Command)


@dataclass(frozen=True)
class Engine:
    channel: Channel
    platform: platform.Platform
    commands: queue.SimpleQueue[Command] = field(default_factory=queue.SimpleQueue)

    def expect(self, kind: type[_C]) -> _C:
        """Waits for the next command. EngineError('protocol') when it is of another kind."""
        command = self.commands.get()
        if not isinstance(command, kind):
            raise EngineError("protocol", f"expected {kind.__name__.lower()}, got {type(command).__name__.lower()}")
        return command

    def poll(self) -> Command | None:
        """The next command if one has come, at once."""
        try:
            return self.commands.get_nowait()
        except queue.Empty:
            return None

    def stage(self, stage: str, done: int = 0, total: int = 0) -> None:
        self.channel.send(Stage(stage=stage, done=done, total=total))

    def warn(self, code: str, message: str) -> None:
        self.channel.send(Warning(code=code, message=message))


def run(main: Callable[[Engine], None], *, measure: bool = False, frames: int = FRAME_FD) -> NoReturn:
    """Runs `main` and exits: 0 when it returns, 1 after an Error frame when it raises. `measure`: see platform.
    `frames`: the file descriptor for them."""
    _end_with_parent()
    try:
        os.fstat(frames)
    except OSError:
        sys.exit(f"frames go to file descriptor {frames}, which is not open: to try by hand, add {frames}>&1")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is the server's to handle
    faulthandler.enable()
    channel = Channel(frames)
    try:
        engine = Engine(channel, platform.setup(measure=measure))
        channel.send(_hello(engine.platform))
        _start(_send_alive, channel)
        _start(_read, engine)
        main(engine)
    except BaseException as error:
        traceback.print_exc()
        channel.send(error_frame(error))
        _exit(1)
    _exit(0)


def _hello(found: platform.Platform) -> Hello:
    return Hello(
        pid=os.getpid(),
        device=found.device,
        backend=found.backend,
        dtype=found.dtype_name,
        gflops=found.gflops,
        kernels=found.kernels,
        mlx_version=found.mlx_version,
        mlx_lm_version=found.mlx_lm_version,
    )


def _start(target: Callable[..., None], *args: object) -> None:
    threading.Thread(target=target, args=args, daemon=True, name=target.__name__).start()


def _send_alive(channel: Channel) -> None:
    parent = os.getppid()
    while True:
        channel.send(Alive(memory_mb=platform.memory_mb()))
        time.sleep(ALIVE_SECONDS)
        if os.getppid() != parent:
            _exit(0)
        if (hung := WATCH.beat(ALIVE_SECONDS)) is not None:
            print_stacks()
            channel.send(error_frame(EngineError("internal", hung)))
            os._exit(1)  # and not by flushing stdout, whose lock the main thread may hold


def _read(engine: Engine) -> None:
    try:
        for command in read_commands():
            engine.commands.put(command)
    except EngineError as error:
        # Whoever sent it waits for an answer that can't be given: the end of the process is one.
        engine.channel.send(error_frame(error))
        _exit(1)
    _exit(0)  # EOF: the server is gone, or wants this process gone


def _end_with_parent() -> None:
    """Linux kills this process when its parent dies, even one that hangs in native code; elsewhere EOF must do."""
    if sys.platform == "linux" and not failpoint("process.deathsig"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _exit(status: int) -> NoReturn:
    # Not sys.exit: the reader thread sits in a blocking read, which a normal end of Python would wait for.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


# ---- errors ----


def error_frame(error: BaseException, request: str | None = None) -> Error:
    """The frame for an exception: its kind, one line for the user, and for surprises the traceback's last lines."""
    kind = error_kind(error)
    lines = "".join(traceback.format_exception(error)).splitlines()[-_TRACEBACK_LINES:]
    return Error(
        id=request,
        kind=kind,
        message=_message(error, kind),
        traceback=None if isinstance(error, EngineError) else "\n".join(lines),
        retry_after=error.retry_after if isinstance(error, EngineError) else None,
    )


def error_kind(error: BaseException) -> ErrorKind:
    if isinstance(error, EngineError):
        return error.kind
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "disk_full"
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _is_allocation(str(error))):
        return "out_of_memory"
    return "internal"


def _is_allocation(message: str) -> bool:
    """MLX has no exception class of its own: its GPU allocators throw RuntimeError, `[metal::malloc] Attempting to
    allocate …`, `cudaMallocAsync failed: out of memory`, Metal `Insufficient Memory`. Its CPU allocator throws nothing:
    there the kernel ends the process (SIGKILL, or SIGSEGV for a size that can't be had), which only the parent sees."""
    text = message.lower()
    return "malloc" in text or "out of memory" in text or "insufficient memory" in text or "unable to allocate" in text


def _message(error: BaseException, kind: ErrorKind) -> str:
    text = one_line(error)
    match kind:
        case "out_of_memory":
            return f"Not enough memory: {text}"
        case "disk_full":
            return f"The disk is full: {text}"
        case "internal" if not isinstance(error, EngineError):
            return f"{type(error).__name__}: {text}"
    return text


def one_line(error: object, limit: int = 400) -> str:
    """The text of an exception on one line, cut at `limit` characters."""
    text = " ".join(str(error).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
