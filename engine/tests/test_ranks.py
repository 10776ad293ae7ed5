"""The group of ranks by itself: sums, and what becomes of it when a rank is lost. test_distributed.py trains on it."""

from __future__ import annotations

import json
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rank_program
from engine_process import EngineProcess
from harness import train_command
from mlx_engine import platform
from mlx_engine.cores import usable_cores
from mlx_engine.process import Engine
from mlx_engine.protocol import Channel, EngineError, Train
from mlx_engine.training.peers import Leader
from mlx_engine.training.ranks import Group, Member

PROGRAM = str(Path(rank_program.__file__))
OF_THREE = ("sum", "facts", "third dies")


def command(ranks: int) -> Train:
    """For its number of ranks; the scenarios train nothing."""
    with tempfile.TemporaryDirectory() as folder:
        return train_command(Path(folder), Path(folder), [], ranks=ranks)


@contextmanager
def leader(scenario: str) -> Iterator[EngineProcess]:
    with EngineProcess(PROGRAM, scenario) as process:
        process.send_line(msgspec.json.encode(command(3 if scenario in OF_THREE else 2)).decode())
        process.until("hello")
        yield process


def ending(scenario: str) -> dict[str, Any]:
    """The error frame that rank 0 ends with."""
    with leader(scenario) as process:
        error = process.until("error")[-1]
        assert process.wait() == 1
    return error


def alive(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


def wait_until_gone(pids: list[int]) -> None:
    for _ in range(200):
        if not any(map(alive, pids)):
            return
        time.sleep(0.05)
    raise AssertionError(f"still there: {[pid for pid in pids if alive(pid)]}")


def test_every_rank_gets_the_same_sum_every_time() -> None:
    with leader("sum") as process:
        found = json.loads(process.until("warning")[-1]["message"])
        assert process.wait() == 0
    hashes, numbers, *special = zip(*found["everyone"], strict=True)
    assert len({hash for of_rank in hashes for hash in of_rank}) == 1
    assert numbers == (0.1, 1.1, 2.1)
    assert str(special) == "[(nan, nan, nan), (-inf, -inf, -inf)]"
    assert found["types"] == ["mlx.core.float32", "mlx.core.bfloat16"]
    parts = [rank_program.numbers(rank) for rank in range(3)]
    for i, summed in enumerate(found["total"]["a"]):
        assert np.allclose(summed, sum(part["a"][i] for part in parts), atol=1e-6)
    assert np.allclose(found["total"]["b"]["c"], sum(part["b"]["c"] for part in parts), atol=1e-6)
    assert np.allclose(found["total"]["b"]["d"], sum(part["b"]["d"] for part in parts), atol=0.05)  # bfloat16


@pytest.mark.parametrize(
    ("scenario", "kind", "words"),
    [
        ("error", "invalid_dataset", "Rank 1: row 5 is not to be had"),
        ("facts", "internal", "tokens is 10 on rank 0 and 11 on rank 1"),
        ("exits", "internal", "Rank 1 ended with exit status 3"),
        ("exits too early", "internal", "Rank 1 ended with exit status 0"),
        ("third dies", "internal", "Rank 2 ended with exit status 3"),
        ("is killed", "internal", "Rank 1 was killed by SIGKILL: most likely the system ran out of memory"),
        ("dies in a sum", "internal", "Rank 1 was killed by SIGKILL: most likely the system ran out of memory"),
        ("is killed, and MLX never tells", "internal", "Rank 1 was killed by SIGKILL"),
        ("stops before joining", "internal", "Rank 1 gave no sign of life for 3 s and was ended"),
        ("lags behind", "internal", "Rank 1 was 2 s behind rank 0 and was ended"),
        ("hangs in a sum", "internal", "Rank 1 was ended because the ranks were summing gradients for 2 s"),
    ],
)
def test_a_lost_rank_ends_the_run_with_its_reason(scenario: str, kind: str, words: str) -> None:
    error = ending(scenario)
    assert error["kind"] == kind
    assert words in error["message"]


@pytest.mark.parametrize("end", ["SIGKILL", "SIGTERM", "stdin"])
def test_no_rank_outlives_rank_0(end: str) -> None:
    with leader("goes on") as process:
        pids = json.loads(process.until("warning", code="pids")[-1]["message"])
        assert all(map(alive, pids))
        process.close_stdin() if end == "stdin" else process.interrupt(getattr(signal, end))
        process.wait()
        wait_until_gone(pids)


def test_more_ranks_than_cores_are_refused() -> None:
    with pytest.raises(EngineError, match=f"ranks is 1000, but there are {usable_cores()} CPU cores to use") as caught:
        Leader(command(1000), Engine(Channel(), platform.setup()))
    assert caught.value.kind == "invalid_parameters"


def test_one_rank_does_everything_itself() -> None:
    group = Group()
    group.join()
    group.same(step=0)
    assert group.exchange("x") == ["x"]
    assert group.share([3, 1, 2]) == [0, 1, 2]


@given(st.lists(st.integers(1, 5000), max_size=40), st.integers(2, 8))
def test_each_part_is_one_ranks(costs: list[int], size: int) -> None:
    shares = [Member(rank, size, "ring").share(costs) for rank in range(size)]
    assert sorted(part for share in shares for part in share) == list(range(len(costs)))
    loads = [sum(costs[part] for part in share) for share in shares]
    assert max(loads) - min(loads) <= max(costs, default=0)
