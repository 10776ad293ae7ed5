"""Data-parallel ranks: processes that share each step and hold the same model.

Rank 0 is the process that the server started; peers.py starts the others from it. Two things connect them:

    link    a socket pair between rank 0 and each other rank, for small values and for waiting. It tells at once when
            the process at its other end is gone.
    data    mlx.distributed, for the sum of the gradients: ring on CPU and Metal, NCCL on CUDA.

They wait for each other on the link alone, because a process that waits inside MLX's ring takes a whole core: 2.9 of
5 seconds, measured on two cores that others wanted too.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_unflatten

from mlx_engine.platform import Platform, memory_mb
from mlx_engine.process import error_kind
from mlx_engine.protocol import EngineError

# Gradients are summed in flat arrays of about this size: one for a LoRA adapter, several for a whole model, whose
# gradients need not be in memory twice. Small beside a step, large beside the latency of a message.
_FLAT_BYTES = 64 << 20


class Group:
    """The ranks of a run, seen from one of them. This is a run of one rank, which costs nothing."""

    rank = 0
    size = 1

    def join(self) -> None:
        """Connects the ranks for `total`, once all of them are here."""

    def exchange(self, value: Any) -> list[Any]:
        """Every rank's value (JSON; numbers arrive exactly), by rank, once all ranks have called this."""
        return [value]

    def same(self, **facts: Any) -> None:
        """Waits for all ranks. EngineError that names what is not the same on all of them."""
        for rank, theirs in enumerate(self.exchange(facts)):
            for name, value in facts.items():
                if theirs[name] != value:
                    raise EngineError(
                        "internal", f"{name} is {value} on rank {self.rank} and {theirs[name]} on rank {rank}"
                    )

    def total(self, tree: Any) -> Any:
        """The sum over the ranks of a tree of arrays, the same bits on each; for all ranks to call at once.

        Float arrays of any shapes, summed in float32 and returned in their own types, evaluated.
        """
        return tree

    def share(self, costs: Sequence[float]) -> list[int]:
        """Which of a step's parts are this rank's, by their costs: each part is one rank's, on all ranks alike."""
        return list(range(len(costs)))

    def answering(self, active: bool) -> None:
        """Passes on to the other ranks whether answers are being generated; on any thread."""

    def memory_mb(self) -> float:
        """Of all ranks that this one knows of: rank 0 knows all. See platform.memory_mb."""
        return memory_mb()

    def close(self) -> None:
        """Ends the other ranks, which are not needed any more."""


ALONE = Group()


def backend_of(platform: Platform) -> str:
    return "nccl" if platform.device.startswith("cuda") else "ring"


class Lost(Exception):
    """The process at the other end of a link is gone."""


class Link:
    """Values both ways, as JSON lines. Sending a large one blocks until the other end receives."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._lines = end.makefile("rb")

    def send(self, value: Any) -> None:
        try:
            self._socket.sendall(json.dumps(value).encode() + b"\n")
        except OSError as error:
            raise Lost from error

    def receive(self) -> Any:
        try:
            line = self._lines.readline()
        except OSError as error:
            raise Lost from error
        if not line.endswith(b"\n"):
            raise Lost
        return json.loads(line)


class Member(Group):
    """One of several ranks. How it reaches the others is for its subclasses to know."""

    def __init__(self, rank: int, size: int, backend: str) -> None:
        self.rank = rank
        self.size = size
        self._backend = backend
        self._data: mx.distributed.Group | None = None

    def join(self) -> None:
        self.exchange(None)
        with self._meeting_place() as place:
            os.environ.update(self.exchange(place)[0], MLX_RANK=str(self.rank))
            with self._inside_mlx("connecting"):
                self._data = mx.distributed.init(strict=True, backend=self._backend)
            self.exchange(None)

    def total(self, tree: Any) -> Any:
        names, arrays = zip(*tree_flatten(tree), strict=True)
        mx.eval(arrays)
        self.exchange(None)
        summed: list[mx.array] = []
        for bucket in _buckets(arrays):
            flat = mx.concatenate([array.reshape(-1).astype(mx.float32) for array in bucket])
            mx.eval(flat)
            with self._inside_mlx("summing gradients"):
                flat = mx.distributed.all_sum(flat, group=self._data)
                mx.eval(flat)
            start = 0
            for array in bucket:
                part = flat[start : start + array.size]
                summed.append(part.reshape(array.shape).astype(array.dtype))
                start += array.size
            mx.eval(summed)
        return tree_unflatten(list(zip(names, summed, strict=True)))

    def share(self, costs: Sequence[float]) -> list[int]:
        loads = [0.0] * self.size
        mine = []
        for part in sorted(range(len(costs)), key=lambda part: -costs[part]):
            rank = loads.index(min(loads))
            loads[rank] += costs[part]
            if rank == self.rank:
                mine.append(part)
        return sorted(mine)

    def _meeting_place(self) -> AbstractContextManager[dict[str, str] | None]:
        """Rank 0 chooses where mlx.distributed connects the ranks: environment variables, as long as needed."""
        return nullcontext()

    def _inside_mlx(self, doing: str) -> AbstractContextManager[None]:
        """Around what waits inside MLX for other ranks. An error of the ring there is a symptom: see subclasses."""
        raise NotImplementedError


class Follower(Member):
    """A rank that rank 0 started: see rank.py."""

    def __init__(self, rank: int, size: int, backend: str, link: Link) -> None:
        super().__init__(rank, size, backend)
        self._link = link

    def exchange(self, value: Any) -> list[Any]:
        self._link.send(value)
        return self._link.receive()

    @contextmanager
    def _inside_mlx(self, doing: str) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            if error_kind(error) == "out_of_memory":
                raise
            # Most likely another rank has died: that one is to be named, not this one, and rank 0 ends the rest.
            print(f"Rank {self.rank}, {doing}: {error}", file=sys.stderr, flush=True)
            self._link.receive()
            raise


def _buckets(arrays: Sequence[mx.array]) -> Iterator[list[mx.array]]:
    bucket: list[mx.array] = []
    size = 0
    for array in arrays:
        if bucket and size + 4 * array.size > _FLAT_BYTES:
            yield bucket
            bucket, size = [], 0
        bucket.append(array)
        size += 4 * array.size
    if bucket:
        yield bucket
