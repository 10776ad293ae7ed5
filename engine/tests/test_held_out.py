"""The evaluate process: the numbers that training reports, those of float64 numpy, and the rows that it is of."""

from __future__ import annotations

import datetime
import math
from pathlib import Path
from typing import Any

import mlx.core as mx
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlx.utils import tree_flatten

from engine_process import EngineProcess
from harness import Frame, Frames, newest, of, questions, row, train, train_command, write_snapshot
from mlx_engine import platform
from mlx_engine.data.load import tokenized
from mlx_engine.evaluation import held_out
from mlx_engine.evaluation.held_out import HeldOut, choose
from mlx_engine.models.load import load_model
from mlx_engine.process import Engine
from mlx_engine.protocol import EngineError, Evaluate
from test_reference import mean_loss


def command(folder: Path, model: Path, adapter: Path | None = None, *, rows: Any = None, **changes: Any) -> Evaluate:
    """Over folder/rows.jsonl, which `rows` are."""
    own = {name: changes.pop(name) for name in ("max_samples", "seed") if name in changes}
    spec = train_command(folder, model, rows or questions(9), **changes).dataset
    values = {"max_samples": None, "seed": 0, **own}
    return Evaluate(model_path=str(model), adapter_path=adapter and str(adapter), dataset=spec, **values)


def evaluate(command: Evaluate) -> list[Frame]:
    channel = Frames(lambda frame: None)
    HeldOut(command, Engine(channel, platform.setup())).run()
    return channel.frames


def rows_of(frames: list[Frame]) -> dict[int, tuple[int, int, float]]:
    found = {}
    for frame in of(frames, "scored"):
        columns = (frame[name] for name in ("samples", "trained", "correct", "losses"))
        found |= {sample: (trained, correct, loss) for sample, trained, correct, loss in zip(*columns, strict=True)}
    return found


@pytest.mark.parametrize("method", ["lora", "dora", "qlora", "full"])
def test_base_and_result_have_the_losses_that_training_reported(tmp_path: Path, chat: Path, method: str) -> None:
    held = questions(23)[8:]
    write_snapshot(tmp_path / "held.jsonl", held)
    changes: dict[str, Any] = {"dora": {"lora__use_dora": True}, "full": {"lora": None}}.get(method, {})
    frames = train(
        train_command(
            tmp_path,
            chat,
            questions(8),
            method="lora" if method == "dora" else method,
            dataset__validation_path=str(tmp_path / "held.jsonl"),
            load_best_model_at_end=False,
            **changes,
        )
    )
    before, *_, after = of(frames, "eval")
    assert before["loss"] - after["loss"] > 0.1
    out = tmp_path / "out"
    tuned = (out, None) if method == "full" else (chat, out)
    for (model, adapter), reported in (((chat, None), before), (tuned, after)):
        if method == "qlora" and adapter is None:
            continue  # training saw the packed base
        (found,) = of(evaluate(command(tmp_path / "e", model, adapter, rows=held)), "evaluated")
        assert found["loss"] == pytest.approx(reported["loss"], rel=1e-6)
        assert found["token_accuracy"] == pytest.approx(reported["token_accuracy"], abs=1e-9)
        assert found["trained_tokens"] == reported["trained_tokens"]
        assert found["rows"] == len(held)


def test_each_row_has_the_loss_of_float64_numpy(tmp_path: Path, chat: Path) -> None:
    frames = evaluate(command(tmp_path, chat))
    found, (whole,) = rows_of(frames), of(frames, "evaluated")
    loaded = load_model(chat, dtype=mx.float32)
    weights = {name: np.array(w).astype(np.float64) for name, w in tree_flatten(loaded.model.parameters())}
    data, _ = tokenized(command(tmp_path, chat).dataset, loaded, datetime.date.today())
    assert [example.sample for example in data.examples] == sorted(found)
    for example in data.examples:
        trained, correct, loss = found[example.sample]
        assert trained == example.trained
        assert 0 <= correct <= trained
        assert loss / trained == pytest.approx(mean_loss(weights, [example]), rel=1e-6)
    assert whole["loss"] == pytest.approx(mean_loss(weights, list(data.examples)), rel=1e-6)
    assert whole["token_accuracy"] == pytest.approx(
        sum(hits for _, hits, _ in found.values()) / whole["trained_tokens"]
    )


def test_some_rows_are_the_same_for_every_model_and_have_the_numbers_that_they_have_among_all(
    tmp_path: Path, chat: Path
) -> None:
    everything = rows_of(evaluate(command(tmp_path, chat, rows=questions(30))))
    few = rows_of(evaluate(command(tmp_path, chat, rows=questions(30), max_samples=7)))
    assert len(few) == 7
    for sample, (trained, correct, loss) in few.items():
        assert everything[sample] == (trained, correct, pytest.approx(loss, rel=1e-6))
    other = rows_of(evaluate(command(tmp_path, chat, rows=questions(30), max_samples=7, seed=1)))
    assert other.keys() != few.keys()


@given(
    st.lists(st.integers(0, 200), min_size=1, max_size=60),
    st.integers(1, 40),
    st.integers(0, 3),
    st.sets(st.integers(0, 200), max_size=10),
)
def test_rows_that_one_model_leaves_out_move_few_others(
    samples: list[int], most: int, seed: int, without: set[int]
) -> None:
    def chosen(numbers: np.ndarray) -> set[int]:
        places = choose(numbers, most, seed)
        return set((numbers if places is None else numbers[places]).tolist())

    numbers = np.array(sorted(samples))
    all_rows = chosen(numbers)
    assert len(all_rows) == min(most, len(set(samples)))
    rest = np.array(sorted(set(samples) - without), dtype=np.int64)
    if len(rest):
        assert all_rows - without <= chosen(rest)


def test_the_held_out_part_of_a_split(tmp_path: Path, chat: Path) -> None:
    rows = questions(40)
    frames = train(train_command(tmp_path, chat, rows, dataset__validation_split=0.2, max_steps=1))
    (found,) = of(evaluate(command(tmp_path / "e", chat, rows=rows, dataset__validation_split=0.2)), "evaluated")
    assert found["loss"] == pytest.approx(of(frames, "eval")[0]["loss"], rel=1e-6)
    assert found["rows"] == of(frames, "prepared")[0]["validation_samples"]


def test_a_checkpoint_is_a_model_too(tmp_path: Path, chat: Path) -> None:
    train(train_command(tmp_path, chat, questions(8), max_steps=2, save_steps=1))
    checkpoint = newest(tmp_path)
    results = [
        of(evaluate(command(tmp_path / "e", chat, path)), "evaluated")[0] for path in (checkpoint, tmp_path / "out")
    ]
    assert results[0]["loss"] == results[1]["loss"]


def test_nothing_to_supervise_is_said(tmp_path: Path, chat: Path) -> None:
    rows = [{**row(0, ("user", "Hi"), ("assistant", "Hello"))}]
    rows[0]["messages"][1]["train"] = False
    with pytest.raises(EngineError) as error:
        evaluate(command(tmp_path, chat, rows=rows))
    assert error.value.kind == "invalid_dataset"


def test_a_model_that_has_no_room_is_not_loaded(tmp_path: Path, chat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out, "available_bytes", lambda: 1000)
    with pytest.raises(EngineError, match="available: try again") as error:
        evaluate(command(tmp_path, chat))
    assert error.value.kind == "out_of_memory"


def test_losses_that_are_not_finite_are_null(tmp_path: Path, chat: Path) -> None:
    train(train_command(tmp_path, chat, questions(4), max_steps=1))
    adapter = tmp_path / "out" / "adapters.safetensors"
    weights = mx.load(str(adapter))
    mx.save_safetensors(str(adapter), {name: mx.full(w.shape, math.inf) for name, w in weights.items()})
    frames = evaluate(command(tmp_path / "e", chat, tmp_path / "out"))
    assert of(frames, "evaluated")[0]["loss"] is None
    assert {loss for *_, loss in rows_of(frames).values()} == {None}


def test_the_process(tmp_path: Path, chat: Path) -> None:
    with EngineProcess("-m", "mlx_engine.evaluate") as process:
        process.send_line(msgspec.json.encode(command(tmp_path, chat)).decode())
        frames = process.until("evaluated")
        assert process.wait() == 0
    stages = [frame["stage"] for frame in of(frames, "stage")]
    assert stages[0] == "loading_model"
    assert stages[-1] == "evaluating"
    assert len(rows_of(frames)) == 9
