"""Exact resume: a run that is stopped, suspended and killed anywhere comes to the same bits as one left in peace."""

from __future__ import annotations

import math
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness import Frame, files, newest, numbers, of, questions, row, start, train, train_command, write_snapshot
from mlx_engine.protocol import Command, EngineError, Stop, Suspend, Train
from mlx_engine.training import checkpoint

# Told of a run's progress, and not when or how fast it went.
_FACTS = {
    "step": (
        "epoch",
        "loss",
        "smoothed_loss",
        "learning_rate",
        "grad_norm",
        "tokens",
        "trained_tokens",
        "padding_share",
        "processed_samples",
    ),
    "eval": ("loss", "trained_tokens", "token_accuracy", "best"),
    "sample": ("base", "tuned"),
}
_WHERE = ("step", "eval", "sample", "checkpoint", "rollback", "stage")  # frames at which a run is interrupted

Make = Callable[..., Train]


class Killed(BaseException):
    """As by SIGKILL: nothing more is written."""


def facts(frames: Iterable[Frame]) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """What was told last of each step, evaluation and sample."""
    return {
        (frame["type"], frame["step"], frame.get("prompt")): tuple(frame[name] for name in names)
        for frame in frames
        if (names := _FACTS.get(frame["type"]))
    }


def interrupted(make: Make, plan: Sequence[tuple[str, int]]) -> list[Frame]:
    """Runs to the end, with interruptions: how, and how many frames after it is prepared, for each attempt."""
    frames: list[Frame] = []
    for how, after in [*plan, ("not at all", 0)]:
        left = math.inf

        def interrupt(frame: Frame, how: str = how, after: int = after) -> Stop | Suspend | None:
            nonlocal left
            frames.append(frame)
            left = after if frame["type"] == "prepared" else left - (frame["type"] in _WHERE)
            if left != 0 or how == "not at all":
                return None
            if how == "kill":
                raise Killed
            return Stop() if how == "stop" else Suspend()

        try:
            train(make(resume=bool(frames)), interrupt)
        except Killed:
            continue
        if frames[-1]["outcome"] == "completed":
            break
    return frames


def everything(model: Path) -> Make:
    """Dropout, accumulation, evaluation with early stopping, samples. 4 steps an epoch, the last of a single row."""
    other = [row(i, ("user", f"Who is {i}?"), ("assistant", "The capital of France is Paris.")) for i in range(3)]

    def make(folder: Path, **changes: Any) -> Train:
        folder.mkdir(exist_ok=True)
        write_snapshot(folder / "held.jsonl", other)
        return train_command(
            folder,
            model,
            questions(13),
            dataset__validation_path=str(folder / "held.jsonl"),
            lora__dropout=0.3,
            gradient_accumulation_steps=2,
            epochs=6,
            lr_scheduler_type="cosine",
            max_grad_norm=0.5,
            weight_decay=0.1,
            eval_steps=2,
            early_stopping_patience=3,
            sample_prompts=["What is 3 and 21?"],
            sample_steps=3,
            sample_max_tokens=3,
            save_steps=5,
            **changes,
        )

    return make


def recovering(edge: Path) -> Make:
    """Overflows again and again: skipped steps, and returns to earlier ones in the middle of the run."""

    def make(folder: Path, **changes: Any) -> Train:
        folder.mkdir(exist_ok=True)
        write_snapshot(folder / "held.jsonl", questions(3))
        return train_command(
            folder,
            edge,
            questions(24),
            dataset__validation_path=str(folder / "held.jsonl"),
            lora__target_modules=["gate_proj", "q_proj"],
            lora__dropout=0.2,
            learning_rate=0.02,
            warmup_ratio=0.0,
            lr_scheduler_type="constant",
            epochs=3,
            eval_steps=7,
            save_steps=4,
            **changes,
        )

    return make


def full(model: Path) -> Make:
    def make(folder: Path, **changes: Any) -> Train:
        return train_command(
            folder, model, questions(9), method="full", lora=None, weight_decay=0.1, max_grad_norm=0.1, **changes
        )

    return make


@pytest.fixture(scope="module", params=["everything", "recovering", "full"])
def undisturbed(request: pytest.FixtureRequest, chat: Path, edge: Path, tmp_path_factory: Any) -> Any:
    """A scenario, the frames of a run that was left in peace, and the folder it is in."""
    make = {"everything": everything(chat), "recovering": recovering(edge), "full": full(chat)}[request.param]
    folder = tmp_path_factory.mktemp(request.param) / "whole"
    frames = train(make(folder))
    if request.param == "everything":
        assert frames[-1]["reason"].startswith("Early stopping")
        assert frames[-1]["best_step"] is not None
    if request.param == "recovering":
        assert of(frames, "rollback")
    return make, frames, folder


def check_same(frames: list[Frame], folder: Path, undisturbed: Any) -> None:
    _, expected, whole = undisturbed
    assert facts(frames) == facts(expected)
    assert frames[-1] == expected[-1]
    assert files(newest(folder)) == files(newest(whole))
    found, wanted = (checkpoint.verify(newest(path)) for path in (folder, whole))
    assert (found.progress, found.pinned) == (wanted.progress, wanted.pinned)
    for name in ("adapters.safetensors", "model.safetensors"):
        assert files(folder / "out").get(name) == files(whole / "out").get(name)


def test_interrupted_again_and_again(tmp_path: Path, undisturbed: Any) -> None:
    """Through to the end in pieces: the last attempt, which nothing interrupts, is not needed."""
    frames = interrupted(lambda **changes: undisturbed[0](tmp_path / "parts", **changes), [("suspend", 5)] * 60)
    assert 2 < len(of(frames, "prepared")) <= 60
    check_same(frames, tmp_path / "parts", undisturbed)


_INTERRUPTIONS = st.lists(st.tuples(st.sampled_from(["suspend", "stop", "kill"]), st.integers(0, 25)), max_size=5)


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=_INTERRUPTIONS)
def test_interrupted_anywhere(tmp_path_factory: Any, undisturbed: Any, plan: list[tuple[str, int]]) -> None:
    folder = tmp_path_factory.mktemp("parts") / "parts"
    frames = interrupted(lambda **changes: undisturbed[0](folder, **changes), plan)
    check_same(frames, folder, undisturbed)


def test_killed_processes(tmp_path: Path, undisturbed: Any) -> None:
    """The same with real processes and SIGKILL."""
    make, folder = undisturbed[0], tmp_path / "parts"
    frames: list[Frame] = []
    for steps in (6, 8):
        with start(make(folder, resume=bool(frames))) as process:
            told = process.frames()
            frames += [next(told)] + [frame for _ in range(steps) for frame in until_step(told)]
            process.interrupt(signal.SIGKILL)
            process.wait()
            frames += told
    frames += train(make(folder, resume=True))
    check_same(frames, folder, undisturbed)


def until_step(frames: Iterator[Frame]) -> Iterator[Frame]:
    for frame in frames:
        yield frame
        if frame["type"] == "step":
            return


# ---- what there is to go on from ----


def test_a_resumed_run_tells_what_the_server_had_not_read(tmp_path: Path, chat: Path) -> None:
    """The server died with frames in the pipe, those of a checkpoint among them."""
    changes: dict[str, Any] = {"save_steps": 4, "dataset__validation_split": 0.2, "eval_steps": 3, "epochs": 1}
    whole = train(train_command(tmp_path / "whole", chat, questions(40), **changes))

    def suspend(frame: Frame) -> Command | None:
        return Suspend() if frame["type"] == "step" and frame["step"] == 9 else None

    command = train_command(tmp_path / "cut", chat, questions(40), **changes)
    train(command, suspend)
    for told in (0, 5, 6, 9):
        # Each from where the one before has ended, as after one more kill.
        shutil.copytree(tmp_path / "cut", tmp_path / f"cut-{told}")
        there = msgspec.structs.replace(
            command, output_dir=str(tmp_path / f"cut-{told}" / "out"), resume=True, told_step=told
        )
        frames = train(there)
        assert of(frames, "prepared")[0]["resumed_from_step"] == 9
        assert numbers(frames) == numbers(whole)[told:]
        evaluations = [frame for frame in of(whole, "eval") if frame["step"] >= told]
        assert of(frames, "eval") == evaluations
        assert of(frames, "checkpoint")[0]["step"] == 9


def test_resume_starts_over_without_a_checkpoint(tmp_path: Path, chat: Path) -> None:
    frames = train(train_command(tmp_path, chat, questions(3), resume=True, epochs=1))
    assert of(frames, "prepared")[0]["resumed_from_step"] == 0
    assert frames[-1]["outcome"] == "completed"


def test_resume_passes_over_a_damaged_checkpoint(tmp_path: Path, chat: Path) -> None:
    command = train_command(tmp_path, chat, questions(8), save_steps=2, epochs=1)
    expected = train(command)
    adapter = newest(tmp_path) / "adapters.safetensors"
    data = bytearray(adapter.read_bytes())
    data[-1] ^= 1
    adapter.write_bytes(data)
    again = train(train_command(tmp_path, chat, questions(8), save_steps=2, epochs=1, resume=True))
    (warning,) = of(again, "warning")
    assert warning["code"] == "checkpoint_damaged"
    assert "step-00000004" in warning["message"]
    assert numbers(again) == numbers(expected)[2:]


def test_resume_refuses_other_parameters(tmp_path: Path, chat: Path) -> None:
    train(train_command(tmp_path, chat, questions(4), epochs=1))
    with pytest.raises(EngineError, match=r"lora\.rank was 4, is 8") as error:
        train(train_command(tmp_path, chat, questions(4), epochs=1, lora__rank=8, resume=True))
    assert error.value.kind == "invalid_parameters"
    with pytest.raises(EngineError, match=r"dataset\.sha256 was"):
        train(train_command(tmp_path, chat, questions(5), epochs=1, resume=True))


def test_a_new_run_forgets_the_old_checkpoints(tmp_path: Path, chat: Path) -> None:
    train(train_command(tmp_path, chat, questions(8), epochs=2))
    frames = train(train_command(tmp_path, chat, questions(8), epochs=1))
    assert of(frames, "prepared")[0]["resumed_from_step"] == 0
    assert [path.name for path in (tmp_path / "out" / "checkpoints").iterdir()] == ["step-00000004"]


def test_a_moved_run_goes_on(tmp_path: Path, chat: Path) -> None:
    train(train_command(tmp_path, chat, questions(8), epochs=1))
    other = tmp_path / "other"
    shutil.copytree(tmp_path / "out", other / "out")
    frames = train(train_command(other, chat, questions(8), epochs=1, resume=True, job_id="job_2", experiment_name="b"))
    assert of(frames, "step") == []
    assert frames[-1]["step"] == 4
