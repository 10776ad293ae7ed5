"""Work that gets no further ends its process, however well its heart beats."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import of, questions, start, train_command
from mlx_engine.hang import VARIABLE, Watch
from tiny import make_tiny_model


def test_beats_without_a_move_are_counted_and_a_move_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "6")
    watch = Watch()
    assert [watch.beat(2) for _ in range(9)] == [None] * 9  # an engine that waits for commands does nothing either
    watch.begin()
    assert [watch.beat(2) for _ in range(3)] == [None] * 3
    watch.moved()
    assert [watch.beat(2) for _ in range(3)] == [None] * 3
    assert "no progress for 6 s" in watch.beat(2)


def test_without_a_limit_nothing_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    watch = Watch()
    watch.begin()
    assert [watch.beat(1e6) for _ in range(9)] == [None] * 9


def test_a_run_that_hangs_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "8")
    monkeypatch.setenv("MLX_TRAINING_FAILPOINTS", "step.begun@3=hang")
    model = make_tiny_model(tmp_path / "model")
    with start(train_command(tmp_path, model, questions(12), save_steps=1)) as process:
        frames = list(process.frames())
        assert process.wait() == 1
    assert [step["step"] for step in of(frames, "step")] == [1, 2]
    assert of(frames, "checkpoint")[-1]["step"] == 2
    (error,) = of(frames, "error")
    assert error["kind"] == "internal"
    assert error["message"].startswith("The engine made no progress for 8 s, in failpoints.py, line ")
    assert "MainThread:\n" in process.log
    assert "in _step\n" in process.log
    assert process.alive_frames >= 4
