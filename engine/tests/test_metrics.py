"""What is told of each step: losses, rates, speed, padding, memory, time left."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import of, questions, train, train_command, write_snapshot
from mlx_engine.training import evaluation, loop, samples
from mlx_engine.training.checkpoint import Progress
from mlx_engine.training.speed import Meter, Pace


def test_the_smoothed_loss_is_a_decayed_mean() -> None:
    progress = Progress()
    assert progress.smoothed_loss is None
    losses = [4.0, 2.0, 8.0, 1.0]
    for loss in losses:
        progress.step += 1
        progress.add(loss, 0.9)
    weights = [0.9**3, 0.9**2, 0.9, 1.0]
    expected = sum(w * x for w, x in zip(weights, losses, strict=True)) / sum(weights)
    assert progress.smoothed_loss == pytest.approx(expected)
    assert (progress.loss, progress.first_loss) == (1.0, 4.0)


def test_losses_rates_and_counts_of_a_run(tmp_path: Path, chat: Path) -> None:
    changes = {"learning_rate": 8e-3, "warmup_ratio": 0.25, "lr_scheduler_type": "linear", "epochs": 2}
    frames = train(train_command(tmp_path, chat, questions(8), dataset__packing=False, **changes))
    steps = of(frames, "step")
    assert [s["learning_rate"] for s in steps] == pytest.approx(
        [4e-3, 8e-3, 8e-3, 8e-3 * 5 / 6, 8e-3 * 4 / 6, 8e-3 * 3 / 6, 8e-3 * 2 / 6, 8e-3 / 6]
    )
    decayed = weight = 0.0
    for s in steps:
        decayed, weight = 0.95 * decayed + s["loss"], 0.95 * weight + 1
        assert s["smoothed_loss"] == pytest.approx(decayed / weight)
        assert s["grad_norm"] > 0
        assert 0 <= s["padding_share"] < 1
        assert s["memory_mb"] > 10
        assert s["tokens_per_second"] * s["trained_tokens"] == pytest.approx(
            s["trained_tokens_per_second"] * s["tokens"], rel=1e-3
        )
    assert steps[-1]["seconds_remaining"] == 0


def test_padding_is_what_a_step_computed_in_vain(tmp_path: Path, chat: Path) -> None:
    """Two rows of one length have none; alone, a row never has."""
    rows = [questions(1)[0], questions(1)[0]]
    for batch_size in (1, 2):
        frames = train(train_command(tmp_path, chat, rows, dataset__batch_size=batch_size, epochs=1))
        assert [s["padding_share"] for s in of(frames, "step")] == [0] * (2 // batch_size)


def test_the_time_left_counts_steps_evaluations_and_samples(
    tmp_path: Path, chat: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock on which a step, an evaluation and a round of samples take a second each."""
    ticks = itertools.count()
    for module in (loop, evaluation, samples):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: float(next(ticks))))
    write_snapshot(tmp_path / "held.jsonl", questions(2))
    command = train_command(
        tmp_path,
        chat,
        questions(8),
        dataset__validation_path=str(tmp_path / "held.jsonl"),
        eval_steps=3,
        sample_prompts=["Hello?"],
        sample_steps=5,
        sample_max_tokens=1,
        save_steps=100,
    )
    frames = train(command)
    (prepared,) = of(frames, "prepared")
    steps = of(frames, "step")
    assert [s["tokens_per_second"] for s in steps] == [s["tokens"] for s in steps]
    for s in steps:
        number = s["step"]
        known = [other["tokens"] for other in steps[:number]]
        known = known[1:] if number > 1 else known
        tokens = (8 - number) * prepared["tokens"] / 4
        evaluations = sum(due >= number for due in (3, 6, 8))
        rounds = sum(due >= number for due in (5, 8))
        assert s["seconds_remaining"] == pytest.approx(
            tokens * len(known) / sum(known) + evaluations + rounds, abs=0.06
        ), number


def test_the_first_step_warms_up() -> None:
    meter = Meter()
    assert meter.remaining(100) is None
    meter.add(10, 50.0)
    assert meter.remaining(10) == 50.0
    meter.add(10, 1.0)
    assert meter.remaining(10) == 1.0


@given(
    cost=st.floats(0.01, 30),
    estimate=st.floats(0.01, 10),
    step=st.floats(0.1, 100),
    hours=st.floats(0.1, 10),
)
def test_checkpoints_take_no_more_than_their_share(cost: float, estimate: float, step: float, hours: float) -> None:
    pace = Pace(0.0, pause=60.0, share=0.02, estimate=min(cost, estimate))
    now = spent = 0.0
    saved: list[float] = []
    while now < hours * 3600:
        now += step
        if pace.due(now):
            assert now - (saved[-1] if saved else 0.0) >= 60
            now += cost
            spent += cost
            saved.append(now)
            pace.done(now, cost)
    # The first one's cost is only guessed: it may be dearer than its share.
    assert spent <= max(0.02 * now, cost)
    # And they do come: as soon as they may.
    if spent + cost <= 0.02 * (now - step - cost) and now - (saved[-1] if saved else 0.0) > 60 + step + cost:
        raise AssertionError("one was due")
