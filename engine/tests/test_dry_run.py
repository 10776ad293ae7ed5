"""What a training would take, measured without starting it."""

from __future__ import annotations

import json
import math
import os
import threading
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine_process import EngineProcess
from harness import Frame, of, questions, row, train, train_command, write_snapshot
from mlx_engine import platform
from mlx_engine.process import Engine
from mlx_engine.protocol import Channel, Train
from mlx_engine.training import advice, dry_run, measure
from mlx_engine.training.forecast import Cost, Load, fit

COUNTS = (
    "total_steps",
    "steps_per_epoch",
    "samples",
    "samples_dropped",
    "samples_truncated",
    "tokens",
    "trained_tokens",
    "trainable_params",
    "total_params",
    "target_modules",
)
ONE_LONG = [*questions(20), row(20, ("user", "Count."), ("assistant", " so" * 2000))]


def estimate(command: Train) -> list[Frame]:
    """In this process."""
    reader, writer = os.pipe()
    frames: list[Frame] = []

    def read() -> None:
        with os.fdopen(reader) as lines:
            frames.extend(json.loads(line) for line in lines)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        dry_run.DryRun(command, Engine(Channel(writer), platform.setup(measure=True))).run()
    finally:
        os.close(writer)
        thread.join()
    return frames


# ---- whole estimates ----


def test_the_process_tells_what_the_run_will_tell_and_writes_nothing(tmp_path: Path, chat: Path) -> None:
    write_snapshot(tmp_path / "held.jsonl", questions(5))
    command = train_command(
        tmp_path,
        chat,
        [*questions(11), row(11, ("user", "Hi"), ("assistant", " so" * 200)), row(12, ("user", "Hi"))],
        gradient_accumulation_steps=2,
        epochs=3,
        dataset__validation_path=str(tmp_path / "held.jsonl"),
        dataset__cache_path=str(tmp_path / "cache"),
        sample_prompts=["What is 3?"],
    )
    with EngineProcess("-m", "mlx_engine.estimate") as process:
        process.send_line(msgspec.json.encode(command).decode())
        frames = list(process.frames())
        assert process.wait() == 0
    assert not (tmp_path / "out").exists()
    assert len(list((tmp_path / "cache").iterdir())) == 2
    before, found = of(frames, "estimated")
    run = train(command)
    (prepared,) = of(run, "prepared")
    for name in COUNTS:
        assert before[name] == found[name] == prepared[name], name
    assert of(frames, "warning")[:2] == of(run, "warning")[:2] != []
    assert (before["measured_steps"], before["fits"], before["peak_memory_mb"]) == (0, False, None)
    assert (found["measured_steps"], found["fits"]) == (3, True)
    assert found["longest_sample"] == 128
    assert 0 <= found["padding_share"] < 0.5
    assert found["seconds"] > found["seconds_per_step"] * found["total_steps"] > 0
    assert found["tokens_per_second"] > 0
    assert 10 < found["peak_memory_mb"] < found["available_memory_mb"]


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "qlora"},
        {"method": "full", "lora": None, "optimizer": "adafactor"},
        {"lora__use_dora": True, "optimizer": "muon"},
        {"dataset__shuffle": False, "dataset__packing": False, "dataset__validation_split": 0.3, "max_steps": 3},
    ],
)
def test_every_method_is_measured(tmp_path: Path, chat: Path, changes) -> None:
    command = train_command(tmp_path, chat, questions(30), **changes)
    found = estimate(command)[-1]
    assert found["measured_steps"] == 3, found
    assert found["fits"], found
    prepared = of(train(command), "prepared")[0]
    assert {name: found[name] for name in COUNTS} == {name: prepared[name] for name in COUNTS}


def test_a_model_that_does_not_fit_is_not_read(tmp_path: Path, chat: Path, monkeypatch) -> None:
    monkeypatch.setattr(dry_run, "available_bytes", lambda: 800_000)
    (found,) = of(estimate(train_command(tmp_path, chat, questions(5), method="full", lora=None)), "estimated")
    assert (found["fits"], found["measured_steps"], found["peak_memory_mb"]) == (False, 0, None)
    assert found["seconds"] > 0
    assert found["advice"] == [
        "The model would take about 0.0 GB, and 0.0 GB are available",
        "LoRA (lora.use_lora) would take about 0.0 GB less, which would fit",
    ]


def test_a_batch_that_does_not_fit_is_not_begun(tmp_path: Path, chat: Path, monkeypatch) -> None:
    """Memory for the usual step, which takes 2 MB, while one row of 2,000 tokens takes 40 to 50, as it is foretold."""
    monkeypatch.setattr(dry_run, "available_bytes", lambda: 20_000_000)
    monkeypatch.setattr(measure, "memory_mb", lambda: 1.0)
    steps = []
    original = measure.Measure.step

    def step(self, *arguments):
        steps.append(original(self, *arguments))
        return steps[-1]

    monkeypatch.setattr(measure.Measure, "step", step)
    frames = estimate(train_command(tmp_path, chat, ONE_LONG, dataset__max_seq_length=4096))
    found = frames[-1]
    assert max(step.load.positions for step in steps) < 1000
    assert (found["fits"], found["measured_steps"], found["seconds_per_step"]) == (False, 0, None)
    assert "The largest batch would take about" in found["advice"][0]
    assert any(said.startswith("max_seq_length ") and "it cuts 1 of 21 rows" in said for said in found["advice"])
    assert found["seconds"] > 0


def test_ranks_share_the_memory_of_a_cpu(tmp_path: Path, chat: Path) -> None:
    one, two = (estimate(train_command(tmp_path, chat, questions(5), ranks=ranks)) for ranks in (1, 2))
    assert two[-1]["available_memory_mb"] == pytest.approx(one[-1]["available_memory_mb"] / 2, rel=0.2)
    assert "one_rank" in [frame["code"] for frame in of(two, "warning")]


# ---- what it is made of ----

counts = st.floats(1, 1e6)


@given(counts, counts, counts, st.floats(0, 1e3), st.floats(1.2, 100))
def test_two_loads_tell_the_cost_of_tokens_and_of_pairs(positions, width, a, b, wider) -> None:
    cost = Cost(a, b)
    small, large = Load(positions, positions * width), Load(positions, positions * width * wider)
    found = fit((small, cost.of(small)), (large, cost.of(large)), math.inf)
    assert found.of(small) == pytest.approx(cost.of(small), rel=1e-6)
    assert found.of(large) == pytest.approx(cost.of(large), rel=1e-6)


@given(counts, counts, counts, counts, counts, counts, st.sampled_from([1500.0, math.inf]))
def test_no_cost_is_negative_and_none_is_far_off(p1, w1, p2, w2, t1, t2, square) -> None:
    small, large = Load(p1, p1 * w1), Load(p2, p2 * w2)
    found = fit((small, t1), (large, t2), square)
    assert found.position > 0
    assert found.pair >= 0
    assert found.of(small) + found.of(large) == pytest.approx(t1 + t2, rel=1e-6)


def test_few_long_rows_that_take_the_time_are_told() -> None:
    lengths = np.array([100] * 95 + [3000] * 5)
    (said,) = advice.long_rows(lengths, Cost(1e-3, 1e-6))
    taken = 5 * (3 + 9)
    saved = taken - 5 * (0.128 + 0.016384)
    share, save = taken / (taken + 95 * 0.11), saved / (taken + 95 * 0.11)
    assert said == (
        f"5 of 100 rows, longer than 128 tokens, take {share:.0%} of the time: "
        f"max_seq_length 128 would save {save:.0%} of it"
    )
    assert advice.long_rows(np.array([100] * 99 + [3000]), Cost(1e-3, 1e-6))[0].startswith("1 of 100 rows, longer")
    assert advice.long_rows(np.array([100] * 50 + [3000] * 50), Cost(1e-3, 1e-6)) == []
    assert advice.long_rows(np.array([100] * 100), Cost(1e-3, 1e-6)) == []


def test_what_would_fit(tmp_path: Path, chat: Path) -> None:
    command = train_command(tmp_path, chat, questions(5), dataset__batch_size=8, gradient_accumulation_steps=2)
    lengths = np.array([100, 200, 1024])

    def said(predict) -> list[str]:
        return advice.smaller_batches(command, lengths, predict, 1000)

    assert said(lambda limit, size: limit * size / 2) == [
        "batch_size 1 with gradient_accumulation_steps 16 would fit, and gives the same result",
        "max_seq_length 128 would fit; it cuts 2 of 3 rows",
    ]
    assert said(lambda limit, size: limit) == ["max_seq_length 768 would fit; it cuts 1 of 3 rows"]
    assert said(lambda limit, size: math.inf) == []
