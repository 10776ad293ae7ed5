"""Training gives way to answers, within its limits, and computes the same."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import files, newest, numbers, of, questions, start, train, train_command
from mlx_engine.protocol import Answering
from mlx_engine.training.ceding import Ceding
from tiny import make_tiny_model


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


PIECES = st.lists(
    st.tuples(st.booleans(), st.floats(0.01, 20), st.floats(0.01, 5)), min_size=1, max_size=60
)  # (whether answers are generated, how long the piece takes, between looks while it is held)


@given(st.floats(0.05, 0.9), st.floats(0.1, 30), PIECES)
def test_what_is_ceded_keeps_to_the_share_and_to_the_longest_stretch(share, longest, pieces):
    clock = Clock()
    ceding = Ceding(share, longest, clock)
    for answering, takes, look in pieces:
        ceding.told(answering)
        began = clock.now
        while ceding.holds(0.0):
            assert answering
            clock.now += min(look, 0.2)
        assert clock.now - began <= longest + 0.2
        clock.now += takes
    assert ceding.seconds <= longest + share * (clock.now - 100.0) + 0.2 * len(pieces)


def test_without_a_share_nothing_is_ceded():
    ceding = Ceding(0.0, 10.0)
    ceding.told(True)
    assert not ceding.holds(10.0)


def test_the_end_of_the_last_answer_lets_it_go_on_at_once():
    ceding = Ceding(0.5, 60.0)
    ceding.told(True)
    assert ceding.holds(0.05)
    ceding.told(False)
    before = time.monotonic()
    assert not ceding.holds(60.0)
    assert time.monotonic() - before < 30
    assert 0.05 <= ceding.seconds < 30


def test_what_is_computed_is_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLX_TRAINING_GENERATION_YIELD_MS", "40")
    model = make_tiny_model(tmp_path / "model")
    settings = {"lora__dropout": 0.1, "gradient_accumulation_steps": 2, "dataset__validation_split": 0.2}
    found = {}
    for name in ("undisturbed", "ceding"):
        command = train_command(tmp_path / name, model, questions(16), **settings)

        def told(frame, name=name):
            return Answering(active=frame["step"] % 2 == 1) if name == "ceding" and frame["type"] == "step" else None

        frames = train(command, told)
        found[name] = (numbers(frames), files(newest(tmp_path / name)))
        ceded = sum(frame["ceded_seconds"] for frame in of(frames, "step"))
        assert (ceded > 0) == (name == "ceding")
    assert found["undisturbed"][0] == found["ceding"][0]
    for name, content in found["undisturbed"][1].items():
        if name.endswith(".safetensors"):
            assert content == found["ceding"][1][name]


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_run_that_gives_way_is_alive_and_stops_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranks: int):
    monkeypatch.setenv("MLX_TRAINING_GENERATION_YIELD_MS", "3600000")
    model = make_tiny_model(tmp_path / "model")
    with start(train_command(tmp_path, model, questions(16), epochs=1000, ranks=ranks)) as process:
        process.until("step")
        process.send("answering", active=True)
        before = process.alive_frames
        time.sleep(3)
        alive = process.alive_frames
        process.send("answering", active=False)
        held = next(frame for frame in process.frames() if frame.get("ceded_seconds", 0) > 1)
        assert alive > before
        process.send("answering", active=True)
        time.sleep(0.5)
        process.send("stop")
        before = time.monotonic()
        end = process.until("finished")[-1]
        assert process.wait() == 0
    assert held["ceded_seconds"] < 30
    assert end["outcome"] == "stopped"
    assert time.monotonic() - before < 60
