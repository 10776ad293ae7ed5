"""What the ranks of test_ranks.py do: `rank_program.py SCENARIO` is rank 0, with RANK SIZE LINK FRAMES another one."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from hashlib import sha256
from typing import Any

import mlx.core as mx
import numpy as np

from mlx_engine.process import Engine, run
from mlx_engine.protocol import EngineError, Train
from mlx_engine.training import peers, ranks
from mlx_engine.training.peers import Leader
from mlx_engine.training.ranks import Follower, Group, Link


def numbers(rank: int) -> dict[str, Any]:
    draw = np.random.default_rng(rank).normal
    shapes = {"a": [(3, 5), (1,), (70, 40)], "b": {"c": (), "d": (2, 3, 4)}}
    return {
        "a": [draw(size=shape).astype(np.float32) for shape in shapes["a"]],
        "b": {name: draw(size=shape).astype(np.float32) for name, shape in shapes["b"].items()},
    }


def tree(values: dict[str, Any]) -> dict[str, Any]:
    return {
        "a": [mx.array(value) for value in values["a"]],
        "b": {"c": mx.array(values["b"]["c"]), "d": mx.array(values["b"]["d"]).astype(mx.bfloat16)},
    }


def work(group: Group, engine: Engine, scenario: str) -> None:
    """Both sides of a scenario. Rank 0 tells what came of it as a warning."""
    last = group.rank == group.size - 1
    if scenario == "facts":
        group.same(step=3, tokens=10 + group.rank)
    if scenario == "stops before joining" and last:
        os.kill(os.getpid(), signal.SIGSTOP)
    if scenario == "error" and last:
        raise EngineError("invalid_dataset", "row 5 is not to be had")
    group.join()
    if scenario == "sum":
        ranks._FLAT_BYTES = 400  # several sums
        hashes = []
        for _ in range(3):
            total = group.total(tree(numbers(group.rank)))
            bits = b"".join(np.array(a.astype(mx.float32)).tobytes() for a in [*total["a"], *total["b"].values()])
            hashes.append(sha256(bits).hexdigest())
        found = group.exchange([hashes, 0.1 + group.rank, float("nan"), float("-inf")])
        types = [str(total["a"][0].dtype), str(total["b"]["d"].dtype)]
        lists = {"a": [a.tolist() for a in total["a"]], "b": {k: a.tolist() for k, a in total["b"].items()}}
        engine.warn("found", json.dumps({"everyone": found, "types": types, "total": lists}))
        return
    engine.stage("joined", os.getpid() if group.rank == 0 else 0)
    if isinstance(group, Leader):
        engine.warn("pids", json.dumps([peer.pid for peer in group.peers]))
    if last:
        misbehave(scenario)
    for _ in range(1000 if scenario == "goes on" else 2):
        group.total({"x": mx.ones(10)})
        time.sleep(0.05)
    group.exchange(None)
    engine.warn("found", "the end")


def misbehave(scenario: str) -> None:
    """For a rank that has joined."""
    all_sum = mx.distributed.all_sum

    def after_the_others(*arguments: Any, **options: Any) -> mx.array:
        match scenario:
            case "dies in a sum":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hangs in a sum":
                time.sleep(600)
        return all_sum(*arguments, **options)

    match scenario:
        case "exits" | "third dies":
            os._exit(3)
        case "exits too early":
            os._exit(0)
        case "is killed" | "is killed, and MLX never tells":
            os.kill(os.getpid(), signal.SIGKILL)
        case "lags behind":
            time.sleep(600)
        case "dies in a sum" | "hangs in a sum":
            mx.distributed.all_sum = after_the_others


def lead(engine: Engine) -> None:
    (scenario,) = sys.argv[1:]
    peers.usable_cores = lambda: 4  # three ranks on any machine
    peers.PROGRAM = (__file__, scenario)
    if scenario == "stops before joining":
        peers._SILENCE = 3
    if scenario == "lags behind":
        peers._BEHIND, peers._BEHIND_FACTOR = 2, 0
    if scenario == "hangs in a sum":
        peers._INSIDE_MLX = 2
    leader = Leader(engine.expect(Train), engine)
    if scenario == "is killed, and MLX never tells":
        peers._TO_RAISE = 1
        leader.join()
        with leader._inside_mlx("summing"):
            time.sleep(600)  # NCCL
    work(leader, engine, scenario)


def follow(engine: Engine) -> None:
    scenario = sys.argv[1]
    rank, size, link = map(int, sys.argv[2:5])
    work(Follower(rank, size, "ring", Link(socket.socket(fileno=link))), engine, scenario)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        run(follow, frames=int(sys.argv[5]))
    run(lead)
