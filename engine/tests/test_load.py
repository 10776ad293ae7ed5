"""The data sets of a run: held-out rows, and the cache, seen through training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness import numbers, of, questions, row, train, train_command, write_snapshot
from mlx_engine.protocol import EngineError


def stages(frames: list[dict[str, Any]]) -> set[str]:
    return {frame["stage"] for frame in of(frames, "stage")}


def test_a_share_is_held_out_and_evaluated(chat: Path, tmp_path: Path) -> None:
    rows = questions(40)
    frames = train(train_command(tmp_path, chat, rows, dataset__validation_split=0.25, max_steps=2))
    (prepared,) = of(frames, "prepared")
    assert prepared["samples"] + prepared["validation_samples"] == 40
    assert 3 <= prepared["validation_samples"] <= 20
    assert of(frames, "eval")[0]["trained_tokens"] > 0
    without = train(train_command(tmp_path, chat, rows, max_steps=2))
    whole = of(without, "prepared")[0]
    assert whole["tokens"] > prepared["tokens"]
    assert whole["validation_samples"] == 0


@pytest.mark.parametrize("held_out", ["split", "file"])
def test_the_cache_changes_no_number_and_tells_the_same(held_out: str, chat: Path, tmp_path: Path) -> None:
    rows = [*questions(20), row(20, ("user", "Hi"), ("assistant", "word " * 200))]
    changes: dict[str, Any] = {"dataset__cache_path": str(tmp_path / "cache"), "max_steps": 4}
    if held_out == "split":
        changes["dataset__validation_split"] = 0.2
    else:
        write_snapshot(tmp_path / "held.jsonl", [*questions(5), row(5, ("user", "Hi"))])
        changes["dataset__validation_path"] = str(tmp_path / "held.jsonl")
    command = train_command(tmp_path, chat, rows, **changes)
    first, second = train(command), train(command)
    assert "tokenizing" in stages(first)
    assert "tokenizing" not in stages(second)
    assert numbers(first) == numbers(second)
    assert [e["loss"] for e in of(first, "eval")] == [e["loss"] for e in of(second, "eval")]
    assert of(first, "warning") == of(second, "warning")
    assert of(first, "prepared") == of(second, "prepared")
    assert len(list((tmp_path / "cache").iterdir())) == 2
    for path in (tmp_path / "cache").iterdir():
        path.unlink()
    third = train(command)
    assert "tokenizing" in stages(third)
    assert numbers(third) == numbers(first)


def test_held_out_rows_that_have_changed_are_refused(chat: Path, tmp_path: Path) -> None:
    sha256 = write_snapshot(tmp_path / "held.jsonl", questions(2))
    changes = {"dataset__validation_path": str(tmp_path / "held.jsonl"), "dataset__validation_sha256": sha256}
    command = train_command(tmp_path, chat, questions(4), max_steps=1, **changes)
    write_snapshot(tmp_path / "held.jsonl", questions(3))
    with pytest.raises(EngineError, match=r"in the validation set, the data set snapshot .* has changed"):
        train(command)


def test_what_is_told_of_held_out_rows_says_so(chat: Path, tmp_path: Path) -> None:
    write_snapshot(tmp_path / "held.jsonl", [*questions(3), row(3, ("user", "Hi"))])
    changes = {"dataset__validation_path": str(tmp_path / "held.jsonl"), "max_steps": 1}
    frames = train(train_command(tmp_path, chat, questions(4), **changes))
    told = [frame["message"] for frame in of(frames, "warning") if frame["code"] == "rows_dropped"]
    assert told == ["In the validation set, 1 row (sample 3) dropped: it has no assistant turn"]
    write_snapshot(tmp_path / "held.jsonl", [row(0, ("user", "Hi"))])
    with pytest.raises(EngineError, match=r"^in the validation set, no row can be trained on"):
        train(train_command(tmp_path, chat, questions(4), **changes))


def test_rows_that_are_too_long_can_be_an_error(chat: Path, tmp_path: Path) -> None:
    rows = [*questions(4), row(4, ("user", "Hi"), ("assistant", "word " * 200))]
    with pytest.raises(EngineError, match=r"1 row is longer than max_seq_length 128 \(sample 4: \d+ tokens\)"):
        train(train_command(tmp_path, chat, rows, dataset__truncation="error"))
    frames = train(train_command(tmp_path, chat, rows, dataset__truncation="drop", max_steps=1))
    prepared = of(frames, "prepared")[0]
    assert (prepared["samples"], prepared["samples_dropped"], prepared["samples_truncated"]) == (4, 1, 0)


def test_loss_on_decides_how_many_tokens_are_learned(chat: Path, tmp_path: Path) -> None:
    rows = [row(i, ("user", f"{i}?"), ("assistant", "Yes."), ("user", "So?"), ("assistant", "No.")) for i in range(4)]
    trained = {}
    for loss_on in ("last_completion", "completions", "all"):
        frames = train(train_command(tmp_path, chat, rows, dataset__loss_on=loss_on, max_steps=1))
        trained[loss_on] = of(frames, "prepared")[0]["trained_tokens"]
    assert 0 < trained["last_completion"] < trained["completions"] < trained["all"]
    assert trained["all"] == of(frames, "prepared")[0]["tokens"] - len(rows)
