"""Rank 0 of a run on several ranks: starts the others on this machine, hears them, and fails when one of them does.

A rank that dies closes its link, which is where rank 0 waits; a rank that hangs, or a connection that does, is found by
a thread that counts seconds and ends it, so that there is one way to fail. What the others hold is of no value
without rank 0: they end with it (their stdin closes, and Linux kills them), and the run goes on from its checkpoint.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import mlx.core as mx
import msgspec

from mlx_engine.cores import usable_cores
from mlx_engine.hang import WATCH
from mlx_engine.platform import Platform
from mlx_engine.process import Engine, error_frame, error_kind, one_line
from mlx_engine.protocol import Answering, EngineError, Train
from mlx_engine.training.ranks import Link, Lost, Member, backend_of

PROGRAM = ("-m", "mlx_engine.rank")
# Seconds. Counted by a thread that sleeps them, so that they stand still while the machine or this process does.
_SILENCE = 60  # between signs of life, of which every process gives one each 2 s
_INSIDE_MLX = 60  # for one sum, or for connecting, once all ranks are there
_BEHIND = 300  # for a rank to come where rank 0 is, or _BEHIND_FACTOR times what rank 0 itself took since the last time
_BEHIND_FACTOR = 10
_TO_RAISE = 5  # for MLX to see that a rank is gone. Its ring takes half a second; NCCL can wait for ever


class Peer:
    """Another rank's process. `command` is the line that it is given on stdin."""

    def __init__(self, rank: int, arguments: Sequence[str], environment: dict[str, str], command: bytes) -> None:
        self.rank = rank
        self.silence = 0
        self.memory_mb = 0.0
        self.ended = threading.Event()
        self._error: dict[str, str] | None = None
        self._fault: str | None = None
        ours, theirs = socket.socketpair()
        frames, frames_end = os.pipe()
        with theirs, os.fdopen(frames_end, "wb"):
            self._process = subprocess.Popen(
                [sys.executable, *arguments, str(theirs.fileno()), str(frames_end)],
                stdin=subprocess.PIPE,
                pass_fds=(theirs.fileno(), frames_end),
                env={**os.environ, **environment},
            )
        self.pid = self._process.pid
        self.link = Link(ours)
        threading.Thread(target=self._listen, args=(frames,), daemon=True, name=f"rank {rank}").start()
        self.send(command)

    def send(self, command: bytes) -> None:
        try:
            self._process.stdin.write(command + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended, which the link tells

    def end(self, fault: str) -> None:
        if not self.ended.is_set():
            self._fault = fault
            self._process.kill()

    def failure(self) -> EngineError | None:
        """Why it has ended, if it has."""
        if not self.ended.is_set():
            return None
        status = self._process.returncode
        if self._fault is not None:
            return EngineError("internal", f"Rank {self.rank} {self._fault}")
        if self._error is not None:
            return EngineError(self._error["kind"], f"Rank {self.rank}: {self._error['message']}")
        if status == -signal.SIGKILL:
            return EngineError(
                "internal", f"Rank {self.rank} was killed by SIGKILL: most likely the system ran out of memory"
            )
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"
        return EngineError("internal", f"Rank {self.rank} {how}")

    def _listen(self, frames: int) -> None:
        with os.fdopen(frames, "rb") as lines:
            for line in lines:
                self.silence = 0
                frame = json.loads(line)
                match frame["type"]:
                    case "alive":
                        self.memory_mb = frame["memory_mb"]
                    case "error":
                        self._error = frame
        self._process.wait()
        self.ended.set()


@dataclass
class _Wait:
    """What the main thread waits for, and whom it waits for."""

    limit: float
    fault: str
    peers: Sequence[Peer]
    inside_mlx: bool = False
    seconds: int = 0
    after_end: int = 0  # seconds since a rank's end


class Leader(Member):
    """Rank 0. The other ranks are given `command` too, and run `PROGRAM RANK SIZE LINK FRAMES`.

    EngineError('invalid_parameters') for more ranks than this machine can serve.
    """

    def __init__(self, command: Train, engine: Engine) -> None:
        size, line = command.ranks, msgspec.json.encode(command)
        super().__init__(0, size, backend_of(engine.platform))
        environments = _environments(size, engine.platform)
        self._engine = engine
        self._wait: _Wait | None = None
        self._met = time.monotonic()
        self.peers = [Peer(rank, [*PROGRAM, str(rank), str(size)], environments[rank], line) for rank in range(1, size)]
        threading.Thread(target=self._watch, daemon=True, name="ranks").start()

    def exchange(self, value: object) -> list[object]:
        behind = max(_BEHIND, _BEHIND_FACTOR * (time.monotonic() - self._met))
        try:
            values = [json.loads(json.dumps(value))]  # as the others see it: tuples are lists
            for peer in self.peers:
                with self._waiting(_Wait(behind, f"was {behind:.0f} s behind rank 0 and was ended", [peer])):
                    values.append(peer.link.receive())
            for peer in self.peers:
                peer.link.send(values)
        except Lost:
            raise self._failure("The connection to a rank was lost") from None
        self._met = time.monotonic()
        return values

    def answering(self, active: bool) -> None:
        for peer in self.peers:
            peer.send(msgspec.json.encode(Answering(active=active)))

    def memory_mb(self) -> float:
        return round(super().memory_mb() + sum(peer.memory_mb for peer in self.peers), 1)

    def close(self) -> None:
        for peer in self.peers:
            peer.end("was not needed any more")

    @contextmanager
    def _inside_mlx(self, doing: str) -> Iterator[None]:
        fault = f"was ended because the ranks were {doing} for {_INSIDE_MLX} s"
        try:
            with self._waiting(_Wait(_INSIDE_MLX, fault, self.peers, inside_mlx=True)):
                yield
        except RuntimeError as error:
            if error_kind(error) == "out_of_memory":
                raise
            raise self._failure(f"The ranks failed at {doing}: {one_line(error)}") from error

    @contextmanager
    def _meeting_place(self) -> Iterator[dict[str, str]]:
        """Ports of 127.0.0.1, reserved: MLX's sockets may share them, other programs may not. With NCCL, MLX listens on
        all addresses for the moment in which rank 0 gives the others the group's id."""
        with ExitStack() as stack:
            ports = []
            for _ in range(self.size):
                reserved = stack.enter_context(socket.socket())
                for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
                    reserved.setsockopt(socket.SOL_SOCKET, option, 1)
                reserved.bind(("127.0.0.1", 0))
                ports.append(reserved.getsockname()[1])
            if self._backend == "nccl":
                yield {
                    "MLX_WORLD_SIZE": str(self.size),
                    "NCCL_HOST_IP": "127.0.0.1",
                    "NCCL_PORT": str(ports[0]),
                    "NCCL_SOCKET_IFNAME": "lo",
                }
                return
            file = stack.enter_context(tempfile.NamedTemporaryFile("w", prefix="mlx-ranks-", suffix=".json"))
            json.dump([[f"127.0.0.1:{port}"] for port in ports], file)
            file.flush()
            yield {"MLX_HOSTFILE": file.name}

    @contextmanager
    def _waiting(self, wait: _Wait) -> Iterator[None]:
        self._wait = wait
        try:
            yield
        finally:
            self._wait = None

    def _failure(self, otherwise: str) -> EngineError:
        """Of the rank that has ended. MLX or the link can tell of the end before the process is gone."""
        for _ in range(100):
            for peer in self.peers:
                if (failure := peer.failure()) is not None:
                    return failure
            time.sleep(0.05)
        return EngineError("internal", otherwise)

    def _watch(self) -> None:
        while True:
            time.sleep(1)
            for peer in self.peers:
                peer.silence += 1
                if peer.silence > _SILENCE:
                    peer.end(f"gave no sign of life for {_SILENCE} s and was ended")
            if (wait := self._wait) is None:
                continue
            WATCH.moved()  # it is the others that are waited for, and that are ended
            wait.seconds += 1
            if wait.seconds > wait.limit:
                for peer in wait.peers:
                    peer.end(wait.fault)
            if wait.inside_mlx and any(peer.ended.is_set() for peer in self.peers):
                wait.after_end += 1
                if wait.after_end > _TO_RAISE:
                    self._engine.channel.send(error_frame(self._failure(wait.fault)))
                    os._exit(1)


def _environments(size: int, platform: Platform) -> list[dict[str, str]]:
    """What the ranks' environments differ in: on CUDA each has a GPU of its own."""
    if backend_of(platform) == "ring":
        if size > usable_cores():
            raise _too_many(size, f"there are {usable_cores()} CPU cores to use")
        return [{}] * size
    gpus = mx.device_count(mx.gpu)
    if size > gpus:
        raise _too_many(size, f"there are {gpus} GPUs to use")
    if not mx.distributed.is_available("nccl"):
        raise EngineError("invalid_parameters", f"ranks is {size}, but this MLX was built without NCCL: leave it at 1")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(gpu) for gpu in range(gpus)]
    return [{"CUDA_VISIBLE_DEVICES": names[rank]} for rank in range(size)]


def _too_many(size: int, has: str) -> EngineError:
    return EngineError("invalid_parameters", f"ranks is {size}, but {has}: ask for no more")
