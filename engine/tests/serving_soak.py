"""Random requests, cancels and adapters that are written anew, over and over: what the process holds must not grow.

`python serving_soak.py SEED ROUNDS` prints what was found as JSON, and ends with 1 when memory grew or an answer is
missing.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from pathlib import Path

import mlx.core as mx

from house import House, request
from mlx_engine.protocol import Done, Error
from serve_client import make_adapter, make_letter

_SLACK = 2 * 10**6  # bytes


def soak(folder: Path, seed: int, rounds: int, requests: int = 12) -> dict[str, list[int]]:
    """MLX's bytes after each round, and how its requests ended."""
    chance = random.Random(seed)
    model = make_letter(folder / "model", "ab")
    adapters: list[Path | None] = [None, *(folder / f"adapter-{i}" for i in range(5))]
    for adapter in adapters[1:]:
        make_adapter(adapter, model, rank=chance.choice([2, 4, 8]), seed=chance.randrange(1000))
    house = House(max_batch=4, prompt_cache_mb=1, adapters_mb=1, kv_mb=2)
    held, ended = [], []
    for turn in range(rounds):
        house.frames.clear()
        ids = [f"{turn}-{i}" for i in range(requests)]
        for id in ids:
            house.scheduler.submit(
                request(
                    id,
                    model,
                    chance.choice(adapters),
                    prompt=chance.choice(["a", "ab ", f"{chance.randrange(9)} "])
                    * chance.choice([chance.randrange(1, 60)] * 15 + [1100]),  # long ones are tokenised aside
                    stop=chance.choice([[], [], ["aba"]]),
                    max_tokens=chance.randrange(1, 60),
                    n=chance.choice([1, 1, 1, 2, 3]),
                    temperature=chance.choice([0.0, 1.0]),
                    json_schema=chance.choice([None, None, None, {"type": "integer"}]),
                )
            )
            for _ in range(chance.randrange(4)):
                house.scheduler.step()
            if chance.random() < 0.3:
                house.scheduler.cancel(chance.choice(ids))
        if chance.random() < 0.5:
            changed = chance.choice(adapters[1:])
            make_adapter(changed, model, rank=chance.choice([2, 4, 8]), seed=chance.randrange(1000))
        house.run()
        ends = house.ends()
        assert set(ends) == set(ids)
        assert all(isinstance(end, Done | Error) for end in ends.values())
        ended.append(sum(isinstance(end, Done) for end in ends.values()))
        mx.clear_cache()
        held.append(mx.get_active_memory())
    return {"bytes": held, "answered": ended}


def flat(held: list[int]) -> bool:
    """What the second half holds at most is not above what the first half did."""
    half = len(held) // 2
    return max(held[half:]) <= max(held[:half]) + _SLACK


def main() -> int:
    seed, rounds = int(sys.argv[1]), int(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder:
        found = soak(Path(folder), seed, rounds)
    half = rounds // 2
    told = {
        "requests": 12 * rounds,
        "answered": sum(found["answered"]),
        "bytes_before": max(found["bytes"][:half]),
        "bytes_after": max(found["bytes"][half:]),
        "flat": flat(found["bytes"]),
    }
    print(json.dumps(told))
    return 0 if told["flat"] else 1


if __name__ == "__main__":
    sys.exit(main())
